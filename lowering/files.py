"""JSON files written atomically: under a temporary name, then renamed."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST = 1 << 28  # bytes of a JSON file that is read: a sparse file of a few blocks may claim more than the memory


def encode_json(data: Any, indent: int | None = 1) -> str:
    """Encode `data` as strict JSON, the same way for every file.

    `nan` and `inf` become strings. Values without a JSON form become their repr.
    """
    try:
        text = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False, default=convert_container)
        text.encode("utf-8")
    except (TypeError, ValueError):  # a non-string key, nan or inf, or a lone surrogate: rare, so only then is all the data walked
        return json.dumps(make_strict(data), indent=indent, ensure_ascii=False, allow_nan=False, default=repr)
    return text


def encode(text: str) -> bytes:
    """Encode `text` as UTF-8. Lone surrogates, which UTF-8 cannot represent, are escaped."""
    return text.encode("utf-8", "backslashreplace")


def escape_surrogates(text: str) -> str:
    return encode(text).decode("utf-8")


def write(path: Path, data: Any) -> None:
    """Write `data` as JSON to `path`, atomically: readers see the old file or the complete new one. Raises OSError."""
    write_bytes(path, encode(encode_json(data) + "\n"))


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    """Write `content` to `path` atomically. Raises OSError.

    durable: if False, skip fsync. The content may then be lost or torn when the machine stops, so its readers must be able to detect that.
    """
    with replace_atomically(path) as draft, draft.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. It replaces `path` when the block exits, and is deleted if the block raises. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    draft.unlink(missing_ok=True)  # it may be a link, which a write would follow
    try:
        yield draft
        draft.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename == str(draft):
            error.filename = str(path)  # the name that its readers know
        draft.unlink(missing_ok=True)
        raise


def read(path: Path) -> Any:
    """Read a JSON file, which must be a regular file and not a link, of MOST bytes at most. Raises OSError or ValueError."""
    with open_regular(path) as file:
        content = file.read(MOST + 1)
    if len(content) > MOST:
        raise ValueError(f"has {measure_size(path):,} bytes, more than the {MOST:,} that are read")
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def read_text(path: Path) -> str:
    """Return the text of a file, empty if it cannot be read; bytes that are not UTF-8 are replaced."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file to read its bytes. Raises OSError; links are not followed, and pipes and devices are not waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def open_lock(path: Path) -> int:
    """Open a file for `flock`, which is made if it is missing, and return its descriptor. Raises OSError, as `open_regular` does."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
    except BaseException:
        os.close(handle)
        raise
    return handle


def check_regular(path: Path) -> None:
    """Raise OSError unless `path` is a regular file: for libraries that open a path themselves, follow links, and wait for pipes."""
    open_regular(path).close()


def measure_size(path: Path) -> int:
    """Return the size of a file in bytes, or 0 if it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class Tail:
    """Reads a growing file of JSON lines.

    An incomplete last line is left for the next read. If the file shrinks, reading restarts at its beginning.
    """

    def __init__(self, path: Path):
        self.path, self.read = path, 0

    def lines(self) -> Iterator[Any]:
        now = measure_size(self.path)
        if now < self.read:
            self.read = 0
        if now <= self.read:
            return
        with self.path.open("rb") as file:
            file.seek(self.read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.read += len(line)
                yield json.loads(line)


def convert_container(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): value for key, value in data.items()}
    return list(data) if isinstance(data, set | frozenset) else repr(data)


def make_strict(data: Any) -> Any:
    if isinstance(data, str):
        return escape_surrogates(data)
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    if isinstance(data, Mapping):
        return {escape_surrogates(str(key)): make_strict(value) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        return [make_strict(value) for value in data]
    return data
