"""Sizes that the model's code writes as text while torch.export runs it.

torch writes a symbolic size by its own name of the symbol, so that `len(f"{n}")` would be 3 for `s77` at every size. Text that becomes a
value of the program is that of the traced size, which then is the only one that the program takes: torch guards it. Text of messages
(logs, warnings, errors, assertions) is left to torch, because a log line must not make a size static.
"""

from __future__ import annotations

import ast
import itertools
import linecache
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import FrameType
from typing import Any

import torch

from lowering.tracking import OWN

IsModelCode = Callable[[str], bool]  # of a file

# Functions whose arguments are messages, by a part of their name: loggers, warnings, checks (`warning_once`, `torch_compilable_check`).
_REPORTS = re.compile(r"(?:^|_)(?:print|log|debug|info|warn|warning|deprecate|error|exception|critical|fatal|write)(?:_|$)|"
                      r"(?:^|_)(?:assert|check|require|validate)(?:_|$)")
_DESCRIPTIONS = ("__repr__", "__str__", "extra_repr")  # methods whose result describes an object, mostly in messages
_OWN = f"{OWN}{os.sep}"
_SOURCES = f"{OWN / 'sources'}{os.sep}"  # models
_NUMBERS: dict[type, Callable[[Any], Any]] = {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}


def list_replacements(is_model_code: IsModelCode) -> dict[tuple[type, str], Any]:
    """Return the methods that write symbolic numbers as text, by class and name."""
    name = "__repr__"  # `str` uses it too
    return {(kind, name): _replace(vars(kind)[name], convert, is_model_code) for kind, convert in _NUMBERS.items()}


def list_additions(is_model_code: IsModelCode) -> dict[tuple[type, str], Any]:
    """Return methods that torch's symbolic numbers lack: those for a format, as in `f"{n:3d}"`."""
    lacking = {kind: convert for kind, convert in _NUMBERS.items() if "__format__" not in kind.__dict__}
    return {(kind, "__format__"): _make_format(convert, is_model_code) for kind, convert in lacking.items()}


def _replace(original: Callable[[Any], str], convert: Callable[[Any], Any], is_model_code: IsModelCode) -> Callable[[Any], str]:
    def write(number: Any) -> str:
        return str(convert(number)) if _is_value(sys._getframe(1), is_model_code) else original(number)

    return write


def _make_format(convert: Callable[[Any], Any], is_model_code: IsModelCode) -> Callable[[Any, str], str]:
    def write(number: Any, form: str) -> str:
        if not _is_value(sys._getframe(1), is_model_code):
            return str(number)  # by torch's name, which takes no form of a number
        return format(convert(number), form)

    return write


def _is_value(frame: FrameType, is_model_code: IsModelCode) -> bool:
    """Return whether the code of `frame`, which writes a number as text, is the model's and makes a value of the text."""
    file = frame.f_code.co_filename
    if frame.f_code.co_name in _DESCRIPTIONS or not is_model_code(file) or (file.startswith(_OWN) and not file.startswith(_SOURCES)):
        return False
    line, _, column, _ = next(itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
    return line is None or not _is_message(file, line, column or 0)


@lru_cache(maxsize=1024)
def _is_message(file: str, line: int, column: int) -> bool:
    """Return whether the expression at a position is the message of an error, an assertion, or a call that reports."""
    tree = _parse(file)
    if tree is None:
        return False
    inner = list(_list_containing(tree, line, column))
    statement = next((node for node in reversed(inner) if isinstance(node, ast.stmt)), None)
    if isinstance(statement, ast.Raise):
        return True
    if isinstance(statement, ast.Assert):
        return statement.msg in inner
    calls = [node for node in inner if isinstance(node, ast.Call)]
    return isinstance(statement, ast.Expr) and any(_REPORTS.search(_get_name(call.func)) for call in calls)


def _get_name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def _list_containing(tree: ast.AST, line: int, column: int) -> Iterator[ast.AST]:
    """Yield the nodes that contain a position, outermost first."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.expr | ast.stmt):
            yield from _list_containing(node, line, column)  # arguments, keywords, and others without a position of their own
        elif (node.lineno, node.col_offset) <= (line, column) < (node.end_lineno or line, node.end_col_offset or column + 1):
            yield node
            yield from _list_containing(node, line, column)


@lru_cache(maxsize=256)
def _parse(file: str) -> ast.Module | None:
    try:
        return ast.parse("".join(linecache.getlines(file)) or "!")
    except (SyntaxError, ValueError):
        return None
