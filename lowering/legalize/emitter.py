"""Emit sizes into the IR. Each expression is computed once, as a 0-d tensor, as early as its operands allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch_mlir import ir

from lowering.legalize import floats
from lowering.sizes.expression import ONE, ZERO, Atom, Expression, Monomial, Value
from lowering.sizes.real import Real

_HOLDS = {"eq": "EQ", "lt": "LT", "le": "LE"}
_FAILS = {"eq": "NE", "lt": "GE", "le": "GT"}

SIZE = "i32"  # what stablehlo.get_dimension_size gives
_LARGEST = (1 << 31) - 1


@dataclass(frozen=True)
class Origin:
    """Origin of an atom: dim `position` of a tensor, or a 0-d tensor (position None). The atom is (value - offset) / scale."""

    value: ir.Value
    position: int | None = None
    scale: int = 1
    offset: int = 0
    is_argument: bool = False


class Emitter:
    """Builds StableHLO for expressions. Values that depend on results of the body are inserted before the op `here`."""

    def __init__(self, entry: ir.Block) -> None:
        with ir.InsertionPoint.at_block_begin(entry):
            # marks the end of the head: what depends on arguments alone goes before it
            self.head_end = ir.Operation.create("stablehlo.constant", results=[ir.Type.parse("tensor<i1>")],
                                               attributes={"value": ir.Attribute.parse("dense<false> : tensor<i1>")})
        self.here: Any = self.head_end
        self.origins: dict[Atom, Origin] = {}
        self._hoisted: dict[Any, ir.Value] = {}
        self._local: dict[Any, ir.Value] = {}
        self._types: dict[str, ir.Type] = {}

    def close(self) -> None:
        """Remove the mark of the head's end. Nothing can be emitted into the head after this."""
        self.head_end.erase()

    def list_built(self) -> dict[ir.Value, list[tuple[dict[Any, ir.Value], Any]]]:
        """Return the table and key of each emitted value, so that it can be forgotten when it is erased."""
        found: dict[ir.Value, list[tuple[dict[Any, ir.Value], Any]]] = {}
        for known in (self._hoisted, self._local):
            for key, value in known.items():
                found.setdefault(value, []).append((known, key))
        return found

    def forget(self) -> None:
        """Forget the values emitted inside a region that the walk leaves."""
        self._local = {}

    def type(self, text: str) -> ir.Type:
        if text not in self._types:
            self._types[text] = ir.Type.parse(text)
        return self._types[text]

    def size(self, value: Value, element: str = SIZE) -> ir.Value:
        """Emit `value` as a `tensor<element>`: ints, or floats for sizes in floating-point arithmetic."""
        build: Callable[..., ir.Value] = floats.build if isinstance(value, Real) else Emitter._sum
        return self._once((value,), ("size", value, element), lambda: build(self, value, element))

    def vector(self, expressions: Sequence[Value], element: str = SIZE) -> ir.Value:
        """Emit `expressions` as a `tensor<n x element>`."""
        constants = [expression.constant if isinstance(expression, Expression) else None for expression in expressions]
        if None not in constants:
            written = constants if element.startswith(("i", "ui")) else [f"{constant}.0" for constant in constants]
            return self.constant(f"dense<{_list(written)}>", f"tensor<{len(constants)}x{element}>")
        key = ("vector", tuple(expressions), element)
        return self._once(expressions, key, lambda: self._concatenate(expressions, element))

    def constant(self, attribute: str, type_: str) -> ir.Value:
        key = ("constant", attribute, type_)
        return self._once((), key, lambda: self.op("stablehlo.constant", [], type_, value=ir.Attribute.parse(f"{attribute} : {type_}")))

    def op(self, name: str, operands: Sequence[ir.Value], type_: str, **attributes: Any) -> ir.Value:
        """Create an op at the insertion point."""
        parsed = {key: ir.Attribute.parse(value) if isinstance(value, str) else value for key, value in attributes.items()}
        return ir.Operation.create(name, results=[self.type(type_)], operands=list(operands), attributes=parsed).result

    def effect(self, name: str, operands: Sequence[ir.Value], **attributes: Any) -> None:
        """Create an op without results at the end of the entry block's head."""
        with ir.InsertionPoint(self.head_end):
            parsed = {key: ir.Attribute.parse(value) if isinstance(value, str) else value for key, value in attributes.items()}
            ir.Operation.create(name, results=[], operands=list(operands), attributes=parsed)

    def condition(self, expression: Value, element: str = SIZE) -> ir.Value:
        """Emit `expression != 0` as a `tensor<i1>`, computed in ints of type `element`, or wider ones if its bounds need them."""
        return self._once((expression,), ("condition", expression, element), lambda: self._truth(cast(Expression, expression), element))

    def _once(self, values: Sequence[Value], key: Any, build: Callable[[], ir.Value]) -> ir.Value:
        """Build in the entry block's head if `values` depend only on arguments, otherwise just before the current op."""
        hoistable = all(self.origins[atom].is_argument for value in values for atom in value.atoms() if not atom.operands)
        known = self._hoisted if hoistable else self._local
        if key not in known:
            with ir.InsertionPoint(self.head_end if hoistable else self.here), ir.Location.unknown():
                known[key] = build()
        return known[key]

    def _sum(self, expression: Expression, element: str) -> ir.Value:
        if element not in ("i32", "i64"):
            return self.op("stablehlo.convert", [self.size(expression, "i64")], f"tensor<{element}>")
        if expression.constant is not None:
            return self.constant(f"dense<{expression.constant}>", f"tensor<{element}>")
        total: ir.Value | None = None
        for monomial, factor in reversed(expression.terms):
            term = self._term(monomial, abs(factor), element)
            if total is None:
                # 0 - x, not negate: XLA's shape refinement folds no negation
                total = term if factor > 0 else self.op("stablehlo.subtract", [self.size(ZERO, element), term], f"tensor<{element}>")
            else:
                total = self.op("stablehlo.add" if factor > 0 else "stablehlo.subtract", [total, term], f"tensor<{element}>")
        assert total is not None
        return total

    def _term(self, monomial: Monomial, factor: int, element: str) -> ir.Value:
        if not monomial:
            return self.size(Expression((((), factor),)), element)
        if factor != 1:
            scaled = [self.size(Expression(((monomial, 1),)), element), self.size(Expression((((), factor),)), element)]
            return self.op("stablehlo.multiply", scaled, f"tensor<{element}>")
        if len(monomial) > 1:
            parts = [self.size(Expression(((monomial[:-1], 1),)), element), self.size(Expression(((monomial[-1:], 1),)), element)]
            return self.op("stablehlo.multiply", parts, f"tensor<{element}>")
        return self._atom(monomial[0], element)

    def _atom(self, atom: Atom, element: str) -> ir.Value:
        if atom.op == "symbol":
            return self._origin(self.origins[atom], element)
        type_ = f"tensor<{element}>"
        if atom.op in _HOLDS:
            return self.op("stablehlo.convert", [self._emit_comparison(atom, _HOLDS, element)], type_)
        if atom.op == "int":
            return self.op("stablehlo.convert", [self.size(atom.operands[0], "f64")], type_)  # truncates
        operands = [self.size(operand, element) for operand in atom.operands]
        match atom.op:
            case "floordiv":
                divisor = operands[1]
                if atom.operands[1].constant is None:
                    # no size in the ranges is 0, but XLA divides before it checks the ranges, and a zero kills the process
                    divisor = self.op("stablehlo.maximum", [divisor, self.constant("dense<1>", type_)], type_)
                return self._floordiv(operands[0], divisor, type_, may_be_negative=not cast(Expression, atom.operands[0]).is_at_least(0))
            case "max" | "min":
                return self.op(f"stablehlo.{atom.op}imum", operands, type_)
            case "pow":
                return self.op("stablehlo.power", operands, type_)
            case "and" | "or" | "xor":
                return self.op(f"stablehlo.{atom.op}", operands, type_)
            case "select":
                return self.op("stablehlo.select", [self.condition(atom.operands[0], element), *operands[1:]], type_)
        raise KeyError(f"lowering.legalize.emitter has no StableHLO form for '{atom.op}'")

    def _origin(self, origin: Origin, element: str) -> ir.Value:
        if origin.position is None:
            given = str(ir.RankedTensorType(origin.value.type).element_type)
            return origin.value if given == element else self.op("stablehlo.convert", [origin.value], f"tensor<{element}>")
        value = self.op("stablehlo.get_dimension_size", [origin.value], f"tensor<{SIZE}>", dimension=f"{origin.position} : i64")
        if origin.offset:
            value = self.op("stablehlo.subtract", [value, self.constant(f"dense<{origin.offset}>", f"tensor<{SIZE}>")], f"tensor<{SIZE}>")
        if origin.scale != 1:
            value = self.op("stablehlo.divide", [value, self.constant(f"dense<{origin.scale}>", f"tensor<{SIZE}>")], f"tensor<{SIZE}>")
        return value if element == SIZE else self.op("stablehlo.convert", [value], f"tensor<{element}>")

    def _floordiv(self, left: ir.Value, right: ir.Value, type_: str, may_be_negative: bool) -> ir.Value:
        quotient = self.op("stablehlo.divide", [left, right], type_)  # rounds toward zero
        if not may_be_negative:
            return quotient
        rest = self.op("stablehlo.subtract", [left, self.op("stablehlo.multiply", [quotient, right], type_)], type_)
        below = self.compare("LT", rest, self.constant("dense<0>", type_))
        return self.op("stablehlo.subtract", [quotient, self.op("stablehlo.convert", [below], type_)], type_)

    def compare(self, direction: str, left: ir.Value, right: ir.Value) -> ir.Value:
        return self.op("stablehlo.compare", [left, right], "tensor<i1>",
                       comparison_direction=f"#stablehlo<comparison_direction {direction}>")

    def _truth(self, expression: Expression, element: str) -> ir.Value:
        for truth, directions in ((expression, _HOLDS), (ONE - expression, _FAILS)):
            atom = _lone_atom(truth)
            if atom is not None and atom.op in directions:
                return self._emit_comparison(atom, directions, _wide(element, *atom.operands))
        wide = _wide(element, expression)
        return self.compare("NE", self.size(expression, wide), self.constant("dense<0>", f"tensor<{wide}>"))

    def _emit_comparison(self, atom: Atom, directions: dict[str, str], element: str) -> ir.Value:
        if any(isinstance(operand, Real) for operand in atom.operands):
            element = "f64"
        return self.compare(directions[atom.op], *(self.size(operand, element) for operand in atom.operands))

    def _concatenate(self, expressions: Sequence[Value], element: str) -> ir.Value:
        parts = [self.op("stablehlo.reshape", [self.size(expression, element)], f"tensor<1x{element}>") for expression in expressions]
        if len(parts) == 1:
            return parts[0]
        return self.op("stablehlo.concatenate", parts, f"tensor<{len(parts)}x{element}>", dimension="0 : i64")


def _lone_atom(expression: Expression) -> Atom | None:
    """Return the atom if the expression is a single one."""
    is_lone = len(expression.terms) == 1 and expression.terms[0][1] == 1 and len(expression.terms[0][0]) == 1
    return expression.terms[0][0][0] if is_lone else None


def _wide(element: str, *values: Value) -> str:
    """Return the element type for `values`: the given one, unless it is too small."""
    return "i64" if any(_exceeds(value) for value in values) else element


def _exceeds(value: Value) -> bool:
    if not isinstance(value, Expression):
        return False
    known = [bound for bound in value.bounds() if bound is not None] + [factor for _, factor in value.terms]
    atoms = [atom for monomial, _ in value.terms for atom in monomial]
    return any(abs(bound) > _LARGEST for bound in known) or any(
        (atom.op == "pow" and atom.high is None) or any(map(_exceeds, atom.operands)) for atom in atoms)


def _list(values: Sequence[Any]) -> str:
    return "[" + ", ".join(map(str, values)) + "]" if values else ""
