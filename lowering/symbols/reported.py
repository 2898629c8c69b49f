"""The part of a symbol record that reports and comparisons read, which records of all versions have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DYNAMIC = ("dynamic", "merged", "derived")  # verdicts


@dataclass(frozen=True)
class Dim:
    """A requested dim and its outcome: see `schema.Requested`."""

    id: str
    verdict: str
    lost_at: str | None = None
    why: str = ""
    line: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Symbols:
    requested: tuple[Dim, ...] = ()


def is_kept(verdict: str, lost_at: str | None) -> bool:
    """Return whether the compiled program accepts any size of a requested dim."""
    return verdict in DYNAMIC and lost_at is None
