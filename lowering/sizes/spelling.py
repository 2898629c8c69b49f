"""torch's symbolic conditions in Python's operators: `Eq(Mod(n, 2), 0)` is `n % 2 == 0`."""

from __future__ import annotations

import ast

_COMPARED: dict[str, type[ast.cmpop]] = {"Eq": ast.Eq, "Ne": ast.NotEq, "Le": ast.LtE, "Lt": ast.Lt, "Ge": ast.GtE, "Gt": ast.Gt}
_OPERATORS: dict[str, type[ast.operator]] = {"Mod": ast.Mod, "PythonMod": ast.Mod, "FloorDiv": ast.FloorDiv, "CleanDiv": ast.FloorDiv}


def spelled(text: str) -> str:
    """A condition with operators for sympy's functions; what is no condition, or no Python, stays as it is."""
    try:
        parsed = ast.parse(text, mode="eval").body
    except SyntaxError:
        return text
    if isinstance(parsed, ast.Compare | ast.BoolOp) or (isinstance(parsed, ast.Call) and _called(parsed) in _COMPARED):
        return ast.unparse(ast.fix_missing_locations(_Operators().visit(parsed)))
    return text


def condensed(text: str) -> str:
    """`text` without blanks and parentheses, for looking up one condition in another text."""
    return text.translate({ord(sign): None for sign in " ()\t\n"})


class _Operators(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        name = _called(node)
        if len(node.args) == 2 and name in _COMPARED:
            return ast.Compare(node.args[0], [_COMPARED[name]()], [node.args[1]])
        if len(node.args) == 2 and name in _OPERATORS:
            return ast.BinOp(node.args[0], _OPERATORS[name](), node.args[1])
        return node


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""
