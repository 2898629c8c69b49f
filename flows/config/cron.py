"""Checks a schedule without Prefect, whose import takes longer than listing a suite."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_KEYWORDS = ("@annually", "@yearly", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_ITEM = re.compile(r"(?:\*|\?|(\w+)(?:-(\w+))?)(?:/(\d+))?")


def find_problem(text: str) -> str:
    """Return what is wrong with a cron expression of five fields, in words; empty if nothing is."""
    if text.strip().lower() in _KEYWORDS:
        return ""
    words = text.lower().split()
    if len(words) != len(_FIELDS):
        return f"has {len(words)} fields, not {len(_FIELDS)}"
    for word, (name, low, high) in zip(words, _FIELDS, strict=True):
        for item in word.split(","):
            if not _is_item(item, name, low, high):
                return f"'{item}' is no {name} ({low}-{high})"
    return ""


def is_timezone(name: str) -> bool:
    """Return whether a time zone of that name is known."""
    try:
        return bool(ZoneInfo(name).key)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _is_item(item: str, name: str, low: int, high: int) -> bool:
    if (name == "day of month" and item == "l") or (name == "day of week" and re.fullmatch(r"l?[0-7](#[1-5])?|[a-z]{3}#[1-5]", item)):
        return True
    match = _ITEM.fullmatch(item)
    if match is None or match[3] == "0":
        return False
    numbers = [_number(word, name) for word in match.groups()[:2] if word is not None]
    return all(number is not None and low <= number <= high for number in numbers)


def _number(word: str, name: str) -> int | None:
    names = {"month": _MONTHS, "day of week": _DAYS}.get(name, ())
    if word in names:
        return names.index(word) + (name == "month")
    return int(word) if word.isdecimal() else None
