"""A folder here that is the copy of one at an fsspec URL (`s3://bucket/prefix`): what is made here is put there, what is wanted is brought.

The copy's root holds origin.json with the URL; every file below it has its counterpart there. Where there is no such mark nothing
is done. Whatever goes wrong on the way is an OSError.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lowering import files

MARK = "origin.json"
_NUMBERS = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}


def mark(root: Path, url: str) -> None:
    """Make `root` the copy of `url`."""
    if url_of(root) != url:
        root.mkdir(parents=True, exist_ok=True)
        files.write(root / MARK, {"url": url})


def url_of(path: Path) -> str | None:
    """The URL of which `path`, or a folder that it lies in, is a copy; with the rest of the path."""
    found = _counterpart(path)
    return found.url if found else None


def publish(paths: Sequence[Path]) -> None:
    """Put files to where they belong; the last one when all others are there, so that it can stand for them."""
    for group in (paths[:-1], paths[-1:]):
        if group and (twins := [twin for path in group if (twin := _counterpart(path))]):
            with _errors(twins[0].url), twins[0].opened() as system:
                system.put([str(path) for path in group], [twin.path for twin in twins])


def bring(path: Path, into: Path | None = None) -> bool:
    """Get a file from where it belongs, whole or not at all; False when it is not there either. into: where it goes (default: `path`)."""
    twin = _counterpart(path)
    if twin is None:
        return False
    target = into or path
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.drafted(target) as draft, _errors(twin.url), twin.opened() as system:
            system.get_file(twin.path, str(draft))
    except FileNotFoundError:
        return False
    return True


@dataclass(frozen=True)
class Listed:
    """A file at a URL: its bytes, and when it was put there (seconds since the epoch)."""

    size: int
    modified: float


def names(folder: Path) -> list[str]:
    """The files below the counterpart of `folder`, relative to it."""
    return sorted(listing(folder))


def listing(folder: Path) -> dict[str, Listed]:
    """The same, with what is known of each."""
    twin = _counterpart(folder)
    if twin is None:
        return {}
    with _errors(twin.url), twin.opened() as system:
        try:
            found = system.find(twin.path, detail=True)
        except FileNotFoundError:
            return {}
        return {str(name).removeprefix(twin.path).lstrip("/"): Listed(int(told["size"]), _modified(system, name, told))
                for name, told in found.items()}


def read_all(paths: Sequence[Path]) -> dict[Path, bytes]:
    """The bytes of the counterparts of files of one copy, of those that are there: many at a time."""
    twins = {twin.path: path for path in paths if (twin := _counterpart(path))}
    if not twins:
        return {}
    first = _counterpart(paths[0])
    assert first is not None
    with _errors(first.url), first.opened() as system:
        told = system.cat(list(twins), on_error="return")
        missing = [error for error in told.values() if isinstance(error, Exception) and not isinstance(error, FileNotFoundError)]
        if missing:
            raise missing[0]
        return {twins[name]: content for name, content in told.items() if isinstance(content, bytes)}


def read(path: Path) -> bytes | None:
    """The bytes of the counterpart; None when it is not there."""
    twin = _counterpart(path)
    if twin is None:
        return None
    with _errors(twin.url), twin.opened() as system:
        try:
            return bytes(system.cat_file(twin.path))
        except FileNotFoundError:
            return None


def exists(path: Path) -> bool:
    twin = _counterpart(path)
    if twin is None:
        return False
    with _errors(twin.url), twin.opened() as system:
        return bool(system.exists(twin.path))


def remove(path: Path) -> None:
    twin = _counterpart(path)
    if twin is not None:
        with _errors(twin.url), twin.opened() as system:
            if system.exists(twin.path):
                system.rm_file(twin.path)


def remove_all(paths: Sequence[Path]) -> None:
    """Remove the counterparts of files of one copy that are there."""
    for path in paths:
        remove(path)


def touch(path: Path, older: float) -> None:
    """Put a small file again where it was put more than `older` seconds ago: whoever frees the URL sees that it is in use."""
    twin = _counterpart(path)
    if twin is None:
        return
    with _errors(twin.url), twin.opened() as system:
        if time.time() - _modified(system, twin.path, system.info(twin.path)) > older:
            system.put_file(str(path), twin.path)


@dataclass(frozen=True)
class _Twin:
    """A file or folder at a URL; path: as its file system calls it."""

    url: str

    @property
    def path(self) -> str:
        import fsspec  # here: most jobs have no URL

        return str(fsspec.get_filesystem_class(self.url.partition("://")[0])._strip_protocol(self.url))

    @contextmanager
    def opened(self) -> Iterator[Any]:
        import fsspec

        yield fsspec.filesystem(self.url.partition("://")[0], use_listings_cache=False)  # other machines write there too


def _modified(system: Any, name: str, told: Mapping[str, Any]) -> float:
    """When a file was put there, in seconds since the epoch: as a listing tells it, or asked for."""
    found = next((told[key] for key in ("LastModified", "last_modified", "updated", "mtime", "modified") if told.get(key)), None)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    if found is None:
        found = system.modified(name)
    return found if isinstance(found, float) else float(found.timestamp())


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """The clients of object stores raise kinds of their own; here they are errors of a disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        number = next((number for kind, number in _NUMBERS.items() if isinstance(error, kind)), errno.EIO)
        raise OSError(number, str(error), url) from error
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}", url) from error


def _counterpart(path: Path) -> _Twin | None:
    root = _root(path)
    if root is None:
        return None
    folder, url = root
    name = path.relative_to(folder).as_posix()
    return _Twin(url if name == "." else f"{url}/{name}")


def _root(path: Path) -> tuple[Path, str] | None:
    """The copy that `path` lies in, and its URL."""
    for folder in (path, *path.parents):
        if folder not in _marked:
            try:
                _marked[folder] = str(files.read(folder / MARK)["url"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return folder, _marked[folder]
    return None


_marked: dict[Path, str] = {}
