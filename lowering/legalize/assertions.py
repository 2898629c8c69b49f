"""Emit ranges, multiples, equalities and guards as shape assertions: the program refuses a wrong shape in the user's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch_mlir import ir

from lowering.errors import Problem, Unsupported
from lowering.legalize.arguments import choose_origins, list_shapes
from lowering.legalize.emitter import SIZE, Emitter, Origin
from lowering.model import LARGEST
from lowering.signature import Signature
from lowering.sizes import arithmetic, normal
from lowering.sizes import expression as ex
from lowering.sizes.expression import Atom, Expression, Value
from lowering.sizes.parsing import Unknown


@dataclass(frozen=True)
class Assertion:
    """`condition` is 1 where the shape is right; `message` may name `shown` values as {0}, {1}.

    element: ints that hold what it computes.
    """

    condition: Expression
    message: str
    shown: tuple[Expression, ...] = ()
    element: str = SIZE


def list_assertions(signature: Signature, emitter: Emitter, arguments: list[Any]) -> list[Assertion]:
    """List all conditions on the entry's shapes. Sizes are read without assuming the conditions."""
    bounded = normal.symbols(signature.symbols)
    shapes = list_shapes(signature.arguments, bounded)
    raw = _read_symbols(signature, emitter, choose_origins(signature, arguments, shapes, bounded), bounded)
    found = [*_check_ranges(signature, raw), *_check_equalities(signature, emitter, arguments, raw, bounded)]
    found += _check_guards(signature, raw, bounded)
    return [assertion for assertion in found if assertion.condition.constant != 1]


def _choose_element(*expressions: Expression) -> str:
    """Return the int type for every step of computing `expressions`: that of sizes, unless some product in the ranges exceeds it."""
    return "i64" if any(map(_is_large, expressions)) else SIZE


def _is_large(expression: Value) -> bool:
    if not isinstance(expression, Expression):
        return False
    most = sum(abs(factor) * prod(max(LARGEST if atom.high is None else atom.high, -(atom.low or 0)) for atom in monomial)
               for monomial, factor in expression.terms)  # fmt: skip
    return most > LARGEST or any(_is_large(operand) for monomial, _ in expression.terms for atom in monomial for operand in atom.operands)


def emit(found: list[Assertion], emitter: Emitter) -> None:
    """Write the assertions at the head of the entry block."""
    for assertion in found:
        condition = emitter.condition(assertion.condition, assertion.element)
        shown = [emitter.size(value) for value in assertion.shown]
        emitter.effect("stablehlo.custom_call", [condition, *shown], call_target_name='"shape_assertion"', has_side_effect="true",
                       error_message=ir.StringAttr.get(assertion.message))


def _read_symbols(
    signature: Signature, emitter: Emitter, origins: Mapping[Atom, Origin], bounded: Mapping[str, Expression]
) -> dict[str, Expression]:
    """Read each symbol from its argument's dim, as an unbounded size: conditions that hold for all sizes are not asserted."""
    raw = {}
    for name in signature.symbols:
        atoms = set(bounded[name].atoms())
        origin = origins.get(atoms.pop()) if len(atoms) == 1 else None
        if origin is None:
            continue  # a symbol that no input's dim tells: nothing to check
        step = signature.symbols[name].multiple_of
        atom = Atom("symbol", f"{name} as given", (), 0, LARGEST)
        emitter.origins[atom] = Origin(origin.value, origin.position, max(origin.scale // step, 1), origin.offset, is_argument=True)
        raw[name] = ex.of_atom(atom)
    return raw


def _check_ranges(signature: Signature, raw: Mapping[str, Expression]) -> Iterator[Assertion]:
    for name, size in raw.items():
        bound = signature.symbols[name]
        if bound.min > 0:
            condition = arithmetic.compare("ge", size, ex.number(bound.min))
            yield Assertion(condition, f"{name} must be at least {bound.min}, got {{0}}", (size,))
        if bound.max is not None:
            condition = arithmetic.compare("le", size, ex.number(bound.max))
            yield Assertion(condition, f"{name} must be at most {bound.max}, got {{0}}", (size,))
        if bound.multiple_of > 1:
            rest = arithmetic.remainder(size, ex.number(bound.multiple_of))
            condition = arithmetic.compare("eq", rest, ex.ZERO)
            yield Assertion(condition, f"{name} must be a multiple of {bound.multiple_of}, got {{0}}", (size,))


def _check_equalities(signature: Signature, emitter: Emitter, arguments: list[Any], raw: dict[str, Expression],
                bounded: dict[str, Expression]) -> Iterator[Assertion]:
    """Yield an assertion that each dynamic dim equals its expression in the signature."""
    for argument, value in zip(signature.arguments, arguments, strict=True):
        for position, dim in enumerate(argument.dims):
            if isinstance(dim, int):
                continue
            atom = Atom("symbol", f"{argument.name} dim {position}", (), 0, None)
            origin = Origin(value, position, is_argument=True)
            if any(emitter.origins[known] == origin for known in _list_atoms(raw)):
                continue  # the dim that the symbol is read from
            emitter.origins[atom] = origin
            size, wanted = ex.of_atom(atom), normal.size(dim, raw)
            if any(known not in emitter.origins for known in wanted.atoms() if known.op == "symbol"):
                continue
            text = dim if dim in raw else f"{dim}"
            yield Assertion(arithmetic.compare("eq", size, wanted), f"dim {position} of {argument.name} must be {text} = {{1}}, got {{0}}",
                            (size, wanted),
                            _choose_element(normal.size(dim, bounded)))


def _check_guards(signature: Signature, raw: dict[str, Expression], bounded: dict[str, Expression]) -> Iterator[Assertion]:
    """Yield the guards that the ranges do not imply. Raises Unsupported, which names every guard without a form."""
    problems, divides = [], normal.divides(bounded)
    for guard in signature.guards:
        try:
            if normal.condition(guard, bounded).constant != 1:
                element = _choose_element(normal.condition(guard, bounded))
                yield Assertion(normal.condition(guard, raw, divides), f"the exported program needs {guard}", element=element)
        except Unknown as error:
            problems.append(Problem(f"guard {guard}", str(error),
                                    "without stages.stablehlo.assertions the program takes sizes that break it"))
    if problems:
        raise Unsupported(problems)


def _list_atoms(raw: Mapping[str, Expression]) -> Iterator[Atom]:
    return (atom for size in raw.values() for atom in size.atoms())
