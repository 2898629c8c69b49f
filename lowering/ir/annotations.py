"""Annotations of saved MLIR modules: comments at the end of the file map each line to a code line and to a value of the exported program.

The annotated file is a single file that still parses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

HEAD = "// Code lines: `5=12` and `5-7=12` say that line 5, or lines 5 to 7, of this file come from line 12 of the code."
FILE = "// lines of "
VALUES = "// values: "  # and `5-7=linear_3`: these lines compute the value with that name in the exported program and in TorchScript
MODULES = "// modules: "  # and `5-7=encoder.layers.0`: these lines compute what the module with that path computes
VALUE = "%"  # prefix of value names in locations; names without it are modules
_PATH = re.compile(r"[\w.-]+")  # of a module; other names of locations have characters that the comments cannot hold
_ALIAS = "#loc"
_LOCATION = re.compile(r'"(?P<name>(?:[^"\\]|\\.)*)"(?::(?P<line>\d+):\d+)?|(?P<alias>#loc\d*)')  # the parts of a location
_PART = re.compile(r'"(?:[^"\\]|\\.)*"| loc\(|\(|\)')  # tokens that delimit the location of an argument


class Origin(NamedTuple):
    """Origin of a location: a code line (file, number), a value of the exported program and a module, each None if it names none."""

    position: tuple[str, int] | None = None
    value: str | None = None
    module: str | None = None


_NOWHERE = Origin()


def annotate(traced: str, origins: Mapping[tuple[str, int], Origin] | None = None) -> str:
    """Convert the locations of a module's text, printed as aliases, to comments at its end.

    origins: the meaning of the positions of locations, if they refer to another text.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    values: list[tuple[int, str]] = []
    modules: list[tuple[int, str]] = []
    body = []
    for number, (line, origin) in enumerate(_split_lines(traced.rstrip("\n").split("\n")), 1):
        body.append(line)
        if origins is not None:
            origin = origins.get(origin.position, _NOWHERE) if origin.position else _NOWHERE
        if origin.position:
            found.setdefault(origin.position[0], []).append((number, origin.position[1]))
        if origin.value:
            values.append((number, origin.value))
        if origin.module and _PATH.fullmatch(origin.module):
            modules.append((number, origin.module))
    comments = [f"{FILE}{file}: {' '.join(_format_spans(pairs))}" for file, pairs in found.items()]
    if values:
        comments.append(f"{VALUES}{' '.join(_format_spans(values))}")
    if modules:
        comments.append(f"{MODULES}{' '.join(_format_spans(modules))}")
    return "\n".join([*body, *([HEAD, *comments] if comments else ()), ""])


def _split_lines(lines: list[str]) -> Iterator[tuple[str, Origin]]:
    """Yield each line of the module itself without locations, with the origin of the op that ends there."""
    origins = {"unknown": _NOWHERE}
    for line in lines:  # an alias comes after those that it refers to, but possibly also after the ops that use it
        if line.startswith(_ALIAS):
            alias, _, location = line.partition(" = ")
            origins[alias] = _find_origin(location, origins)
    for line in lines:
        if line.startswith(_ALIAS):
            continue
        text, _, location = line.rpartition(" loc(")
        origin = origins.get(location[:-1]) if location.endswith(")") else None
        text = line if origin is None else text
        yield _strip_locations(text) if " loc(" in text else text, origin or _NOWHERE


def _strip_locations(line: str) -> str:
    """Return the line without the locations of arguments, which are not aliases. Similar text in strings stays."""
    kept, start, depth = [], 0, 0
    for part in _PART.finditer(line):
        if depth == 0 and part[0] == " loc(":
            kept.append(line[start : part.start()])
            depth = 1
        elif depth and (step := {")": -1, "(": 1, " loc(": 1}.get(part[0])):
            depth += step
            start = part.end()
    return "".join(kept) + line[start:]


def _find_origin(location: str, origins: Mapping[str, Origin]) -> Origin:
    """Return the origin that a location names directly, or else that of the aliases in it. The first one of several wins."""
    position = value = module = None
    nested = []
    for part in _LOCATION.finditer(location):
        name, line, alias = part.group("name", "line", "alias")
        if alias:
            nested.append(origins[alias])
        elif line:
            if position is None and name != "-":  # the parser's name for source text without a file
                position = name, int(line)
        elif name.startswith(VALUE):
            value = value or name.removeprefix(VALUE)
        else:
            module = module or name
    position = position or next((origin.position for origin in nested if origin.position), None)
    value = value or next((origin.value for origin in nested if origin.value), None)
    return Origin(position, value, module or next((origin.module for origin in nested if origin.module), None))


def read_lines(text: str) -> dict[int, tuple[str, int]]:
    """Parse the comments of `annotate` into a map from line of the text to (file, line) of the code. Empty if there are none."""
    found = {}
    for line in _read_comments(text, FILE):
        file, _, spans = line.rpartition(": ")
        found.update({number: (file, int(there)) for number, there in _parse_spans(spans)})
    return found


def read_values(text: str) -> dict[int, str]:
    """Parse the same comments into a map from line of the text to the value of the exported program that it computes."""
    return {number: value for line in _read_comments(text, VALUES) for number, value in _parse_spans(line)}


def read_modules(text: str) -> dict[int, str]:
    """Parse the same comments into a map from line of the text to the path of the module that it belongs to."""
    return {number: path for line in _read_comments(text, MODULES) for number, path in _parse_spans(line)}


def _read_comments(text: str, start: str) -> Iterator[str]:
    for line in text[text.rfind(HEAD):].splitlines()[1:] if HEAD in text else ():
        if line.startswith(start):
            yield line.removeprefix(start)


def _parse_spans(spans: str) -> Iterator[tuple[int, str]]:
    for span in spans.split():
        here, _, there = span.partition("=")
        first, _, last = here.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield number, there


def strip(text: str) -> str:
    """Remove the comments of `annotate`."""
    return text[: text.rfind(HEAD)] if HEAD in text else text


def _format_spans(pairs: list[tuple[int, Any]]) -> Iterator[str]:
    start, last, code = pairs[0][0], pairs[0][0], pairs[0][1]
    for number, line in [*pairs[1:], (-1, -1)]:
        if number == last + 1 and line == code:
            last = number
            continue
        yield f"{start}={code}" if start == last else f"{start}-{last}={code}"
        start, last, code = number, number, line
