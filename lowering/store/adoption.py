"""Signing the results that a store held before it had a key, so that they need not be computed again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowering import files
from lowering.store import mirror, signing
from lowering.store.entries import ENTRY, Store


@dataclass(frozen=True)
class Unsigned:
    """A sound file of a store without a valid signature.

    kind: what is signed, and of a note its folder. job, stage, maker: of a result, as it says itself; empty for a note.
    """

    path: Path
    content: dict[str, Any]
    kind: tuple[str, ...]
    job: str = ""
    stage: str = ""
    maker: str = ""

    def sign(self) -> None:
        """Write the file again with the signature of this store's key. Raises OSError, InfraError."""
        signature = signing.sign(*self.kind, self.content["sha256"])
        files.write_bytes(self.path, files.encode(files.encode_json({**self.content, **signature})))
        mirror.upload([self.path])


def list_unsigned(store: Store) -> list[Unsigned]:
    """Return the results and notes of a store that are sound but have no valid signature. Damaged results are removed."""
    found = []
    for entry, _ in store.entries():
        content = store.read_sound(entry.key)
        if content is not None and not signing.is_accepted(content, ENTRY, content["sha256"]):
            fields = (str(content["data"].get(name, "")) for name in ("job", "stage", "maker"))
            found.append(Unsigned(entry.folder / ENTRY, content, (ENTRY,), *fields))
    return found + [Unsigned(path, content, kind) for path, content, kind in store.notes.list_unsigned()]


def describe(found: list[Unsigned]) -> list[str]:
    """Return a line for each job and maker of unsigned results, and one for all notes."""
    stages: dict[tuple[str, str], list[str]] = {}
    for each in found:
        if each.stage:
            stages.setdefault((each.job, each.maker), []).append(each.stage)
    lines = [f"the results of {json.dumps(job)}, made by {json.dumps(maker)}: {', '.join(sorted(names))}"
             for (job, maker), names in sorted(stages.items())]
    notes = sum(not each.stage for each in found)
    return lines + ([f"{notes} notes, which name the results of jobs"] if notes else [])
