"""Eviction at the URL that a store mirrors, which machines without a common disk share. Whoever misses a removed result rebuilds it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from lowering import trust
from lowering.store import mirror
from lowering.store.entries import DAY, ENTRIES, ENTRY, Store
from lowering.store.eviction import Held
from lowering.store.mirror import Listed


class There:
    """The counterpart, at a URL, of a store and a folder of runs.

    The time of last use of an entry is that of its entry.json, which machines that use the entry upload again, at most once a day. Ages are
    measured by the clock of the URL.
    """

    def __init__(self, store: Store, runs: Path):
        self.store, self.runs, self.now = store, runs, mirror.read_clock(store.root)
        self.folders: dict[str, dict[str, Listed]] = defaultdict(dict)  # by key: the files of an entry
        for name, listed in mirror.list_files(store.root / ENTRIES).items():
            _, key, file = (*name.split("/", 2), "", "")[:3]
            if trust.is_digest(key):
                self.folders[key][file] = listed

    def entries(self) -> Mapping[str, Held]:
        whole = {key: self._locate(key) / ENTRY for key, listed in self.folders.items() if ENTRY in listed}
        contents = mirror.read_all(list(whole.values()))
        return {key: Held(sum(listed.size for listed in self.folders[key].values()), self._measure_age(self.folders[key][ENTRY]),
                          _read_weights_digest(contents[path]))
                for key, path in whole.items() if path in contents}

    def weights(self) -> Mapping[str, Held]:
        listed = mirror.list_files(self.store.weights)
        return {Path(name).stem: Held(found.size, self._measure_age(found)) for name, found in listed.items()
                if name.endswith(".safetensors") and trust.is_digest(Path(name).stem)}

    def list_packaged(self) -> Iterator[str]:
        named = [self.runs / name for name in mirror.list_files(self.runs) if name.endswith("/signature.json")]
        for content in mirror.read_all(named).values():
            with suppress(ValueError, KeyError, TypeError):
                yield json.loads(content)["weights"]["sha256"]

    def discard(self, key: str) -> None:
        """Remove an entry, beginning with entry.json, whose presence marks the entry as complete."""
        mirror.remove(self._locate(key) / ENTRY)
        mirror.remove_all([self._locate(key) / name for name in self.folders[key] if name != ENTRY])

    def forget(self, digest: str) -> None:
        mirror.remove(self.store.weights_file(digest))

    def sweep(self) -> None:
        for key, listed in self.folders.items():
            if ENTRY not in listed and all(self._measure_age(found) > DAY for found in listed.values()):
                mirror.remove_all([self._locate(key) / name for name in listed])

    def _measure_age(self, listed: Listed) -> float:
        return max(0.0, self.now - listed.modified)

    def _locate(self, key: str) -> Path:
        return self.store.root / ENTRIES / key[:2] / key


def _read_weights_digest(content: bytes) -> str | None:
    """Return the digest of the weights that an entry needs, or None if the entry is damaged."""
    try:
        found = json.loads(content)["data"]["weights"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
