"""MLIR as a model: text, bytecode or a portable artifact of StableHLO, in the torch dialect, StableHLO or MHLO.

The job starts at the level of the file: nothing is exported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from lowering import paths, types
from lowering.eager.mlir_module import MlirModule
from lowering.errors import LoadError, Problem, StageFailed, Unsupported, suggest
from lowering.ir import mlir
from lowering.level import Level
from lowering.model import Model
from lowering.signature import Argument, Result, Signature
from lowering.sizes.dims import Affine
from lowering.sizes.ranges import Bound
from lowering.symbols.levels import parse_dims

Word: TypeAlias = Literal["torch", "stablehlo", "mhlo"]

DIALECTS = {Level.TORCH: ("func", "torch", "builtin"), Level.STABLEHLO: ("func", "stablehlo", "chlo", "builtin"),
            Level.MHLO: ("func", "mhlo", "builtin")}  # fmt: skip
_BYTECODE, _PORTABLE, _ELIDED = b"ML\xefR", b"StableHLO_v", b"dense_resource<__elided__>"
_VTENSOR = re.compile(r"!torch\.vtensor<\[.*\],(.+)>")
_TENSOR = re.compile(r"tensor<(?:(?:\?|\d+)x)*(complex<\w+>|\w+)")


def load(path: str, level: Word, entry: str | None = None) -> MlirModule:
    """Read a file of MLIR as a module.

    level: of the file. entry: the function that is lowered, which the file needs if it has several public ones; it becomes `@main`.
    Raises LoadError if the file cannot be read or parsed, or its entry is not clear, and Unsupported with all ops of other dialects.
    """
    file, found = paths.expand(path), next(each for each in Level if each.word == level)
    try:
        data = file.read_bytes()
    except OSError as error:
        fix = "the path is relative to the working directory of the command"
        raise LoadError(Problem(f"path: {path}", f"cannot be read: {error.strerror or error}", fix)) from error
    if _ELIDED in data:
        fix = "print it with all constants, or write bytecode"
        raise LoadError(Problem(f"path: {path}", "was printed with abbreviated constants, whose values are lost", fix))
    module = _parse(data, found, str(file))
    if foreign := mlir.list_impurities(module, DIALECTS[found]):
        fix = f"convert it to {level}, or name the file's own level"
        raise Unsupported([Problem(f"{path}: {each.place}", each.cause, fix) for each in foreign])
    _choose_entry(module, entry, path)
    return MlirModule(path, found, mlir.to_bytecode(module))


def parse(module: MlirModule) -> Any:
    """Return the MLIR module, in a new context of its level's build."""
    return mlir.parse(module.code, _create_context(module.level))


def _create_context(level: Level) -> Any:
    return mlir.create_hlo_context() if level is Level.MHLO else mlir.create_torch_context()


def _parse(data: bytes, level: Level, path: str) -> Any:
    context = _create_context(level)
    is_portable = data.startswith(_BYTECODE) and _PORTABLE in data[:64]
    if is_portable and level is not Level.STABLEHLO:
        raise LoadError(Problem(f"path: {path}", "is a portable artifact of StableHLO", "level: stablehlo"))
    try:
        with mlir.collect_diagnostics(context, f"path: {path}"):
            if is_portable:
                from torch_mlir._mlir_libs import _stablehlo

                return _stablehlo.deserialize_portable_artifact(context, data)
            return mlir.get_ir(context).Module.parseFile(path, context)
    except StageFailed as error:
        fix = f"level: {level.word} is read with the dialects {', '.join(DIALECTS[level])}"
        raise LoadError([Problem(f"path: {path}", f"does not parse: {problem.cause}", fix) for problem in error.problems]) from error


def _choose_entry(module: Any, entry: str | None, path: str) -> None:
    """Rename the entry to `@main`, make all other functions private, and remove those that it does not call. Raises LoadError."""
    functions = {function.attributes["sym_name"].value: function for function in mlir.walk_functions(module)}
    public = [name for name, function in functions.items() if mlir.is_public(function)]
    if entry is None and len(public) != 1:
        cause = f"has {len(public)} public functions: {', '.join(public)}" if public else "has no public function with a body"
        raise LoadError(Problem(f"path: {path}", cause, "name one: factory.entry" if functions else "it needs a func.func @main"))
    name = entry or public[0]
    if name not in functions:
        fix = suggest(name, functions) or f"its functions: {', '.join(functions) or 'none'}"
        raise LoadError(Problem("factory.entry", f"{path} has no function '{name}' with a body", fix))
    ir = mlir.get_ir(module.context)
    with module.context:
        for other, function in functions.items():
            function.attributes["sym_visibility"] = ir.StringAttr.get("public" if other == name else "private")
        mlir.run(module, "builtin.module(symbol-dce)", f"path: {path}")
        left = {function.attributes["sym_name"].value: function for function in mlir.walk_functions(module)}
        if name != mlir.ENTRY and mlir.ENTRY in left:
            raise LoadError(Problem("factory.entry", f"'{name}' calls @{mlir.ENTRY}, which must be the entry", f"rename @{mlir.ENTRY}"))
        left[name].attributes["sym_name"] = ir.StringAttr.get(mlir.ENTRY)


