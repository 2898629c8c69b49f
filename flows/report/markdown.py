"""Markdown tables and counted nouns."""

from __future__ import annotations

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
    """Escape text for a cell of a Markdown table."""
    return text.strip().replace("|", "\\|").replace("<", "\\<").replace("\n", "<br>")
