"""Which code line, and which value of the exported program, each line of a saved MLIR module comes from, as comments at the end of the file:
one file, and it still parses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

HEAD = "// Code lines: `5=12` and `5-7=12` say that line 5, or lines 5 to 7, of this file come from line 12 of the code."
FILE = "// lines of "
VALUES = "// values: "  # and `5-7=linear_3`, that these lines compute the value that the exported program and TorchScript call so
VALUE = "%"  # before the name of a value in a location: names without it are of modules
_ALIAS = re.compile(r"#(loc\d*) = loc\((.*)\)$")
_USED = re.compile(r" loc\((.*)\)$")
_POSITION = re.compile(r'"((?:[^"\\]|\\.)*)":(\d+):\d+')
_NAMED = re.compile(rf'"{VALUE}((?:[^"\\]|\\.)*)"(?!:\d)')  # not a file's
_REFERENCE = re.compile(r"#(loc\d*)")


def footer(module: Any, printed: str, elide: int | None) -> str:
    """The comments for `printed`, the module's text without locations; empty where it has none. elide: as the text was printed."""
    traced = module.operation.get_asm(large_elements_limit=elide, enable_debug_info=True, pretty_debug_info=False).splitlines()
    aliases = {match[1]: match[2] for line in traced if (match := _ALIAS.match(line))}
    body = [line for line in traced if not _ALIAS.match(line)]
    plain = printed.splitlines()
    if len(body) != len(plain):  # an attribute that prints over several lines: better no lines than wrong ones
        return ""
    found: dict[str, list[tuple[int, int]]] = {}
    values: list[tuple[int, str]] = []
    for number, line in enumerate(body, 1):
        used = _USED.search(line)
        if used and (where := _position(used[1], aliases)):
            found.setdefault(where[0], []).append((number, where[1]))
        if used and (value := _value(used[1], aliases)):
            values.append((number, value))
    lines = [f"{FILE}{file}: {' '.join(_spans(pairs))}" for file, pairs in found.items()]
    if values:
        lines.append(f"{VALUES}{' '.join(_spans(values))}")
    return "\n".join([HEAD, *lines]) + "\n" if lines else ""


def read(text: str) -> dict[int, tuple[str, int]]:
    """Line of the text -> (file, line) of the code, from the comments of `footer`; empty when it has none."""
    found = {}
    for line in _comments(text, FILE):
        file, _, spans = line.rpartition(": ")
        found.update({number: (file, int(there)) for number, there in _numbered(spans)})
    return found


def values(text: str) -> dict[int, str]:
    """Line of the text -> the value of the exported program that it computes, from the same comments."""
    return {number: value for line in _comments(text, VALUES) for number, value in _numbered(line)}


def _comments(text: str, start: str) -> Iterator[str]:
    for line in text[text.rfind(HEAD):].splitlines()[1:] if HEAD in text else ():
        if line.startswith(start):
            yield line.removeprefix(start)


def _numbered(spans: str) -> Iterator[tuple[int, str]]:
    for span in spans.split():
        here, _, there = span.partition("=")
        first, _, last = here.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield number, there


def strip(text: str) -> str:
    """The text without the comments of `footer`."""
    return text[: text.rfind(HEAD)] if HEAD in text else text


def _position(location: str, aliases: Mapping[str, str], depth: int = 0) -> tuple[str, int] | None:
    """The first code line that a location names, itself or through its aliases."""
    for file, line in _POSITION.findall(location):
        if file != "-":  # how the parser calls text of its own
            return file, int(line)
    for reference in _REFERENCE.findall(location) if depth < 8 else ():
        if reference in aliases and (found := _position(aliases[reference], aliases, depth + 1)):
            return found
    return None


def _value(location: str, aliases: Mapping[str, str]) -> str | None:
    """The value of the exported program that a location names, itself or through its aliases; the first of several."""
    seen, waiting = set(), [location]
    while waiting:
        text = waiting.pop()
        if found := _NAMED.search(text):
            return found[1]
        nested = [name for name in _REFERENCE.findall(text) if name in aliases and name not in seen]
        seen.update(nested)
        waiting += [aliases[name] for name in reversed(nested)]
    return None


def _spans(pairs: list[tuple[int, Any]]) -> Iterator[str]:
    start, last, code = pairs[0][0], pairs[0][0], pairs[0][1]
    for number, line in [*pairs[1:], (-1, -1)]:
        if number == last + 1 and line == code:
            last = number
            continue
        yield f"{start}={code}" if start == last else f"{start}-{last}={code}"
        start, last, code = number, number, line
