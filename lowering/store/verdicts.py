"""Verdicts of comparisons that agreed, kept in this user's state folder by digest of everything that may change them.

A verdict is data: which results of a program were compared with those of a reference, and how far they were apart. What eager costs at some
sizes is kept beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from lowering import files, trust
from lowering.store import executables, keys
from lowering.store.digests import compute_digest
from lowering.store.sealed import Sealed

MOST_BYTES = 64 << 20  # of the folder; the least recently used verdicts are removed
_NEEDED = ("model", "weights", "devices")  # parts of the key of a stage that compares with the model


@dataclass(frozen=True)
class Verdicts:
    """The verdicts that a stage may take over and adds. common: what all of its comparisons depend on. maker: `run/job`, for the record."""

    held: Sealed
    common: str
    maker: str

    def compute_key(self, parts: Iterable[bytes]) -> str:
        """Return the key of a comparison. parts: the program, inputs, reference, and all else that it depends on."""
        digest = hashlib.sha256(self.common.encode())
        for part in parts:
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()

    def find(self, key: str) -> dict[str, Any] | None:
        content = self.held.find(key)
        return None if content is None else dict(json.loads(content))

    def put(self, key: str, verdict: Mapping[str, Any]) -> None:
        self.held.put(key, files.encode(files.encode_json({**verdict, "maker": self.maker}, indent=None)))


_kept: ContextVar[Verdicts | None] = ContextVar("verdicts", default=None)


@contextmanager
def keep(parts: Mapping[str, Any] | None, maker: str) -> Iterator[None]:
    """Take over verdicts inside the block, and add new ones.

    parts: those of the key of the stage that compares. Without them, or where they do not describe the model, no verdict is taken over.
    """
    held = None
    if parts is not None and executables.find_folder() is not None and all(name in parts for name in _NEEDED):
        held = Verdicts(Sealed(trust.locate_key().with_name("verdicts")), _describe_common(parts), maker)
    token = _kept.set(held)
    try:
        yield
    finally:
        _kept.reset(token)
        if held is not None and held.held.written:
            held.held.trim(MOST_BYTES)


def current() -> Verdicts | None:
    """Return the verdicts of the stage that runs, or None outside of `keep`."""
    return _kept.get()


def _describe_common(parts: Mapping[str, Any]) -> str:
    """Return a digest of the processor and of a stage's key without its program and the ranges of the model.

    A comparison depends on the program and the ranges by the program that runs, the inputs and the reference alone, which have digests.
    """
    rest = {name: part for name, part in parts.items() if name not in ("input", "levels", "interface", "model")}
    return compute_digest([rest, keys.drop_ranges(parts["model"]), executables.describe_processor()])
