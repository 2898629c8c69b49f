"""Machine code of compiled programs, kept between jobs and runs in this user's state folder, by digest of the compiler's input.

It is no part of a store, whose contents may come from somebody else and are never executed.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from lowering import trust
from lowering.store.sealed import Sealed

MOST_BYTES = 512 << 20  # of the folder; the least recently used executables are removed

_kept: ContextVar[Sealed | None] = ContextVar("executables", default=None)


@contextmanager
def keep(is_wanted: bool = True) -> Iterator[None]:
    """Take executables from this user's state folder, and add new ones, inside the block, if wanted."""
    try:
        held = Sealed(locate()) if is_wanted else None
    except RuntimeError:  # no home
        held = None
    token = _kept.set(held)
    try:
        yield
    finally:
        _kept.reset(token)
        if held is not None and held.written:
            held.trim(MOST_BYTES)


def find_folder() -> Sealed | None:
    """Return where executables are kept, or None outside of `keep`."""
    return _kept.get()


def locate() -> Path:
    """Return the folder of executables. Raises RuntimeError if the user has no home."""
    return trust.locate_key().with_name("executables")


def compute_key(program: bytes, compiler: str, options: Mapping[str, object]) -> str:
    """Return the key of an executable: a digest of the program, the compiler's version and options, and the processor."""
    parts = [compiler, repr(sorted(options.items())), os.environ.get("XLA_FLAGS", ""), *describe_processor()]
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape") + b"\0")
    digest.update(program)
    return digest.hexdigest()


@cache
def describe_processor() -> tuple[str, ...]:
    """Describe the machine that code is compiled for: its architecture, the features and the number of its processors."""
    lines: list[str] = []
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        lines = [line for line in first.splitlines() if line.partition("\t")[0].rstrip() in ("model name", "flags", "Features", "CPU part")]
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return platform.machine(), str(count), *lines
