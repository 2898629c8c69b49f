"""Declaration of a model to lower: a factory, the inputs by name, and the dynamic dims with their ranges."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lowering import recipe
from lowering.errors import Problem, suggest
from lowering.sizes.dims import Affine, parse_dim
from lowering.sizes.ranges import Bound, round_up
from lowering.trees import Construction, Leaf, Tree, convert_floats, expand, iterate, write_sizes
from lowering.trees import Input as Input
from lowering.types import DTYPES, NUMBERS

LOSS = "loss"  # default name of the output that is the loss
GRADIENT = "grad."  # prefix that turns the name of a parameter into the name of its gradient

FLOATS = ("float64", "float32", "bfloat16", "float16")  # dtypes of a whole model

LARGEST = 2**31 - 1  # largest size of a dim in a program: StableHLO counts in 32 bits
MOST_BUCKETS = 256  # static programs of a model
LOOSEST = 1.0  # largest atol and rtol: with more, a result of zeros would pass

# Example sizes of dynamic dims. Primes make a burned-in size easy to spot, and no product of two of them is a third.
EXAMPLES = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 3, 2)


@dataclass(frozen=True)
class Symbol(Bound):
    """A dynamic dim with `min <= size <= max` and `size % multiple_of == 0`. max: None if unbounded; example: the size used for tracing.

    min: the smallest size; a symbol with `min == max` declares a static size. multiple_of: what divides every size.
    """

    min: int = 1
    example: int | None = None

    @property
    def is_fixed(self) -> bool:
        return self.min == self.max

    def problems(self, place: str) -> list[Problem]:
        """List all problems of the range."""
        found = []
        if self.min < 0:
            found.append(Problem(f"{place}.min", f"is {self.min}", "sizes are 0 or more"))
        if self.min > LARGEST:
            found.append(Problem(f"{place}.min", f"is {self.min}", f"sizes are at most {LARGEST}"))
        if self.multiple_of < 1:
            found.append(Problem(f"{place}.multiple_of", f"is {self.multiple_of}", "use 1 or more"))
            return found
        if self.is_fixed:
            if not self.admits(self.min):
                found.append(Problem(place, f"its only size {self.min} is not a multiple of {self.multiple_of}", "remove multiple_of"))
            if self.example not in (None, self.min):
                found.append(Problem(f"{place}.example", f"is {self.example}, and the only size is {self.min}", "remove it"))
            return found
        if self.max is not None and self.max < self.min:
            found.append(Problem(place, f"min {self.min} is above max {self.max}", "for a single size, give both that size"))
        elif self.max is not None and self.largest(self.max) < max(2, self.min):
            found.append(Problem(place, f"no size of 2 or more in [{self.min}, {self.max}] is a multiple of {self.multiple_of}",
                                 "torch.export traces dynamic dims at 2 or more"))
        if self.example is not None and not (self.admits(self.example) and self.example >= 2):
            found.append(Problem(f"{place}.example", f"{self.example} is not an allowed size of 2 or more", f"{self}"))
        return found

    def pick(self, taken: Collection[int]) -> int:
        """Pick an allowed size for tracing: a prime multiple outside `taken` if the range has one."""
        lowest = max(2, self.smallest)
        allowed = [size for prime in EXAMPLES if (size := prime * self.multiple_of) >= lowest and self.admits(size)]
        found = next((size for size in allowed if size not in taken), None)
        if found is not None:
            return found
        stop = lowest + 64 * self.multiple_of if self.max is None else self.max + 1
        further = range(round_up(lowest, self.multiple_of), min(stop, lowest + 64 * self.multiple_of), self.multiple_of)
        allowed += [size for size in sorted(further, key=lambda size: not _is_prime(size // self.multiple_of)) if self.admits(size)]
        return next((size for size in allowed if size not in taken), allowed[0])


@dataclass(frozen=True)
class Tolerance:
    """Numeric tolerance: |got - want| <= atol + rtol * |want|.

    atol: absolute; rtol: relative, from 0 to 1. reason: why the default of the dtype is not enough.
    """

    atol: float
    rtol: float
    reason: str = ""


@dataclass(frozen=True)
class Library:
    """Ops registered with TORCH_LIBRARY: either C++ `sources`, rebuilt (with `flags`) when they change, or a Python `module` to import."""

    sources: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    module: str | None = None

    def problems(self, place: str) -> list[Problem]:
        if bool(self.sources) == (self.module is not None):
            return [Problem(place, "gives both sources and a module" if self.sources else "gives neither sources nor a module",
                            "use sources: [ops.cpp], or module: package.ops, or the path of a built .so")]
        if self.flags and not self.sources:
            return [Problem(f"{place}.flags", "apply to sources only", "remove them")]
        return [_report_missing_file(f"{place}.sources[{index}]", path) for index, path in enumerate(self.sources)
                if not Path(path).expanduser().is_file()]


Scheme = Literal["int8_weight_only", "int8_dynamic", "int4_weight_only", "float8_weight_only", "pt2e_static", "pt2e_dynamic"]


@dataclass(frozen=True)
class Quantization:
    """How torchao quantizes a model.

    scheme: what is quantized, and to what (docs/quantization.md). config: instead of a scheme, the recipe of a config of torchao.
    modules: classes whose weights are quantized. skip: patterns of names of modules that stay as they are. group_size: elements that share
    a scale, for int4. samples: sets of inputs that PT2E is calibrated on, filled as declared. calibration: a safetensors file of sets of
    inputs instead, each named NUMBER/INPUT.
    """

    scheme: Scheme | None = None
    config: Mapping[str, Any] | None = None
    modules: tuple[str, ...] = ("Linear",)
    skip: tuple[str, ...] = ()
    group_size: int = 32
    samples: int = 4
    calibration: str | None = None

    @property
    def is_graph(self) -> bool:
        return self.scheme in ("pt2e_static", "pt2e_dynamic")

    def problems(self, place: str) -> list[Problem]:
        found = []
        if (self.scheme is None) == (self.config is None):
            found.append(Problem(place, "gives both a scheme and a config" if self.scheme else "gives neither a scheme nor a config",
                                 "for example scheme: int8_weight_only"))
        found += [Problem(f"{place}.{name}", f"is {value}", f"{least} or more")
                  for name, value, least in (("group_size", self.group_size, 2), ("samples", self.samples, 1)) if value < least]
        if self.calibration is not None and self.scheme != "pt2e_static":
            found.append(Problem(f"{place}.calibration", f"is not used with {self.scheme or 'config'}", "use scheme: pt2e_static"))
        elif self.calibration is not None and not Path(self.calibration).expanduser().is_file():
            found.append(_report_missing_file(f"{place}.calibration", self.calibration))
        return found


@dataclass(frozen=True)
class CustomCall:
    """How to lower an op to a custom call. target: the name of the call target (None: the name of the op)."""

    target: str | None = None


@dataclass(frozen=True)
class Model:
    """A model as declared.

    factory: recipe (lowering.recipe) that builds the module.
    inputs, constants: arguments of forward, by name. An input is a tree (lowering.trees), in most models a single leaf.
    seed: seeds both weights and inputs.
    tolerances: override the default tolerance of a dtype, by dtype name.
    weights: `random` draws them from the seed. `none` builds the model without weights, so size costs nothing and nothing can run. `lazy`
        maps them from `checkpoint`; they are not read until something computes with them.
    checkpoint: a safetensors file, or a folder of them, with the module's own names of weights.
    mode: `training` lowers forward and backward of the module in train mode.
    loss: name of the output that is the loss, or the recipe of a callable. Its `outputs` (of the module) and `targets` (inputs that forward
        does not take) map arguments of the callable to names; other keys of the recipe are passed on.
    libraries: loaded before the factory runs; a string is the path of a built .so. Each of their ops becomes a custom call.
    method: the method of the module that is lowered. entry: its name among the entries of a model that has several.
    after: the entry whose results this one takes; verification runs both together.
    custom_calls: by op (`ns.op` or `ns.op.overload`); renames the target, or lowers a built-in PyTorch op to a custom call.
    dtype: floating dtype that the module, its weights and its floating inputs are converted to.
    quantization: how the module is quantized, after that conversion.
    buckets: sizes of every symbol, for each combination of which the package holds a static program too.
    capacities: of sizes that data decide, by torch's symbol (`u0`) or by user line (`model.py:42`).

    A symbol with a single size is written into the shapes, and is not among the symbols then.
    """

    name: str
    factory: Mapping[str, Any]
    inputs: Mapping[str, Tree]
    symbols: Mapping[str, Symbol] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    seed: int = 0
    weights: Literal["random", "none", "lazy"] = "random"
    checkpoint: str | None = None
    mode: Literal["inference", "training"] = "inference"
    loss: str | Mapping[str, Any] = LOSS
    libraries: tuple[str | Library, ...] = ()
    custom_calls: Mapping[str, CustomCall] = field(default_factory=dict)
    method: str = "forward"
    entry: str = ""
    buckets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    capacities: Mapping[str, int] = field(default_factory=dict)
    after: Model | None = None
    dtype: str | None = None
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        if self.dtype in FLOATS:
            converted = {name: convert_floats(tree, self.dtype, FLOATS) for name, tree in self.inputs.items()}
            object.__setattr__(self, "inputs", converted)
        fixed = {name: symbol for name, symbol in self.symbols.items() if symbol.is_fixed and not symbol.problems("")}
        if not fixed:
            return
        sizes = {name: symbol.min for name, symbol in fixed.items()}
        ints = {name: sizes[name] for name, tree in self.inputs.items()
                if isinstance(tree, Input) and tree.dtype == "SymInt" and name in fixed}
        changes = {
            "symbols": {name: symbol for name, symbol in self.symbols.items() if name not in fixed},
            "constants": {**self.constants, **ints},
            "inputs": {name: write_sizes(tree, name, sizes) for name, tree in self.inputs.items() if name not in ints},
            "buckets": {name: given for name, given in self.buckets.items() if tuple(given) != (sizes.get(name),)},
        }  # fmt: skip
        for name, value in changes.items():
            object.__setattr__(self, name, value)  # it is frozen

    @cached_property
    def trees(self) -> Mapping[str, Any]:
        """The inputs as expanded trees, by name."""
        return {name: expand(tree, name, f"inputs.{name}") for name, tree in self.inputs.items()}

    @cached_property
    def leaves(self) -> Mapping[str, Input]:
        """The leaves of all inputs by their paths (`input_ids`, `past_key_values.layers.0.keys`), in the order of the declaration."""
        return {leaf.name: leaf.declared for leaf in iterate(self.trees)}

    @property
    def states(self) -> Mapping[str, str]:
        """By each leaf that is a state, the name of the result that is its new value."""
        return {leaf.name: leaf.state for leaf in iterate(self.trees) if leaf.state is not None}

    @property
    def ints(self) -> tuple[str, ...]:
        """Names of the inputs that are Python ints. Each is also the name of a symbol."""
        return tuple(name for name, declared in self.leaves.items() if declared.dtype == "SymInt")

    def examples(self) -> dict[str, int]:
        """Pick the size to trace each symbol with: in its range, a multiple if required, >= 2, and distinct from the others if possible."""
        taken: set[int] = set()
        sizes: dict[str, int] = {}
        for name, symbol in self.symbols.items():
            sizes[name] = symbol.example if symbol.example is not None else symbol.pick(taken)
            taken.add(sizes[name])
        return sizes

    def select_symbols(self) -> frozenset[str]:
        """Return the names of the symbols that occur in the inputs. Raises ValueError for a dim that cannot be read."""
        dims = (dim for declared in self.leaves.values() for dim in declared.dims())
        return frozenset(dim.symbol for dim in dims if isinstance(dim, Affine)) | frozenset(self.ints)

    def uses(self, symbol: str) -> list[tuple[str, int, Affine]]:
        """List the uses of a symbol in input shapes, as (input, position, expression)."""
        return [
            (name, position, dim)
            for name, declared in self.leaves.items()
            for position, dim in enumerate(declared.dims())
            if isinstance(dim, Affine) and dim.symbol == symbol
        ]

    def problems(self, place: str = "model") -> list[Problem]:
        """List all problems that can be found without building the model."""
        found = []
        leaves: list[Leaf] = list(iterate(self.trees))
        if not leaves:
            found.append(Problem(f"{place}.inputs", "is empty", "a model needs at least one input"))
        found += _check_trees(place, self, leaves)
        if not -(1 << 63) <= self.seed < 1 << 64:
            found.append(Problem(f"{place}.seed", f"{self.seed} does not fit into 64 bits", "torch accepts seeds from -2**63 to 2**64 - 1"))
        for name, symbol in self.symbols.items():
            found += symbol.problems(f"{place}.symbols.{name}")
        examples = {} if found else self.examples()
        used = set()
        for leaf in {leaf.place: leaf for leaf in leaves}.values():  # once for all repetitions
            name, declared = leaf.name, leaf.declared
            if declared.is_number:
                found += self._number_problems(f"{place}.{leaf.place}", name, declared)
                used.add(name)
            for position, dim in enumerate(declared.shape):
                where = f"{place}.{leaf.place}.shape[{position}]"
                try:
                    parsed = parse_dim(dim)
                except ValueError as error:
                    found.append(Problem(where, str(error)))
                    continue
                if isinstance(parsed, Affine):
                    used.add(parsed.symbol)
                    if parsed.symbol not in self.symbols:
                        found.append(Problem(where, f"symbol '{parsed.symbol}' is not declared", suggest(parsed.symbol, self.symbols)
                                             or f"add it under symbols: {parsed.symbol}: {{min: 1, max: …}}"))
                    elif examples:
                        found += self._range_problems(where, parsed, examples[parsed.symbol])
            found += declared.problems(f"{place}.{leaf.place}")
        for name in self.symbols:
            if name not in used and not found:
                found.append(Problem(f"{place}.symbols.{name}", "is not used in the shape of any input", "use it in a shape or remove it"))
        for index, library in enumerate(self.libraries):
            where = f"{place}.libraries[{index}]"
            if isinstance(library, Library):
                found += library.problems(where)
            elif not Path(library).expanduser().is_file():
                found.append(_report_missing_file(where, library))
        found += _check_checkpoint(place, self)
        if self.dtype is not None and self.dtype not in FLOATS:
            found.append(Problem(f"{place}.dtype", f"a model cannot be converted to '{self.dtype}'", f"one of {', '.join(FLOATS)}"))
        if self.quantization is not None:
            found += self.quantization.problems(f"{place}.quantization")
        for key in ("dtype", "quantization"):
            if getattr(self, key) is not None and self.weights == "lazy":
                found.append(Problem(f"{place}.{key}", "would read all weights, which are lazy", "remove weights: lazy"))
        if self.quantization is not None and (self.mode == "training" or self.weights == "none"):
            cause, key = ("is for inference", "mode: training") if self.mode == "training" else ("needs weights", "weights: none")
            found.append(Problem(f"{place}.quantization", cause, f"remove {key}"))
        found += [] if found else _check_buckets(f"{place}.buckets", self)
        found += _check_loss(f"{place}.loss", self)
        found += [_check_capacity(f"{place}.capacities.{name}", name, capacity) for name, capacity in self.capacities.items()
                  if not _is_capacity(name, capacity)]
        for dtype, tolerance in self.tolerances.items():
            found += _tolerance_problems(f"{place}.tolerances.{dtype}", dtype, tolerance)
        return found + [Problem(f"{place}.custom_calls.{op}", "is not the name of an op",
                                "use namespace.op or namespace.op.overload, such as aten.layer_norm")
                        for op in self.custom_calls if not re.fullmatch(r"\w+(\.\w+){1,2}", op)]

    def _number_problems(self, place: str, name: str, declared: Input) -> list[Problem]:
        if name not in self.inputs:
            cause = f"a {declared.dtype} is a Python number, and only an argument of forward can be one"
            return [Problem(f"{place}.dtype", cause, f"use dtype: {NUMBERS[declared.dtype]} with shape: [], or write the number itself")]
        if declared.shape:
            cause = f"a {declared.dtype} is a Python number and has no shape"
            return [Problem(f"{place}.shape", cause, f"remove it, or use dtype: {NUMBERS[declared.dtype]}")]
        if declared.dtype != "SymInt":
            return []
        found = []
        if name not in self.symbols:
            found.append(Problem(place, "a SymInt needs a symbol of the same name, and none is declared",
                                 f"add symbols.{name}: {{min: 1, max: …}}"))
        elif self.symbols[name].multiple_of != 1:
            found.append(Problem(f"{place.rpartition('.inputs.')[0]}.symbols.{name}.multiple_of",
                                 "torch.export does not support ints that are multiples", "multiply in forward"))
        if uses := self.uses(name):
            cause = (f"the symbol '{name}' is also used in the shape of '{uses[0][0]}', "
                     "and torch.export cannot express that the two are equal")
            found.append(Problem(place, cause, f"take the size from the tensor: {uses[0][0]}.shape[{uses[0][1]}]"))
        if declared.fill is not None:
            found.append(Problem(f"{place}.fill", "a SymInt takes its values from the symbol's range", "remove it"))
        return found

    def _range_problems(self, place: str, dim: Affine, example: int) -> list[Problem]:
        symbol = self.symbols[dim.symbol]
        if dim.at({dim.symbol: symbol.min}) < 0:
            return [Problem(place, f"'{dim}' is below 0 at {dim.symbol} = {symbol.min}", f"raise symbols.{dim.symbol}.min")]
        if dim.at({dim.symbol: example}) < 2:
            return [Problem(place, f"'{dim}' is below 2 at the traced size {dim.symbol} = {example}: torch.export would make it static",
                            f"set a larger symbols.{dim.symbol}.example")]
        return []


def _check_trees(place: str, model: Model, leaves: Sequence[Leaf]) -> list[Problem]:
    """Report structures without a leaf, two leaves of one name, and an object whose class has no dotted path."""
    found = [Problem(f"{place}.inputs.{name}", "has no leaf", "a leaf has a dtype and a shape; constants go under constants")
             for name, tree in model.trees.items() if tree is not None and not any(iterate(tree))]
    counts = Counter(leaf.name for leaf in leaves)
    found += [Problem(f"{place}.{leaf.place}", f"another leaf has the same name, '{leaf.name}'", "rename one of the two")
              for leaf in leaves if counts.pop(leaf.name, 1) > 1]
    return found + [Problem(f"{place}.{made.place}.{recipe.TARGET}", f"'{made.target}' is not a dotted path", "write package.module.Class")
                    for made in iterate(model.trees, Construction) if "." not in made.target]


def _is_capacity(name: str, capacity: int) -> bool:
    return bool(re.fullmatch(r"u\d+|.+\.py:\d+", name)) and 1 <= capacity <= LARGEST


def _check_capacity(place: str, name: str, capacity: int) -> Problem:
    if 1 <= capacity <= LARGEST:
        return Problem(place, f"'{name}' is no size that data decide", "use torch's symbol (u0) or a user line (model.py:42)")
    return Problem(place, f"is {capacity}", f"use 1 to {LARGEST}")


def _check_buckets(place: str, model: Model) -> list[Problem]:
    found = []
    for name, sizes in model.buckets.items():
        symbol = model.symbols.get(name)
        if symbol is None:
            found.append(Problem(f"{place}.{name}", "is not a symbol", suggest(name, model.symbols) or ", ".join(model.symbols) or "none"))
            continue
        if not sizes or list(sizes) != sorted(set(sizes)):
            found.append(Problem(f"{place}.{name}", f"{list(sizes)} is not a list of increasing sizes", "for example [1, 8]"))
        found += [Problem(f"{place}.{name}", f"{size} is outside {symbol}", "every bucket is a size of the symbol")
                  for size in sizes if not symbol.admits(size)]
    if model.buckets:
        found += [Problem(f"{place}.{name}", "is missing", "a static program needs a size of every symbol")
                  for name in model.symbols if name not in model.buckets]
        if (count := math.prod(map(len, model.buckets.values()))) > MOST_BUCKETS:
            found.append(Problem(place, f"are {count} combinations", f"at most {MOST_BUCKETS}"))
        found += [Problem(f"{place.rpartition('.')[0]}.inputs.{name}.shape[{position}]", "is flexible, so buckets cannot give its size",
                          "declare a symbol for it")
                  for name, declared in model.leaves.items() for position, dim in enumerate(declared.dims()) if dim is None]
    return found


def _check_checkpoint(place: str, model: Model) -> list[Problem]:
    if model.weights == "lazy" and model.checkpoint is None:
        return [Problem(f"{place}.weights", "are lazy, but no checkpoint is given",
                        f"name a safetensors file or folder as {place}.checkpoint")]
    if model.weights != "lazy" and model.checkpoint is not None:
        return [Problem(f"{place}.checkpoint", f"is not used with weights: {model.weights}", "use weights: lazy")]
    if model.checkpoint is not None and not Path(model.checkpoint).expanduser().exists():
        return [_report_missing_file(f"{place}.checkpoint", model.checkpoint)]
    return []


def _report_missing_file(place: str, path: str) -> Problem:
    return Problem(place, f"file {path} does not exist", f"paths are relative to the working directory, {Path.cwd()}")


def _check_loss(place: str, model: Model) -> list[Problem]:
    if model.mode == "inference":
        return [] if model.loss == LOSS else [Problem(place, "is only for models in training", "use mode: training")]
    if isinstance(model.loss, str):
        return []
    found = []
    for key, needed in (("_target_", True), ("outputs", True), ("targets", False)):
        value = model.loss.get(key)
        if value is None and needed:
            found.append(Problem(place, f"has no {key}",
                                 "{_target_: torch.nn.functional.mse_loss, outputs: {input: output}, targets: {target: y}}"))
        elif value is not None and key != "_target_" and not isinstance(value, Mapping):
            found.append(Problem(f"{place}.{key}", f"{value!r} is not a mapping", "map each argument of the loss to a name"))
    targets = model.loss.get("targets")
    return found + [Problem(f"{place}.targets.{argument}", f"'{name}' is not an input",
                            suggest(str(name), model.inputs) or "declare it under inputs")
                    for argument, name in (targets.items() if isinstance(targets, Mapping) else ()) if name not in model.inputs]


def _tolerance_problems(place: str, dtype: str, tolerance: Tolerance) -> list[Problem]:
    found = [] if dtype in DTYPES else [Problem(place, f"'{dtype}' is not a dtype", suggest(dtype, DTYPES)
                                                or f"one of {', '.join(DTYPES)}")]
    for name, value in (("atol", tolerance.atol), ("rtol", tolerance.rtol)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LOOSEST:  # nan is in no range
            fix = f"a number from 0 to {LOOSEST:g}; to compare nothing, drop the stage: ~stages.verify"
            found.append(Problem(f"{place}.{name}", f"is {value!r}", fix))
    return found


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


@dataclass(frozen=True)
class Built:
    """A model and its module: the `ir` of a MODEL-level program after the export stage has run the factory."""

    model: Model
    module: Any  # torch.nn.Module, but this file must not import torch
