"""The rewrite: one walk over the entry function that learns every size, folds what it can, and replaces what is not StableHLO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch_mlir import ir

from lowering.errors import Problem
from lowering.legalize.emitter import Emitter, Origin
from lowering.legalize.inference import iotas as places
from lowering.legalize.inference import shapes as dims
from lowering.legalize.inference import values as scalars
from lowering.legalize.inference.iotas import Places
from lowering.legalize.patterns import control, custom_calls, folds
from lowering.sizes import expression as ex
from lowering.sizes.expression import Atom, Expression, Shape

PURE = ("stablehlo.", "chlo.", "func.", "builtin.")


class Known:
    """What is known of each value: dims of tensors, elements of scalars and small integer tensors."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self._dims: dict[Any, Shape] = {}
        self._values: dict[Any, tuple[Expression, ...] | None] = {}
        self._places: dict[Any, Places | None] = {}
        self._fresh = 0
        self._made: dict[Atom, int] = {}

    def dims(self, value: Any) -> Shape:
        """The dims of a tensor value; a dim that no rule gave is an atom of its own, read from the tensor itself."""
        if value not in self._dims:
            shape = ir.RankedTensorType(value.type)
            self._dims[value] = tuple(
                self.unknown(Origin(value, position)) if shape.is_dynamic_dim(position) else ex.number(shape.get_dim_size(position))
                for position in range(shape.rank)
            )
        return self._dims[value]

    def values(self, value: Any) -> tuple[Expression, ...] | None:
        """The elements of a scalar, extent tensor or small tensor, if all are expressions of sizes."""
        return self._values.get(value)

    def places(self, value: Any) -> Places | None:
        """What an integer tensor holds, if it is a function of where."""
        return self._places.get(value)

    def learn_places(self, value: Any, places: Places | None) -> None:
        self._places[value] = places

    def learn_dims(self, value: Any, shape: Shape) -> None:
        """Record the dims, and write those that are ints into the value's type."""
        type_ = ir.RankedTensorType(value.type)
        refined = [dim.constant if dim.constant is not None else ir.ShapedType.get_dynamic_size() for dim in shape]
        if list(type_.shape) != refined:
            if any(not type_.is_dynamic_dim(i) and type_.get_dim_size(i) != size for i, size in enumerate(refined)):
                shape = tuple(dim if type_.is_dynamic_dim(i) else ex.number(type_.get_dim_size(i)) for i, dim in enumerate(shape))
                refined = [dim.constant if dim.constant is not None else ir.ShapedType.get_dynamic_size() for dim in shape]
            value.set_type(ir.RankedTensorType.get(refined, type_.element_type, type_.encoding))
        self._dims[value] = shape

    def learn_values(self, value: Any, values: tuple[Expression, ...] | None) -> None:
        self._values[value] = values

    def forget(self, value: Any) -> None:
        """Drop what is known of a value that is about to be erased: MLIR gives its place to another."""
        for known in (self._dims, self._values, self._places):
            known.pop(value, None)  # type: ignore[attr-defined]

    def count(self) -> int:
        """How many sizes have been named so far: what `is_outside` compares with."""
        return self._fresh

    def is_outside(self, shape: Shape, count: int) -> bool:
        """Whether all of `shape` was known when there were `count` named sizes."""
        return all(atom not in self._made or self._made[atom] <= count for dim in shape for atom in dim.atoms())

    def unknown(self, origin: Origin) -> Expression:
        """A new atom for a size that is only known at run time, from data."""
        self._fresh += 1
        atom = Atom("symbol", f"u{self._fresh}", (), 0 if origin.position is not None else None, None)
        self.emitter.origins[atom] = origin
        self._made[atom] = self._fresh
        return ex.of_atom(atom)

    def is_float(self, value: Any) -> bool:
        return isinstance(_element(value.type), ir.FloatType)

    def is_bool(self, value: Any) -> bool:
        return str(_element(value.type)) == "i1"


