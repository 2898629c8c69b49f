"""Files of this user's state folder, by digest of the inputs from which their content was computed, so that it is computed once.

    FOLDER/ab/abcdef…   SHA-256 of the rest (32 bytes), and the content

They are no part of a store, whose contents may come from somebody else.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lowering import files

_SEAL = hashlib.sha256().digest_size


@dataclass
class Sealed:
    """A folder of contents. written: whether this process has added any."""

    root: Path
    written: bool = False

    def find(self, key: str) -> bytes | None:
        """Return the content of `key`, or None if there is none, it is damaged, or another user could have written it."""
        path = self._locate(key)
        with suppress(OSError), files.open_regular(path) as file:
            status = os.fstat(file.fileno())
            content = file.read() if status.st_uid == os.geteuid() and not status.st_mode & 0o022 else b""
            if hashlib.sha256(content[_SEAL:]).digest() == content[:_SEAL]:
                os.utime(path)
                return content[_SEAL:]
        return None

    def put(self, key: str, content: bytes) -> None:
        """Keep a content. A folder that cannot be written is no error: the next process then computes it again."""
        path = self._locate(key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with files.replace_atomically(path) as draft:
                draft.write_bytes(hashlib.sha256(content).digest() + content)
                draft.chmod(0o600)
            self.written = True

    def trim(self, most: int) -> None:
        """Remove the least recently used contents until at most `most` bytes are left.

        Those dated in the future were not used since the clock was set back.
        """
        held, now = [], time.time()
        for path in self.root.glob("*/*"):
            with suppress(OSError):  # another process was faster
                status = path.stat()
                held.append((status.st_mtime if status.st_mtime <= now else 0.0, status.st_size, path))
        left = sum(size for _, size, _ in held)
        for _, size, path in sorted(held):
            if left <= most:
                break
            with suppress(OSError):
                path.unlink()
            left -= size

    def _locate(self, key: str) -> Path:
        return self.root / key[:2] / key