def list_arguments(module: Any) -> list[tuple[str, Any]]:
    """Return the names and types of the entry's arguments. Names are JAX's `jax.arg_info`, those of locations, or `arg0`, `arg1`."""
    function = mlir.find_entry(module)
    arguments = function.regions[0].blocks[0].arguments
    given = list(function.attributes["arg_attrs"]) if "arg_attrs" in function.attributes else [{} for _ in arguments]
    found: dict[str, Any] = {}
    for position, (value, attributes) in enumerate(zip(arguments, given, strict=True)):
        named = attributes["jax.arg_info"].value if "jax.arg_info" in attributes else _read_name(value)
        found[named if named.isidentifier() and named not in found else f"arg{position}"] = value.type
    return list(found.items())


def _read_name(value: Any) -> str:
    match = re.fullmatch(r'loc\("([^"]+)"(?:\(.*\))?\)', str(getattr(value, "location", "")))
    return match[1] if match else ""


def describe_type(kind: Any, level: Level) -> tuple[str, tuple[str, ...]] | None:
    """Return the dtype and dims (an int or `?`) of an argument or result type; None unless it is a tensor of known rank and dtype."""
    text = str(kind)
    match = (_VTENSOR if level is Level.TORCH else _TENSOR).match(text)
    words = {row.torch_mlir if level is Level.TORCH else row.hlo: row.name for row in types.DTYPES.values()}
    return (words[match[1]], tuple(parse_dims(text))) if match and match[1] in words else None


def build_signature(module: Any, model: Model, level: Level) -> Signature:
    """Return the signature of a program whose entry takes the inputs of `model`, in the order of their declaration.

    Raises LoadError with every argument whose type is not the declared one. A dynamic dim of a result is called `u0`, `u1`.
    """
    function = mlir.find_entry(module)
    block = function.regions[0].blocks[0]
    place, leaves = f"models.{model.name}.inputs", dict(model.leaves)
    if len(leaves) != len(block.arguments):
        fix = f"declare, in order: {', '.join(name for name, _ in list_arguments(module))}"
        raise LoadError(Problem(place, f"declares {len(leaves)} tensors, and the entry takes {len(block.arguments)}", fix))
    problems: list[Problem] = []
    arguments = []
    for (name, declared), value in zip(leaves.items(), block.arguments, strict=True):
        found, dims = describe_type(value.type, level), declared.dims()
        if found is None or declared.is_number:
            problems.append(Problem(f"{place}.{name}", f"the entry takes {value.type}", "only tensors of known rank and dtype are taken"))
            continue
        problems += _compare_argument(f"{place}.{name}", declared.dtype, dims, *found)
        arguments.append(Argument("input", name, declared.dtype, tuple(str(dim) if isinstance(dim, Affine) else dim or 0 for dim in dims)))
    results, unknown = [], 0
    for position, value in enumerate(list(block.operations)[-1].operands):
        found = describe_type(value.type, level)
        if found is None:
            problems.append(Problem(f"result {position}", f"is {value.type}", "only tensors of known rank and dtype are taken"))
            continue
        named: list[int | str] = []
        for dim in found[1]:
            named.append(f"u{unknown}" if dim == "?" else int(dim))
            unknown += dim == "?"
        results.append(Result("output", str(position), found[0], tuple(named)))
    if problems:
        raise LoadError(problems)
    bounds = {name: Bound(symbol.min, symbol.max, symbol.multiple_of) for name, symbol in model.symbols.items()}
    return Signature(tuple(arguments), tuple(results), bounds)


def _compare_argument(place: str, dtype: str, dims: Sequence[int | Affine | None], given: str, shape: Sequence[str]) -> list[Problem]:
    """List the differences between a declared input and the type of its argument."""
    text = f"{given}[{', '.join(shape)}]"
    if dtype != given or len(dims) != len(shape):
        return [Problem(place, f"is declared as {dtype} of rank {len(dims)}, and the entry takes {text}", "declare what the entry takes")]
    found = []
    for position, (dim, size) in enumerate(zip(dims, shape, strict=True)):
        if size == "?" and dim is None:
            found.append(Problem(f"{place}.shape[{position}]", f"is null, and the entry takes {text}", "name a symbol with its range"))
        elif size != "?" and (isinstance(dim, Affine) or dim is None):
            found.append(Problem(f"{place}.shape[{position}]", f"is '{dim or 'null'}', and the entry takes {text}: its size is fixed",
                                 f"write {size}"))
        elif size != "?" and dim != int(size):
            found.append(Problem(f"{place}.shape[{position}]", f"is {dim}, and the entry takes {text}", f"write {size}"))
    return found
