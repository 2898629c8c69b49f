"""Textual edits of a file of expectations: entries are set or removed, in the order of their names; comments are kept in place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from flows.config.expectations import to_data
from lowering.record.result import Expectation

HEAD = """\
# The expected outcomes of the jobs of this suite. `shapeline update-expected RUN` updates entries that differ and keeps comments.
strict: true  # a job that passes although another outcome was expected makes the run fail
"""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")


@dataclass
class _Entry:
    """An entry. above: the comment lines before it; text: its lines; comment: the comment at the end of its last line."""

    name: str
    above: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    comment: str = ""


def edit(text: str, changes: Mapping[str, Expectation | None]) -> str:
    """Return `text`, a valid file of expectations or empty, with the entries of `changes` set, or removed if None."""
    lines = (text or HEAD).splitlines()
    root = yaml.compose(text or HEAD, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    block = next(((key, value) for key, value in pairs if key.value == "expect"), None)
    before, after, entries = [*lines, "expect:"], list[str](), dict[str, _Entry]()
    if block is not None:
        key, value = block
        end = min((other.start_mark.line for other, _ in pairs if other.start_mark.line > key.start_mark.line), default=len(lines))
        entries, last = _read_entries(lines, value, key.start_mark.line)
        before, after = [*lines[: key.start_mark.line], "expect:"], lines[last:end] + lines[end:]
    for name, expectation in changes.items():
        if expectation is None:
            entries.pop(name, None)
        else:
            entry = entries.setdefault(name, _Entry(name))
            entry.above += [line for line in entry.text if line.lstrip().startswith("#")]
            entry.text = [f"  {_format_scalar(name)}: {_format_flow(to_data(expectation))}"]
    body = [line for name in sorted(entries) for line in (*entries[name].above, *_append_comment(entries[name]))]
    return "\n".join([*before, *body, *after]) + "\n"


def _read_entries(lines: list[str], value: yaml.Node, at: int) -> tuple[dict[str, _Entry], int]:
    """Return the entries of the mapping `value`, whose key is on line `at`, and the line after the last entry."""
    found: dict[str, _Entry] = {}
    reached = at + 1
    for key, node in value.value if isinstance(value, yaml.MappingNode) else ():
        start, end = key.start_mark.line, _find_end(node)
        entry = _Entry(key.value)
        side_by_side = isinstance(value, yaml.MappingNode) and value.flow_style
        if side_by_side or start < reached:
            entry.text = [f"  {_format_scalar(key.value)}: {_format_flow(yaml.safe_load(yaml.serialize(node)))}"]
            reached = max(reached, end + 1)
        else:
            entry.above, entry.text = lines[reached:start], lines[start : end + 1]
            entry.comment = _find_comment(lines[end], node)
            reached = end + 1
        found[key.value] = entry
    return found, max(reached, (_find_end(value) + 1) if found else reached)


def _find_end(node: yaml.Node) -> int:
    """Return the last line of a node. A block's end mark comes after the blank lines and comments that follow it."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _find_end(node.value[-1][1])
    return int(node.end_mark.line)


def _find_comment(line: str, node: yaml.Node) -> str:
    while isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        node = node.value[-1][1]
    rest = line[node.end_mark.column :].strip()
    return rest if rest.startswith("#") else ""


def _append_comment(entry: _Entry) -> list[str]:
    *others, last = entry.text
    return [*others, last if not entry.comment or last.endswith(entry.comment) else f"{last}  {entry.comment}"]


def _format_flow(data: Any) -> str:
    if isinstance(data, Mapping):
        return "{" + ", ".join(f"{key}: {_format_scalar(value)}" for key, value in data.items()) + "}"
    return _format_scalar(data)


def _format_scalar(text: str) -> str:
    """Return a string as YAML on one line."""
    if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))).strip()
