"""Imports in the text of Python files, which nothing executes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def parse(content: bytes, package: str) -> list[str]:
    """Return the dotted names that code in `package` imports anywhere, without duplicates; none if it is no Python."""
    try:
        return list(dict.fromkeys(_walk_imports(ast.parse(content), package)))
    except SyntaxError:
        return []


def _walk_imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in _walk_statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _walk_statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements below `tree`. Most nodes are expressions, which contain none."""
    waiting = [tree]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
                yield node
                waiting.append(node)


def find_package(file: Path, name: str) -> str:
    """Return the package that relative imports of `file` start from. The file was found while resolving the module `name`."""
    parts = name.split(".")
    if file.name == "__init__.py":
        return ".".join(parts[: parts.index(file.parent.name) + 1]) if file.parent.name in parts else name
    return ".".join(parts[: parts.index(file.stem)]) if file.stem in parts else name.rpartition(".")[0]
