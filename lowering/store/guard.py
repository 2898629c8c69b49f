"""Checks of a serialized graph before torch's deserializer sees it.

The deserializer evaluates size expressions as Python, resolves targets by attribute, and imports modules that a treespec names.
"""

from __future__ import annotations

import json
import re
from typing import Any

from lowering.custom.naming import FILE_OPS
from lowering.sizes.parsing import Term, Unknown, parse

LONGEST = 20_000  # characters of a size expression
LARGEST_EXPONENT = 64  # of a power of numbers, which sympy evaluates at once
_OPERATORS = ("getitem|eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv|and_|or_|lshift|rshift")
_MATH = ("ceil|floor|trunc|sqrt|pow|exp|log|log2|cos|sin|tan|cosh|sinh|tanh|acos|asin|atan|asinh")
_TARGET = re.compile(rf"_operator\.({_OPERATORS})|math\.({_MATH})|torch\.sym_\w+|torch\._sym_\w+"
                     r"|torch\.ops\.(?!load_library|import_module|loaded_libraries)(?!__)\w+(\.(?!__)\w+){1,2}")
_FILE_OPS = re.compile(rf"(\w+::|torch\.ops\.\w+\.)({'|'.join(FILE_OPS)})(\.\w+)?")
_CHECKED = ("expr_str", "target", "as_operator", "in_spec", "out_spec")  # keys of the texts that the deserializer would execute
_ENUM = "__enum__"  # a treespec with it imports a module by name


class Unsafe(ValueError):
    """A serialized program contains code that its deserializer would execute."""


def check_graph(saved: bytes) -> None:
    """Check a graph in torch.export's JSON. Raises Unsafe, which names the first text that is not allowed."""
    try:
        _check_all(json.loads(saved), "", set())
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, Unsafe) else Unsafe(f"the graph cannot be read: {error}") from error


def check_script(graph: Any) -> None:
    """Check a parsed TorchScript graph. Raises Unsafe if it has an op that opens files or calls Python."""
    from lowering.torchscript.nodes import nodes

    for kind in {node.kind() for node in nodes(graph)}:
        if kind == "prim::PythonOp" or _FILE_OPS.fullmatch(kind):
            raise Unsafe(f"the op {kind} is not run from the store")


def _check_all(data: Any, key: str, seen: set[tuple[str, str]]) -> None:
    """Check all texts, each with its key, or that of its list. seen: what was checked before."""
    if isinstance(data, dict):
        for name, value in data.items():
            _check_all(value, name, seen)
    elif isinstance(data, list):
        for value in data:
            _check_all(value, key, seen)
    elif isinstance(data, str) and key in _CHECKED and (key, data) not in seen:
        _check(key, data)
        seen.add((key, data))


def _check(key: str, text: str) -> None:
    if key == "expr_str":
        _check_size(text)
    elif key in ("target", "as_operator") and (text.startswith(("_operator", "torch", "math", "#")) or "::" in text):
        if not _TARGET.fullmatch(text) or _FILE_OPS.fullmatch(text):
            raise Unsafe(f"'{text[:80]}' is not the name of an op")
    elif _ENUM in text and key in ("in_spec", "out_spec"):
        raise Unsafe("a treespec names an enum, whose module would be imported")


def _check_size(text: str) -> None:
    if len(text) > LONGEST:
        raise Unsafe(f"a size expression has {len(text)} characters")
    try:
        _check_powers(parse(text))
    except Unknown as error:
        raise Unsafe(str(error)) from error


def _check_powers(term: Term) -> None:
    """Check that no power or shift of numbers has a large exponent."""
    if term.op in ("pow", "lshift"):
        exponent = term.operands[1]
        small = exponent.op == "number" and not isinstance(exponent.value, str) and abs(exponent.value or 0) <= LARGEST_EXPONENT
        if not small and not any(True for _ in exponent.symbols()):
            raise Unsafe("a size expression has a power of numbers with a large exponent")
        if term.op == "pow" and _has_power(term.operands[0]) and not any(True for _ in term.operands[0].symbols()):
            raise Unsafe("a size expression has a power of a power of numbers")
    for operand in term.operands:
        _check_powers(operand)


def _has_power(term: Term) -> bool:
    return term.op in ("pow", "lshift") or any(map(_has_power, term.operands))
