"""torch's structured trace of a capture, as a file that tlparse can render."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch._logging._internal import TorchLogsFormatter
from torch._logging.structured import INTERN_TABLE

from lowering import files
from lowering.symbols.tracing.capture import FRAME, Log
from lowering.symbols.tracing.frames import is_model_code

FILE = "trace.log"
GUARD = "guard_added_fast"
_COMPILE_ID = ("frame_id", "frame_compile_id", "attempt")
# tlparse needs a node id.
_NOTHING_KNOWN: dict[str, Any] = {"prefix": "eval", "expr_node_id": 0, "symbol_to_sources": {}, "frame_locals": {}}


def render(log: Log) -> str:
    """Return the lines of the file.

    File names, which torch logs once per process, come first, so that it is self-contained. Never raises.
    """
    formatter: logging.Formatter = TorchLogsFormatter(trace=True)
    records = [record for record in log.trace if "str" not in _read_metadata(record)]
    files_of = {number: name for name, number in INTERN_TABLE.items()}
    return "".join((*_list_file_names(formatter, records[:1]),
                    *(_format_line(formatter, _make_readable(record, files_of)) for record in records)))


def save(log: Log, folder: Path) -> Path:
    """Write trace.log. Raises OSError."""
    files.write_bytes(folder / FILE, files.encode(render(log)), durable=False)
    return folder / FILE


def _format_line(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    try:
        return f"{formatter.format(record)}\n"
    except Exception as error:  # noqa: BLE001 - an error in the trace must not fail the export
        return f"# unwritten: {type(error).__name__}: {error}\n".replace("\n", " ").rstrip() + "\n"


def _list_file_names(formatter: logging.Formatter, first: list[logging.LogRecord]) -> Iterator[str]:
    """Yield the lines that assign numbers to files, in the format of the first record."""
    for record in first:
        like = copy.copy(record)
        like.__dict__.update(metadata={"str": []}, payload=None)
        head = _format_line(formatter, like).rpartition('{"str"')[0]
        yield from (f'{head}{{"str": [{json.dumps(name)}, {number}]}}\n' for name, number in INTERN_TABLE.items())


def _make_readable(record: logging.LogRecord, files_of: Mapping[int, str]) -> logging.LogRecord:
    """Rewrite a record where tlparse would drop or misread it.

    A `stack` that is text becomes a frame, and values of `frame_locals` become text. A guard also gets a `guard_added`, because only that
    shows up on the page of `tlparse --export`. Records outside of Dynamo are grouped by stack, not by the capture's compile id. An empty
    `user_stack`, as in every non-strict export, is filled with the model's frames.
    """
    metadata = {name: _convert_event(value, files_of) for name, value in _read_metadata(record).items()}
    if metadata.get("frame_id") == FRAME:
        stacks = [value["stack"] for value in metadata.values() if isinstance(value, dict) and "stack" in value]
        metadata = {name: value for name, value in metadata.items() if name not in _COMPILE_ID} | ({"stack": stacks[0]} if stacks else {})
    if GUARD in metadata:
        metadata["guard_added"] = {**_NOTHING_KNOWN, **metadata[GUARD]}
    if metadata == _read_metadata(record):
        return record
    changed = copy.copy(record)
    changed.__dict__["metadata"] = metadata
    return changed


def _convert_event(value: Any, files_of: Mapping[int, str]) -> Any:
    if not isinstance(value, dict):
        return value
    found = dict(value)
    for key in ("stack", "user_stack"):
        if isinstance(found.get(key), str):
            found[key] = [{"line": 0, "name": found[key], "filename": 0, "loc": ""}]
    if found.get("user_stack") == [] and isinstance(found.get("stack"), list):
        found["user_stack"] = _filter_frames(found["stack"], files_of)
    frame = found.get("frame_locals")
    if isinstance(frame, dict) and isinstance(frame.get("locals"), dict):
        found["frame_locals"] = {**frame, "locals": {name: str(held) for name, held in frame["locals"].items()}}
    return found


def _filter_frames(stack: list[dict[str, Any]], files_of: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the model's frames of a stack, which begin after the call of torch.export."""
    names = [files_of.get(frame.get("filename", -1), "<") for frame in stack]
    start = names.index(torch.export.__file__) if torch.export.__file__ in names else 0
    return [frame for frame, name in zip(stack[start:], names[start:], strict=True) if is_model_code(name)]


def _read_metadata(record: logging.LogRecord) -> dict[str, Any]:
    return dict(getattr(record, "metadata", {}))
