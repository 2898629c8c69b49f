"""Inputs as trees: nested lists, tuples, mappings and objects, whose leaves are tensors and numbers to fill. This file knows no torch.

A tree is plain data, as in YAML:

    {dtype: float32, shape: [batch, 16]}        a leaf
    [TREE, TREE], {tuple: [TREE, TREE]}         a list, a tuple
    {NAME: TREE, ...}                           a dict
    {_target_: package.Class, FIELD: TREE, ...} an object of a class that is registered with torch's pytree
    {repeat: 3, ...}                            a list of three times what else the mapping says, a leaf or a node
    {state: true, ...}                          a leaf or a node whose leaves are states: a result is the new value of each
    null, and inside a node 3, true, "same"     constants

The name of a leaf is its path: `past_key_values.layers.0.keys`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from lowering.errors import Problem, suggest
from lowering.fitting import advised
from lowering.plain import from_plain
from lowering.recipe import TARGET
from lowering.sizes.dims import Affine, Dim, parse_dim
from lowering.types import DTYPES, NUMBERS

TUPLE, REPEAT, STATE = "tuple", "repeat", "state"
MOST_REPEATED = 10_000  # of a leaf or a node

Fill = Literal["randn", "ones", "zeros", "arange", "padding"] | Mapping[str, Any]
FILLS = ("randn", "ones", "zeros", "arange", "padding", "randint", "uniform", "constant")


@dataclass(frozen=True)
class Input:
    """A leaf: a torch dtype name, a shape (ints, symbols, expressions, None for a flexible dim), and a fill.

    A dtype in types.NUMBERS declares a Python number, which has no shape. A SymInt is the symbol of the same name: it takes the symbol's
    range and has no fill. A SymFloat or a SymBool is known only at run time.
    repeat: declares a list of this many. pad: the value that fills the input up to the size of a bucket.
    state: declares that a result is the new value of this argument: the one of the same name, or of the given one.
    """

    dtype: str
    shape: tuple[int | str | None, ...] = advised("for example [batch, 16]", default=())
    fill: Fill | None = advised("for example zeros, or {constant: 3}", default=None)
    repeat: int | None = None
    pad: float = advised("a number, for example pad: 0", default=0)
    state: bool | str = advised("true, or the name of the result that is the new value", default=False)

    @property
    def is_number(self) -> bool:
        return self.dtype in NUMBERS

    def dims(self) -> tuple[Dim, ...]:
        return tuple(parse_dim(dim) for dim in self.shape)

    def problems(self, place: str) -> list[Problem]:
        """List the problems of the dtype and the fill."""
        found = []
        dtype = NUMBERS.get(self.dtype, self.dtype)
        if dtype not in DTYPES:
            found.append(Problem(f"{place}.dtype", f"'{self.dtype}' is not a dtype", suggest_dtype(self.dtype, [*DTYPES, *NUMBERS])))
        fill = self.fill
        kind = fill if isinstance(fill, str) else next(iter(fill), "") if isinstance(fill, Mapping) and len(fill) == 1 else None
        if fill is not None and kind not in FILLS:
            fix = f"use one of {', '.join(FILLS)}; randint, uniform and constant take a value"
            found.append(Problem(f"{place}.fill", f"{fill!r} is not a fill", fix))
        elif kind in ("randint", "uniform") and not (isinstance(fill, Mapping) and _is_pair(fill[kind])):
            found.append(Problem(f"{place}.fill", f"{kind} takes [low, high]", f"{kind}: [0, 10]"))
        elif kind == "constant" and not (isinstance(fill, Mapping) and isinstance(fill[kind], int | float)):
            found.append(Problem(f"{place}.fill", "constant takes a single number", "constant: 3"))
        elif kind in ("randn", "ones", "zeros", "arange", "padding") and isinstance(fill, Mapping):
            found.append(Problem(f"{place}.fill", f"{kind} takes no value", f"fill: {kind}"))
        elif kind in ("randn", "uniform") and dtype in DTYPES and "float" not in dtype and "complex" not in dtype:
            found.append(Problem(f"{place}.fill", f"{kind} needs a floating dtype, not {self.dtype}", "randint: [0, 10]"))
        elif kind in ("arange", "padding") and not self.shape:
            found.append(Problem(f"{place}.fill", f"{kind} fills along the last dim, and a scalar has none", "constant: 3"))
        return found


@dataclass(frozen=True)
class Leaf:
    """A leaf of an expanded tree. name: its path; place: its key in the file, one for all repetitions.

    state: the name of the result that is its new value (None: it is no state).
    """

    name: str
    place: str
    declared: Input
    state: str | None = None


@dataclass(frozen=True)
class Construction:
    """An object to build in an expanded tree: the dotted path of a class, its fields, and its key in the file."""

    target: str
    fields: Mapping[str, Any]
    name: str
    place: str


def expand(tree: Any, name: str, place: str, state: str | None = None) -> Any:
    """Return a tree as Python lists, tuples and dicts of `Leaf`, `Construction` and constants, with repetitions written out.

    state: the name of the results that are the new values of its leaves, if they are states.
    """
    if isinstance(tree, Input):
        state = _name_state(tree.state, name, state)
        if tree.repeat is None:
            return Leaf(name, place, tree, state)
        if not _is_count(tree.repeat):  # in a record: `find_parts` checks what is configured
            raise ValueError(f"{place}.{REPEAT}: {tree.repeat!r} is not a count")
        leaf = replace(tree, repeat=None)
        return [Leaf(f"{name}.{index}", place, leaf, _join(state, index)) for index in range(tree.repeat)]
    if isinstance(tree, list | tuple):
        return [expand(item, f"{name}.{index}", f"{place}[{index}]", _join(state, index)) for index, item in enumerate(tree)]
    if not isinstance(tree, Mapping):
        return tree
    if _is_state(tree.get(STATE)):
        rest = {key: item for key, item in tree.items() if key != STATE}
        return expand(rest, name, place, _name_state(tree[STATE], name, state))
    if _is_count(tree.get(REPEAT)):
        once = {key: item for key, item in tree.items() if key != REPEAT}
        return [expand(once, f"{name}.{index}", place, _join(state, index)) for index in range(tree[REPEAT])]
    if _is_tuple(tree):
        return tuple(expand(tree[TUPLE], name, f"{place}.{TUPLE}", state))
    inner = {key: expand(item, f"{name}.{key}", f"{place}.{key}", _join(state, key)) for key, item in tree.items() if key != TARGET}
    return Construction(str(tree[TARGET]), inner, name, place) if TARGET in tree else inner


def write_sizes(tree: Any, name: str, sizes: Mapping[str, int]) -> Any:
    """Return a tree with the sizes of some symbols written into its shapes, and in the place of ints that are symbols."""
    if isinstance(tree, Input):
        if tree.dtype == "SymInt" and name in sizes:
            return sizes[name]
        return replace(tree, shape=tuple(_write_size(dim, sizes) for dim in tree.shape))
    if isinstance(tree, list | tuple):
        return [write_sizes(item, f"{name}.{index}", sizes) for index, item in enumerate(tree)]
    if not isinstance(tree, Mapping):
        return tree
    return {key: item if key in (TARGET, REPEAT) and not isinstance(item, Input | Mapping | list)
            else write_sizes(item, name if key == TUPLE else f"{name}.{key}", sizes) for key, item in tree.items()}


def convert_floats(tree: Any, dtype: str, floats: Collection[str]) -> Any:
    """Return a tree whose leaves of a dtype in `floats` have another dtype."""
    if isinstance(tree, Input):
        return replace(tree, dtype=dtype) if tree.dtype in floats else tree
    if isinstance(tree, list | tuple):
        return [convert_floats(item, dtype, floats) for item in tree]
    return {key: convert_floats(item, dtype, floats) for key, item in tree.items()} if isinstance(tree, Mapping) else tree


def _write_size(dim: int | str | None, sizes: Mapping[str, int]) -> int | str | None:
    try:
        parsed = parse_dim(dim)
    except ValueError:  # Model.problems reports it
        return dim
    return parsed.at(sizes) if isinstance(parsed, Affine) and parsed.symbol in sizes else dim


def iterate(expanded: Any, kind: type = Leaf) -> Iterator[Any]:
    """Iterate over the leaves of an expanded tree, or over its constructions, the outer ones first."""
    if isinstance(expanded, kind):
        yield expanded
    if isinstance(expanded, Construction):
        expanded = expanded.fields
    children = expanded.values() if isinstance(expanded, Mapping) else expanded if isinstance(expanded, list | tuple) else ()
    for child in children:
        yield from iterate(child, kind)


class Tree:
    """The type of a tree as a field of a dataclass. Its values are plain data with `Input`s as leaves."""

    LEAF = Input

    @staticmethod
    def read_plain(data: Any) -> Any:
        """Return a tree of plain data, such as JSON, with `Input`s as leaves."""
        if isinstance(data, Mapping):
            return from_plain(Input, data) if is_leaf(data) else {key: Tree.read_plain(item) for key, item in data.items()}
        return [Tree.read_plain(item) for item in data] if isinstance(data, list | tuple) else data

    @staticmethod
    def find_parts(data: Any, keys: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any, str, str]]:
        """Iterate over the leaves of a tree of plain data as (keys, data, "", ""), and over its malformed nodes with cause and fix."""
        if isinstance(data, Mapping):
            if REPEAT in data and not _is_count(data[REPEAT]) and not isinstance(data[REPEAT], Mapping | list) and not (
                    data[REPEAT] is None and is_leaf(data)):
                yield (*keys, REPEAT), data, f"{data[REPEAT]!r} is not a count", f"write how many times, 1 to {MOST_REPEATED}"
            elif is_leaf(data):
                yield keys, data, "", ""
            elif _is_tuple({key: item for key, item in data.items() if key not in _MARKS}) or (TUPLE in data and TARGET not in data):
                if not isinstance(data[TUPLE], list | tuple | Mapping) or set(data) - {TUPLE, *_MARKS}:
                    yield keys, data, "is neither a tuple nor a mapping", "a tuple is {tuple: [first, second]}"
                else:
                    yield from Tree.find_parts(data[TUPLE], (*keys, TUPLE))
            elif not data:
                yield keys, data, "is empty", "a leaf has a dtype and a shape; for no value, write null"
            else:
                for key, item in data.items():
                    if key == TARGET and not isinstance(item, str):
                        yield (*keys, key), data, f"{item!r} is not a dotted path", "write package.module.Class"
                    elif key not in (TARGET, *_MARKS) or isinstance(item, Mapping | list):
                        yield from Tree.find_parts(item, (*keys, key))
        elif isinstance(data, list | tuple):
            for index, item in enumerate(data):
                yield from Tree.find_parts(item, (*keys, index))
        elif len(keys) <= 2 and data is not None:
            fix = "a leaf has a dtype and a shape; constants go under constants"
            yield keys, data, f"{data!r} is neither a tensor nor a structure", fix


def is_leaf(data: Mapping[Any, Any]) -> bool:
    """Return whether a mapping of plain data declares a leaf: it has the keys of one, with no structure below them."""
    if TARGET in data:
        return False
    own = [key for key in data if key in _KEYS]
    return any(not isinstance(data[key], Mapping) and not _is_nested(data[key]) for key in own if key not in _MARKS) or (
        any(item is not None for item in data.values()) and not any(isinstance(item, Mapping | list) for item in data.values())
        and not data.keys() & {TUPLE, *_MARKS})


def suggest_dtype(word: str, known: Sequence[str]) -> str:
    """Return which of the `known` names of dtypes is meant by `word`, a name that torch or MLIR has for one, or else all of them.

    It is the fix of a Problem.
    """
    meant = word.removeprefix("torch.").lower().replace("fp", "f")
    found = next((row.name for row in DTYPES.values() if meant in (row.name, row.script.lower(), row.hlo.lower())), None)
    return f"did you mean '{found}'?" if found in known else suggest(word, known) or f"one of {', '.join(known)}"


_MARKS = (REPEAT, STATE)  # keys of leaves and of nodes
_KEYS = frozenset(field.name for field in fields(Input))


def _is_state(value: Any) -> bool:
    return isinstance(value, bool | str)


def _name_state(said: bool | str, name: str, inherited: str | None) -> str | None:
    """Return the name of the result that a tree's own `state` says, or else the one that its parent's implies."""
    return said if isinstance(said, str) else name if said else inherited


def _join(state: str | None, key: Any) -> str | None:
    return None if state is None else f"{state}.{key}"


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, Mapping | list) for item in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_REPEATED


def _is_tuple(tree: Mapping[Any, Any]) -> bool:
    return set(tree) == {TUPLE} and (isinstance(tree[TUPLE], list | tuple) or (
        isinstance(tree[TUPLE], Mapping) and _is_count(tree[TUPLE].get(REPEAT))) or (
        isinstance(tree[TUPLE], Input) and tree[TUPLE].repeat is not None))


def _is_pair(value: Any) -> bool:
    """Return whether `value` is two finite numbers in ascending order."""
    numbers = isinstance(value, list | tuple) and len(value) == 2 and all(type(number) in (int, float) for number in value)
    return numbers and -math.inf < value[0] < value[1] < math.inf
