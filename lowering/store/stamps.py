"""Files and folders that were read, and whether they are still the same."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

FRESH = 5.0  # seconds after which the disk is looked at again

Stamp = tuple[int, int]


class Stamps:
    """Times and sizes of files and folders. generation: how often any of them was found changed."""

    def __init__(self) -> None:
        self.generation = 0
        self._known: dict[Path, Stamp | None] = {}
        self._looked = time.monotonic()

    def read(self, path: Path) -> Stamp | None:
        """Return the time of the last change and the size of a file or folder, None if there is none, and watch it from now on."""
        stamp = _read(path)
        if self._known.get(path, stamp) != stamp:
            self.renew()
        self._known[path] = stamp
        return stamp

    def count_changes(self) -> int:
        """Return the generation. What was read is compared with the disk every FRESH seconds."""
        if (now := time.monotonic()) - self._looked >= FRESH:
            self._looked = now
            self.look()
        return self.generation

    def look(self) -> None:
        """Compare the stamps of the files read so far with the disk."""
        if any(_read(path) != stamp for path, stamp in list(self._known.items())):
            self.renew()

    def renew(self) -> None:
        """Begin a generation: facts derived from the files read so far are no longer valid."""
        self._known.clear()
        self.generation += 1


def _read(path: Path) -> Stamp | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_mtime_ns, status.st_size
    return None
