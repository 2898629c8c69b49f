"""Rewrite the entry function in one walk, which infers every size and applies the pattern of each op. It knows no pattern itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any, TypeAlias

from torch_mlir import ir

from lowering.errors import Problem
from lowering.ir import mlir
from lowering.legalize.emitter import Emitter, Origin
from lowering.legalize.inference import iotas, shapes, values
from lowering.legalize.inference.known import Known, element_type
from lowering.sizes import operations
from lowering.sizes.expression import Atom, Expression, Shape

Pattern: TypeAlias = Callable[[Any, "Rewrite"], None]
PURE = ("stablehlo.", "chlo.", "func.", "builtin.")


class Rewrite:
    """Rewrites `@main` in place. `arguments`: the dims of each argument; `origins`: where each symbol in them is read.

    patterns: by op name, how an op is simplified, or replaced where it is not StableHLO; removable: ops that are erased when nothing uses
    them.
    """

    def __init__(self, module: ir.Module, arguments: list[Shape], origins: Mapping[Atom, Origin], patterns: Mapping[str, Pattern],
                 removable: Set[str]) -> None:
        self._patterns, self._removable = patterns, removable
        self.function = mlir.find_entry(module)
        self.block = self.function.regions[0].blocks[0]
        with self.function.operation.context, ir.Location.unknown():
            self.emitter = Emitter(self.block)
        self.emitter.origins.update(origins)
        self.known = Known(self.emitter.origins)
        self.problems: list[Problem] = []
        self.symbols: dict[str, Expression] = {}  # of the signature, as far as arguments tell them; custom ops' results add theirs
        self._replaced: dict[Any, Any] = {}
        self._now: dict[Any, Any] = {}  # of the op in hand alone: MLIR gives the place of an erased value to another
        for argument, shape in zip(self.block.arguments, arguments, strict=True):
            self.known.assume_dims(argument, shape)

    def run(self) -> list[Problem]:
        """Rewrite, and return a problem for everything that has no form in StableHLO."""
        with self.function.operation.context, ir.Location.unknown():
            self.walk(self.block)
            self.erase_dead(self.block)
            self._retype()
        return self.problems

    def walk(self, block: ir.Block) -> None:
        """Legalize every op of a block, in order."""
        for op in list(block.operations):
            self._rewrite_operation(op.operation)

    def _rewrite_operation(self, op: Any) -> None:
        self.emitter.here = op
        self._now = {}
        rule = values.RULES.get(op.name)
        if rule is not None and self._is_small(op):
            found = rule(op, self.known)
            for result in op.results:
                self.known.learn_values(result, found)
            if found is not None and not op.name.startswith("stablehlo."):
                return  # computed; a pattern that needs it as data builds it from the expression
        if op.name.startswith(PURE):
            self._rewrite_pure(op)
        elif (pattern := self._patterns.get(op.name)) is not None:
            pattern(op, self)
        elif not op.name.startswith(("shape.assuming", "scf.")):
            self.refuse(op)

    def _is_small(self, op: Any) -> bool:
        """Return whether the results can be shapes: scalars, extent tensors, or tensors of rank 1 with at most 16 static elements."""
        for result in op.results:
            if isinstance(result.type, ir.RankedTensorType):
                type_ = ir.RankedTensorType(result.type)
                if type_.rank > 1 or (type_.has_static_shape and type_.rank and type_.get_dim_size(0) > 16):
                    return False
        return True

    def _rewrite_pure(self, op: Any) -> None:
        index = shapes.shape_operand(op.name)
        found = shapes.dims(op, self.known) if op.name.startswith(("stablehlo.", "chlo.")) else []
        for position, operand in enumerate(list(op.operands)):
            if position == index and self.known.values(operand) is not None:
                op.operands[position] = self.emitter.vector(self.known.values(operand))  # type: ignore[arg-type]
            else:
                op.operands[position] = self.data(operand)
        for result, shape in zip(op.results, found, strict=False):
            if shape is not None and isinstance(result.type, ir.RankedTensorType) and len(shape) == ir.RankedTensorType(result.type).rank:
                self.known.learn_dims(result, shape)
        iotas.learn(op, self.known)
        if (pattern := self._patterns.get(op.name)) is not None:
            pattern(op, self)
        elif op.name in ("stablehlo.while", "stablehlo.if", "stablehlo.case"):
            for region in op.regions:
                for block in region.blocks:
                    self.walk(block)
                    self.emitter.forget()

    def refuse(self, op: Any) -> None:
        """Record that `op` cannot be made StableHLO."""
        self.problems.append(Problem(f"{op.name} at {op.location}", "has no StableHLO form here", str(op)[:200]))

    def data(self, value: Any) -> Any:
        """Return `value` as a StableHLO tensor, built from its expression if an op of another dialect computes it."""
        if value in self._replaced:
            return self._replaced[value]
        owner = value.owner
        if isinstance(owner, ir.Block) or owner.name.startswith(PURE):
            return value
        found = self.known.numbers(value)
        if found is None:
            return value
        element = element_type(value.type)
        text = "i64" if isinstance(element, ir.IndexType) else str(element)
        if text == "i1":
            built = self.emitter.condition(operations.truth(found[0]))
        elif isinstance(value.type, ir.RankedTensorType) and ir.RankedTensorType(value.type).rank == 1:
            built = self.emitter.vector(found, text)
        else:
            built = self.emitter.size(found[0], text)
        self.known.learn_values(built, found)
        return built

    def replace(self, value: Any, by: Any) -> None:
        """Replace all uses of `value` by `by`. Uses of another type are replaced when the walk reaches them."""
        if self.known.numbers(by) is None:
            self.known.learn_values(by, self.known.numbers(value))
        if self.known.affine_map(by) is None and by.type == value.type:
            self.known.learn_affine_map(by, self.known.affine_map(value))
        self._now[value] = by
        if value.type == by.type:
            value.replace_all_uses_with(by)
        else:
            self._replaced[value] = by
            if not self.known.is_float(value):
                self.known.learn_values(value, (self.known.unknown(Origin(by)),))

    def forget(self, value: Any) -> None:
        """Forget a value that is about to be erased, and its replacement."""
        self.known.forget(value)
        self._replaced.pop(value, None)
        self._now.pop(value, None)

    def current(self, value: Any) -> Any:
        """Return the value that has replaced `value` since the current op is being folded."""
        while value in self._now:
            value = self._now[value]
        return value

    def fold(self, op: Any) -> Any:
        """Fold `op`, a new op, and return the value that its single result has become."""
        here, self.emitter.here = self.emitter.here, op
        iotas.learn(op, self.known)
        if (pattern := self._patterns.get(op.name)) is not None:
            pattern(op, self)
        self.emitter.here = here
        return self.current(op.results[0])

    def users(self, value: Any) -> list[Any]:
        """List the ops that use the elements of `value`, without those that only ask for its size or have been replaced."""
        return [op for op in {use.owner.operation for use in value.uses} if not self._is_idle(op)]

    def _is_idle(self, op: Any) -> bool:
        asks_size = op.name in values.RULES and not op.name.startswith(PURE)
        return asks_size or (op.name in self._removable and not any(True for result in op.results for _ in result.uses))

    def erase_dead(self, block: ir.Block) -> None:
        """Erase ops that folding has left unused."""
        built = self.emitter.list_built()
        for op in reversed(list(block.operations)):
            operation = op.operation
            if operation == self.emitter.head_end:
                continue
            is_removable = not operation.name.startswith(PURE) or operation.name in self._removable or operation.name == "func.call"
            regions = list(operation.regions)  # of a loop or branch that was replaced, at least one is empty
            is_whole = not operation.name.startswith(PURE) and bool(regions) and all(list(region.blocks) for region in regions)
            if is_removable and not is_whole and not any(list(result.uses) for result in operation.results):
                for result in operation.results:
                    for known, key in built.get(result, ()):
                        known.pop(key, None)
                    self.forget(result)
                operation.erase()

    def _retype(self) -> None:
        """Update the function's type from its arguments and results."""
        terminator = list(self.block.operations)[-1]
        type_ = ir.FunctionType.get([argument.type for argument in self.block.arguments], [operand.type for operand in terminator.operands])
        self.function.attributes["function_type"] = ir.TypeAttr.get(type_)
