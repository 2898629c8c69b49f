"""torch's structured trace of a capture as a file that tlparse renders whole."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

from torch._logging._internal import TorchLogsFormatter
from torch._logging.structured import INTERN_TABLE

from lowering import files
from lowering.symbols.capture import Log

FILE = "trace.log"


def rendered(log: Log) -> str:
    """The lines of the file. File names, which torch logs once a process, come first, so that it stands alone. Never raises."""
    formatter: logging.Formatter = TorchLogsFormatter(trace=True)
    records = [record for record in log.trace if "str" not in _metadata(record)]
    names = [_interned(records[0], name, number) for name, number in INTERN_TABLE.items()] if records else []
    return "".join(_line(formatter, record) for record in (*names, *map(_readable, records)))


def save(log: Log, folder: Path) -> Path:
    """Write trace.log; raises OSError."""
    files.write_bytes(folder / FILE, files.encode(rendered(log)), durable=False)
    return folder / FILE


def _line(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    try:
        return f"{formatter.format(record)}\n"
    except Exception as error:  # noqa: BLE001 - a record that cannot be written must not fail the export
        return f"# unwritten: {type(error).__name__}: {error}\n".replace("\n", " ").rstrip() + "\n"


def _interned(like: logging.LogRecord, name: str, number: int) -> logging.LogRecord:
    record = copy.copy(like)
    record.__dict__.update(metadata={"str": [name, number]}, payload=None)
    return record


def _readable(record: logging.LogRecord) -> logging.LogRecord:
    """tlparse drops an event whose `stack` is text, or whose `frame_locals` holds lists: the first becomes a frame, the second text."""
    metadata = {name: _event(value) for name, value in _metadata(record).items()}
    if metadata == _metadata(record):
        return record
    changed = copy.copy(record)
    changed.__dict__["metadata"] = metadata
    return changed


def _event(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    found = dict(value)
    for key in ("stack", "user_stack"):
        if isinstance(found.get(key), str):
            found[key] = [{"line": 0, "name": found[key], "filename": 0, "loc": ""}]
    frame = found.get("frame_locals")
    if isinstance(frame, dict) and isinstance(frame.get("locals"), dict):
        found["frame_locals"] = {**frame, "locals": {name: str(held) for name, held in frame["locals"].items()}}
    return found


def _metadata(record: logging.LogRecord) -> dict[str, Any]:
    return dict(getattr(record, "metadata", {}))
