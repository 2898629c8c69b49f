"""IR as text files, plain or, where they are long, compressed (zstd, `.zst`): the one place that writes the second form and reads both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from lowering import files

SUFFIX = ".zst"
TEXT = (".py", ".ts", ".mlir", ".diff")  # how levels are written for people; the binary forms are compact already
LARGE = 1 << 20  # bytes of a text that is compressed, where nothing else is asked for
LEVEL = 1  # zstd's: on IR it is faster than 3 and smaller too; 6 takes five times the time for a tenth of the size. Threads never paid
_HEADER = 18  # bytes that a frame's header has at most


def compacted(path: Path, from_bytes: int | None = LARGE) -> Path:
    """`path`; or, for a text of at least `from_bytes` (None: never), the compressed file that now stands in its place. Raises OSError."""
    if from_bytes is None or path.suffix not in TEXT or (length := path.stat().st_size) < from_bytes:
        return path
    target = path.with_name(path.name + SUFFIX)
    with files.drafted(target) as draft, path.open("rb") as plain, draft.open("wb") as packed:
        zstandard.ZstdCompressor(LEVEL, write_checksum=True).copy_stream(plain, packed, size=length)
    path.unlink()
    return target


def name(path: Path) -> str:
    """The name of the text: that of the file without `.zst`."""
    return path.name.removesuffix(SUFFIX)


def kind(path: Path) -> str:
    """The ending of the text: `.mlir` for `04-stablehlo.stablehlo.mlir.zst`."""
    return Path(name(path)).suffix


def size(path: Path) -> int:
    """Bytes of the text, in either form. Raises OSError; ValueError when a compressed file is damaged."""
    if path.suffix != SUFFIX:
        return path.stat().st_size
    with path.open("rb") as packed, _told(path):
        return zstandard.frame_content_size(packed.read(_HEADER))


def read(path: Path) -> str:
    """The text in either form; what is not UTF-8 in it is replaced. Raises OSError; ValueError when a compressed file is damaged."""
    if path.suffix != SUFFIX:
        return path.read_text(encoding="utf-8", errors="replace")
    with _told(path):
        return zstandard.ZstdDecompressor().decompress(path.read_bytes()).decode("utf-8", "replace")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except zstandard.ZstdError as error:
        raise ValueError(f"{path} is damaged: {error}; run the job again") from error
