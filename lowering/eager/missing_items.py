"""Items that forward reads of its arguments and that the declared structures lack: a key of a dict, an index of a list."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from lowering.errors import Problem, suggest
from lowering.model import Model
from lowering.trees import Construction


def find_missing_item(error: Exception, frame: FrameType, line: traceback.FrameSummary, arguments: Mapping[str, Any],
                      model: Model) -> Problem | None:
    """Return the key of the inputs that an error of forward is about; None if it is not about an item of a declared structure.

    frame, line: the innermost of the user's code, where `error` was raised. arguments: those of forward.
    """
    if not isinstance(error, KeyError | IndexError | ValueError):
        return None
    read = _find_read(line)
    try:
        owner, wanted = (_evaluate(part, frame) for part in read) if read else (None, None)
    except (LookupError, TypeError):
        return None
    declared = next((place for place, value in _list_structures(arguments, model) if value is owner), None)
    if declared is None or owner is None:
        return None
    at = f"{Path(line.filename).name}:{line.lineno}"
    if isinstance(owner, Mapping):
        fix = suggest(str(wanted), map(str, owner)) or f"declare it, or correct the line; the keys are {', '.join(map(str, owner))}"
        return Problem(declared, f"has no key {wanted!r}, which is read in {at}", fix)
    said = f"item {wanted} is read" if isinstance(error, IndexError) else f"{wanted} items are unpacked"
    return Problem(declared, f"{said} in {at}, and there are {len(owner)}", "declare each item that is read, or correct the line")


def _find_read(line: traceback.FrameSummary) -> tuple[ast.expr, ast.expr] | None:
    """Return the expressions of the structure that `line` reads, and of the key or the number of items; None if it is no such line."""
    try:
        source = ast.parse(Path(line.filename).read_bytes())
    except (OSError, SyntaxError):
        return None
    span = (line.lineno, line.colno, line.end_lineno, line.end_colno)
    for node in ast.walk(source):
        if isinstance(node, ast.Subscript) and _get_span(node) == span:
            return node.value, node.slice
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List) and _get_span(node.targets[0]) == span:
            return node.value, ast.Constant(len(node.targets[0].elts))
    return None


def _get_span(node: ast.expr) -> tuple[int, int, int | None, int | None]:
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def _evaluate(node: ast.expr, frame: FrameType) -> Any:
    """Return the value of a name, constant, attribute or item in a frame. Raises LookupError for other expressions, which may compute."""
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name):
            return frame.f_locals[name] if name in frame.f_locals else frame.f_globals[name]
        case ast.Attribute(owner, name):
            return getattr(_evaluate(owner, frame), name, None)
        case ast.Subscript(owner, key):
            return _evaluate(owner, frame)[_evaluate(key, frame)]
        case ast.UnaryOp(ast.USub(), ast.Constant(int(number))):
            return -number
    raise LookupError(ast.unparse(node))


def _list_structures(arguments: Mapping[str, Any], model: Model) -> Iterator[tuple[str, Any]]:
    """Iterate over the dicts, lists and tuples of the arguments, each with its key in the file."""
    for name, value in arguments.items():
        section = "inputs" if name in model.trees else "constants"
        yield from _walk(value, model.trees.get(name), f"{model.place}.{section}.{name}")


def _walk(value: Any, tree: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield each mapping and list in `value` with its place. tree: the declaration of `value`, which names the fields of an object."""
    if isinstance(tree, Construction):
        for name, field in tree.fields.items():
            yield from _walk(getattr(value, name, None), field, f"{place}.{name}")
    elif isinstance(value, Mapping):
        yield place, value
        for key, item in value.items():
            yield from _walk(item, tree.get(key) if isinstance(tree, Mapping) else None, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        yield place, value
        for index, item in enumerate(value):
            yield from _walk(item, tree[index] if isinstance(tree, list | tuple) else None, f"{place}[{index}]")
