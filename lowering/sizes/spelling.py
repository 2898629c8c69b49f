"""Print expressions of sizes in Python's operators: `Eq(Mod(n, 2), 0)` is `n % 2 == 0`."""

from __future__ import annotations

from lowering.sizes.parsing import Term, Unreadable, is_condition, parse

# How tightly an operator binds, and its sign; as Python's grammar has it.
_OPERATORS: dict[str, tuple[int, str]] = {
    "or": (1, "or"), "and": (2, "and"), "not": (3, "not "), "eq": (4, "=="), "ne": (4, "!="), "le": (4, "<="), "lt": (4, "<"),
    "ge": (4, ">="),
    "gt": (4, ">"), "bitor": (5, "|"), "bitxor": (6, "^"), "bitand": (7, "&"), "lshift": (8, "<<"), "rshift": (8, ">>"), "add": (9, "+"),
    "sub": (9, "-"), "mul": (10, "*"), "truediv": (10, "/"), "floordiv": (10, "//"), "mod": (10, "%"), "neg": (11, "-"), "pow": (12, "**"),
}  # fmt: skip
_CHOICE, _ATOM = 0, 13
_BUILT_IN = {"max", "min", "abs", "round", "float", "round_decimal"}


def spell(term: Term) -> str:
    """Return `term` as a Python expression."""
    return _spell_term(term, _CHOICE)


def spell_condition(text: str) -> str:
    """Write a condition with operators for sympy's functions; other texts stay as they are."""
    try:
        term = parse(text)
    except Unreadable:
        return text
    return spell(term) if is_condition(term) else text


def condense(text: str) -> str:
    """Remove blanks and parentheses, for looking up one condition in another text."""
    return text.translate({ord(sign): None for sign in " ()\t\n"})


def _spell_term(term: Term, outer: int) -> str:
    """Write `term`, in parentheses where it binds less tightly than `outer` asks."""
    binds, text = _split(term)
    return text if binds >= outer else f"({text})"


def _split(term: Term) -> tuple[int, str]:
    match term.op, term.operands:
        case "symbol", _:
            return _ATOM, str(term.value)
        case "number", _:
            text = repr(term.value) if abs(term.value) != float("inf") else f"{'-' * (term.value < 0)}math.inf"  # type: ignore[arg-type, operator]
            return (_OPERATORS["neg"][0] if text.startswith("-") else _ATOM), text
        case "where", (condition, then, otherwise):
            return _CHOICE, f"{_spell_term(then, 1)} if {_spell_term(condition, 1)} else {_spell_term(otherwise, _CHOICE)}"
        case "ceildiv", (left, right):
            return _split(Term("neg", (Term("floordiv", (Term("neg", (left,)), right)),)))
        case "modular_indexing", (base, divisor, modulus):
            return _split(Term("mod", (Term("floordiv", (base, divisor)), modulus)))
        case ("not" | "neg"), (operand,):
            binds, sign = _OPERATORS[term.op]
            return binds, sign + _spell_term(operand, binds)
        case "pow", (base, exponent):
            return _OPERATORS["pow"][0], f"{_spell_term(base, _ATOM)} ** {_spell_term(exponent, _OPERATORS['neg'][0])}"
        case ("or" | "and"), operands:
            binds, sign = _OPERATORS[term.op]
            return binds, f" {sign} ".join(_spell_term(operand, binds + 1) for operand in operands)
        case op, (left, right) if op in _OPERATORS:
            binds, sign = _OPERATORS[op]
            return binds, f"{_spell_term(left, binds + (binds == _OPERATORS['eq'][0]))} {sign} {_spell_term(right, binds + 1)}"
    name = {"round_decimal": "round"}.get(term.op, term.op)
    arguments = ", ".join(_spell_term(operand, _CHOICE) for operand in term.operands)
    return _ATOM, f"{'' if term.op in _BUILT_IN else 'math.'}{name}({arguments})"
