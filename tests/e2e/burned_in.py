"""Finds sizes of an example in the text of a program of any level."""

from __future__ import annotations

import re
from collections.abc import Collection

_COMMENT = re.compile(r"#(?![a-z_]+\.).*$|//.*$|loc\(.*$", re.MULTILINE)
_INTEGER = re.compile(r"(?<![\w%.@$#])(?<![eE][-+])\d+(?![\w.])|(?<=[<x])\d+(?=x)|(?<=int)\d+(?=\b)")


def burned_in(text: str, sizes: Collection[int]) -> list[str]:
    """The lines in which one of `sizes` stands: as a constant, in a list, a type or an attribute; not in a name or a comment."""
    return [line.strip() for line in _COMMENT.sub("", text).splitlines()
            if any(int(number) in sizes for number in _INTEGER.findall(line))]
