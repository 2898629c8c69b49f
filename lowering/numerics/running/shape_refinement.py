"""Refinement of StableHLO and MHLO with dynamic dims to the shapes of given arguments, and its shape assertions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import torch

from lowering import meshes, types
from lowering.errors import Problem, Refused, StageFailed, Unsupported
from lowering.ir import chlo, composites, expansion, mlir
from lowering.numerics.running import scalars

# What the refinement says of sizes that data decide: of an op, and of branches whose results have different sizes.
_FROM_DATA = ("has dynamic shapes", "Failed to converge StablehloRefineShapes")
_RAGGED = "ragged_dot"  # in the names of ops of CHLO and MHLO
_ASSERTION = re.compile(r"error: ((?:(?!error: ).)*?)\n[^\n]*note: see current operation:[^\n]*shape_assertion", re.DOTALL)
_BOUNDS = re.compile(r", #(?:stablehlo\.bounds<[^>]*>|mhlo\.type_extensions<bounds = \[[^\]]*\]>)")

_ERROR = re.compile(r"error: (?:\"-\":\d+:\d+: )?(.*)")

context = cache(mlir.create_hlo_context)


def refine(module: str | bytes, shapes: Sequence[tuple[torch.dtype, tuple[int, ...]]],
           values: Mapping[int, int] = MappingProxyType({}), is_sharded: bool = False) -> bytes:
    """Return a module (text or bytecode, entry `@main`) with every dim static, as StableHLO bytecode.

    shapes: dtypes and shapes of the arguments. values: of 0-d arguments that sizes depend on, by position; the program still takes these
    arguments, but does not read them. is_sharded: whether it is for several devices; for one, shardings of results are dropped, which are
    custom calls.

    Raises Refused with the program's own messages if one of its shape assertions fails, Unsupported if a size depends on data, and
    StageFailed if the module cannot be refined otherwise.
    """
    from jaxlib.mlir import ir

    with context(), ir.Location.unknown():
        parsed = refine_arguments(parse(module), shapes, values)
        if not is_sharded and _mentions(module, meshes.SHARDY_RESULT):
            _drop_result_shardings(parsed)
        # Alone, so that a wrong size raises the program's own message, and not that of the first op that it breaks.
        if (checks := _extract_assertions(parsed)) is not None:
            _refine_bytecode(checks, whole=False)
        return _refine_bytecode(mlir.to_bytecode(parsed), whole=True)


def _mentions(module: str | bytes, word: str) -> bool:
    """Return whether the text or bytecode of a module has a word, as the name of an op or the target of a call: few do, and walks cost."""
    return word in module if isinstance(module, str) else word.encode() in module


def _drop_result_shardings(module: Any) -> None:
    for op in list(mlir.walk_operations(module)):
        if op.name == "stablehlo.custom_call" and op.attributes["call_target_name"].value == meshes.SHARDY_RESULT:
            op.results[0].replace_all_uses_with(op.operands[0])
            op.erase()


@dataclass(frozen=True)
class Assertions:
    """The shape assertions of a program, without the rest of it, which makes them much cheaper to evaluate than a refinement.

    module: bytecode; None if the program has no assertions. count: the number of assertions.
    """

    module: bytes | None
    count: int

    @staticmethod
    def extract(module: str | bytes) -> Assertions:
        """Return the assertions of a module (text or bytecode, entry `@main`)."""
        from jaxlib.mlir import ir

        with context(), ir.Location.unknown():
            parsed = parse(module)
            count = sum(map(_is_assertion, mlir.walk_operations(parsed)))
            return Assertions(_extract_assertions(parsed), count)

    def check(self, shapes: Sequence[tuple[torch.dtype, tuple[int, ...]]], values: Mapping[int, int] = MappingProxyType({})) -> None:
        """Raise Refused with the program's own message if it declines arguments of these dtypes and shapes.

        Raises StageFailed if the assertions cannot be evaluated.
        """
        from jaxlib.mlir import ir

        if self.module is not None:
            with context(), ir.Location.unknown():
                _refine_bytecode(mlir.to_bytecode(refine_arguments(ir.Module.parse(self.module), shapes, values)), whole=False)


def parse(module: str | bytes) -> Any:
    """Parse a module as `parse_whole` does, inside `context()`, with its composites as calls, and its ragged dots as arithmetic."""
    parsed = parse_whole(module)
    if _mentions(module, _RAGGED):
        expansion.expand_chlo(parsed)  # XLA runs no ragged dot on a CPU
    composites.to_calls(parsed)
    return parsed


def parse_whole(module: str | bytes) -> Any:
    """Parse a module (text or bytecode) as StableHLO, inside a context of jaxlib's build. Raise StageFailed if it is no MLIR."""
    from jaxlib.mlir import ir, passmanager

    try:
        parsed = ir.Module.parse(module)
        if any(_BOUNDS.search(str(function.type)) for function in parsed.body.operations if hasattr(function, "type")):
            # the refinement reads no size from a bounded dim
            parsed = ir.Module.parse(_BOUNDS.sub("", mlir.text(parsed, elide=None)))
        if has_ragged := _mentions(module, _RAGGED):
            chlo.to_calls(parsed)  # the conversion of MHLO refuses ragged dots
        passmanager.PassManager.parse("builtin.module(func.func(chlo-legalize-to-hlo),hlo-legalize-to-stablehlo)").run(parsed.operation)
        if has_ragged:
            chlo.from_calls(parsed, (chlo.RAGGED_DOT,))
    except ir.MLIRError as error:
        raise StageFailed(Problem("@main", _find_cause(error).removeprefix("'func.func' op ")), str(error)) from None
    return parsed


