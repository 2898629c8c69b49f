"""Check the declaration of a model: everything that can be found without building the model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from lowering import paths, recipe
from lowering.errors import Problem, suggest
from lowering.model import FLOATS, LARGEST, LOSS, Input, Library, Model, Tolerance, report_missing_file
from lowering.sizes.dims import Affine, parse_dim
from lowering.trees import Construction, Leaf, iterate, suggest_dtype
from lowering.types import DTYPES, NUMBERS

MOST_BUCKETS = 256  # static programs of a model
LOOSEST = 1.0  # largest atol and rtol: with more, a result of zeros would pass


def find_problems(model: Model, place: str = "model", is_whole: bool = True) -> list[Problem]:
    """List all problems that can be found without building the model. is_whole: whether nothing malformed was left out of the inputs."""
    found = []
    leaves: list[Leaf] = list(iterate(model.trees))
    if not leaves and is_whole:
        found.append(Problem(f"{place}.inputs", "is empty", "a model needs at least one input"))
    found += _check_trees(place, model, leaves)
    if not -(1 << 63) <= model.seed < 1 << 64:
        found.append(Problem(f"{place}.seed", f"{model.seed} does not fit into 64 bits", "torch accepts seeds from -2**63 to 2**64 - 1"))
    for name, symbol in model.symbols.items():
        if not name.isidentifier():
            better = re.sub(r"\W+", "_", name)
            found.append(Problem(f"{place}.symbols.{name}", "is not a name", f"use letters, digits and _: {better}"))
        found += symbol.problems(f"{place}.symbols.{name}")
    examples = {} if found else model.examples()
    used = set()
    for leaf in {leaf.place: leaf for leaf in leaves}.values():  # once for all repetitions
        name, declared = leaf.name, leaf.declared
        if declared.is_number:
            found += _check_number(model, f"{place}.{leaf.place}", name, declared)
            used.add(name)
        for position, dim in enumerate(declared.shape):
            where = f"{place}.{leaf.place}.shape[{position}]"
            try:
                parsed = parse_dim(dim)
            except ValueError as error:
                found.append(Problem(where, str(error), "write an int, a symbol, 2*symbol + 1, or null for a size that the export decides"))
                continue
            if isinstance(parsed, Affine):
                used.add(parsed.symbol)
                if parsed.symbol not in model.symbols:
                    found.append(Problem(where, f"symbol '{parsed.symbol}' is not declared", suggest(parsed.symbol, model.symbols)
                                         or f"add it under symbols: {parsed.symbol}: {{min: 1, max: …}}"))
                elif examples:
                    found += _check_dim(model, where, parsed, examples[parsed.symbol])
        found += declared.problems(f"{place}.{leaf.place}")
    for name in model.symbols:
        if name not in used and not found and is_whole:
            found.append(Problem(f"{place}.symbols.{name}", "is not used in the shape of any input", "use it in a shape or remove it"))
    found += _check_libraries(place, model)
    found += _check_checkpoint(place, model)
    if model.twin is not None and model.weights != "none":
        found.append(Problem(f"{place}.twin", f"is not used with weights: {model.weights}", "use weights: none, or remove it"))
    found += _check_conversion(place, model)
    found += [] if found else _check_buckets(f"{place}.buckets", model)
    found += _check_loss(f"{place}.loss", model)
    found += [_check_capacity(f"{place}.capacities.{name}", name, capacity) for name, capacity in model.capacities.items()
              if not _is_capacity(name, capacity)]
    for dtype, tolerance in model.tolerances.items():
        found += _check_tolerance(f"{place}.tolerances.{dtype}", dtype, tolerance)
    if not all(part.isidentifier() for part in model.method.split(".")):
        found.append(Problem(f"{place}.method", f"'{model.method}' is not the name of a method", "for example forward, or model.encoder"))
    found += [Problem(f"{place}.custom_calls.{op}.target", "is empty", "name the target, or remove the key")
              for op, call in model.custom_calls.items() if call.target == ""]
    return found + [Problem(f"{place}.custom_calls.{op}", "is not the name of an op",
                            "use namespace.op or namespace.op.overload, such as aten.layer_norm")
                    for op in model.custom_calls if not re.fullmatch(r"\w+(\.\w+){1,2}", op)]


def _check_number(model: Model, place: str, name: str, declared: Input) -> list[Problem]:
    if name not in model.inputs:
        cause = f"a {declared.dtype} is a Python number, and only an argument of forward can be one"
        return [Problem(f"{place}.dtype", cause, f"use dtype: {NUMBERS[declared.dtype]} with shape: [], or write the number itself")]
    if declared.shape:
        cause = f"a {declared.dtype} is a Python number and has no shape"
        return [Problem(f"{place}.shape", cause, f"remove it, or use dtype: {NUMBERS[declared.dtype]}")]
    if declared.dtype != "SymInt":
        return []
    found = []
    if name not in model.symbols:
        found.append(Problem(place, "a SymInt needs a symbol of the same name, and none is declared",
                             f"add symbols.{name}: {{min: 1, max: …}}"))
    elif model.symbols[name].multiple_of != 1:
        found.append(Problem(f"{place.rpartition('.inputs.')[0]}.symbols.{name}.multiple_of",
                             "torch.export does not support ints that are multiples", "multiply in forward"))
    if uses := model.uses(name):
        cause = (f"the symbol '{name}' is also used in the shape of '{uses[0][0]}', "
                 "and torch.export cannot express that the two are equal")
        found.append(Problem(place, cause, f"take the size from the tensor: {uses[0][0]}.shape[{uses[0][1]}]"))
    if declared.fill is not None:
        found.append(Problem(f"{place}.fill", "a SymInt takes its values from the symbol's range", "remove it"))
    return found


def _check_dim(model: Model, place: str, dim: Affine, example: int) -> list[Problem]:
    symbol = model.symbols[dim.symbol]
    if dim.at({dim.symbol: symbol.min}) < 0:
        return [Problem(place, f"'{dim}' is below 0 at {dim.symbol} = {symbol.min}", f"raise symbols.{dim.symbol}.min")]
    if dim.at({dim.symbol: example}) < 2:
        return [Problem(place, f"'{dim}' is below 2 at the traced size {dim.symbol} = {example}: torch.export would make it static",
                        f"set a larger symbols.{dim.symbol}.example")]
    return []


def _check_trees(place: str, model: Model, leaves: Sequence[Leaf]) -> list[Problem]:
    """Report structures without a leaf, constants that are inputs, two leaves of one name, and an object whose class has no dotted path."""
    found = [Problem(f"{place}.inputs.{name}", "has no leaf", "a leaf has a dtype and a shape; constants go under constants")
             for name, tree in model.trees.items() if tree is not None and not any(iterate(tree))]
    found += [Problem(f"{place}.constants.{name}", "is an input too", "remove one of the two")
              for name in model.constants if name in model.inputs]
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


def _check_libraries(place: str, model: Model) -> list[Problem]:
    found = []
    for index, library in enumerate(model.libraries):
        where = f"{place}.libraries[{index}]"
        if isinstance(library, Library):
            found += library.problems(where)
        elif not paths.is_file(paths.expand(library)):
            found.append(report_missing_file(where, library))
    return found


def _check_conversion(place: str, model: Model) -> list[Problem]:
    """Report a dtype or a quantization that the model cannot be converted to."""
    found = []
    if model.dtype is not None and model.dtype not in FLOATS:
        found.append(Problem(f"{place}.dtype", f"a model cannot be converted to '{model.dtype}'", suggest_dtype(model.dtype, FLOATS)))
    if model.quantization is not None:
        found += model.quantization.problems(f"{place}.quantization")
    for key in ("dtype", "quantization"):
        if getattr(model, key) is not None and model.weights == "lazy":
            found.append(Problem(f"{place}.{key}", "would read all weights, which are lazy", "remove weights: lazy"))
    if model.quantization is not None and (model.mode == "training" or model.weights == "none"):
        cause, key = ("is for inference", "mode: training") if model.mode == "training" else ("needs weights", "weights: none")
        found.append(Problem(f"{place}.quantization", cause, f"remove {key}"))
    return found


def _check_checkpoint(place: str, model: Model) -> list[Problem]:
    if model.weights == "lazy" and model.checkpoint is None:
        return [Problem(f"{place}.weights", "are lazy, but no checkpoint is given",
                        f"name a safetensors file or folder as {place}.checkpoint")]
    if model.weights != "lazy" and model.checkpoint is not None:
        return [Problem(f"{place}.checkpoint", f"is not used with weights: {model.weights}", "use weights: lazy")]
    if model.checkpoint is not None and not paths.exists(paths.expand(model.checkpoint)):
        return [report_missing_file(f"{place}.checkpoint", model.checkpoint)]
    return []


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


def _check_tolerance(place: str, dtype: str, tolerance: Tolerance) -> list[Problem]:
    found = [] if dtype in DTYPES else [Problem(place, f"'{dtype}' is not a dtype", suggest_dtype(dtype, tuple(DTYPES)))]
    for name, value in (("atol", tolerance.atol), ("rtol", tolerance.rtol)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LOOSEST:  # nan is in no range
            fix = f"a number from 0 to {LOOSEST:g}; to compare nothing, drop the stage: ~stages.verify"
            found.append(Problem(f"{place}.{name}", f"is {value!r}", fix))
    return found
