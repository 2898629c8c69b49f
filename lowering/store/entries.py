"""The store: results of stages by key, shared by runs and by concurrent workers. A result is stored completely or not at all.

A store can mirror a URL (lowering.store.mirror). It then fetches missing results from there, and uploads new ones.

    STORE/entries/ab/abcdef…/   entry.json (the result's data and the digests of its files), ir, and the stage's own files
    STORE/notes/KIND/…json      small records by name (lowering.store.notes)
    STORE/weights/ab/…          weights by digest (lowering.store.weights)
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowering import files, trust
from lowering.errors import Problem, Untrusted
from lowering.store import mirror, signing
from lowering.store.digests import compute_digest, compute_file_digest
from lowering.store.notes import Notes

SCHEMA = 2  # of entry.json; entries of another schema are removed and rebuilt
DAY = 86400.0
ENTRY, IR = "entry.json", "ir"
ENTRIES, WEIGHTS, DRAFTS = "entries", "weights", "drafts"


@dataclass(frozen=True)
class Entry:
    """A stored result. data: passed to `put` by its maker; files: name -> [digest, bytes] of the stage's own files."""

    key: str
    folder: Path
    data: Mapping[str, Any]
    files: Mapping[str, tuple[str, int]]

    def ir(self) -> bytes:
        """Read the serialized IR. Raises OSError."""
        with files.open_regular(self.folder / IR) as file:
            return file.read()

    def place(self, stem: Path) -> None:
        """Link the stage's files beside `stem`, under its name. They are read-only because they share the store's bytes. Raises OSError."""
        for name in self.files:
            target = trust.locate_inside(stem.parent, name.replace(PLACE, stem.name, 1), f"{self.folder / ENTRY} files")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            _link_or_copy(_locate_file(self.folder, name), target)

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files.values()) + files.measure_size(self.folder / IR) + files.measure_size(self.folder / ENTRY)


PLACE = "@"  # in names of stored files, stands for the number and name of the stage, which may differ between pipelines


