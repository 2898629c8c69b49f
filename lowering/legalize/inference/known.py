"""Facts about the values of a function while it is legalized. The rewriter records them, and patterns query them."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.legalize.emitter import Origin
from lowering.legalize.inference.affine import AffineMap
from lowering.sizes import expression as ex
from lowering.sizes.expression import Atom, Expression, Shape, Value


class Known:
    """Facts about values: dims of tensors, elements of scalars and small integer tensors.

    `origins` is where each atom is read at run time; sizes that only data tells are added to it.
    """

    def __init__(self, origins: dict[Atom, Origin]) -> None:
        self._origins = origins
        self._dims: dict[Any, Shape] = {}
        self._values: dict[Any, tuple[Value, ...] | None] = {}
        self._maps: dict[Any, AffineMap | None] = {}
        self._elements: dict[Any, Expression] = {}
        self._fresh = 0
        self._made: dict[Atom, int] = {}

    def dims(self, value: Any) -> Shape:
        """Return the dims of a tensor. A dim that no rule infers is a new atom, read from the tensor itself."""
        if value not in self._dims:
            shape = ir.RankedTensorType(value.type)
            self._dims[value] = tuple(
                self.unknown(Origin(value, position)) if shape.is_dynamic_dim(position) else ex.number(shape.get_dim_size(position))
                for position in range(shape.rank)
            )
        return self._dims[value]

    def assume_dims(self, value: Any, shape: Shape) -> None:
        """Record the dims of an argument; its type stays."""
        self._dims[value] = shape

    def numbers(self, value: Any) -> tuple[Value, ...] | None:
        """Return the elements of a scalar, extent tensor or small tensor, if all are computed from sizes."""
        return self._values.get(value)

    def values(self, value: Any) -> tuple[Expression, ...] | None:
        """Return the elements of a scalar, extent tensor or small tensor, if all are integers computed from sizes."""
        values = self._values.get(value)
        return values if values is not None and all(isinstance(element, Expression) for element in values) else None  # type: ignore[return-value]

    def element(self, value: Any) -> Expression:
        """Return the element of a 0-d integer tensor that no rule infers, as a new atom, read from the tensor itself."""
        if value not in self._elements:
            self._elements[value] = self.unknown(Origin(value))
        return self._elements[value]

    def is_from_data(self, value: Expression) -> bool:
        """Return whether `value` depends on an element of a tensor, not only on dims."""
        return any(self._origins[atom].position is None for atom in value.atoms() if atom.op == "symbol")

    def affine_map(self, value: Any) -> AffineMap | None:
        """Return the elements of an integer tensor as an affine function of their index, if they are one."""
        return self._maps.get(value)

    def learn_affine_map(self, value: Any, map_: AffineMap | None) -> None:
        self._maps[value] = map_

    def learn_dims(self, value: Any, shape: Shape) -> None:
        """Record the dims, and write those that are ints into the value's type."""
        type_ = ir.RankedTensorType(value.type)
        refined = type_sizes(shape)
        if list(type_.shape) != refined:
            if any(not type_.is_dynamic_dim(i) and type_.get_dim_size(i) != size for i, size in enumerate(refined)):
                shape = tuple(dim if type_.is_dynamic_dim(i) else ex.number(type_.get_dim_size(i)) for i, dim in enumerate(shape))
                refined = type_sizes(shape)
            value.set_type(ir.RankedTensorType.get(refined, type_.element_type, type_.encoding))
        self._dims[value] = shape

    def learn_values(self, value: Any, values: tuple[Value, ...] | None) -> None:
        self._values[value] = values

    def forget(self, value: Any) -> None:
        """Forget a value that is about to be erased, since MLIR reuses its address."""
        for known in (self._dims, self._values, self._maps, self._elements):
            known.pop(value, None)  # type: ignore[attr-defined]

    def count(self) -> int:
        """Count the atoms created so far, for `is_outside`."""
        return self._fresh

    def is_outside(self, shape: Shape, count: int) -> bool:
        """Return whether all of `shape` was known when there were `count` atoms."""
        return all(atom not in self._made or self._made[atom] <= count for dim in shape for atom in dim.atoms())

    def unknown(self, origin: Origin) -> Expression:
        """Create an atom for a size that is only known at run time."""
        self._fresh += 1
        atom = Atom("symbol", f"u{self._fresh}", (), 0 if origin.position is not None else None, None)
        self._origins[atom] = origin
        self._made[atom] = self._fresh
        return ex.of_atom(atom)

    def is_float(self, value: Any) -> bool:
        return isinstance(element_type(value.type), ir.FloatType)

    def is_bool(self, value: Any) -> bool:
        return str(element_type(value.type)) == "i1"


def is_static(shape: Shape) -> bool:
    return all(dim.constant is not None for dim in shape)


def type_sizes(shape: Shape) -> list[int]:
    """Convert dims to the ints of MLIR's types."""
    return [dim.constant if dim.constant is not None else ir.ShapedType.get_dynamic_size() for dim in shape]


def tensor_type(shape: Shape, like: Any) -> Any:
    """Return the type of a tensor with dims `shape` and the element type of the value `like`."""
    return ir.RankedTensorType.get(type_sizes(shape), ir.RankedTensorType(like.type).element_type)


def element_type(type_: Any) -> Any:
    return ir.RankedTensorType(type_).element_type if isinstance(type_, ir.RankedTensorType) else type_
