"""A local folder that mirrors one at an fsspec URL (`s3://bucket/prefix`): new files are uploaded, missing files are fetched.

The root of a mirror holds origin.json with the URL, sealed by this user: a folder of somebody else is never a mirror. Each file below the
root has a counterpart at the URL. For paths outside of a mirror, all functions do nothing. All errors are raised as OSError, except
Untrusted for names at the URL that lead out of the folder.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lowering import files, trust

MARK = "origin.json"
_NUMBERS = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}


def mark_mirror(root: Path, url: str) -> None:
    """Make `root` a mirror of `url`."""
    if find_url(root) != url:
        root.mkdir(parents=True, exist_ok=True)
        files.write(root / MARK, trust.seal({"url": url, "root": str(root.resolve())}, MARK))
        _marked[root] = url  # also where no seal can be made


def find_url(path: Path) -> str | None:
    """Return the URL of the counterpart of `path`, or None if it is not inside a mirror."""
    found = _find_counterpart(path)
    return found.url if found else None


def upload(paths: Sequence[Path]) -> None:
    """Upload files. The last one is uploaded after all others exist, so its presence proves that they are complete."""
    for group in (paths[:-1], paths[-1:]):
        if group and (twins := [twin for path in group if (twin := _find_counterpart(path))]):
            with _convert_errors(twins[0].url), twins[0].open_system() as system:
                system.put([str(path) for path in group], [twin.path for twin in twins])


def fetch(path: Path, into: Path | None = None) -> bool:
    """Fetch a file, atomically. Return whether it exists at the URL. into: destination (default: `path`)."""
    twin = _find_counterpart(path)
    if twin is None:
        return False
    target = into or path
    if into is None:
        trust.locate_inside(*_split(path), twin.url)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.replace_atomically(target) as draft, _convert_errors(twin.url), twin.open_system() as system:
            system.get_file(twin.path, str(draft))
    except FileNotFoundError:
        return False
    return True


@dataclass(frozen=True)
class Listed:
    """Metadata of a file at a URL: its size in bytes, and when it was uploaded (seconds since the epoch)."""

    size: int
    modified: float


def list_names(folder: Path) -> list[str]:
    """List the files below the counterpart of `folder`, by relative path. Raises Untrusted if a name leads out of the folder."""
    return sorted(list_files(folder))


def list_files(folder: Path) -> dict[str, Listed]:
    """Return the same files with their metadata."""
    twin = _find_counterpart(folder)
    if twin is None:
        return {}
    with _convert_errors(twin.url), twin.open_system() as system:
        try:
            found = system.find(twin.path, detail=True)
        except FileNotFoundError:
            return {}
        listed = {str(name).removeprefix(twin.path).lstrip("/"): Listed(int(details["size"]), _read_upload_time(system, name, details))
                  for name, details in found.items()}
    for name in listed:
        trust.check_name(name, twin.url)
    return listed


def read_all(paths: Sequence[Path]) -> dict[Path, bytes]:
    """Read the counterparts of files of one mirror, many at a time. Files that do not exist are left out."""
    twins = {twin.path: path for path in paths if (twin := _find_counterpart(path))}
    if not twins:
        return {}
    first = _find_counterpart(paths[0])
    assert first is not None
    with _convert_errors(first.url), first.open_system() as system:
        contents = system.cat(list(twins), on_error="return")
        missing = [error for error in contents.values() if isinstance(error, Exception) and not isinstance(error, FileNotFoundError)]
        if missing:
            raise missing[0]
        return {twins[name]: content for name, content in contents.items() if isinstance(content, bytes)}


def read(path: Path) -> bytes | None:
    """Read the counterpart of a file. Return None if it does not exist."""
    twin = _find_counterpart(path)
    if twin is None:
        return None
    with _convert_errors(twin.url), twin.open_system() as system:
        try:
            return bytes(system.cat_file(twin.path))
        except FileNotFoundError:
            return None


def exists(path: Path) -> bool:
    twin = _find_counterpart(path)
    if twin is None:
        return False
    with _convert_errors(twin.url), twin.open_system() as system:
        return bool(system.exists(twin.path))


def remove(path: Path) -> None:
    twin = _find_counterpart(path)
    if twin is not None:
        with _convert_errors(twin.url), twin.open_system() as system:
            if system.exists(twin.path):
                system.rm_file(twin.path)


def remove_all(paths: Sequence[Path]) -> None:
    """Remove the counterparts of files, if they exist."""
    for path in paths:
        remove(path)


def refresh(path: Path, older: float) -> None:
    """Upload a small file again if its upload is more than `older` seconds old, so that eviction at the URL sees that it is in use."""
    twin = _find_counterpart(path)
    if twin is None:
        return
    with _convert_errors(twin.url), twin.open_system() as system:
        # a clock that is set wrong, here or there, costs uploads and no results
        if abs(time.time() - _read_upload_time(system, twin.path, system.info(twin.path))) > older:
            system.put_file(str(path), twin.path)


def read_clock(folder: Path) -> float:
    """Return the present time by the clock that dates uploads to the counterpart of `folder`. Raises OSError."""
    twin = _find_counterpart(folder / f".clock-{os.getpid()}")
    if twin is None:
        return time.time()
    with _convert_errors(twin.url), twin.open_system() as system:
        system.pipe_file(twin.path, b"now")
        try:
            return _read_upload_time(system, twin.path, system.info(twin.path))
        finally:
            system.rm_file(twin.path)


@dataclass(frozen=True)
class _Twin:
    """A file or folder at a URL. path: the form that its file system expects."""

    url: str

    @property
    def path(self) -> str:
        import fsspec  # imported here, because most jobs use no URL

        return str(fsspec.get_filesystem_class(self.url.partition("://")[0])._strip_protocol(self.url))

    @contextmanager
    def open_system(self) -> Iterator[Any]:
        import fsspec

        yield fsspec.filesystem(self.url.partition("://")[0], use_listings_cache=False)  # other machines write there too


def _read_upload_time(system: Any, name: str, details: Mapping[str, Any]) -> float:
    """Return when a file was uploaded, in seconds since the epoch. Asks the file system if the listing does not contain it."""
    found = next((details[key] for key in ("LastModified", "last_modified", "updated", "mtime", "modified") if details.get(key)), None)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    if found is None:
        found = system.modified(name)
    return found if isinstance(found, float) else float(found.timestamp())


@contextmanager
def _convert_errors(url: str) -> Iterator[None]:
    """Convert the exceptions of object store clients to OSError."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        number = next((number for kind, number in _NUMBERS.items() if isinstance(error, kind)), errno.EIO)
        raise OSError(number, str(error), url) from error
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}", url) from error


def _find_counterpart(path: Path) -> _Twin | None:
    root = _find_root(path)
    if root is None:
        return None
    folder, url = root
    name = path.relative_to(folder).as_posix()
    return _Twin(url if name == "." else f"{url}/{name}")


def _split(path: Path) -> tuple[Path, str]:
    """Return the root of the mirror that contains `path`, and the name of `path` in it."""
    root = _find_root(path)
    assert root is not None
    return root[0], path.relative_to(root[0]).as_posix()


def _find_root(path: Path) -> tuple[Path, str] | None:
    """Find the root of the mirror that contains `path`, and its URL."""
    for folder in (path, *path.parents):
        if folder not in _marked:
            try:
                data = files.read(folder / MARK)
                if not trust.is_own(data, MARK) or data["root"] != str(folder.resolve()):
                    continue
                _marked[folder] = str(data["url"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return folder, _marked[folder]
    return None


_marked: dict[Path, str] = {}
