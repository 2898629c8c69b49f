"""Eviction: keeps a store within a budget by removing the least recently used entries, and the weights that no entry needs any more.

The same policy applies to a local store (`Here`) and to the URL that it mirrors (`There`, lowering.store.mirror_eviction).
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lowering import clock, files, trust
from lowering.store.entries import DAY, DRAFTS, ENTRY, Store


@dataclass(frozen=True)
class Held:
    """Something in a store.

    age: seconds since its last use; weights: for an entry, the digest of the weights it needs.
    """

    size: int
    age: float
    weights: str | None = None


class Shelf(Protocol):
    """A store as eviction sees it. Each method may raise OSError."""

    def entries(self) -> Mapping[str, Held]:
        """Return the entries by key."""

    def weights(self) -> Mapping[str, Held]:
        """Return the weights by digest."""

    def list_packaged(self) -> Iterator[str]:
        """Iterate over the digests of the weights that packaged programs of runs need."""

    def discard(self, key: str) -> None: ...

    def forget(self, digest: str) -> None:
        """Remove weights by digest."""

    def sweep(self) -> None:
        """Remove partial files that killed processes left a day or more ago."""


@dataclass(frozen=True)
class Evicted:
    """Result of `evict`: the removed keys and digests, and the bytes of entries and weights before and after.

    Bytes that a local store shares with runs stay on disk as long as the runs exist.
    """

    entries: tuple[str, ...]
    weights: tuple[str, ...]
    before: int
    after: int


def evict(shelf: Shelf, budget: int, keep: Collection[str] = (), idle: float = 3600.0) -> Evicted:
    """Remove the least recently used entries until at most `budget` bytes are left.

    keep: keys that must stay. Entries used in the last `idle` seconds stay too, because a job may be about to read them. Raises OSError.
    """
    entries, weights = shelf.entries(), dict(shelf.weights())
    needed = Counter(held.weights for held in entries.values()) + Counter(shelf.list_packaged())
    total = before = sum(held.size for held in (*entries.values(), *weights.values()))
    removed: list[str] = []
    gone: list[str] = []

    def forget(digest: str | None) -> int:
        if digest is None or needed[digest] > 0 or digest not in weights or weights[digest].age < idle:
            return 0
        shelf.forget(digest)
        gone.append(digest)
        return weights.pop(digest).size

    for digest in list(weights):
        total -= forget(digest)
    for key, held in sorted(entries.items(), key=lambda pair: -pair[1].age):
        if total <= budget:
            break
        if key in keep or held.age < idle:
            continue
        shelf.discard(key)
        removed.append(key)
        needed[held.weights] -= 1
        total -= held.size + forget(held.weights)
    shelf.sweep()
    return Evicted(tuple(removed), tuple(gone), before, total)


class Here:
    """A local store. runs: the folder of runs, whose packaged programs need their weights.

    calendars: the present time, by each calendar that may have dated files of the store (see `lowering.clock`).
    """

    def __init__(self, store: Store, runs: Path | None = None, calendars: Sequence[float] = ()):
        self.store, self.runs = store, runs
        self.calendars = (_read_disk_clock(store.root), *calendars)

    def entries(self) -> Mapping[str, Held]:
        found = {}
        for entry, _ in self.store.entries():
            with suppress(OSError):  # another process was faster
                found[entry.key] = Held(entry.bytes, clock.measure_file_age(entry.folder / ENTRY, self.calendars), entry.data["weights"])
        return found

    def weights(self) -> Mapping[str, Held]:
        found = {}
        for path in self.store.weights.glob("*/*.safetensors"):
            if trust.is_digest(path.stem) and not path.parent.is_symlink():
                with suppress(OSError):
                    found[path.stem] = Held(files.measure_size(path), clock.measure_file_age(path, self.calendars))
        return found

    def list_packaged(self) -> Iterator[str]:
        for path in self.runs.glob("*/jobs/*/signature.json") if self.runs else ():
            with suppress(OSError, ValueError, KeyError, TypeError):
                yield files.read(path)["weights"]["sha256"]

    def discard(self, key: str) -> None:
        self.store.discard(key)

    def forget(self, digest: str) -> None:
        self.store.weights_file(digest).unlink(missing_ok=True)

    def sweep(self) -> None:
        for path in (self.store.root / DRAFTS).glob("*"):
            with suppress(OSError):
                if clock.measure_file_age(path, self.calendars) > DAY and not _is_in_work(path.name):
                    shutil.rmtree(path)


def _is_in_work(draft: str) -> bool:
    """Return whether a process of this machine that works on a draft lives."""
    found = re.match(rf"(?:{re.escape(socket.gethostname())}|trash)-(\d+)-", draft)
    return found is not None and Path("/proc", found[1]).exists()


def _read_disk_clock(folder: Path) -> float:
    """Return the present time by the clock that dates files in `folder`: that of the server, where another machine has the disk."""
    if not folder.is_dir():
        return time.time()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as file:
        return os.fstat(file.fileno()).st_mtime
