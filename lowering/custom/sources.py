"""The C++ files that a library is built from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

SUFFIXES = (".cpp", ".cc", ".cxx", ".c", ".h", ".hpp", ".hh", ".cuh", ".cu")

_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def add_headers(sources: Iterable[Path]) -> Iterator[Path]:
    """Yield `sources` and the headers that they include by a relative path (in quotes), without duplicates."""
    pending, seen = list(sources), set()
    while pending:
        path = pending.pop(0)
        if path.resolve() not in seen:
            seen.add(path.resolve())
            yield path
            named = [path.parent / header for header in _INCLUDE.findall(path.read_text(encoding="utf-8", errors="replace"))]
            pending += [header for header in named if header.is_file()]