def refine_arguments(module: Any, shapes: Sequence[tuple[torch.dtype, tuple[int, ...]]], values: Mapping[int, int]) -> Any:
    """Refine the arguments of `module` to these dtypes and shapes, in place. Raise Refused if its types do not allow them."""
    from jaxlib.mlir import ir, passmanager

    element_types = ",".join(f"tensor<{''.join(f'{size}x' for size in shape)}{types.find_row(dtype).hlo}>" for dtype, shape in shapes)
    try:
        mlir.fix_arguments(module, values)
        passmanager.PassManager.parse(f"builtin.module(stablehlo-refine-arguments{{types={element_types}}})").run(module.operation)
        scalars.fold(module)
    except ir.MLIRError as error:
        cause = _find_cause(error).removeprefix("'func.func' op ")
        kind = Refused if cause.startswith(("invalid refinement", "number of refinements")) else StageFailed
        raise kind(Problem("@main", cause), str(error)) from None
    return module


def _refine_bytecode(bytecode: bytes, whole: bool) -> bytes:
    from jaxlib import _jax

    try:
        return _jax.mlir.refine_polymorphic_shapes(bytecode, enable_shape_assertions=True, validate_static_shapes=whole)
    except Exception as error:  # noqa: BLE001 - jaxlib's errors have no common class
        messages = [message for message in _ASSERTION.findall(str(error)) if not message.startswith("expects static")]
        if messages:
            raise Refused([Problem("@main", message) for message in messages]) from None
        cause = _find_cause(error)
        if any(words in cause for words in _FROM_DATA):
            why = "XLA computes sizes from the sizes of arguments, none from data; stages.export.data_sizes=capacity pads to a bound"
            raise Unsupported(Problem("shape refinement", cause, why), str(error)) from None
        raise StageFailed(Problem("shape refinement", cause), str(error)) from None


def _extract_assertions(module: Any) -> bytes | None:
    """Return `module` reduced to the shape assertions of @main and the ops that they use, as bytecode; None if it has none."""
    from jaxlib.mlir import ir

    copied = module.operation.clone()
    main = mlir.find_main(copied.regions[0].blocks[0].operations)
    body = list(main.regions[0].blocks[0].operations)
    needed = {position for position, operation in enumerate(body) if _is_assertion(operation)}
    if not needed:
        return None
    positions = {operation.operation: position for position, operation in enumerate(body)}
    reached = sorted(needed)
    while reached:
        for operand in _iterate_operands(body[reached.pop()]):
            owner = positions.get(operand.owner) if isinstance(operand.owner, ir.Operation | ir.OpView) else None
            if owner is not None and owner not in needed:
                needed.add(owner)
                reached.append(owner)
    for position in reversed(range(len(body))):
        if position not in needed:
            body[position].operation.erase()
    with ir.InsertionPoint(main.regions[0].blocks[0]):
        ir.Operation.create("func.return")
    main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(main.attributes["function_type"].value.inputs, []))
    if "res_attrs" in main.attributes:
        del main.attributes["res_attrs"]
    return mlir.to_bytecode(copied)


def _iterate_operands(operation: Any) -> Iterator[Any]:
    """Iterate over the operands of an op, and over those of the ops in its regions."""
    yield from operation.operands
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from _iterate_operands(inner)


def _is_assertion(operation: Any) -> bool:
    return operation.operation.name == "stablehlo.custom_call" and operation.attributes["call_target_name"].value == "shape_assertion"


def _find_cause(error: Exception) -> str:
    found = _ERROR.search(str(error))
    return found[1] if found else str(error)
