"""Definitions of dotted paths, found in source files without importing them."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import sys
import typing
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lowering import recipe
from lowering.errors import ConfigError, suggest

# The names that annotations of options may use.
VOCABULARY: dict[str, Any] = {
    kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, object, list, tuple, dict, Mapping, Sequence)
}
VOCABULARY |= {"Any": Any, "Optional": typing.Optional, "Union": typing.Union}


class Undeclared(Exception):
    """Error of a target that does not exist or is of the wrong kind. The text is the cause; `fix` suggests a remedy."""

    def __init__(self, cause: str, fix: str = ""):
        self.fix = fix
        super().__init__(cause)


@lru_cache
def find_origin(module: str, name: str) -> str | None:
    """Return the dotted path of `name` in a module: its import or the module's own class; None if it is neither."""
    for node in _parse_module(module) or ():
        if isinstance(node, ast.ImportFrom) and not node.level:
            imported = next((item.name for item in node.names if (item.asname or item.name) == name), None)
            if imported:
                return f"{node.module}.{imported}"
        elif isinstance(node, ast.ClassDef) and node.name == name:
            return f"{module}.{name}"
    return None


def find_definition(path: str) -> ast.stmt | None:
    """Return the statement that defines the last name of `path` in its module; None if the source does not show it."""
    if ":" in path or "/" in path:
        raise Undeclared("is not a dotted path", f"write {path.replace(':', '.').replace('.py', '').strip('./').replace('/', '.')}")
    module, name = path.rpartition(".")[::2]
    body = _parse_module(module)
    if body is None:
        locate(path)
        return None
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return _inline_aliases(module, node)
    try:
        locate(path)
    except Undeclared as error:
        defined = [node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        raise Undeclared(str(error), suggest(name, defined) or error.fix) from None
    return None


@lru_cache(maxsize=1024)
def _inline_aliases(module: str, node: ast.stmt) -> ast.stmt:
    """Inline the aliases in a definition, in place and once: `_parse_file` returns the same statement until the file changes."""
    return _InlineAliases(module).visit(node)  # type: ignore[no-any-return]


class _InlineAliases(ast.NodeTransformer):
    """Replaces names in annotations that stand for a Literal, here or in the module that they are imported from, by the Literal."""

    def __init__(self, module: str):
        self.module = module

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = self._inline(node.annotation)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = node.annotation and self._inline(node.annotation)
        return node

    def _inline(self, node: ast.expr) -> ast.expr:
        match node:
            case ast.Subscript(ast.Name("Literal")):
                return node
            case ast.Name(name) if name not in VOCABULARY:
                origin = find_origin(self.module, name) or f"{self.module}.{name}"
                return _find_literal(*origin.rpartition(".")[::2]) or node
            case ast.Attribute(ast.Name(name), attribute):
                return _find_literal(find_origin(self.module, name) or "", attribute) or node
            case ast.Subscript(_, ast.Tuple(items)):
                node.slice.elts = list(map(self._inline, items))  # type: ignore[attr-defined]
            case ast.Subscript(_, item):
                node.slice = self._inline(item)
            case ast.BinOp(left, _, right):
                node.left, node.right = self._inline(left), self._inline(right)
        return node


def _find_literal(module: str, name: str) -> ast.expr | None:
    """Return the Literal that a module assigns to a name; None if it assigns none, or its source cannot be read."""
    try:
        body = _parse_module(module) or ()
    except Undeclared:
        return None
    values = (node.value for node in body if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name])
    return next((value for value in values if isinstance(value, ast.Subscript) and ast.unparse(value.value) == "Literal"), None)


def _parse_module(module: str) -> list[ast.stmt] | None:
    """Return the statements of a module; None if it is not a plain source file. Raises Undeclared if it cannot be parsed."""
    file = _find_module_file(module)
    try:
        return _parse_file(file, file.stat().st_mtime_ns) if file else None
    except SyntaxError as error:
        at = f" in line {error.lineno}" if error.lineno else ""
        raise Undeclared(f"{module} has a syntax error{at}: {error.msg}") from None


@lru_cache(maxsize=256)
def _parse_file(file: Path, modified: int) -> list[ast.stmt]:  # noqa: ARG001 - part of the cache key: a changed file is read again
    return ast.parse(file.read_bytes()).body  # as bytes, so that Python honours the file's coding line


def _find_module_file(module: str) -> Path | None:
    """Return the source file of a module, found without importing its packages; None if it is not a plain source file."""
    if not module:
        raise Undeclared("is not a dotted path", "write package.module.name")
    search: list[str] | None = None
    spec = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        # Look up only the first name through all import hooks (an editable install has one): for the others that imports their parents.
        name = ".".join(parts[:depth])
        try:
            spec = importlib.util.find_spec(name) if depth == 1 else importlib.machinery.PathFinder.find_spec(name, search)
        except KeyError:  # a nested package without __init__.py: only an import finds it
            return None
        if spec is None and depth == 1:
            return None
        if spec is None:
            beside = [entry for folder in search or () for entry in Path(folder).iterdir()]
            known = [entry.stem for entry in beside if entry.suffix == ".py" or entry.is_dir()]
            fix = suggest(parts[depth - 1], known) or f"is it in the version of {parts[0]} that is installed here?"
            raise Undeclared(f"there is no module {name}", fix)
        search = [str(entry) for entry in spec.submodule_search_locations or ()]  # transformers, once imported, lists a Path
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def has_module(name: str) -> bool:
    """Return whether Python finds a top-level module, which is not imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a module without a spec, such as __main__, or an empty name
        return name in sys.modules


def locate(path: str) -> Any:
    """Import the object at a dotted path. Raises Undeclared."""
    try:
        return recipe.locate(path)
    except ConfigError as error:
        raise Undeclared("; ".join(problem.cause for problem in error.problems), error.problems[0].fix) from None
    except ModuleNotFoundError as error:  # of a module that the module imports
        raise Undeclared(f"importing it fails: {error}", recipe.suggest_module((error.name or "").partition(".")[0])) from None
    except Exception as error:  # noqa: BLE001 - an import runs arbitrary code
        fix = f"python -c 'import {path.rpartition('.')[0]}' shows where"
        raise Undeclared(f"importing it fails: {type(error).__name__}: {error}", fix) from None
