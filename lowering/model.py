"""Declaration of a model to lower: a factory, the inputs by name, and the dynamic dims with their ranges."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lowering import paths
from lowering.errors import Problem
from lowering.fitting import advised
from lowering.sizes.dims import Affine
from lowering.sizes.ranges import Bound, round_up
from lowering.trees import Input as Input
from lowering.trees import Tree, convert_floats, expand, iterate, write_sizes

LOSS = "loss"  # default name of the output that is the loss
GRADIENT = "grad."  # prefix that turns the name of a parameter into the name of its gradient

FLOATS = ("float64", "float32", "bfloat16", "float16")  # dtypes of a whole model

LARGEST = 2**31 - 1  # largest size of a dim in a program: StableHLO counts in 32 bits

# Example sizes of dynamic dims. Primes make a burned-in size easy to spot, and no product of two of them is a third.
EXAMPLES = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 3, 2)


@dataclass(frozen=True)
class Symbol(Bound):
    """A dynamic dim with `min <= size <= max` and `size % multiple_of == 0`. max: None if unbounded; example: the size used for tracing.

    min: the smallest size; a symbol with `min == max` declares a static size. multiple_of: a divisor of every size.
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
        if self.max is not None and self.max > LARGEST:
            found.append(Problem(f"{place}.max", f"is {self.max}", f"sizes are at most {LARGEST}; without max there is no bound"))
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
        return [report_missing_file(f"{place}.sources[{index}]", path) for index, path in enumerate(self.sources)
                if not paths.is_file(paths.expand(path))]


Scheme = Literal["int8_weight_only", "int8_dynamic", "int4_weight_only", "float8_weight_only", "pt2e_static", "pt2e_dynamic"]


@dataclass(frozen=True)
class Quantization:
    """The quantization of a model by torchao.

    scheme: which tensors are quantized to which dtypes (docs/quantization.md). config: instead of a scheme, the recipe of a torchao config.
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

    def problems(self, place: str) -> list[Problem]:
        found = []
        if (self.scheme is None) == (self.config is None):
            found.append(Problem(place, "gives both a scheme and a config" if self.scheme else "gives neither a scheme nor a config",
                                 "for example scheme: int8_weight_only"))
        found += [Problem(f"{place}.{name}", f"is {value}", f"{least} or more")
                  for name, value, least in (("group_size", self.group_size, 2), ("samples", self.samples, 1)) if value < least]
        if self.calibration is not None and self.scheme != "pt2e_static":
            found.append(Problem(f"{place}.calibration", f"is not used with {self.scheme or 'config'}", "use scheme: pt2e_static"))
        elif self.calibration is not None and not paths.is_file(paths.expand(self.calibration)):
            found.append(report_missing_file(f"{place}.calibration", self.calibration))
        return found


@dataclass(frozen=True)
class CustomCall:
    """The lowering of an op to a custom call. target: the name of the call target (None: the name of the op)."""

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
    loss: name of the output that is the loss (a lone output is it in any case), or the recipe of a callable. Its `outputs` (of the module)
        and `targets` (inputs that forward does not take) map arguments of the callable to names; other keys of the recipe are passed on.
    libraries: loaded before the factory runs; a string is the path of a built .so. Each of their ops becomes a custom call.
    method: the method of the module that is lowered. entry: its name among the entries of a model that has several.
    after: the entry whose results this one takes; verification runs both together.
    custom_calls: by op (`ns.op` or `ns.op.overload`); renames the target, or lowers a built-in PyTorch op to a custom call.
    dtype: floating dtype that the module, its weights and its floating inputs are converted to.
    quantization: how the module is quantized, after that conversion.
    buckets: sizes of every symbol, for each combination of which the package holds a static program too.
    capacities: of sizes that data decide, by torch's symbol (`u0`) or by user line (`model.py:42`).
    twin: of a model without weights, what is different in `kwargs` of the factory of the small model that is verified in its place (None:
        what follows from its config).

    A symbol with a single size is written into the shapes, and is not among the symbols then. `traced` has sizes at which `null` dims are
    traced, keyed `input[position]`; the others are traced at primes, each at one of its own.
    """

    name: str
    factory: Mapping[str, Any]
    inputs: Mapping[str, Tree]
    symbols: Mapping[str, Symbol] = advised("for example {batch: {min: 1, max: 64}}; without max there is no bound", default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    tolerances: Mapping[str, Tolerance] = advised("for example {float32: {atol: 1e-4, rtol: 1e-4, reason: …}}", default_factory=dict)
    seed: int = 0
    weights: Literal["random", "none", "lazy"] = advised("for those of a file, lazy and checkpoint: FILE.safetensors", default="random")
    checkpoint: str | None = None
    mode: Literal["inference", "training"] = advised("inference, the default, is the module in eval mode", default="inference")
    loss: str | Mapping[str, Any] = LOSS
    libraries: tuple[str | Library, ...] = advised("for example [{sources: [ops.cpp]}]", default=())
    custom_calls: Mapping[str, CustomCall] = field(default_factory=dict)
    method: str = "forward"
    entry: str = ""
    buckets: Mapping[str, tuple[int, ...]] = advised("for example {batch: [1, 8]}", default_factory=dict)
    capacities: Mapping[str, int] = field(default_factory=dict)
    after: Model | None = None
    dtype: str | None = None
    quantization: Quantization | None = advised("for example {scheme: int8_weight_only}", default=None)
    traced: Mapping[str, int] = field(default_factory=dict)
    twin: Mapping[str, Any] | None = None

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

    @property
    def place(self) -> str:
        """The key of the model, or of its entry, in messages about what is declared for it."""
        return f"models.{self.name}.entries.{self.entry}" if self.entry else f"models.{self.name}"

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


def report_missing_file(place: str, path: str) -> Problem:
    if paths.is_folder(paths.expand(path)):
        return Problem(place, f"{path} is a folder", "name a file")
    return Problem(place, f"file {path} does not exist", f"paths are relative to the working directory, {Path.cwd()}")


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


@dataclass(frozen=True)
class Built:
    """A model and its module: the `ir` of a MODEL-level program after the export stage has run the factory."""

    model: Model
    module: Any  # torch.nn.Module, but this file must not import torch
