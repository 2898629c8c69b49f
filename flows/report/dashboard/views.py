"""The view of one job: everything its page shows, packed into view.js beside the job's files (a page from disk may load only scripts)."""

from __future__ import annotations

import base64
import json
import os
import zlib
from pathlib import Path
from typing import Any

from flows.report import levels
from lowering import files
from lowering.record.result import JobResult
from lowering.symbols import views as symbol_views
from lowering.symbols.schema import SymbolRecord

VIEW = "view.js"
END = ");\n"
SCHEMA = 1
LARGEST = 64 << 20  # bytes of an IR file beyond which a page only links it
LOG_KEPT = 256 << 10


def write(folder: Path, result: JobResult) -> None:
    """Write view.js of the job in `folder`, and levels.json. Raises OSError."""
    levels.of(folder)
    content = f"shapelineView({json.dumps(folder.name)}, {text(folder, result)}{END}".encode("ascii")
    files.write_bytes(folder / VIEW, content, durable=False)


def text(folder: Path, result: JobResult) -> str:
    """The view as JSON in ASCII that can stand in a script element: its parts are zlib and base64."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "detail": _packed(files.dumps(detail(folder, result), indent=None)),
            "levels": [_level(path) for path in levels.present(folder)],
        }
    ).replace("<", "\\u003c")


def fresh(folder: Path) -> bool:
    """Whether view.js is there, whole, and not older than the job's result."""
    try:
        with (folder / VIEW).open("rb") as view:
            view.seek(-len(END), os.SEEK_END)
            whole = view.read() == END.encode("ascii")
        return whole and (folder / VIEW).stat().st_mtime_ns >= (folder / "manifest.json").stat().st_mtime_ns
    except OSError:
        return False


def detail(folder: Path, result: JobResult) -> dict[str, Any]:
    """A job's page but for its IR."""
    data = result.to_json()
    return {
        "problems": data["problems"],
        "warnings": data["warnings"],
        "stages": data["stages"],
        "symbols": data["symbols"],
        "annotated": _annotated(result.symbols),
        "verify": data["verify"],
        "log": _log(folder / result.log),
        "peak_rss_source": result.peak_rss_source,
        "files": sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != VIEW) if folder.is_dir() else [],
    }


def _level(path: Path) -> dict[str, Any]:
    size = levels.size(path)
    content = levels.text(path) if size <= LARGEST else ""
    return {
        "stem": path.name.split(".", 1)[0],
        "file": path.name,
        "size": size,
        "lines": content.count("\n"),
        "packed": _packed(content) if content else None,
    }


def _annotated(symbols: Any) -> str:
    """The model's source with its symbols, where the record is one and the source is still on this machine."""
    if not symbols:
        return ""
    try:
        return symbol_views.annotated(SymbolRecord.from_json(symbols))
    except (ValueError, TypeError, KeyError, OSError, AttributeError):
        return ""  # a record of another version: its table is shown as it is


def _log(path: Path) -> str:
    """The end of a log."""
    try:
        with path.open("rb") as log:
            size = path.stat().st_size
            log.seek(max(0, size - LOG_KEPT))
            kept = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return kept if size <= LOG_KEPT else f"… the first {size - LOG_KEPT:,} bytes are in {path.name}\n{kept}"


def _packed(content: str) -> str:
    return base64.b64encode(zlib.compress(files.encode(content), 6)).decode("ascii")
