"""Random expressions of sizes, and what they must give: strategies that several tests share."""

from __future__ import annotations

from hypothesis import strategies as st

from lowering.sizes.parsing import Term

RANGES = {"a": (1, 9), "b": (1, 64), "c": (2, 5)}


def number(value: float) -> Term:
    return Term("number", (), value)


SYMBOLS = st.sampled_from(sorted(RANGES)).map(lambda name: Term("symbol", (), name))
INT_LEAVES = st.one_of(SYMBOLS, st.integers(-6, 12).map(number))
POSITIVE = st.one_of(SYMBOLS, st.integers(1, 7).map(number))
FLOATS = st.sampled_from([0.5, 1.9, -0.25, 64.0, 0.7, 1.0, 1 / 3]).map(number)
SIZES = st.fixed_dictionaries({name: st.integers(*bounds) for name, bounds in RANGES.items()})


def binary(ops: tuple[str, ...], left: st.SearchStrategy[Term], right: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    return st.builds(lambda op, a, b: Term(op, (a, b)), st.sampled_from(ops), left, right)


def unary(ops: tuple[str, ...], operand: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    return st.builds(lambda op, a: Term(op, (a,)), st.sampled_from(ops), operand)


def ints(depth: int) -> st.SearchStrategy[Term]:
    if depth == 0:
        return INT_LEAVES
    below = ints(depth - 1)
    return st.one_of(
        binary(("add", "sub", "mul", "max", "min"), below, below),
        binary(("floordiv", "mod", "ceildiv"), below, POSITIVE),
        binary(("floordiv", "mod"), below, st.sampled_from([-3, -1]).map(number)),
        unary(("floor", "ceil", "trunc", "round"), floats(depth - 1)),
        unary(("neg", "abs"), below),
        binary(("pow",), below, st.integers(0, 2).map(number)),
        binary(("pow",), st.just(number(2)), SYMBOLS.filter(lambda term: term.value != "b")),
        binary(("bitand", "bitor", "bitxor"), SYMBOLS, SYMBOLS),
        binary(("lshift", "rshift"), SYMBOLS, st.integers(0, 3).map(number)),
        st.builds(lambda condition, then, otherwise: Term("where", (condition, then, otherwise)), conditions(depth - 1), below, below),
    )


def of_torch(depth: int) -> st.SearchStrategy[Term]:
    """Ints by the operations of which torch.utils._sympy has a function."""
    if depth == 0:
        return INT_LEAVES
    below = of_torch(depth - 1)
    return st.one_of(
        binary(("add", "sub", "mul", "max", "min"), below, below),
        binary(("floordiv", "mod", "ceildiv"), below, POSITIVE),
        unary(("neg", "abs"), below),
        binary(("pow",), below, st.integers(1, 2).map(number)),
    )


def floats(depth: int) -> st.SearchStrategy[Term]:
    leaf = st.one_of(FLOATS, unary(("float",), INT_LEAVES))
    if depth == 0:
        return leaf
    below = floats(depth - 1)
    return st.one_of(
        leaf,
        binary(("add", "sub", "mul", "max", "min"), below, below),
        binary(("truediv",), ints(depth - 1), POSITIVE),
        binary(("truediv", "mod", "floordiv"), below, st.sampled_from([0.5, 1.0, 2.0, 3.0, 0.3, -0.7]).map(number)),
        unary(("sqrt",), unary(("abs",), below)),
        unary(("neg",), below),
    )


def conditions(depth: int) -> st.SearchStrategy[Term]:
    compared = ("eq", "ne", "lt", "le", "gt", "ge")
    of_sizes = st.one_of(binary(compared, ints(depth), ints(depth)), binary(compared, floats(depth), ints(depth)))
    if depth == 0:
        return of_sizes
    below = conditions(depth - 1)
    return st.one_of(of_sizes, binary(("and", "or"), below, below), unary(("not",), below))
