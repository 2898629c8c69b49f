"""Whose a record is. Records may come from somebody else: a downloaded folder, a shared store, a URL.

A path that a record names must lie inside the record's folder, and links are not followed. Code that a record names runs only if the record
carries a seal: an HMAC with a key in this user's state folder, which only this user can read.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from lowering import files
from lowering.errors import Problem, Untrusted

SEAL = "seal"
STATE = "SHAPELINE_STATE"  # environment variable: the folder of the key
TRUST = "--trust"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BYTES = 32


def seal(data: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return `data` with the seal of this user, or without one if the key can be neither read nor made.

    kind: of the record; the seal of one kind is not valid for another.
    """
    plain = {name: value for name, value in data.items() if name != SEAL}
    key = _read_key() or _make_key()
    return plain if key is None else {**plain, SEAL: _sign(key, plain, kind)}


def is_own(data: Any, kind: str) -> bool:
    """Return whether this user sealed `data` on this machine, and it is unchanged."""
    if not isinstance(data, Mapping) or not isinstance(given := data.get(SEAL), str) or (key := _read_key()) is None:
        return False
    wanted = _sign(key, {name: value for name, value in data.items() if name != SEAL}, kind)
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def locate_key() -> Path:
    """Return the path of the key: `$SHAPELINE_STATE/key`, or in `shapeline/` of the user's state folder."""
    if given := os.environ.get(STATE):
        return Path(given) / "key"
    return Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()) / "shapeline" / "key"


def refuse(place: str, code: list[str], who: str = "this record was not made by this user on this machine") -> Untrusted:
    """Return the error of a record that would run `code`, one line for each piece."""
    fix = f"if you trust its maker, use {TRUST}"
    return Untrusted([Problem(place, f"would run {piece}, but {who}", fix) for piece in code or ["its job"]])


def locate_inside(folder: Path, name: Any, place: str) -> Path:
    """Return the path of a file that a record names relative to its `folder`.

    place: where the record names it. Raises Untrusted if it is outside the folder, or behind a link.
    """
    check_name(name, place)
    path = folder
    for part in PurePosixPath(name).parts:
        path = path / part
        if path.is_symlink():
            raise Untrusted(Problem(place, f"'{name}' is, or lies below, the link {path}", "links in records are not followed: remove it"))
    return path


def check_name(name: Any, place: str) -> None:
    """Raise Untrusted unless `name` is a relative path without `..`."""
    plain = isinstance(name, str) and name and name.isprintable() and "\\" not in name and len(name) < 1024
    if not plain or name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise Untrusted(Problem(place, f"{name!r} is not the name of a file inside the record's folder",
                                "the record was not written by shapeline, or was changed: do not use it"))


def is_digest(text: Any) -> bool:
    """Return whether `text` is the hex SHA-256 that names a stored result or weights."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def _sign(key: bytes, data: Mapping[str, Any], kind: str) -> str:
    plain = json.loads(files.encode_json(data, indent=None))
    content = json.dumps([kind, plain], sort_keys=True, separators=(",", ":"))
    return hmac.new(key, b"shapeline record\0" + content.encode(), hashlib.sha256).hexdigest()


def _read_key() -> bytes | None:
    """Return the key, or None if there is none, or others could have read or written it."""
    try:
        with files.open_regular(locate_key()) as file:
            status = os.fstat(file.fileno())
            key = file.read(_BYTES + 1)
    except (OSError, RuntimeError):  # no home
        return None
    private = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    return key if private and len(key) == _BYTES else None


def _make_key() -> bytes | None:
    """Write a new key, unless another process is faster, and return the key. An existing key that cannot be used is left alone."""
    try:
        path = locate_key()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".key-{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_BYTES))
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, RuntimeError):
        return None
    return _read_key()
