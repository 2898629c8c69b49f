"""Markdown tables, links and counted nouns, and text that stays text in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

_CODE = re.compile(r"(?<!`)(?P<fence>`+)(?!`)(?P<code>[^\n]+?)(?<!`)(?P=fence)(?!`)")
# Characters that mark up: not an underscore between letters, nor a backslash that escapes nothing. A bracket makes a link only before a
# parenthesis, as no text here defines references.
_MARK = re.compile(r"\\(?=[!-/:-@\[-`{-~\n]|\Z)|[|<*~`]|\](?=\()|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
_FIRST = re.compile(r"[#>+\[-]|(?<=\d)[.)]")


class Markup(str):
    """Text that is Markdown already: `table` inserts it as it is."""

    __slots__ = ()


def table(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a Markdown table of rows with the same keys; nothing without rows."""
    if not lines:
        return
    yield "| " + " | ".join(map(escape_cell, lines[0])) + " |"
    yield "|" + "|".join(" ---: " if isinstance(value, int | float) else " --- " for value in lines[0].values()) + "|"
    for line in lines:
        yield "| " + " | ".join(map(_render_cell, line.values())) + " |"


def pluralize(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def escape_cell(text: str) -> str:
    """Escape text for a cell of a table. Spans of code stay code; nothing else in the text is markup, and no bar ends the cell."""
    return _escape(text.strip(), r"\|").replace("\n", "<br>")


def escape_line(text: str) -> str:
    """Escape text for a heading or a paragraph, on one line."""
    return _escape(" ".join(text.split()), "|")


def escape_item(text: str) -> str:
    """Escape text for an item of a list, which may otherwise begin a heading, a quotation or a list of its own."""
    escaped = _escape(text.strip(), "|").replace("\n", "<br>")
    head = re.match(r"\d{1,9}[.)]|[^\d]?", escaped)
    return _FIRST.sub(r"\\\g<0>", head[0]) + escaped[head.end() :] if head else escaped


def make_link(text: str, target: str) -> Markup:
    """Return a link to a path or address, whose text is `text` on one line."""
    return Markup(f"[{_escape_link(text)}]({quote(target, safe='/:~.-_#?&=,@%+')})")


def make_code(text: str) -> Markup:
    """Return a span of code outside of tables, in more backticks than the text has in a row."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return Markup(f"{fence} {line} {fence}" if len(fence) > 1 else f"{fence}{line}{fence}")


def _render_cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, Markup) else escape_cell(str(value))


def _escape_link(text: str) -> str:
    return re.sub(r"[\\`\[\]<>*_~&|!]", r"\\\g<0>", " ".join(text.split()))


def _escape(text: str, bar: str) -> str:
    """Escape what is outside of spans of code. bar: `|` inside of them."""
    parts, end = [], 0
    for span in _CODE.finditer(text):
        parts += [_MARK.sub(r"\\\g<0>", text[end : span.start()]), span[0].replace("|", bar)]
        end = span.end()
    return "".join([*parts, _MARK.sub(r"\\\g<0>", text[end:])])
