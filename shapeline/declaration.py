"""The declaration of a module that is already built: its arguments as trees of leaves, and its dynamic dims as symbols with ranges."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from lowering import recipe
from lowering.eager import caches, pytrees
from lowering.errors import ConfigError, Problem, suggest
from lowering.model import Model, Symbol
from lowering.model_checks import find_problems
from lowering.sizes.dims import Affine, parse_dim
from lowering.trees import TUPLE, Fill, Input
from lowering.types import DTYPES, dtype_name
from shapeline import checks

Spec = Any  # the dims of an argument, in one of torch.export's forms


def declare(
    name: str,
    module: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    dynamic_shapes: Any,
    symbols: Mapping[str, Any],
    fills: Mapping[str, Fill],
) -> Model:
    """Return the model that `lower` lowers. The parameters are those of `lower`. Raises ConfigError, which lists all problems."""
    arguments = bind(module, args, kwargs)
    if hasattr(dynamic_shapes, "dynamic_shapes"):  # torch's ShapesCollection and AdditionalInputs
        dynamic_shapes = dynamic_shapes.dynamic_shapes(module, tuple(args), dict(kwargs))
    reading = _Reading({key: checks.read_symbol(key, value) for key, value in symbols.items()}, dict(fills))
    specs = _name_specs(dynamic_shapes, arguments)
    inputs: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    for key, value in arguments.items():
        if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value)):
            inputs[key] = reading.read(value, specs.get(key), key, key)
        else:
            reading.refuse_dynamic(specs.get(key), key)
            constants[key] = value
    unknown = [key for key in fills if key not in reading.leaves]
    known = f"tensors: {', '.join(reading.leaves)}"
    reading.problems += [Problem(f"fills['{key}']", "names no tensor", suggest(key, reading.leaves) or known) for key in unknown]
    if reading.problems:
        raise ConfigError(reading.problems)
    factory = {recipe.TARGET: f"{type(module).__module__}.{type(module).__qualname__}"}  # for the record: the module itself is at hand
    model = Model(name, factory, inputs, reading.choose_examples(), constants, traced=reading.traced)
    if problems := find_problems(model, name):
        raise ConfigError(problems)
    return model


def bind(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by the names that forward gives them, without those that were left at their defaults."""
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        cause = f"do not fit forward{signature}: {error}"
        raise ConfigError(Problem("arguments", cause, "pass args and kwargs as to the module")) from None
    found: dict[str, Any] = {}
    for key, value in bound.arguments.items():
        kind = signature.parameters[key].kind
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            fix = "wrap the module in one whose forward names its arguments"
            raise ConfigError(Problem(f"argument '{key}'", "can only be passed by position, and an argument needs a name", fix))
        found |= value if kind is inspect.Parameter.VAR_KEYWORD else {key: value}
    for leaf in pytree.tree_leaves(found):
        if caches.is_cache(type(leaf)):  # not yet registered, so torch cannot take it apart
            caches.register(type(leaf))
    checks.check_leaves(found)
    return found


def _name_specs(dynamic_shapes: Any, arguments: Mapping[str, Any]) -> Mapping[str, Spec]:
    """Return `dynamic_shapes` by the names of the arguments. Raises ConfigError if it names another argument or has another length."""
    if dynamic_shapes is None:
        return {}
    if isinstance(dynamic_shapes, Mapping):
        if unknown := [str(key) for key in dynamic_shapes if key not in arguments]:
            known = f"arguments: {', '.join(arguments)}"
            raise ConfigError([Problem(f"dynamic_shapes['{key}']", "names no argument that was passed", suggest(key, arguments) or known)
                               for key in unknown])
        return dynamic_shapes
    if not isinstance(dynamic_shapes, list | tuple):
        cause = f"is a {type(dynamic_shapes).__name__}"
        raise ConfigError(Problem("dynamic_shapes", cause, "give one entry for each argument, or a mapping by name"))
    if len(dynamic_shapes) != len(arguments):
        cause = f"has {len(dynamic_shapes)} entries, and {len(arguments)} arguments were passed"
        raise ConfigError(Problem("dynamic_shapes", cause, "give one entry for each argument, or a mapping by name"))
    return dict(zip(arguments, dynamic_shapes, strict=True))