class Store:
    """A folder of results. Reads verify every byte of an entry against its digest."""

    def __init__(self, root: Path):
        self.root = root
        self.notes = Notes(root)

    def find(self, key: str) -> Entry | None:
        """Return the verified entry of `key`, or None if there is none. Damaged entries are removed, so that they are rebuilt.

        Raises Untrusted if the entry names a file outside of its folder, is behind a link, or lacks the signature of this store (see
        `signing`). It stays as it is.
        """
        if not trust.is_digest(key):
            raise Untrusted(Problem(str(self.root), f"{key!r} is not the key of a result", "the store was changed by something else"))
        entry = self._find_sound(key)
        if entry is None:
            with suppress(OSError):  # if it cannot be fetched, it is rebuilt
                brought = self._download(key)
                entry = self._find_sound(key) if brought else None
                if entry is not None:
                    mirror.refresh(entry.folder / ENTRY, DAY)
                elif brought:
                    mirror.remove(self._locate(key) / ENTRY)
        return entry

    def _find_sound(self, key: str) -> Entry | None:
        """Return the verified local entry of `key`. A damaged entry is removed."""
        wrapped, folder = self.read_sound(key), self._locate(key)
        if wrapped is None:
            return None
        if not signing.is_accepted(wrapped, ENTRY, wrapped["sha256"]):
            fix = f"the stage runs, and its result replaces this one; or sign what the store holds: shapeline cache sign {trust.TRUST}"
            raise Untrusted(Problem(str(folder / ENTRY), f"is not signed with the key of {signing.KEY}", fix))
        with suppress(OSError):  # a read-only store can still be read
            used = (folder / ENTRY).stat().st_mtime
            os.utime(folder / ENTRY)
            if abs(time.time() - used) > DAY:
                mirror.refresh(folder / ENTRY, DAY)
        return _make_entry(key, folder, wrapped)

    def read_sound(self, key: str) -> dict[str, Any] | None:
        """Return the content of entry.json if all files of the local entry of `key` have their digests. A damaged entry is removed."""
        folder = self._locate(key)
        try:
            trust.locate_inside(self.root, folder.relative_to(self.root).as_posix(), str(folder))
            wrapped: dict[str, Any] = files.read(folder / ENTRY)
            entry = _make_entry(key, folder, wrapped)
            sound = wrapped["schema"] == SCHEMA and wrapped["sha256"] == _seal(key, wrapped["data"], wrapped["files"], wrapped["ir"])
            sound = sound and all(compute_file_digest(_locate_file(folder, name)) == value for name, (value, _) in entry.files.items())
            sound = sound and (wrapped["ir"] is None or compute_file_digest(folder / IR) == wrapped["ir"])
            sound = sound and _is_complete(entry.data)
        except FileNotFoundError:
            if not folder.exists():
                return None
            sound = False
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            sound = False
        if not sound:
            self.discard(key)
            return None
        return wrapped

    def _download(self, key: str) -> bool:
        """Fetch an entry, unverified, from the URL that this store mirrors.

        Return whether the URL has the entry, even if incomplete. Raises OSError.
        """
        folder = self._locate(key)
        if (content := mirror.read(folder / ENTRY)) is None:
            return False
        draft = self._choose_draft(key)
        try:
            (draft / "files").mkdir(parents=True)
            (draft / ENTRY).write_bytes(content)
            try:
                wrapped = json.loads(content)
                names = list(wrapped["files"])
            except (ValueError, KeyError, TypeError):
                return True
            for name in names:
                trust.check_name(name, f"{folder / ENTRY} files")
            whole = all(mirror.fetch(folder / "files" / name, draft / "files" / name) for name in names)
            whole = whole and (wrapped.get("ir") is None or mirror.fetch(folder / IR, draft / IR))
            if not whole:
                return True
            for path in (draft / "files").rglob("*"):
                path.chmod(0o444 if path.is_file() else 0o755)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # another process was faster
                draft.rename(folder)
            return True
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def put(self, key: str, data: Mapping[str, Any], ir: bytes | None, stem: Path, made: list[Path]) -> None:
        """Store a result: its IR, and the files that its stage wrote beside `stem`.

        If the key exists, the stored result stays, unless its signature is missing. Raises OSError, InfraError.
        """
        draft, folder = self._choose_draft(key), self._locate(key)
        (draft / "files").mkdir(parents=True)
        try:
            held: dict[str, tuple[str, int]] = {}
            for path in made:
                name = path.relative_to(stem.parent).as_posix()
                name = PLACE + name.removeprefix(stem.name) if name.startswith(stem.name) else name
                (draft / "files" / name).parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(path, draft / "files" / name)
                (draft / "files" / name).chmod(0o444)  # hard link to the job's file: an edit there must not change the store
                held[name] = (compute_file_digest(path), path.stat().st_size)
            if ir is not None:
                (draft / IR).write_bytes(ir)
            mark = None if ir is None else compute_digest(ir)
            plain = json.loads(files.encode_json([data, held]))
            digest = _seal(key, plain[0], plain[1], mark)
            whole = {"schema": SCHEMA, "data": plain[0], "files": plain[1], "ir": mark, "sha256": digest, **signing.sign(ENTRY, digest)}
            files.write_bytes(draft / ENTRY, files.encode(files.encode_json(whole)), durable=False)  # the digest reveals a torn file
            folder.parent.mkdir(parents=True, exist_ok=True)
            if signing.read_key() is not None:
                self._discard_unsigned(key)
            with suppress(FileExistsError):
                try:
                    draft.rename(folder)
                except OSError as error:
                    if not folder.exists():
                        raise
                    raise FileExistsError(folder) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        mirror.upload([*(folder / "files" / name for name in held), *([] if ir is None else [folder / IR]), folder / ENTRY])

    def _discard_unsigned(self, key: str) -> None:
        try:
            held = files.read(self._locate(key) / ENTRY)
            is_signed = signing.is_accepted(held, ENTRY, held["sha256"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            is_signed = False
        if not is_signed:
            self.discard(key)

    def discard(self, key: str) -> None:
        """Remove an entry, atomically for all readers."""
        trash = self.root / DRAFTS / f"trash-{os.getpid()}-{time.monotonic_ns()}"
        with suppress(OSError):
            trash.parent.mkdir(parents=True, exist_ok=True)
            self._locate(key).rename(trash)
            shutil.rmtree(trash, ignore_errors=True)

    def entries(self) -> Iterator[tuple[Entry, float]]:
        """Iterate over all entries, unverified, each with the time of its last use (seconds since the epoch)."""
        for path in sorted((self.root / ENTRIES).glob(f"*/*/{ENTRY}")):
            if path.parent.is_symlink() or path.parent.parent.is_symlink() or not trust.is_digest(path.parent.name):
                continue
            with suppress(OSError, ValueError, KeyError, TypeError):
                wrapped = files.read(path)
                yield Entry(path.parent.name, path.parent, wrapped["data"], wrapped["files"]), path.stat().st_mtime

    @property
    def weights(self) -> Path:
        return self.root / WEIGHTS

    def weights_file(self, key: str) -> Path:
        """Return the path of the weights with that digest, whether or not they exist."""
        return locate_weights(self.weights, key)

    def has_weights(self, key: str) -> bool:
        """Return whether the weights exist, here or at the URL that this store mirrors."""
        path = self.weights_file(key)
        try:
            return path.exists() or mirror.exists(path)
        except OSError:
            return False

    def _locate(self, key: str) -> Path:
        return self.root / ENTRIES / key[:2] / key

    def _choose_draft(self, key: str) -> Path:
        """Return the path of a folder, not created yet, that only this thread uses."""
        draft = self.root / DRAFTS / f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}-{key[:16]}"
        shutil.rmtree(draft, ignore_errors=True)
        return draft


def locate_weights(folder: Path, key: str) -> Path:
    """Return the path of the weights with that digest. Raises Untrusted if it is none, or the path is behind a link."""
    if not trust.is_digest(key):
        raise Untrusted(Problem(str(folder), f"{key!r} is not the digest of weights", "the record was changed by something else"))
    trust.locate_inside(folder, f"{key[:2]}/{key}.safetensors", str(folder))
    return folder / key[:2] / f"{key}.safetensors"


def _locate_file(folder: Path, name: str) -> Path:
    return trust.locate_inside(folder / "files", name, f"{folder / ENTRY} files")


def _make_entry(key: str, folder: Path, wrapped: Mapping[str, Any]) -> Entry:
    return Entry(key, folder, wrapped["data"], {name: (value[0], value[1]) for name, value in wrapped["files"].items()})


def _seal(key: str, data: Any, files: Any, ir: str | None) -> str:
    """Return the digest of an entry. It covers the key, so that an entry that was moved to another key is damaged, not a hit."""
    return compute_digest([key, data, files, ir])


def _is_complete(data: Any) -> bool:
    """Return whether the data of an entry has all keys that its readers need. Entries of other makers may lack some."""
    return isinstance(data, Mapping) and (data.get("weights") is None or isinstance(data["weights"], str))


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # different file systems, or one without hard links
        shutil.copyfile(source, target)
