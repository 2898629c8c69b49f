"""Find all ops of a module that a pass pipeline rejects, not only the first: each kind of op is tried separately."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lowering.errors import Problem, StageFailed, Unsupported
from lowering.ir import mlir

_ENTRY = re.compile(r'^loc\("-":\d+:\d+\)$')  # a location in MLIR text, which no user wrote
_FILE = re.compile(r'"(?P<file>[^"]*)":(?P<line>\d+):\d+')
_CAUSE = re.compile(r" at loc\(.*", re.DOTALL)
_SIZED_BY_DATA = "the size of its result depends on the values of its tensors, and no op of StableHLO produces such a tensor"
_TO_CAPACITY = "stages.export.data_sizes=capacity pads the result and computes its count"
_ILLEGAL = re.compile(r"failed to legalize operation '")


def has_mask_index(module: Any) -> bool:
    """Return whether an index of the module is a mask, which torch-mlir would read as row numbers."""
    return any(_name(operation).startswith("aten.index.Tensor") and _has_data_dependent_shape(operation)
               for operation in mlir.walk_operations(module))


@contextmanager
def report_all(module: Any, pipeline: str) -> Iterator[None]:
    """Report every op that `pipeline` rejects in `module`, if its passes fail inside the block.

    A StageFailed is replaced by an Unsupported with these ops. It is raised unchanged if each op passes separately.
    """
    before = module.operation.clone()
    try:
        yield
    except StageFailed as error:
        found = find_rejected(before, pipeline)
        if found:
            raise Unsupported(found, error.log) from error
        raise


def find_rejected(module: Any, pipeline: str, dialect: str = "torch.") -> list[Problem]:
    """Report each kind of op (name, attributes, types) of `@main` that `pipeline` rejects: the op, its user lines, the cause.

    The result is empty if every op passes separately, so that only their combination fails.
    """
    found: dict[str, tuple[str, list[str], str]] = {}
    tried: dict[str, str | None] = {}
    for operation in mlir.walk_operations(module):
        if not operation.name.startswith(dialect) or not _produces_tensor(operation) or operation.name == "torch.vtensor.literal":
            continue
        alone = _isolate(operation)
        if alone not in tried:
            tried[alone] = _find_cause(operation, alone, pipeline)
        cause = tried[alone]
        if cause is not None:
            _, lines, _ = found.setdefault(f"{_name(operation)} {cause}", (_name(operation), [], cause))
            line = _find_line(operation.location)
            if line and line not in lines:
                lines.append(line)
    return [Problem(f"{name} at {', '.join(lines)}" if lines else name, cause, _TO_CAPACITY if cause == _SIZED_BY_DATA else "")
            for name, lines, cause in found.values()]


def _produces_tensor(operation: Any) -> bool:
    """Return whether an op produces tensors, or is a `torch.operator`.

    Numbers, lists and sizes are tried together with the ops that use them.
    """
    counts = operation.name == "torch.operator" or any(_is_tensor(result.type) for result in operation.results)
    return counts and len(operation.regions) == 0 and not any(_is_from_region(operand) for operand in operation.operands)


def _is_tensor(kind: Any) -> bool:
    return str(kind).startswith(("!torch.vtensor", "!torch.tensor"))


def _is_from_region(value: Any) -> bool:
    """Return whether a number is the result of an op with regions. Ops that take such a number cannot be tried separately."""
    owner = getattr(value.owner, "operation", None)
    if owner is None or _is_argument(value):
        return owner is None and "tensor" not in str(value.type)
    return len(owner.regions) > 0 or any(_is_from_region(operand) for operand in owner.operands)


def _name(operation: Any) -> str:
    """Return `aten.add.Tensor`, for a registered op or a `torch.operator`."""
    if operation.name == "torch.operator":
        return str(operation.attributes["name"]).strip('"')
    return operation.name.removeprefix("torch.").removesuffix("_hacked_twin")  # type: ignore[no-any-return]


def _find_line(location: Any) -> str:
    text = str(location)
    match = _FILE.search(text)
    return "" if match is None or _ENTRY.match(text) else f"{match['file']}:{match['line']}"


def _isolate(operation: Any) -> str:
    """Return the text of a module that contains only one op.

    Tensors are arguments, and all other operands are computed in the module. Equal ops have equal texts.
    """
    arguments: dict[Any, str] = {}
    lines: list[str] = []
    names: dict[Any, str] = {}
    for needed in dict.fromkeys(_find_needed(operation)):
        for operand in needed.operands:
            if _is_argument(operand) and operand not in arguments:
                arguments[operand] = f"%arg{len(arguments)}"
        results = []
        for result in needed.results:
            names[result] = f"%v{len(names)}"
            results.append(names[result])
        operands = ", ".join(arguments.get(operand) or names[operand] for operand in needed.operands)
        types = ", ".join(str(operand.type) for operand in needed.operands)
        attributes = ", ".join(f"{name} = {needed.attributes[name]}" for name in needed.attributes)
        given = ", ".join(str(result.type) for result in needed.results)
        lines.append(f'{", ".join(results)} = "{needed.name}"({operands}) {{{attributes}}} : ({types}) -> ({given})')
    returned = ", ".join(names[result] for result in operation.results)
    kinds = ", ".join(str(result.type) for result in operation.results)
    taken = ", ".join(f"{name}: {value.type}" for value, name in arguments.items())
    body = "\n  ".join(lines)
    head = f"func.func @main({taken}) -> ({kinds}) attributes {{torch.assume_strict_symbolic_shapes}}"
    return f"{head} {{\n  {body}\n  return {returned} : {kinds}\n}}"


def _find_needed(operation: Any) -> Iterator[Any]:
    """Yield the ops whose non-tensor results an op takes, in order, then the op itself."""
    for operand in operation.operands:
        if not _is_argument(operand):
            yield from _find_needed(operand.owner.operation)
    yield operation


def _is_argument(value: Any) -> bool:
    """Return whether a value is passed as an argument: a tensor that is not a constant, or an argument already."""
    owner = getattr(value.owner, "operation", None)
    if owner is None:
        return True  # an argument of a block
    return "vtensor" in str(value.type) and "list<" not in str(value.type) and not owner.name.endswith(".literal")


def _find_cause(operation: Any, text: str, pipeline: str) -> str | None:
    """Return the reason why `pipeline` rejects the module of one op, or None if it passes."""
    if _name(operation).startswith("aten.index.Tensor") and _has_data_dependent_shape(operation):
        return _SIZED_BY_DATA
    try:
        mlir.run(mlir.parse(text, operation.context), pipeline, "")
    except StageFailed as error:
        if _has_data_dependent_shape(operation):
            return _SIZED_BY_DATA
        said = _CAUSE.sub("", error.problems[0].cause).strip()
        taken = ", ".join(str(operand.type).removeprefix("!torch.") for operand in operation.operands if "tensor" in str(operand.type))
        return f"torch-mlir does not lower it in this form ({taken})" if _ILLEGAL.match(said) else said
    return None


def _has_data_dependent_shape(operation: Any) -> bool:
    """Return whether torch marks the op's output shape as data-dependent. An index op must also take a mask."""
    import torch

    name, _, overload = _name(operation).removeprefix("aten.").removesuffix("_hacked_twin").partition(".")
    op = getattr(getattr(torch.ops.aten, name, None), overload or "default", None)
    if op is None or torch.Tag.dynamic_output_shape not in op.tags:
        return False
    if name != "index":
        return True
    indices = getattr(operation.operands[1].owner, "operation", None)
    return indices is not None and any(str(index.type).endswith((",i1>", ",ui8>")) for index in indices.operands)
