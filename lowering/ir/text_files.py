"""IR as text files, plain or compressed (zstd, `.zst`). Only this module writes the compressed form, and it reads both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from lowering import files

SUFFIX = ".zst"
TEXT = (".py", ".ts", ".mlir", ".diff")  # suffixes of human-readable levels; binary forms are already compact
LARGE = 1 << 20  # default size in bytes from which texts are compressed
LEVEL = 1  # of zstd: on IR it is both faster and smaller than 3; 6 takes five times as long to save a tenth. Threads never helped
MOST = 1 << 30  # bytes of a text that is read: a few compressed bytes may claim, or hold, more than the memory
_HEADER = 18  # maximum size of a frame header in bytes


def compact(path: Path, from_bytes: int | None = LARGE) -> Path:
    """Compress a text of at least `from_bytes` (None: never). Return its path, which is `path` if it was not compressed. Raises OSError."""
    if from_bytes is None or path.suffix not in TEXT or (length := path.stat().st_size) < from_bytes:
        return path
    target = path.with_name(path.name + SUFFIX)
    with files.replace_atomically(target) as draft, path.open("rb") as plain, draft.open("wb") as packed:
        zstandard.ZstdCompressor(LEVEL, write_checksum=True).copy_stream(plain, packed, size=length)
    path.unlink()
    return target


def text_name(path: Path) -> str:
    """Return the name of the text, which is that of the file without `.zst`."""
    return path.name.removesuffix(SUFFIX)


def text_suffix(path: Path) -> str:
    """Return the suffix of the text: `.mlir` for `04-stablehlo.stablehlo.mlir.zst`."""
    return Path(text_name(path)).suffix


def text_size(path: Path) -> int:
    """Return the uncompressed size of the text in bytes. Raises OSError, or ValueError if a compressed file is damaged."""
    if path.suffix != SUFFIX:
        return path.stat().st_size
    with path.open("rb") as packed, _convert_errors(path):
        return zstandard.frame_content_size(packed.read(_HEADER))


def read_text(path: Path) -> str:
    """Read the text in either form. Invalid UTF-8 is replaced.

    Raises OSError, or ValueError if a compressed file is damaged or the text larger than MOST.
    """
    is_plain = path.suffix != SUFFIX
    if (size := text_size(path)) > MOST:
        fix = "open it with another program" if is_plain else "decompress it: zstd -dc FILE"
        raise ValueError(f"{path} has {size:,} bytes of text, more than the {MOST:,} that are read; {fix}")
    if is_plain:
        return path.read_text(encoding="utf-8", errors="replace")
    with _convert_errors(path):
        return zstandard.ZstdDecompressor().decompress(path.read_bytes()).decode("utf-8", "replace")


@contextmanager
def _convert_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except zstandard.ZstdError as error:
        raise ValueError(f"{path} is damaged: {error}; run the job again") from error
