"""Names of variants: short words for the values of axes, independent of the other axes and of their order."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from lowering.errors import Problem
from lowering.fitting import Keys

MOST = 120  # maximum number of characters of a name
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+=-]{{0,{MOST - 1}}}")
LONGEST = 80  # maximum number of characters of a slug before its end becomes a digest
SYMBOL_PARTS = {"max": "", "min": "min", "multiple_of": "mult", "example": "at"}
# The axes that readers look for first come first.
ORDER = ("symbols", "inputs", "factory", "constants", "stages")
ENVIRONMENT = "environment"  # the key of the environment's name among the values of axes; it comes last

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")


def make_sort_key(keys: Keys) -> tuple[int, Keys]:
    """Return the sort key of an axis, independent of the order in which axes were written."""
    position = ORDER.index(str(keys[0])) if keys[0] in ORDER else len(ORDER) + (keys == (ENVIRONMENT,))
    return position, tuple(map(str, keys))


def make_slug(words: Sequence[str]) -> str:
    """Join words into one name. The end of a long name becomes a digest."""
    text = "-".join(words) or "default"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 9].rstrip('-')}-{_compute_digest(text)}"


def make_word(keys: Keys, value: Any, others: Collection[Keys] = ()) -> str:
    """Return the word of a value in a slug: `seq128`, `core`, `deployable`, `no-deployable`, or a digest if it has no short form.

    others: keys of the other axes, from which the label must differ.
    """
    label = _make_label(keys)
    if any(_make_label(other) == label for other in others if other != keys):
        label = "_".join(str(key) for key in keys[-3:])
    if isinstance(value, bool):
        text = label if value else f"no-{label}"
    elif isinstance(value, int | float):
        text = f"{label}{value}".replace("-", "m")
    elif isinstance(value, str) and _WORD.fullmatch(value) and not value.startswith((label, "no")):  # the other forms begin with these
        text = value
    elif isinstance(value, list | tuple) and len(value) > 1 and all(type(item) is int for item in value):
        text = f"{label}{'_'.join(map(str, value))}".replace("-", "m")
    else:
        text = f"{label}.none" if value is None else ""
    return text if NAME.fullmatch(text) and len(text) <= LONGEST // 2 else f"{_strip_label(label)}.{_compute_digest(spell(value))}"


def check_name(name: str, taken: Collection[str], place: str) -> list[Problem]:
    """Return the problems of `name` as a variant: it is in `taken` (case-folded names), or cannot be a folder's name."""
    if name.casefold() in taken:
        return [Problem(place, f"two variants would have the name '{name}'", "rename a variant, or sweep other values")]
    return [make_name_problem(name, place)] if not NAME.fullmatch(name) else []


def make_name_problem(name: str, place: str) -> Problem:
    """Return the problem of a name that cannot be a folder, as the names of models and variants must."""
    if len(name) > MOST and NAME.fullmatch(name[:MOST]):
        return Problem(place, f"'{name[:20]}…{name[-10:]}' has {len(name)} characters", f"shorten it to {MOST}: it is a folder's name")
    fix = "use letters, digits, . _ + = and single -, and begin with a letter or digit"
    return Problem(place, f"'{name}' cannot be a folder's name", fix)


def spell(value: Any) -> str:
    """Return a configuration value as text that is equal for equal values, independent of the order of keys."""
    return json.dumps(value, sort_keys=True, default=str)


def _make_label(keys: Keys) -> str:
    if len(keys) == 3 and keys[0] == "symbols":
        return f"{keys[1]}{SYMBOL_PARTS.get(str(keys[2]), keys[2])}"
    return str(keys[-1])


def _strip_label(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", label)[: LONGEST // 4].lstrip("_") or "value"


def _compute_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]