@dataclasses.dataclass
class _Reading:
    """Collects leaves, symbols and `Dim.AUTO` dims with the sizes at which they were seen, and problems."""

    symbols: dict[str, Symbol]
    fills: dict[str, Fill]
    leaves: list[str] = dataclasses.field(default_factory=list)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    traced: dict[str, int] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)

    def read(self, value: Any, spec: Spec, name: str, place: str) -> Any:
        """Return the tree of one argument. name: the path of its leaves; place: for messages, with the same content."""
        if isinstance(value, torch.Tensor):
            return self._read_leaf(value, spec, name)
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            return {TUPLE: self._read_items(value, spec, name)}
        if isinstance(value, list):
            return self._read_items(value, spec, name)
        if isinstance(value, Mapping):
            return {key: self.read(item, _pick(spec, key), f"{name}.{key}", place) for key, item in value.items()}
        if value is None or isinstance(value, bool | int | float | str):
            self.refuse_dynamic(spec, name)
            return value
        return self._read_object(value, spec, name, place)

    def _read_items(self, value: Sequence[Any], spec: Spec, name: str) -> list[Any]:
        if spec is not None and len(spec) != len(value):
            cause = f"has {len(spec)} entries for {len(value)} items"
            self.problems.append(Problem(f"dynamic_shapes of '{name}'", cause, "give one for each"))
            spec = None
        return [self.read(item, None if spec is None else spec[index], f"{name}.{index}", name) for index, item in enumerate(value)]

    def _read_object(self, value: Any, spec: Spec, name: str, place: str) -> Any:
        kind = type(value)
        target = {recipe.TARGET: f"{kind.__module__}.{kind.__qualname__}"}
        if caches.is_cache(kind):
            return self._read_cache(value, spec, name, place, target)
        if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
            keys = [field.name for field in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else list(value._fields)
            items = iter(spec) if isinstance(spec, list | tuple) else None
            return target | {key: self.read(getattr(value, key), next(items, None) if items else _pick(spec, key), f"{name}.{key}", place)
                             for key in keys}  # fmt: skip
        fix = "pass tensors, lists, tuples, dicts, dataclasses, named tuples or caches of transformers"
        self.problems.append(Problem(f"argument '{name}'", f"is a {kind.__qualname__}, which cannot be declared", fix))
        return None

    def _read_cache(self, value: Any, spec: Spec, name: str, place: str, target: Mapping[str, str]) -> Any:
        """Return the tree of a cache: the keys and values of its layers, whose dims torch.export takes as one list or a list of two."""
        tensors = pytree.tree_leaves(value)
        given = [None] * len(tensors) if spec is None else list(pytree.tree_leaves(spec, is_leaf=_is_leaf_spec))
        if len(given) != len(tensors):
            cause = f"has {len(given)} entries for {len(tensors)} tensors"
            self.problems.append(Problem(f"dynamic_shapes of '{name}'", cause, "give one for the keys and the values of each layer"))
            given = [None] * len(tensors)
        dims = {id(tensor): spec for tensor, spec in zip(tensors, given, strict=True)}
        layers = [{key: self.read(tensor, dims[id(tensor)], f"{name}.{caches.LAYERS}.{index}.{key}", place)
                   for key, tensor in vars(layer).items() if isinstance(tensor, torch.Tensor) and id(tensor) in dims}
                  for index, layer in enumerate(value.layers)]
        return {**target, **caches.read_length(value), caches.LAYERS: layers}

    def _read_leaf(self, value: torch.Tensor, spec: Spec, name: str) -> Input:
        self.leaves.append(name)
        dtype = dtype_name(value.dtype)
        if dtype not in DTYPES:
            fix = f"one of {', '.join(DTYPES)}"
            self.problems.append(Problem(f"argument '{name}'", f"has the dtype {value.dtype}, which cannot be lowered", fix))
        self.problems += checks.check_dims(spec, value.dim(), name)
        dims = [self._read_dim(size, _pick(spec, position), f"{name}[{position}]") for position, size in enumerate(value.shape)]
        if isinstance(spec, list | tuple) and len(spec) != value.dim():
            self.problems.append(Problem(f"dynamic_shapes of '{name}'", f"has {len(spec)} dims for a tensor of rank {value.dim()}"))
        fill = self.fills.get(name, _guess_fill(value))
        return Input(dtype, tuple(dims), fill)

    def _read_dim(self, size: int, given: Any, place: str) -> int | str | None:
        """Return a dim as a model declares it. given: an int, a Dim, one of torch's hints, or the text of an expression."""
        if isinstance(given, int) and not isinstance(given, bool):
            if given != size:
                fix = "pass an example of that size, or declare a Dim with its range"
                self.problems.append(Problem(f"dynamic_shapes of {place}", f"is {given}, and the argument has {size} there", fix))
            return size
        if given is None:
            return size
        if isinstance(given, str):
            return self._note_size(given, size, place)
        hint = getattr(getattr(given, "type", None), "name", None)  # Dim.AUTO, Dim.STATIC, Dim.DYNAMIC(min=..., max=...)
        if hint == "STATIC":
            return size
        if hint == "AUTO":
            if size > 1:  # torch.export would take a dim of 0 or 1 for a constant
                self.traced[place] = size
            return None
        if hint == "DYNAMIC":
            name = "_".join(filter(str.isidentifier, place.rstrip("]").replace("[", ".d").split(".")))
            self._add(name, given.min, given.max, place)
            return self._note_size(name, size, place)
        root = getattr(given, "root", None)
        if root is not None or hasattr(given, "max"):
            source = given if root is None else root
            self._add(source.__name__, source.min, source.max, place)
            return self._note_size(given.__name__, size, place)
        fix = "an int, a torch.export.Dim, or a text such as '2*seq'"
        self.problems.append(Problem(f"dynamic_shapes of {place}", f"{given!r} is not a dim", fix))
        return size

    def _add(self, name: str, least: Any, most: Any, place: str) -> None:
        """Add the symbol of a torch Dim. A Dim without bounds begins at 1 and has no end."""
        symbol = Symbol(min=max(1, int(least or 0)), max=int(most) if isinstance(most, int) else None)
        known = self.symbols.setdefault(name, symbol)
        if (known.min, known.max) != (symbol.min, symbol.max):
            cause = f"gives '{name}' another range: {symbol} beside {known}"
            self.problems.append(Problem(f"dynamic_shapes of {place}", cause, "use one Dim"))

    def _note_size(self, text: str, size: int, place: str) -> str:
        """Remember the size of the symbol in a dim, and check that the argument's size is one that the expression takes."""
        try:
            dim = parse_dim(text)
        except ValueError as error:
            self.problems.append(Problem(f"dynamic_shapes of {place}", str(error)))
            return text
        if isinstance(dim, Affine) and dim.symbol in self.symbols:
            count, rest = divmod(size - dim.offset, dim.scale)
            if rest or self.sizes.setdefault(dim.symbol, count) != count:
                cause = f"is '{text}', and the argument has {size} there; '{dim.symbol}' is {self.sizes.get(dim.symbol, '?')} elsewhere"
                self.problems.append(Problem(f"dynamic_shapes of {place}", cause, "pass an example whose sizes fit"))
        return text

    def refuse_dynamic(self, spec: Spec, name: str) -> None:
        if spec is not None and pytree.tree_leaves(spec, is_leaf=_is_leaf_spec) != []:
            fix = "take the size from a tensor's shape, or declare the model in YAML with dtype: SymInt"
            self.problems.append(Problem(f"dynamic_shapes of '{name}'", "is given for a value that is no tensor", fix))

    def choose_examples(self) -> dict[str, Symbol]:
        """Return the symbols, traced at the sizes of the arguments where a trace can be general there."""
        taken = list(self.sizes.values())
        return {name: dataclasses.replace(symbol, example=size) if symbol.example is None and (size := self.sizes.get(name, 0)) >= 2
                and symbol.admits(size) and taken.count(size) == 1 else symbol for name, symbol in self.symbols.items()}  # fmt: skip


def _pick(spec: Spec, key: Any) -> Any:
    """Return the entry of a mapping or a sequence for a key or a position; None if there is none."""
    if isinstance(spec, Mapping):
        return spec.get(key)
    return spec[key] if isinstance(spec, list | tuple) and isinstance(key, int) and key < len(spec) else None


def _is_leaf_spec(spec: Any) -> bool:
    return spec is None or (isinstance(spec, Mapping) and all(isinstance(key, int) for key in spec))


def _guess_fill(value: torch.Tensor) -> Fill | None:
    """Return a fill that stays inside the values of an example: numbers between its ends, or the constant of ints.

    Floats that are negative somewhere or all equal: None, which is randn.
    """
    if value.is_complex() or not value.numel():
        return None
    if value.is_floating_point():
        low, high = (float(end) for end in value.detach().double().aminmax())  # of a probability or a picture: negative ones mean nothing
        return {"uniform": [low, high]} if 0 <= low < high < math.inf else None
    least, most = (int(end) for end in value.to(torch.int64).aminmax())
    return {"constant": least} if least == most else {"randint": [least, most + 1]}


def list_constants(module: torch.nn.Module, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers, texts and None among bound arguments by path, with forward's defaults: a program is made for these values."""
    formals = inspect.signature(module.forward).parameters.values()
    defaults = {formal.name: formal.default for formal in formals if formal.default is not formal.empty}
    return {f"{key}.{path}" if path else key: leaf for key, value in {**defaults, **arguments}.items()
            for path, leaf in pytrees.flatten(value) if leaf is None or isinstance(leaf, bool | int | float | complex | str)}


def list_tensors(arguments: Mapping[str, Any]) -> list[tuple[str, torch.Tensor]]:
    """Return the tensors of bound arguments with the names that their leaves have in a model."""
    return [(f"{key}.{path}" if path else key, leaf) for key, value in arguments.items() for path, leaf in pytrees.flatten(value)
            if isinstance(leaf, torch.Tensor)]
