"""Markdown tables and counted nouns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any


def table(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a Markdown table of rows with the same keys; nothing without rows."""
    if not lines:
        return
    yield "| " + " | ".join(lines[0]) + " |"
    yield "|" + "|".join(" ---: " if isinstance(value, int | float) else " --- " for value in lines[0].values()) + "|"
    for line in lines:
        yield "| " + " | ".join("" if value is None else escape_cell(str(value)) for value in line.values()) + " |"


def pluralize(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def escape_cell(text: str) -> str:
    """Escape text for a cell of a Markdown table: a backslash before a bar would end the cell there."""
    return _escape(text.strip()).replace("\n", "<br>")


def escape_line(text: str) -> str:
    """Escape text for a heading, or a cell of one line."""
    return _escape(" ".join(text.split()))


def _escape(text: str) -> str:
    return re.sub(r"(\\*)([|<])", r"\1\1\\\2", text)
