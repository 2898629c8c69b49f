"""Machine code of compiled programs, kept between jobs and runs in this user's state folder, by digest of what it was compiled from.

    $SHAPELINE_STATE/executables/ab/abcdef…   SHA-256 of the rest (32 bytes), and the executable as its compiler serialized it

It is no part of a store: what a store holds may come from somebody else and is never executed.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lowering import files, trust

MOST_BYTES = 512 << 20  # of the folder; the least recently used executables are removed
_SEAL = hashlib.sha256().digest_size


@dataclass
class Executables:
    """A folder of executables. written: whether this process has added any."""

    root: Path
    written: bool = False

    def find(self, key: str) -> bytes | None:
        """Return the executable of `key`, or None if there is none, it is damaged, or another user could have written it."""
        path = self._locate(key)
        with suppress(OSError), files.open_regular(path) as file:
            status = os.fstat(file.fileno())
            content = file.read() if status.st_uid == os.geteuid() and not status.st_mode & 0o022 else b""
            if hashlib.sha256(content[_SEAL:]).digest() == content[:_SEAL]:
                os.utime(path)
                return content[_SEAL:]
        return None

    def put(self, key: str, executable: bytes) -> None:
        """Keep an executable. A folder that cannot be written is no error: the next process then compiles again."""
        path = self._locate(key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with files.replace_atomically(path) as draft:
                draft.write_bytes(hashlib.sha256(executable).digest() + executable)
                draft.chmod(0o600)
            self.written = True

    def trim(self, most: int = MOST_BYTES) -> None:
        """Remove the least recently used executables until at most `most` bytes are left."""
        held = []
        for path in self.root.glob("*/*"):
            with suppress(OSError):  # another process was faster
                status = path.stat()
                held.append((status.st_mtime, status.st_size, path))
        left = sum(size for _, size, _ in held)
        for _, size, path in sorted(held):
            if left <= most:
                break
            with suppress(OSError):
                path.unlink()
            left -= size

    def _locate(self, key: str) -> Path:
        return self.root / key[:2] / key


_kept: ContextVar[Executables | None] = ContextVar("executables", default=None)


@contextmanager
def keep(is_wanted: bool = True) -> Iterator[None]:
    """Take executables from this user's state folder, and add new ones, inside the block, if wanted."""
    try:
        held = Executables(locate()) if is_wanted else None
    except RuntimeError:  # no home
        held = None
    token = _kept.set(held)
    try:
        yield
    finally:
        _kept.reset(token)
        if held is not None and held.written:
            held.trim()


def find_folder() -> Executables | None:
    """Return where executables are kept, or None outside of `keep`."""
    return _kept.get()


def locate() -> Path:
    """Return the folder of executables. Raises RuntimeError if the user has no home."""
    return trust.locate_key().with_name("executables")


def compute_key(program: bytes, compiler: str, options: Mapping[str, object]) -> str:
    """Return the key of an executable: a digest of the program, the compiler's version and options, and the processor."""
    parts = [compiler, repr(sorted(options.items())), os.environ.get("XLA_FLAGS", ""), *_describe_processor()]
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape") + b"\0")
    digest.update(program)
    return digest.hexdigest()


@cache
def _describe_processor() -> tuple[str, ...]:
    """Return what machine code depends on: the architecture, the features of the first processor, and the number of those usable here."""
    lines: list[str] = []
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        lines = [line for line in first.splitlines() if line.partition("\t")[0].rstrip() in ("model name", "flags", "Features", "CPU part")]
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return platform.machine(), str(count), *lines
