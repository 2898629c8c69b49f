"""The record of a joined program: the entries of a model's jobs, and what came of joining them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lowering import files
from lowering.errors import Problem
from lowering.fitting import find_misfit
from lowering.plain import from_plain, to_plain

FILE = "join.json"


@dataclass(frozen=True)
class Joining:
    """Jobs of the entries of a model, to be joined to one program.

    id: `MODEL--VARIANT`; jobs: the names of the folders of the jobs, by entry; missing: the entries that are not joined, and why.
    digest: of all files that are read, and of the code that joins them. outcome: `ok`, or that of the error, or `pending` before the end.
    checked: the entries whose function of the joined program was run and compared with eager.
    """

    id: str
    jobs: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    outcome: str = "pending"
    problems: tuple[Problem, ...] = ()
    checked: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Write join.json into the folder of the joined program. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        files.write(folder / FILE, to_plain(self))

    @staticmethod
    def load(folder: Path) -> Joining | None:
        """Read join.json. Return None if there is none, or it cannot be read."""
        try:
            data = files.read(folder / FILE)
        except (OSError, ValueError):
            return None
        return None if find_misfit(Joining, data) else from_plain(Joining, data)
