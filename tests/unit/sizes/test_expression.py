"""Sizes as expressions: whatever is folded has the value that Python's integers have, and bounds hold."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowering.sizes import arithmetic
from lowering.sizes import expression as ex
from lowering.sizes.expression import Atom, Expression

RANGES = {"a": (0, 9), "b": (1, 64), "c": (2, 5)}
Sample = tuple[Expression, Callable[[dict[str, int]], int]]


def _leaf() -> st.SearchStrategy[Sample]:
    def symbol(name: str) -> Sample:
        return ex.symbol(name, *RANGES[name]), lambda sizes: sizes[name]

    def number(value: int) -> Sample:
        return ex.number(value), lambda sizes: value

    return st.one_of(st.sampled_from(sorted(RANGES)).map(symbol), st.integers(-6, 12).map(number))


def _combined(children: st.SearchStrategy[Sample]) -> st.SearchStrategy[Sample]:
    plain = {"+": (Expression.__add__, operator.add), "-": (Expression.__sub__, operator.sub), "*": (Expression.__mul__, operator.mul),
             "max": (arithmetic.maximum, max), "min": (arithmetic.minimum, min)}  # fmt: skip
    compared = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}

    def binary(name: str, left: Sample, right: Sample) -> Sample:
        build, compute = plain[name]
        return build(left[0], right[0]), lambda sizes: compute(left[1](sizes), right[1](sizes))

    def comparison(name: str, left: Sample, right: Sample) -> Sample:
        return arithmetic.compare(name, left[0], right[0]), lambda sizes: int(compared[name](left[1](sizes), right[1](sizes)))

    def division(name: str, left: Sample, divisor: int) -> Sample:
        build, compute = {"//": (arithmetic.floordiv, operator.floordiv), "%": (arithmetic.remainder, operator.mod),
                          "ceil": (arithmetic.ceildiv, lambda a, b: -(-a // b))}[name]  # fmt: skip
        return build(left[0], ex.number(divisor)), lambda sizes: compute(left[1](sizes), divisor)

    return st.one_of(
        st.builds(binary, st.sampled_from(sorted(plain)), children, children),
        st.builds(comparison, st.sampled_from(sorted(compared)), children, children),
        st.builds(division, st.sampled_from(["//", "%", "ceil"]), children, st.integers(1, 7)),
        st.builds(lambda c, t, e: (arithmetic.select(arithmetic.compare("lt", c[0], ex.ZERO), t[0], e[0]),
                                   lambda sizes: t[1](sizes) if c[1](sizes) < 0 else e[1](sizes)), children, children, children),
    )  # fmt: skip


def value(expression: Expression, sizes: dict[str, int]) -> int:
    total = 0
    for monomial, factor in expression.terms:
        for atom in monomial:
            factor *= _atom(atom, sizes)
        total += factor
    return total


def _atom(atom: Atom, sizes: dict[str, int]) -> int:
    if atom.op == "symbol":
        return sizes[atom.name]
    operands = [value(operand, sizes) for operand in atom.operands]
    compute: dict[str, Callable[..., int]] = {
        "floordiv": operator.floordiv, "max": max, "min": min, "eq": operator.eq, "lt": operator.lt, "le": operator.le,
        "select": lambda condition, then, otherwise: then if condition else otherwise,
    }  # fmt: skip
    return int(compute[atom.op](*operands))


@given(st.recursive(_leaf(), _combined, max_leaves=6),
       st.fixed_dictionaries({name: st.integers(*bounds) for name, bounds in RANGES.items()}))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_folding_keeps_the_value_and_bounds_hold(sample: Sample, sizes: dict[str, int]) -> None:
    expression, compute = sample
    wanted = compute(sizes)
    low, high = expression.bounds()
    assert value(expression, sizes) == wanted
    assert (low is None or low <= wanted) and (high is None or wanted <= high)


S, B = ex.symbol("s", 1, 512), ex.symbol("b", 1, 64)


@pytest.mark.parametrize(("got", "wanted"), [
    (arithmetic.floordiv(S * B * ex.number(64), B * ex.number(64)), S),
    (arithmetic.floordiv(ex.number(8) * S + ex.number(3), ex.number(4)), ex.number(2) * S),
    (arithmetic.ceildiv(ex.number(8) * S, ex.number(4)), ex.number(2) * S),
    (arithmetic.divide_exactly((S + B) * ex.number(3) * S, S + B), ex.number(3) * S),
    (arithmetic.maximum(S, ex.ZERO), S),
    (arithmetic.minimum(S, ex.number(512)), S),
    (arithmetic.compare("lt", S, ex.number(600)), ex.ONE),
    (arithmetic.select(arithmetic.compare("lt", S, ex.ZERO), B, S), S),
])
def test_what_ranges_and_exact_division_decide(got: Expression, wanted: Expression) -> None:
    assert got == wanted


def test_what_no_range_decides_stays() -> None:
    assert arithmetic.compare("lt", S, B).constant is None
    assert arithmetic.divide_exactly(S, ex.number(4)) is None


def test_the_order_of_operands_makes_no_difference_where_the_op_has_none() -> None:
    a, b = ex.symbol("a", 0, 9), ex.symbol("b", 1, 64)
    for build in (arithmetic.minimum, arithmetic.maximum, lambda left, right: arithmetic.compare("eq", left, right)):
        assert build(a, b) == build(b, a)
        assert hash(build(a, b)) == hash(build(b, a))
    assert arithmetic.minimum(a, b) != arithmetic.maximum(a, b)
    assert arithmetic.compare("lt", a, b) != arithmetic.compare("lt", b, a)
