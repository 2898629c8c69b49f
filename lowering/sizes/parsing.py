"""Read a size expression or a condition on sizes: what torch's shape environment and sympy's `srepr` print, what a model declares, and
Python's own spelling.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce


class Unknown(ValueError):
    """An expression has no value: a symbol has no size, or a form is not arithmetic on sizes."""


class Unreadable(Unknown):
    """A text is not an expression of sizes. The message shows what was read and what remains."""

    def __init__(self, text: str, position: int, cause: str) -> None:
        self.cause = f"{cause} (read {text[:position]!r}, remaining {text[position:]!r})"
        super().__init__(f"cannot read {text!r} as a size: {self.cause}")


@dataclass(frozen=True)
class Term:
    """A node of the syntax tree.

    op: `number` (its `value`), `symbol` (its name as `value`), or an operation of `evaluation.OPERATIONS` on the operands.
    """

    op: str
    operands: tuple[Term, ...] = ()
    value: int | float | str | None = None

    @cached_property
    def count(self) -> int:
        """The number of nodes of the tree, which is the cost of an evaluation."""
        return 1 + sum(operand.count for operand in self.operands)

    def symbols(self) -> Iterator[str]:
        """Yield the names of the symbols, with repetition."""
        if self.op == "symbol":
            yield str(self.value)
        for operand in self.operands:
            yield from operand.symbols()


# The operation of each function, by the last part of its name: of sympy, of torch's own sympy functions, of Python, math and torch.
FUNCTIONS: dict[str, str] = {
    "Max": "max", "Min": "min", "max": "max", "min": "min", "sym_max": "max", "sym_min": "min", "Abs": "abs", "abs": "abs",
    "Mod": "mod", "PythonMod": "mod", "FloorDiv": "floordiv", "CleanDiv": "floordiv", "CeilDiv": "ceildiv",
    "ModularIndexing": "modular_indexing",
    "IntTrueDiv": "truediv", "FloatTrueDiv": "truediv", "Pow": "pow", "pow": "pow", "PowByNatural": "pow", "FloatPow": "pow",
    "floor": "floor", "FloorToInt": "floor", "ceil": "ceil", "ceiling": "ceil", "CeilToInt": "ceil",
    "trunc": "trunc", "TruncToInt": "trunc", "TruncToFloat": "trunc", "int": "trunc", "sym_int": "trunc",
    "round": "round", "RoundToInt": "round", "RoundDecimal": "round_decimal",
    "float": "float", "ToFloat": "float", "sym_float": "float", "Identity": "identity",
    "Equality": "eq", "Unequality": "ne", "LessThan": "le", "StrictLessThan": "lt", "GreaterThan": "ge", "StrictGreaterThan": "gt",
    "Eq": "eq", "Ne": "ne", "Le": "le", "Lt": "lt", "Ge": "ge", "Gt": "gt", "And": "and", "Or": "or", "Not": "not", "sym_not": "not",
    "Where": "where", "sym_ite": "where", "ITE": "where",
    "LShift": "lshift", "RShift": "rshift", "BitwiseFn_bitwise_and": "bitand", "BitwiseFn_bitwise_or": "bitor",
    "BitwiseFn_bitwise_xor": "bitxor",
    "bitwise_and": "bitand", "bitwise_or": "bitor", "bitwise_xor": "bitxor",
    **{prefix + name: name
       for name in ("sqrt", "exp", "log", "log2", "cos", "sin", "tan", "cosh", "sinh", "tanh", "acos", "asin", "atan", "asinh")
       for prefix in ("", "OpaqueUnaryFn_", "_sym_", "sym_")},
}  # fmt: skip

_FLOAT = re.compile(r"-?\d*\.?\d+(e[+-]?\d+)?|-?\d+\.")

_CONSTANTS: dict[str, float] = {"oo": float("inf"), "int_oo": float("inf"), "inf": float("inf"), "nan": float("nan"), "zoo": float("nan")}

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.FloorDiv: "floordiv", ast.Div: "truediv", ast.Mod: "mod", ast.Pow: "pow",
    ast.LShift: "lshift", ast.RShift: "rshift", ast.BitXor: "bitxor",
}  # fmt: skip
_COMPARED: dict[type[ast.cmpop], str] = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.LtE: "le", ast.Lt: "lt", ast.GtE: "ge", ast.Gt: "gt", ast.Is: "eq", ast.IsNot: "ne",
}  # fmt: skip

CONDITIONS = frozenset({"eq", "ne", "le", "lt", "ge", "gt", "and", "or", "not"})
_ARITY = {
    **dict.fromkeys(("abs", "floor", "ceil", "trunc", "round", "float", "identity", "not", "sqrt", "exp", "log", "log2", "cos", "sin",
                     "tan",
                     "cosh", "sinh", "tanh", "acos", "asin", "atan", "asinh"), 1),
    **dict.fromkeys(("mod", "floordiv", "ceildiv", "truediv", "pow", "eq", "ne", "le", "lt", "ge", "gt", "lshift", "rshift", "bitand",
                     "bitor",
                     "bitxor", "round_decimal"), 2),
    **dict.fromkeys(("where", "modular_indexing"), 3),
}  # fmt: skip


@lru_cache(maxsize=4096)
def parse(text: str) -> Term:
    """Return the syntax tree of `text`. Raises Unreadable if it is not arithmetic on sizes."""
    stripped = text.strip()
    try:
        body = ast.parse(stripped, mode="eval").body
    except SyntaxError as error:
        raise Unreadable(stripped, error.offset - 1 if error.offset and error.lineno == 1 else len(stripped), error.msg) from None
    except (ValueError, RecursionError) as error:  # null bytes; parentheses nested too deep
        raise Unreadable(stripped, 0, str(error)) from None
    return _Reader(stripped).read(body)


def is_condition(term: Term) -> bool:
    """Return whether `term` is true or false rather than a number."""
    if term.op in ("bitand", "bitor", "bitxor", "where", "identity"):
        return all(is_condition(operand) for operand in term.operands[term.op == "where":])
    return term.op in CONDITIONS or isinstance(term.value, bool)


def _is_dotted(node: ast.expr) -> bool:
    """Return whether `node` is a name, or an attribute of names alone: `math.floor`, not `f().floor`."""
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _is_dotted(node.value))


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text

    def read(self, node: ast.expr) -> Term:
        match node:
            case ast.Constant(value=int() | float() as value):
                return Term("number", (), value)
            case ast.Name(id=name) if name in _CONSTANTS:
                return Term("number", (), _CONSTANTS[name])
            case ast.Name(id=name):
                return Term("symbol", (), name)
            case ast.Attribute(value=ast.Name(id="math"), attr="inf" | "nan" as name):
                return Term("number", (), _CONSTANTS[name])
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.read(operand)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return Term("number", (), -value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Term("neg", (self.read(operand),))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Term("not", (self.read(operand),))
            case ast.UnaryOp(op=ast.Invert(), operand=operand) if is_condition(self.read(operand)):
                return Term("not", (self.read(operand),))  # as sympy writes `not`
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr() as op, left=left, right=right):
                # between conditions, as sympy writes `and` and `or`
                parts = self.read(left), self.read(right)
                word = "and" if isinstance(op, ast.BitAnd) else "or"
                return Term(word if all(map(is_condition, parts)) else f"bit{word}", parts)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _BINARY:
                return Term(_BINARY[type(op)], (self.read(left), self.read(right)))
            case ast.BoolOp(op=op, values=values):
                return Term("and" if isinstance(op, ast.And) else "or", tuple(map(self.read, values)))
            case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARED for op in ops):
                terms = [self.read(term) for term in (left, *comparators)]
                compared: tuple[Term, ...] = tuple(Term(_COMPARED[type(op)], (a, b))
                                                   for op, a, b in zip(ops, terms, terms[1:], strict=False))
                return compared[0] if len(compared) == 1 else Term("and", compared)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return Term("where", (self.read(test), self.read(body), self.read(orelse)))
            case ast.Call(func=ast.Name(id="Symbol" | "Integer" | "Float" | "Rational" | "Add" | "Mul" as name)):
                return self._constructor(node, name)
            case ast.Call(func=ast.Name(id="Piecewise"), args=[*pieces], keywords=[]) if pieces:
                return self._piecewise(node, pieces)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name) as called, args=args, keywords=[]) if (
                name in FUNCTIONS and _is_dotted(called)):
                return self._call(node, FUNCTIONS[name], args)
        raise self._make_error(node, f"'{ast.unparse(node)}' is not arithmetic on sizes")

    def _call(self, node: ast.Call, op: str, args: list[ast.expr]) -> Term:
        operands = tuple(map(self.read, args))
        if op == "round" and len(operands) == 2:
            op = "round_decimal"
        if len(operands) != _ARITY.get(op, len(operands) or 1):
            raise self._make_error(node, f"'{ast.unparse(node.func)}' takes {_ARITY.get(op, 'at least 1')} operands, not {len(operands)}")
        if op == "identity" or (op in ("max", "min") and len(operands) == 1):
            return operands[0]
        return Term(op, operands)

    def _constructor(self, node: ast.Call, name: str) -> Term:
        """Return a call as sympy's `srepr` prints it: `Mul(Integer(2), Symbol('s0', positive=True, integer=True))`."""
        flags = [keyword.value for keyword in node.keywords]
        known = name in ("Symbol", "Float") and all(isinstance(flag, ast.Constant) and isinstance(flag.value, int) for flag in flags)
        match name, node.args:
            case "Symbol", [ast.Constant(value=str() as symbol)] if known and symbol.isidentifier():
                return Term("symbol", (), symbol)
            case "Float", [ast.Constant(value=str() as digits)] if known and _FLOAT.fullmatch(digits):
                return Term("number", (), float(digits))
            case "Integer", [argument] if not flags and isinstance(term := self.read(argument), Term) and isinstance(term.value, int):
                return term
            case "Rational", [numerator, denominator] if not flags:
                return Term("truediv", (self.read(numerator), self.read(denominator)))
            case "Add" | "Mul", [_, *_] if not flags:
                return reduce(lambda left, right: Term(name.lower(), (left, right)), map(self.read, node.args))
        raise self._make_error(node, f"'{ast.unparse(node)}' is not arithmetic on sizes")

    def _piecewise(self, node: ast.expr, pieces: list[ast.expr]) -> Term:
        """Read `Piecewise((value, condition), ..., (value, True))` as nested choices."""
        pairs = [self._pair(piece) for piece in pieces]
        last, condition = pairs[-1]
        if condition not in (Term("number", (), True), Term("symbol", (), "true")):
            raise self._make_error(node, "the last piece must hold always")
        return reduce(lambda otherwise, pair: Term("where", (pair[1], pair[0], otherwise)), reversed(pairs[:-1]), last)

    def _pair(self, piece: ast.expr) -> tuple[Term, Term]:
        match piece:
            case ast.Tuple(elts=[value, condition]) | ast.Call(func=ast.Name(id="ExprCondPair"), args=[value, condition], keywords=[]):
                return self.read(value), self.read(condition)
        raise self._make_error(piece, "a piece is a value and a condition")

    def _make_error(self, node: ast.expr, cause: str) -> Unreadable:
        offset = len(self.text.splitlines()[0].encode()[: node.col_offset].decode(errors="ignore")) if node.lineno == 1 else 0
        return Unreadable(self.text, offset, cause)