class Rewrite:
    """Rewrites `@main` in place. `arguments`: the dims of each argument; `origins`: where each symbol in them is read."""

    def __init__(self, module: ir.Module, arguments: list[Shape], origins: Mapping[Atom, Origin]) -> None:
        self.function = next(op for op in module.body.operations if op.operation.name == "func.func")
        self.block = self.function.regions[0].blocks[0]
        with self.function.operation.context, ir.Location.unknown():
            self.emitter = Emitter(self.block)
        self.emitter.origins.update(origins)
        self.known = Known(self.emitter)
        self.problems: list[Problem] = []
        self.symbols: dict[str, Expression] = {}  # of the signature, as far as arguments tell them; custom ops' results add theirs
        self._replaced: dict[Any, Any] = {}
        self._now: dict[Any, Any] = {}  # of the op in hand alone: MLIR gives the place of an erased value to another
        for argument, shape in zip(self.block.arguments, arguments, strict=True):
            self.known._dims[argument] = shape

    def run(self) -> list[Problem]:
        """Everything that could not be made StableHLO; empty when the function is pure."""
        with self.function.operation.context, ir.Location.unknown():
            self.walk(self.block)
            self.erase_dead(self.block)
            self._retype()
        return self.problems

    def result_dims(self) -> list[Shape]:
        """The dims of what the function returns."""
        terminator = list(self.block.operations)[-1]
        return [self.known.dims(operand) if isinstance(operand.type, ir.RankedTensorType) else () for operand in terminator.operands]

    def walk(self, block: ir.Block) -> None:
        """Legalize every op of a block, in order."""
        for op in list(block.operations):
            self._operation(op.operation)

    def _operation(self, op: Any) -> None:
        self.emitter.here = op
        self._now = {}
        rule = scalars.RULES.get(op.name)
        if rule is not None and self._is_small(op):
            values = rule(op, self.known)
            for result in op.results:
                self.known.learn_values(result, values)
            if values is not None and not op.name.startswith("stablehlo."):
                return  # computed; whoever needs it as data builds it from the expression
        if op.name.startswith(PURE):
            self._pure(op)
        elif op.name in control.RULES:
            control.RULES[op.name](op, self)
        elif not op.name.startswith(("shape.assuming", "scf.")):
            self._as_data(op)

    def _is_small(self, op: Any) -> bool:
        """Whether the results can be shapes: scalars, extent tensors, or tensors of at most 16 static elements and rank 1."""
        for result in op.results:
            if isinstance(result.type, ir.RankedTensorType):
                type_ = ir.RankedTensorType(result.type)
                if type_.rank > 1 or (type_.has_static_shape and type_.rank and type_.get_dim_size(0) > 16):
                    return False
        return True

    def _pure(self, op: Any) -> None:
        index = dims.shape_operand(op.name)
        shapes = dims.dims(op, self.known) if op.name.startswith(("stablehlo.", "chlo.")) else []
        for position, operand in enumerate(list(op.operands)):
            if position == index and self.known.values(operand) is not None:
                op.operands[position] = self.emitter.vector(self.known.values(operand))  # type: ignore[arg-type]
            else:
                op.operands[position] = self.data(operand)
        for result, shape in zip(op.results, shapes, strict=False):
            if shape is not None and isinstance(result.type, ir.RankedTensorType) and len(shape) == ir.RankedTensorType(result.type).rank:
                self.known.learn_dims(result, shape)
        places.learn(op, self.known)
        if op.name in folds.FOLDS:
            folds.FOLDS[op.name](op, self)
        elif op.name == "func.call":
            custom_calls.replace(op, self)
        elif op.name in ("stablehlo.while", "stablehlo.if", "stablehlo.case"):
            for region in op.regions:
                for block in region.blocks:
                    self.walk(block)
                    self.emitter.forget()

    def _as_data(self, op: Any) -> None:
        """An op outside StableHLO whose operands are not all sizes: computed on 0-d tensors."""
        replacement = folds.elementwise(op, self)
        if replacement is None:
            self.problems.append(Problem(f"{op.name} at {op.location}", "has no StableHLO form here", str(op)[:200]))
            return
        self.replace(op.results[0], replacement)

    def data(self, value: Any) -> Any:
        """`value` as a StableHLO tensor: itself, or built from its expression when a non-StableHLO op computed it."""
        if value in self._replaced:
            return self._replaced[value]
        owner = value.owner
        if isinstance(owner, ir.Block) or owner.name.startswith(PURE):
            return value
        values = self.known.values(value)
        if values is None:
            return value
        element = _element(value.type)
        text = "i64" if isinstance(element, ir.IndexType) else str(element)
        if text == "i1":
            built = self.emitter.condition(values[0])
        elif isinstance(value.type, ir.RankedTensorType) and ir.RankedTensorType(value.type).rank == 1:
            built = self.emitter.vector(values, text)
        else:
            built = self.emitter.size(values[0], text)
        self.known.learn_values(built, values)
        return built

    def replace(self, value: Any, by: Any) -> None:
        """Use `by` wherever `value` is used; a scalar's uses are turned when they are reached."""
        if self.known.values(by) is None:
            self.known.learn_values(by, self.known.values(value))
        self._now[value] = by
        if value.type == by.type:
            value.replace_all_uses_with(by)
        else:
            self._replaced[value] = by
            if not self.known.is_float(value):
                self.known.learn_values(value, (self.known.unknown(Origin(by)),))

    def forget(self, value: Any) -> None:
        """Drop what is known of a value that is about to be erased, and what stands for it."""
        self.known.forget(value)
        self._replaced.pop(value, None)
        self._now.pop(value, None)

    def current(self, value: Any) -> Any:
        """What stands for `value`, made while the op in hand is folded, by now."""
        while value in self._now:
            value = self._now[value]
        return value

    def folded(self, op: Any) -> Any:
        """What stands for the one result of `op`, a new op, once it is folded too."""
        here, self.emitter.here = self.emitter.here, op
        places.learn(op, self.known)
        if op.name in folds.FOLDS:
            folds.FOLDS[op.name](op, self)
        self.emitter.here = here
        return self.current(op.results[0])

    def users(self, value: Any) -> list[Any]:
        """The ops that use what `value` holds, each once: not those that only ask its size, and not those that have been replaced."""
        return [op for op in {use.owner.operation for use in value.uses} if not self._is_idle(op)]

    def _is_idle(self, op: Any) -> bool:
        asks_size = op.name in scalars.RULES and not op.name.startswith(PURE)
        return asks_size or (op.name in folds.REMOVABLE and not any(True for result in op.results for _ in result.uses))

    def erase_dead(self, block: ir.Block) -> None:
        """Erase what folding left without a use."""
        built = self.emitter.built()
        for op in reversed(list(block.operations)):
            operation = op.operation
            if operation == self.emitter.head_end:
                continue
            is_removable = not operation.name.startswith(PURE) or operation.name in folds.REMOVABLE or operation.name == "func.call"
            holds_ops = not operation.name.startswith(PURE) and any(True for region in operation.regions for _ in region.blocks)
            if is_removable and not holds_ops and not any(list(result.uses) for result in operation.results):
                for result in operation.results:
                    for known, key in built.get(result, ()):
                        known.pop(key, None)
                    self.forget(result)
                operation.erase()

    def _retype(self) -> None:
        """The function's type from what it takes and returns now."""
        terminator = list(self.block.operations)[-1]
        type_ = ir.FunctionType.get([argument.type for argument in self.block.arguments], [operand.type for operand in terminator.operands])
        self.function.attributes["function_type"] = ir.TypeAttr.get(type_)


def _element(type_: Any) -> Any:
    return ir.RankedTensorType(type_).element_type if isinstance(type_, ir.RankedTensorType) else type_
