"""The integers that a program makes of floats: read from a level, and given to eager, which then goes on from the same ones.

An element close to a tie may be rounded to either side, and a step of an integer is a large error for all that follows. A level's integer
is right if eager's own value, off by no more than the tolerance of its dtype, rounds to it, and eager's op makes it of the level's own
value, exactly: a level that rounds ties by another rule is wrong. From the same integers on, results must agree as those of any other
program do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from lowering.ir import mlir
from lowering.level import Program
from lowering.model import Tolerance
from lowering.numerics import comparison, noise
from lowering.numerics.running import shape_refinement
from lowering.numerics.running.watching import Watching
from lowering.ops.quantized import quantization

# Ops that jump between integers. They increase with their operand.
_JUMPING = frozenset(("round", "floor", "ceil", "trunc"))
_HLO_JUMPING = frozenset(("round_nearest_even", "round_nearest_afz", "floor", "ceil"))


class Made(NamedTuple):
    """Result of an op of a level: `integers` that it converted from the floats `operand`."""

    operand: torch.Tensor
    integers: torch.Tensor


class _Integers(Watching):
    """Calls `round` for every op that makes integers of floats, those inside quantized ops and tensor subclasses included."""

    def round(self, op: Any, value: torch.Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor:
        """Return the integers that `op` makes of `value`, its first operand."""
        raise NotImplementedError

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if any(type_ not in (torch.Tensor, torch.nn.Parameter) for type_ in types):
            return NotImplemented  # a subclass computes with plain tensors, whose ops come here
        return super().__torch_dispatch__(func, types, args, kwargs)

    def watch(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        arithmetic = quantization.find(op)
        if arithmetic is not None:
            with self:
                return arithmetic(*args, **kwargs)
        if args and isinstance(args[0], torch.Tensor) and _makes_integers(op, args[0], kwargs) and not noise.is_whole(args[0]):
            return self.round(op, args[0], args[1:], kwargs)
        return op(*args, **kwargs)


def _makes_integers(op: Any, value: torch.Tensor, kwargs: Mapping[str, Any]) -> bool:
    name, dtype = op.overloadpacket.__name__, kwargs.get("dtype")
    return value.is_floating_point() and (name in _JUMPING or (name == "_to_copy" and dtype is not None and _is_integral(dtype)))


def _is_integral(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype is torch.bool)


class Recording(_Integers):
    """Inside, all integers that ops convert from floats are kept in `found`, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Made] = []

    def round(self, op: Any, value: torch.Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor:
        made: torch.Tensor = op(value, *args, **kwargs)
        self.found.append(Made(value.clone(), made.clone()))
        return made


class Replaying(_Integers):
    """Inside, an op that makes integers of floats gives those of `found` that its operand rounds to within the tolerance, if there are any.

    moved: how many of `count` integers differ from the op's own; unmatched: the ops for which `found` has none.
    """

    def __init__(self, found: Sequence[Made], overrides: Mapping[str, Tolerance], narrowest: torch.dtype | None) -> None:
        super().__init__()
        self.overrides, self.narrowest = overrides, narrowest
        self.moved = self.count = 0
        self.unmatched: list[str] = []
        self._by_size: dict[int, list[Made]] = {}
        for operand, integers in found:
            if not noise.is_whole(operand):
                self._by_size.setdefault(integers.numel(), []).append(Made(operand, integers.reshape(-1).double()))

    def round(self, op: Any, value: torch.Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor:
        own: torch.Tensor = op(value, *args, **kwargs)
        flat, self.count = own.reshape(-1).double(), self.count + own.numel()
        known = self._by_size.get(own.numel(), ())
        if any(comparison.are_equal(flat, other) for _, other in known):
            return own
        tolerance = comparison.find_tolerance(value.dtype, self.overrides, value, self.narrowest)
        room = tolerance.atol + tolerance.rtol * value.double().abs()
        low, high = (op(value.double() + off, *args, **kwargs).reshape(-1).double() for off in (-room, room))
        near = [made for made in known
                if bool(((low <= made.integers) & (made.integers <= high) | made.integers.isnan() & flat.isnan()).all())]
        fitting = [other for operand, other in near if comparison.are_equal(op(operand, *args, **kwargs).reshape(-1).double(), other)]
        if not fitting:
            self.unmatched.append(f"{op.overloadpacket.__name__} of {list(value.shape)}")
            return own
        chosen = min(fitting, key=lambda other: int((other != flat).sum()))
        self.moved += int((chosen != flat).sum())
        return chosen.reshape(own.shape).to(own.dtype)


def return_all(form: Program) -> Program:
    """Return a form at StableHLO or MHLO whose `@main` also returns the operand and the result of each op that makes integers of floats.

    Composites are inlined. Ops on sizes and in the regions of others, such as loops, are left out. A barrier keeps XLA from computing an
    operand twice, once for the op and once for the caller, with other rounding.
    """
    module = _inline(form.ir) if any(op.name.endswith(".composite") for op in mlir.walk_operations(form.ir)) else mlir.copy(form.ir)
    ir = mlir.get_ir(module.context)
    main = mlir.find_main(module.body.operations)
    *body, end = main.regions[0].blocks[0].operations
    made: list[Any] = []
    with module.context, ir.Location.unknown():
        for operation in (operation.operation for operation in body if _jumps(operation.operation, ir)):
            barrier = f"{operation.name.partition('.')[0]}.optimization_barrier"
            with ir.InsertionPoint(operation):
                operand = ir.Operation.create(barrier, results=[operation.operands[0].type], operands=[operation.operands[0]]).result
            operation.operands[0] = operand
            made += [operand, operation.results[0]]
        returned = [*end.operands, *made]
        with ir.InsertionPoint(end):
            ir.Operation.create("func.return", operands=returned)
        end.operation.erase()
        inputs = main.attributes["function_type"].value.inputs
        main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, [value.type for value in returned]))
        if "res_attrs" in main.attributes:
            attributes = [*main.attributes["res_attrs"], *(ir.DictAttr.get({}) for _ in made)]
            main.attributes["res_attrs"] = ir.ArrayAttr.get(attributes)
    return form.replace_ir(form.level, module)


def _inline(module: Any) -> Any:
    """Return a module in StableHLO in which the composites are the ops of their decompositions."""
    context = shape_refinement.context()
    with context, mlir.get_ir(context).Location.unknown():
        called = mlir.text(shape_refinement.parse(mlir.text(module, elide=None)), elide=None)
    inlined = mlir.parse(called, mlir.create_torch_context())  # jaxlib's build inlines no calls
    mlir.run(inlined, "builtin.module(inline,symbol-dce)", "composites")
    return inlined


def _jumps(operation: Any, ir: Any) -> bool:
    """Return whether an op makes integers of floats. Those of 0-d doubles make sizes, which nothing may keep from being computed."""
    name = operation.name.partition(".")[2]
    if operation.operands and str(operation.operands[0].type) == "tensor<f64>":
        return False
    if name == "convert":
        source, made = (ir.ShapedType(value.type).element_type for value in (operation.operands[0], operation.results[0]))
        return isinstance(source, ir.FloatType) and isinstance(made, ir.IntegerType) and made.width > 1
    return name in _HLO_JUMPING
