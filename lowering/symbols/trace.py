"""torch's structured trace of a capture as a file that tlparse renders whole."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

from torch._logging._internal import TorchLogsFormatter
from torch._logging.structured import INTERN_TABLE

from lowering.symbols.capture import Log

FILE = "trace.log"


def save(log: Log, folder: Path) -> Path:
    """Write trace.log; raises OSError. File names, which torch logs once a process, come first, so that the file stands alone."""
    formatter: logging.Formatter = TorchLogsFormatter(trace=True)
    with (folder / FILE).open("w", encoding="utf-8", errors="backslashreplace") as file:
        records = [record for record in log.trace if "str" not in _metadata(record)]
        if records:
            for name, number in INTERN_TABLE.items():
                file.write(formatter.format(_interned(records[0], name, number)) + "\n")
        for record in records:
            file.write(formatter.format(_readable(record)) + "\n")
    return folder / FILE


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
