"""Digests of data and files, by which the store names results and verifies what it reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from lowering import files


def compute_digest(data: Any) -> str:
    """Return the hex SHA-256 of bytes, or of JSON data regardless of the order of keys."""
    if not isinstance(data, bytes):
        data = json.dumps(data, sort_keys=True, ensure_ascii=False, default=repr).encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()


def compute_file_digest(path: Path) -> str:
    """Return the hex SHA-256 of a regular file. Raises OSError."""
    with files.open_regular(path) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
