"""Names of variants: short words for the values of axes, the same whatever else is swept and in whatever order."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from flows.config.schema import Keys
from lowering.errors import Problem

MOST = 120  # characters of a name
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+=-]{{0,{MOST - 1}}}")
LONGEST = 80  # characters of a slug that is spelled out
SYMBOL_PARTS = {"max": "", "min": "min", "multiple_of": "mult", "example": "at"}
# What a reader looks for first comes first.
ORDER = ("symbols", "inputs", "factory", "constants", "stages")

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")


def rank(keys: Keys) -> tuple[int, Keys]:
    """Sorts axes: the same order however they were written."""
    return (ORDER.index(str(keys[0])) if keys[0] in ORDER else len(ORDER), tuple(map(str, keys)))


def slug(words: Sequence[str]) -> str:
    """The words as one name; of a long one the end becomes a digest."""
    text = "-".join(words) or "default"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 9].rstrip('-')}-{_digest(text)}"


def word(keys: Keys, value: Any, others: Collection[Keys] = ()) -> str:
    """How a value reads in a slug: `seq128`, `core`, `deployable`, `no-deployable`; a digest where it has no short form.

    others: keys of the other axes, from which the label must tell this one.
    """
    label = _label(keys)
    if any(_label(other) == label for other in others if other != keys):
        label = "_".join(str(key) for key in keys[-3:])
    if isinstance(value, bool):
        text = label if value else f"no-{label}"
    elif isinstance(value, int | float):
        text = f"{label}{value}".replace("-", "m")
    elif isinstance(value, str) and _WORD.fullmatch(value) and not value.startswith((label, "no")):  # as the other forms begin
        text = value
    elif isinstance(value, list | tuple) and len(value) > 1 and all(type(item) is int for item in value):
        text = f"{label}{'_'.join(map(str, value))}".replace("-", "m")
    else:
        text = f"{label}.none" if value is None else ""
    return text if NAME.fullmatch(text) and len(text) <= LONGEST // 2 else f"{_plain(label)}.{_digest(spelled(value))}"


def problems(name: str, taken: Collection[str], place: str) -> list[Problem]:
    """Why a variant cannot be called `name`: it is no folder's name, or `taken` (case-folded names) has it."""
    if name.casefold() in taken:
        return [Problem(place, f"two variants would be called '{name}'", "rename a variant, or sweep other values")]
    return [refusal(name, place)] if not NAME.fullmatch(name) else []


def refusal(name: str, place: str) -> Problem:
    """Return why `name` cannot be the name of a model or variant, which become folders."""
    if len(name) > MOST and NAME.fullmatch(name[:MOST]):
        return Problem(place, f"'{name[:20]}…{name[-10:]}' has {len(name)} characters", f"at most {MOST} fit a folder's name")
    return Problem(place, f"'{name}' cannot be a folder's name", "letters, digits, . _ + = and single -, no sign first")


def spelled(value: Any) -> str:
    """A value of a configuration as text: equal for equal values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, default=str)


def _label(keys: Keys) -> str:
    if len(keys) == 3 and keys[0] == "symbols":
        return f"{keys[1]}{SYMBOL_PARTS.get(str(keys[2]), keys[2])}"
    return str(keys[-1])


def _plain(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", label)[: LONGEST // 4].lstrip("_") or "value"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]
