"""The one language of sizes: what is read, printed, evaluated and bounded, and what a refusal says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sympy
from hypothesis import given, settings
from torch.utils._sympy import functions as torchs
from torch.utils._sympy.printers import PythonPrinter

from lowering.sizes import normal
from lowering.sizes.evaluation import Undefined, evaluate, shape_at, symbols_in
from lowering.sizes.expression import Expression
from lowering.sizes.parsing import Term, Unknown, Unreadable, parse
from lowering.sizes.ranges import Bound
from lowering.sizes.spelling import spell, spell_condition
from tests.unit.sizes import terms

SIZES = {"h": 64, "w": 45, "n": 5}
BOUNDS = {"h": Bound(32, 640, 32), "w": Bound(1, 64), "n": Bound(2, 16)}


@pytest.mark.parametrize(("text", "printed", "value", "bounds"), [
    ("math.ceil(w / 2)", "math.ceil(w / 2)", 23, (1, 32)),
    ("math.ceil((1 + (-1 + w) // 8) / 2)", "math.ceil((1 + (-1 + w) // 8) / 2)", 3, (1, 4)),
    ("((h / 32 + Mod(7 - Mod(h / 32, 7), 7)) // 7) ** 2", "((h / 32 + (7 - h / 32 % 7) % 7) // 7) ** 2", 1, None),
    ("math.ceil((-0.5 + torch.sym_float(w // 16)) / 1.0)", "math.ceil((-0.5 + float(w // 16)) / 1.0)", 2, (0, 4)),
    ("TruncToInt(0.5*ToFloat(w))", "math.trunc(0.5 * float(w))", 22, (0, 32)),
    ("TruncToInt(1.9*ToFloat(n))", "math.trunc(1.9 * float(n))", 9, (3, 30)),
    ("min(64.0/h, 48.0/w)", "min(64.0 / h, 48.0 / w)", 1, (0.1, 2.0)),
    ("CeilToInt(IntTrueDiv(w, 2)) + 1", "math.ceil(w / 2) + 1", 24, (2, 33)),
    ("FloorToInt(FloatTrueDiv(ToFloat(w//4) - 0.5, 1.0))", "math.floor((float(w // 4) - 0.5) / 1.0)", 10, (-1, 15)),
    ("RoundToInt(0.5*ToFloat(n))", "round(0.5 * float(n))", 2, (1, 8)),
    ("PowByNatural(2, n)", "2 ** n", 32, (1, 65536)),
    ("OpaqueUnaryFn_sqrt(ToFloat(h))", "math.sqrt(float(h))", 8, (math.sqrt(32), math.sqrt(640))),
    ("floor(OpaqueUnaryFn_log2(ToFloat(h)))", "math.floor(math.log2(float(h)))", 6, None),
    ("Piecewise((w, n > 3), (h, True))", "w if n > 3 else h", 45, (1, 640)),
    ("Where(Eq(n, 5), 1, -1)", "1 if n == 5 else -1", 1, (-1, 1)),
    ("Max(0, -w, Min(3, n, h))", "max(0, -w, min(3, n, h))", 3, None),
    ("CleanDiv(h, 32)", "h // 32", 2, (1, 20)),
    ("ModularIndexing(w, 4, 7)", "w // 4 % 7", 4, None),
    ("w // -2", "w // -2", -23, (-32, -1)),
    ("(w << 2) ^ n", "w << 2 ^ n", 177, (0, 511)),
    ("w & 6 | 1", "w & 6 | 1", 5, None),
    ("Identity(w)", "w", 45, (1, 64)),
    ("-(w - (n - 1)) ** 2", "-(w - (n - 1)) ** 2", -1681, None),
    ("round(w / 7, 1)", "round(w / 7, 1)", 6.4, None),
    ("Eq(Mod(w, 2), 0)", "w % 2 == 0", False, (0, 1)),
    ("(w < 50) & ~Eq(n, 3) | (h > 640)", "w < 50 and not n == 3 or h > 640", True, (0, 1)),
    ("And(Ne(w, 1), Or(h <= 64, Not(n >= 3)))", "w != 1 and (h <= 64 or not n >= 3)", True, None),
    ("2 <= n <= 5", "2 <= n and n <= 5", True, (0, 1)),
    ("n < int_oo", "n < math.inf", True, (1, 1)),
])
def test_every_form_is_read_printed_evaluated_and_bounded(text: str, printed: str, value: Any, bounds: Any) -> None:
    assert spell(parse(text)) == printed
    assert parse(printed) == parse(spell(parse(printed)))  # what is printed is read as the same
    assert evaluate(text, SIZES) == evaluate(printed, SIZES) == value
    if bounds is not None:
        assert normal.bounds(text, BOUNDS) == bounds


@pytest.mark.parametrize(("text", "message"), [
    ("a b", "cannot read 'a b' as a size: invalid syntax (read 'a ', remaining 'b')"),
    ("2 * L['x'].size()[0] > 2", "'L['x'].size()[0]' is not arithmetic on sizes (read '2 * ', remaining \"L['x'].size()[0] > 2\")"),
    ("n + Max()", "'Max' takes at least 1 operands, not 0 (read 'n + ', remaining 'Max()')"),
    ("n + Mod(n, 2, 3)", "'Mod' takes 2 operands, not 3 (read 'n + ', remaining 'Mod(n, 2, 3)')"),
    ("Piecewise((n, n > 2))", "the last piece must hold always (read '', remaining 'Piecewise((n, n > 2))')"),
    ("n +", "(read 'n +', remaining '')"),
    ("f(n)", "'f(n)' is not arithmetic on sizes (read '', remaining 'f(n)')"),
])
def test_what_cannot_be_read_says_how_far_it_was(text: str, message: str) -> None:
    with pytest.raises(Unreadable) as found:
        parse(text)
    assert message in str(found.value)


def test_what_has_no_value_says_why() -> None:
    for text in ("w // (n - 5)", "w % (n - n)", "math.sqrt(n - 6)", "(n - 6) ** 0.5"):
        with pytest.raises(Undefined):
            evaluate(text, SIZES)
    for text in ("w + u0", "2 ** 5000", "0.5 & n"):
        with pytest.raises(Unknown):
            evaluate(text, SIZES)
    with pytest.raises(normal.NoForm, match="has no form in StableHLO"):
        normal.number("math.asin(1 / w) > 0", normal.symbols(BOUNDS))
    with pytest.raises(normal.NoForm, match="is a float, and no size"):
        normal.size("0.5 * w", normal.symbols(BOUNDS))
    with pytest.raises(normal.NoForm, match="is a float, and no size"):
        normal.size("abs(w / 7)", normal.symbols(BOUNDS))
    with pytest.raises(normal.NoForm, match="has no value"):
        normal.number("w // 0", normal.symbols(BOUNDS))


def test_an_exact_quotient_that_torch_prints_is_a_size() -> None:
    assert normal.size("w / 7 + 1", normal.symbols(BOUNDS)) == normal.size("w // 7 + 1", normal.symbols(BOUNDS))


def test_other_texts_stay_as_they_are() -> None:
    assert [spell_condition(text) for text in ("Mod(n, 2)", "u0 > f(n)", "?")] == ["Mod(n, 2)", "u0 > f(n)", "?"]
    assert symbols_in("math.ceil((w + Max(h, 2)) / 2)") == {"w", "h"}


@pytest.mark.parametrize(("text", "same"), [
    ("math.ceil(w / 2)", "(w + 1) // 2"),
    ("math.ceil((-0.5 + torch.sym_float(w // 16)) / 1.0)", "w // 16"),
    ("TruncToInt(0.5 * ToFloat(w))", "w // 2"),
    ("math.trunc((w - n) / 2)", "(w - n + 1) // 2 if w - n < 0 else (w - n) // 2"),
    ("floor(1.5 * w)", "3 * w // 2"),
    ("math.ceil(w / 3) * 32 == h", "(w + 2) // 3 * 32 == h"),
    ("w / 2 <= n", "w <= 2 * n"),
    ("h / 32", "h // 32"),
    ("math.trunc(float(w) ** float(2))", "w * w"),
    ("w ** 2 - w * w", "0"),
])
def test_exact_float_arithmetic_is_arithmetic_on_ints(text: str, same: str) -> None:
    symbols = normal.symbols(BOUNDS)
    assert normal.number(text, symbols) == normal.number(same, symbols)


def test_a_quotient_that_a_float_does_not_hold_stays_one() -> None:
    """Python rounds (2**53 + 1) / 1 down: its ceiling is not that of the exact quotient."""
    symbols = {"n": normal.symbols({"n": Bound(1, 2**60)})["n"]}
    for text in ("math.ceil(n / 2)", "math.floor(0.5 * n)"):
        value = normal.size(text, symbols)
        assert "f64" in str(value), value
    assert "f64" not in str(normal.size("math.ceil(n / 2)", normal.symbols({"n": Bound(1, 2**50)})))


# torch's function of each op, of ints; the others are Python's operators.
_TORCHS = {"floordiv": torchs.FloorDiv, "mod": torchs.PythonMod, "ceildiv": torchs.CeilDiv, "max": torchs.Max, "min": torchs.Min,
           "abs": sympy.Abs}


def _sympy(term: Term) -> sympy.Expr:
    operands = [_sympy(operand) for operand in term.operands]
    match term.op:
        case "symbol":
            return sympy.Symbol(str(term.value), integer=True, positive=True)
        case "number":
            return sympy.Integer(term.value)
        case "add" | "sub" | "mul" | "pow" | "neg":
            return {"add": lambda: operands[0] + operands[1], "sub": lambda: operands[0] - operands[1],
                    "mul": lambda: operands[0] * operands[1],
                    "pow": lambda: operands[0] ** operands[1], "neg": lambda: -operands[0]}[term.op]()
    return _TORCHS[term.op](*operands)


@given(terms.of_torch(2), terms.SIZES)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_what_torch_prints_is_evaluated_as_what_it_was_printed_of(term: Term, sizes: dict[str, int]) -> None:
    try:
        made = _sympy(term)
        printed = str(made), PythonPrinter().doprint(made)
    except (ZeroDivisionError, AssertionError, TypeError):
        return  # torch asserts on what no trace gives it
    wanted = evaluate(term, sizes)
    assert [evaluate(text, sizes) for text in printed] == [wanted, wanted], printed


@given(terms.ints(2), terms.SIZES)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_python_evaluates_what_is_printed_alike_and_bounds_hold(term: Term, sizes: dict[str, int]) -> None:
    wanted = evaluate(term, sizes)
    assert eval(spell(term), {"math": math, **sizes}) == wanted == evaluate(spell(term), sizes)  # noqa: S307 - made above
    value = normal.number(spell(term), normal.symbols({name: Bound(*bounds) for name, bounds in terms.RANGES.items()}))
    assert isinstance(value, Expression)
    low, high = value.bounds()
    assert (low is None or low <= wanted) and (high is None or wanted <= high)


def test_a_size_that_is_no_whole_number_makes_no_shape() -> None:
    assert shape_at(["n/2", 3], {"n": 6}) == (3, 3)
    with pytest.raises(Undefined, match=r"n/2 is 2.5"):
        shape_at(["n/2", 3], {"n": 5})
