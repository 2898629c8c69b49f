"""Translate the dims of a model to torch.export's `Dim`s, with exactly the declared ranges."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import repeat
from typing import Any

from torch.export import Dim
from torch.utils import _pytree as pytree

from lowering.eager import pytrees
from lowering.model import Model, Symbol
from lowering.sizes.dims import Affine
from lowering.trees import Leaf

PHANTOM = "_"
_ROUND = (64, 96, 48, 128, 32, 80, 112, 192, 16, 24, 256, 384, 8, 12, 4, 6)  # sizes that strides and windows divide


def build_dynamic_shapes(model: Model, arguments: Mapping[str, Any] | None = None, may_narrow: bool = False) -> dict[str, Any]:
    """Return the argument `dynamic_shapes` of `torch.export.export`.

    arguments: those of the call (see `eager.arguments`), required if an input is a structure.
    It maps each argument to {position: Dim}, to None if all of its dims are static, or to a Dim if it is an int. A structure has the same
    form, and an object of a registered class is a list of what torch flattens it into. A symbol becomes one named
    Dim. With `multiple_of: k` it becomes `k*_symbol`, derived from a root `_symbol` that occurs in no shape. `null` becomes Dim.AUTO. The
    model must have no `problems()`.
    may_narrow: declare each dim by its range only, as Dim.DYNAMIC. torch then finds equalities itself, and may narrow the range, but not to
    one size.
    """
    roots = {name: _make_root(name, symbol) for name, symbol in model.symbols.items()}
    shapes: dict[str, Any] = {}
    for name, declared in model.leaves.items():
        dims: dict[int, Any] = {}
        for position, dim in enumerate(declared.dims()):
            if dim is None:
                dims[position] = Dim.AUTO
            elif isinstance(dim, Affine) and may_narrow:
                dims[position] = _make_hint(dim, model.symbols[dim.symbol])
            elif isinstance(dim, Affine):
                dims[position] = _derive(roots[dim.symbol], dim.scale * model.symbols[dim.symbol].multiple_of, dim.offset)
        shapes[name] = dims or None
    shapes |= {name: Dim.DYNAMIC(min=model.symbols[name].min, max=model.symbols[name].max) for name in model.ints}
    structured = {name: _restructure((arguments or {})[name], _order(name, (arguments or {})[name], shapes))
                  for name, tree in model.trees.items() if not isinstance(tree, Leaf)}
    return {name: structured[name] if name in structured else shapes[name] for name in model.inputs} | {
        name: _restructure(value, repeat(None)) for name, value in model.constants.items()}


def _order(name: str, argument: Any, shapes: Mapping[str, Any]) -> Iterator[Any]:
    """Iterate over the dims of an argument's leaves in torch's order."""
    return iter([shapes.get(f"{name}.{path}") for path, _ in pytrees.flatten(argument)])


def _restructure(tree: Any, leaves: Iterator[Any]) -> Any:
    """Return `leaves` in the form in which torch.export takes the dims of `tree`."""
    if pytree.tree_structure(tree).is_leaf():
        return next(leaves)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_restructure(item, leaves) for item in tree))
    if type(tree) in (list, tuple, deque):
        return type(tree)(_restructure(item, leaves) for item in tree)
    if isinstance(tree, dict) and type(tree) in (dict, OrderedDict):
        return type(tree)((key, _restructure(item, leaves)) for key, item in tree.items())
    return [_restructure(item, leaves) for item in pytree.SUPPORTED_NODES[type(tree)].flatten_fn(tree)[0]]


def round_examples(model: Model) -> Model:
    """Return `model` with examples that many numbers divide, wherever it names none."""
    taken: set[int] = set()
    symbols = {}
    for name, symbol in model.symbols.items():
        sizes = [count * symbol.multiple_of for count in _ROUND]
        # Of a range that begins above them, four times its least size: what strides leave of that is often 1, which torch fixes.
        sizes += [-(-most * symbol.smallest // size) * size for most in (4, 1) for size in sizes]
        allowed = [size for size in sizes if symbol.admits(size) and size not in taken]
        example = symbol.example if symbol.example is not None else next(iter(allowed), symbol.pick(taken))
        taken.add(example)
        symbols[name] = replace(symbol, example=example)
    return replace(model, symbols=symbols)


def _make_root(name: str, symbol: Symbol) -> Any:
    least, most = symbol.counts
    return Dim(name if symbol.multiple_of == 1 else PHANTOM + name, min=least, max=most)


def _make_hint(dim: Affine, symbol: Symbol) -> Any:
    """Return a dim with the range of an expression of a symbol."""
    most = None if symbol.max is None else dim.scale * symbol.largest(symbol.max) + dim.offset
    return Dim.DYNAMIC(min=dim.scale * symbol.smallest + dim.offset, max=most)


def _derive(root: Any, scale: int, offset: int) -> Any:
    scaled = root if scale == 1 else scale * root
    return scaled if not offset else scaled + offset
