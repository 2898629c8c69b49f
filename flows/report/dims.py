"""Names of dynamic dims in a StableHLO or MHLO function, inferred from those of its arguments. A dim without a rule has no name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lowering.symbols.levels import parse_dims

Dims = tuple[str, ...]

# Ops whose operands and results have one shape, so that a dim named in one is named in all; scalars that are broadcast have another rank.
ELEMENTWISE = frozenset((
    "abs", "add", "and", "atan2", "cbrt", "ceil", "clamp", "compare", "complex", "convert", "cosine", "count_leading_zeros", "divide",
    "erf", "exponential", "exponential_minus_one", "floor", "imag", "is_finite", "log", "log_plus_one", "logistic", "maximum", "minimum",
    "multiply", "negate", "not", "or", "popcnt", "power", "real", "reduce_precision", "remainder", "round_nearest_afz",
    "round_nearest_even", "rsqrt", "select", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sine", "sqrt",
    "subtract", "tan", "tanh", "xor",
))  # fmt: skip
_SHAPED = {"dynamic_broadcast_in_dim": 1, "dynamic_reshape": 1, "dynamic_iota": 0}  # the operand that holds the shape of the result
_UNKNOWN = "?"


@dataclass
class DimNames:
    """The dims of values as ints, names or `?`, and the elements of those that hold sizes."""

    known: dict[Any, Dims] = field(default_factory=dict)
    elements: dict[Any, Dims] = field(default_factory=dict)

    def find(self, value: Any) -> Dims:
        return self.known.get(value) or tuple(parse_dims(str(value.type)))

    def name(self, value: Any, names: Mapping[int, str]) -> None:
        """Name the dynamic dims of a value by their positions."""
        self.known[value] = tuple(names.get(index, dim) if dim == _UNKNOWN else dim for index, dim in enumerate(self.find(value)))

    def infer(self, op: str, operands: Sequence[Any], results: Sequence[Any], attributes: Mapping[str, str]) -> None:
        """Infer the dims of the results of an op, and their elements if they are sizes. attributes: as MLIR's text."""
        if op in ELEMENTWISE:
            self._unify([*operands, *results])
        shape: Dims | None = None
        if op in _SHAPED:
            shape = self.elements.get(operands[_SHAPED[op]])
        elif op == "transpose":
            shape = tuple(self.find(operands[0])[index] for index in _read_ints(attributes["permutation"]))
        elif op == "dot_general":
            shape = self._contract(operands, attributes["dot_dimension_numbers"])
        elif op == "reduce":
            dropped = _read_ints(attributes["dimensions"])
            shape = tuple(dim for index, dim in enumerate(self.find(operands[0])) if index not in dropped)
        if shape is not None:
            for result in results:
                self.name(result, dict(enumerate(shape)))
        if len(results) == 1 and (found := self._evaluate(op, operands, attributes)) is not None:
            self.elements[results[0]] = found

    def _unify(self, values: Sequence[Any]) -> None:
        shapes = [self.find(value) for value in values]
        rank = max(map(len, shapes), default=0)
        columns = zip(*(dims for dims in shapes if len(dims) == rank), strict=True)
        merged = tuple(next((dim for dim in column if dim != _UNKNOWN), _UNKNOWN) for column in columns)
        self.known.update({value: merged for value, dims in zip(values, shapes, strict=True) if len(dims) == rank})

    def _contract(self, operands: Sequence[Any], numbers: str) -> Dims:
        """Return the dims of a dot: those of the batch, then those that each operand has alone."""
        sides = []
        for side, operand in zip(("lhs", "rhs"), operands[:2], strict=True):
            found = {kind: re.search(rf"{side}_{kind}_dimensions = \[([^\]]*)\]", numbers) for kind in ("batching", "contracting")}
            batch, contracted = (_read_ints(match[1]) if match else () for match in found.values())
            dims = self.find(operand)
            sides.append((tuple(dims[index] for index in batch),
                          tuple(dim for index, dim in enumerate(dims) if index not in (*batch, *contracted))))
        return (*sides[0][0], *sides[0][1], *sides[1][1])

    def _evaluate(self, op: str, operands: Sequence[Any], attributes: Mapping[str, str]) -> Dims | None:
        """Return the elements of a result that holds sizes, or None if they have no names."""
        if op == "constant":
            return _read_constant(attributes["value"])
        if op == "get_dimension_size":
            dim = self.find(operands[0])[_read_ints(attributes["dimension"])[0]]
            return None if dim == _UNKNOWN else (dim,)
        parts = [self.elements.get(operand) for operand in operands]
        if any(part is None for part in parts):
            return None
        held = [part for part in parts if part is not None]
        if op in ("reshape", "convert"):
            return held[0]
        if op == "concatenate":
            return tuple(element for part in held for element in part)
        if op == "multiply" and [len(part) for part in held] == [1, 1]:
            return (_multiply(held[0][0], held[1][0]),)
        return None


def _read_constant(text: str) -> Dims | None:
    """Return the elements of a scalar or short vector of ints; None for other constants."""
    shape = re.search(r" : tensor<(?:(\d)x)?i(?:32|64)>", text)
    if shape is None or '"' in text or "-" in text:
        return None
    found, count = tuple(map(str, _read_ints(text))), int(shape[1] or 1)
    return found * count if len(found) == 1 else found if len(found) == count else None


def _multiply(left: str, right: str) -> str:
    if left.isdecimal() and right.isdecimal():
        return str(int(left) * int(right))
    return "*".join(text if re.fullmatch(r"[\w*]+", text) else f"({text})" for text in (left, right))


def _read_ints(text: str) -> tuple[int, ...]:
    """Read the ints of an attribute: `dense<[0, 1]> : tensor<2xi64>`, `array<i64: 0, 1>`, `0 : i64`, `0, 1`."""
    return tuple(map(int, re.findall(r"-?\d+", re.sub(r"array<i\d+:?", "", text).partition(" : ")[0])))
