"""A small FileCheck: `# CHECK:` lines of a case, in order, against a printed IR; `{{regex}}`, `[[NAME:regex]]` and `[[NAME]]` inside them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DIRECTIVE = re.compile(r"#\s*CHECK(?P<kind>-NEXT|-SAME|-NOT)?:\s?(?P<pattern>.*?)\s*$")
_PIECE = re.compile(r"\{\{(?P<regex>.*?)\}\}|\[\[(?P<name>\w+):(?P<bound>.*?)\]\]|\[\[(?P<used>\w+)\]\]")


@dataclass(frozen=True)
class Directive:
    """kind: `` (on a later line), `-NEXT` (on the next line), `-SAME` (later on the line matched last), `-NOT` (nowhere before the next match)."""

    kind: str
    pattern: str


def directives(text: str) -> list[Directive]:
    found = [Directive(match["kind"] or "", match["pattern"]) for line in text.splitlines() if (match := _DIRECTIVE.search(line))]
    if not found:
        raise ValueError("a case without a CHECK line cannot fail")
    return found


def check(text: str, wanted: list[Directive]) -> None:
    """AssertionError names the first directive that `text` does not meet, and shows the text."""
    lines = text.splitlines()
    bound: dict[str, str] = {}
    at, column, refused = -1, 0, []
    for directive in wanted:
        if directive.kind == "-NOT":
            refused.append(directive)
            continue
        pattern = re.compile(_regex(directive.pattern, bound))
        candidates = {"-NEXT": range(at + 1, at + 2), "-SAME": range(at, at + 1)}.get(directive.kind, range(at + 1, len(lines)))
        start = column if directive.kind == "-SAME" else 0
        hit = next(((row, match) for row in candidates if row < len(lines) and (match := pattern.search(lines[row], start))), None)
        assert hit is not None, f"CHECK{directive.kind}: {directive.pattern}\nnot found behind line {at + 1} of:\n{text}"
        _refuse(lines[at + 1 : hit[0]], refused, bound, text)
        at, column = hit[0], hit[1].end()
        bound |= {name: value for name, value in hit[1].groupdict().items() if value is not None}
        refused = []
    _refuse(lines[at + 1 :], refused, bound, text)


def _refuse(lines: list[str], refused: list[Directive], bound: dict[str, str], text: str) -> None:
    for directive in refused:
        hit = next((line for line in lines if re.search(_regex(directive.pattern, bound), line)), None)
        assert hit is None, f"CHECK-NOT: {directive.pattern}\nfound in: {hit}\nof:\n{text}"


def _regex(pattern: str, bound: dict[str, str]) -> str:
    """The pattern as a regular expression; blanks match any blanks."""
    parts, end = [], 0
    for piece in _PIECE.finditer(pattern):
        parts.append(_literal(pattern[end : piece.start()]))
        if piece["regex"] is not None:
            parts.append(f"(?:{piece['regex']})")
        elif piece["name"] is not None:
            parts.append(f"(?P<{piece['name']}>{piece['bound']})")
        else:
            parts.append(re.escape(bound[piece["used"]]))
        end = piece.end()
    return "".join([*parts, _literal(pattern[end:])])


def _literal(text: str) -> str:
    return r"\s+".join(re.escape(part) for part in re.split(r"\s+", text))
