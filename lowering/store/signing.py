"""Signatures of the contents of a store that others can write to.

All who share the store have one key, in the file that `$SHAPELINE_STORE_KEY` names. With it, entries and notes are signed when they are
stored, and those without a valid signature are not used. Without it, whatever is in a store is believed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from collections.abc import Mapping
from functools import cache
from typing import Any

from lowering import files, paths
from lowering.errors import InfraError, Problem

KEY = "SHAPELINE_STORE_KEY"  # environment variable: the file of the key
SIGNATURE = "signature"  # the key of signed JSON
_LEAST, _MOST = 32, 4096  # bytes of a key


def read_key() -> bytes | None:
    """Return the key of shared stores, or None if no file is named. Raises InfraError if the file is no key that is kept from others."""
    given = os.environ.get(KEY)
    return _read(given) if given else None


def sign(kind: str, *parts: Any) -> dict[str, str]:
    """Return the signature of JSON data, under its key, or nothing if there is no key. kind: of the file, signed too. Raises InfraError."""
    key = read_key()
    return {} if key is None else {SIGNATURE: _compute(key, kind, parts)}


def is_accepted(signed: Mapping[str, Any], kind: str, *parts: Any) -> bool:
    """Return whether there is no key, or `signed` has the signature of the data `parts`. Raises InfraError."""
    key = read_key()
    if key is None:
        return True
    given = signed.get(SIGNATURE)
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), _compute(key, kind, parts).encode())


def _compute(key: bytes, kind: str, parts: tuple[Any, ...]) -> str:
    content = json.dumps([kind, *parts], sort_keys=True, separators=(",", ":"))
    return hmac.new(key, b"shapeline store\0" + content.encode(), hashlib.sha256).hexdigest()


@cache
def _read(given: str) -> bytes:
    path = paths.expand(given)
    fix = f"make one: (umask 077; openssl rand -hex 32 > FILE; export {KEY}=FILE), the same for all who use the store"
    try:
        with files.open_regular(path) as file:
            status = os.fstat(file.fileno())
            key = bytes(file.read(_MOST)).strip()
    except OSError as error:
        raise InfraError(Problem(f"{KEY}={given}", f"cannot be read: {error.strerror or error}", fix)) from error
    if stat.S_IMODE(status.st_mode) & 0o027 or status.st_uid not in (0, os.geteuid()):
        raise InfraError(Problem(f"{KEY}={given}", "others could read or change it, or own it", f"chmod 600 {given}, or 640 for a group"))
    if len(key) < _LEAST:
        raise InfraError(Problem(f"{KEY}={given}", f"has {len(key)} bytes, and a key has {_LEAST} or more", fix))
    return key
