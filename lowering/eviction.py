"""Keeps the store within a budget: what was used longest ago goes first, and what no entry needs any more goes with it."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lowering import files
from lowering.store import DRAFTS, Entry, Store

DAY = 86400.0


@dataclass(frozen=True)
class Evicted:
    """What `evict` removed, and the bytes of entries and weights before and after. Bytes that runs share stay on disk with them."""

    entries: tuple[Entry, ...]
    weights: tuple[Path, ...]
    before: int
    after: int


def evict(store: Store, budget: int, keep: Collection[str] = (), runs: Path | None = None, idle: float = 3600.0) -> Evicted:
    """Remove entries, least recently used first, until at most `budget` bytes are left.

    keep: keys that stay; so does what was used in the last `idle` seconds, as a job may be about to read it. runs: the folder of runs,
    whose packaged programs need their weights. Raises OSError.
    """
    found = [(entry, used, entry.bytes) for entry, used in sorted(store.entries(), key=lambda pair: pair[1])]
    weights = {path: files.size(path) for path in store.weights.glob("*/*.safetensors")}
    needed = Counter(entry.data["weights"] for entry, _, _ in found) + Counter(_packaged(runs) if runs else ())
    total = before = sum(size for _, _, size in found) + sum(weights.values())
    removed: list[Entry] = []
    gone: list[Path] = []
    for path in [path for path in weights if path.stem not in needed]:
        total -= _unlink(path, weights, gone)
    for entry, used, size in found:
        if total <= budget:
            break
        if entry.key in keep or time.time() - used < idle:
            continue
        store.discard(entry.key)
        removed.append(entry)
        total -= size
        held = entry.data["weights"]
        needed[held] -= 1
        if held and not needed[held] and (path := store.weights_file(held)) in weights:
            total -= _unlink(path, weights, gone)
    _sweep(store.root / DRAFTS)
    return Evicted(tuple(removed), tuple(gone), before, total)


def _unlink(path: Path, sizes: Mapping[Path, int], gone: list[Path]) -> int:
    path.unlink(missing_ok=True)
    gone.append(path)
    return sizes[path]


def _packaged(runs: Path) -> Iterator[str]:
    """The digests of the weights that packaged programs of the runs need."""
    for path in runs.glob("*/jobs/*/signature.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            yield files.read(path)["weights"]["sha256"]


def _sweep(drafts: Path) -> None:
    """Remove what killed processes left half-written a day or more ago."""
    for path in drafts.glob("*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY:
                shutil.rmtree(path)
