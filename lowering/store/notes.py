"""Notes of a store: small records by name, such as the last dependencies of a job's stages, and their durations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lowering import files, trust
from lowering.errors import Untrusted
from lowering.store import mirror, signing
from lowering.store.digests import compute_digest

NOTES = "notes"  # the folder in a store


class Notes:
    """The notes of the store at `root`, by kind and name."""

    def __init__(self, root: Path):
        self.root = root

    def write(self, kind: str, name: str, data: Any) -> None:
        """Store `data` (JSON) under a name of arbitrary characters. Raises OSError, InfraError."""
        path = self._locate(kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = compute_digest(json.loads(files.encode_json(data)))
        content = {"name": name, "sha256": digest, "data": data, **signing.sign(NOTES, kind, name, digest)}
        files.write_bytes(path, files.encode(files.encode_json(content, indent=None)), durable=False)
        mirror.upload([path])

    def read(self, kind: str, name: str) -> Any:
        """Return the data stored under a name, or None if there is none, it is damaged, or lacks the signature of this store."""
        path = self._locate(kind, name)
        try:
            if not path.exists():
                mirror.fetch(path)
            content = files.read(path)
            return content["data"] if _is_sound(content) and _is_signed(content, kind, name) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def list_unsigned(self) -> Iterator[tuple[Path, dict[str, Any], tuple[str, str, str]]]:
        """Iterate over the sound notes without a valid signature: the path, the content, and the words that its signature covers."""
        for path in sorted((self.root / NOTES).glob("*/*.json")):
            kind = path.parent.name
            with suppress(OSError, ValueError, KeyError, TypeError, Untrusted):
                trust.locate_inside(self.root, path.relative_to(self.root).as_posix(), str(path))
                content = files.read(path)
                name = content["name"]
                if self._locate(kind, name) == path and _is_sound(content) and not _is_signed(content, kind, name):
                    yield path, content, (NOTES, kind, name)

    def _locate(self, kind: str, name: str) -> Path:
        return self.root / NOTES / kind / f"{compute_digest(name)[:32]}.json"


def _is_sound(content: Mapping[str, Any]) -> bool:
    return bool(content["sha256"] == compute_digest(content["data"]))


def _is_signed(content: Mapping[str, Any], kind: str, name: str) -> bool:
    return signing.is_accepted(content, NOTES, kind, name, content["sha256"])
