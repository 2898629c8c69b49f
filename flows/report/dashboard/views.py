"""The view of a job: the data of its page, packed into view.js in the job's folder. A page opened from disk can load only scripts."""

from __future__ import annotations

import base64
import json
import os
import zlib
from pathlib import Path
from typing import Any

from flows.report import levels
from lowering import files
from lowering.record.folder import VIEW as VIEW
from lowering.record.result import JobResult
from lowering.symbols import views as symbol_views

END = ");\n"
SCHEMA = 1
LARGEST = 64 << 20  # larger IR files, in bytes, are only linked by the page
LOG_KEPT = 256 << 10


def write(folder: Path, result: JobResult) -> None:
    """Write view.js and levels.json of the job in `folder`. Raises OSError."""
    levels.describe_files(folder)
    content = f"shapelineView({json.dumps(folder.name)}, {render(folder, result)}{END}".encode("ascii")
    files.write_bytes(folder / VIEW, content, durable=False)


def render(folder: Path, result: JobResult) -> str:
    """Return the view as ASCII JSON that is safe in a script element. Its parts are packed with zlib and base64."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "detail": _pack(files.encode_json(make_detail(folder, result), indent=None)),
            "levels": [_make_level(path) for path in levels.list_files(folder)],
        }
    ).replace("<", "\\u003c")


def read(path: Path) -> Any:
    """Return the data of a view.js, or None if it is damaged. It is parsed, because it could hold a script."""
    try:
        with files.open_regular(path) as file:
            content = file.read().decode("ascii")
        return json.loads(content[content.index(", ") + 2 : content.rindex(");")])
    except (OSError, ValueError, RecursionError):
        return None


def is_fresh(folder: Path) -> bool:
    """Return whether view.js exists, is complete, and is not older than the job's result."""
    try:
        with files.open_regular(folder / VIEW) as view:
            view.seek(-len(END), os.SEEK_END)
            whole = view.read() == END.encode("ascii")
        return whole and (folder / VIEW).stat().st_mtime_ns >= (folder / "manifest.json").stat().st_mtime_ns
    except OSError:
        return False


def make_detail(folder: Path, result: JobResult) -> dict[str, Any]:
    """Return the data of a job's page without its IR."""
    data = result.to_json()
    return {
        "problems": data["problems"],
        "warnings": data["warnings"],
        "stages": data["stages"],
        "symbols": data["symbols"],
        "annotated": _read_text(folder / symbol_views.SOURCE),
        "verify": data["verify"],
        "buckets": data["buckets"],
        "log": _read_log(folder / result.log),
        "peak_rss_source": result.peak_rss_source,
        "files": sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != VIEW) if folder.is_dir() else [],
    }


def _make_level(path: Path) -> dict[str, Any]:
    size = levels.measure_text(path)
    content = levels.read_text(path) if size <= LARGEST else ""
    return {
        "stem": path.name.split(".", 1)[0],
        "file": path.name,
        "size": size,
        "lines": content.count("\n"),
        "packed": _pack(content) if content else None,
    }


def _read_text(path: Path) -> str:
    """Return the text of a file of the record; empty if there is none. The sources that a record names are not read again."""
    try:
        with files.open_regular(path) as file:
            return file.read(LOG_KEPT).decode("utf-8", "replace")
    except OSError:
        return ""


def _read_log(path: Path) -> str:
    """Return the end of a log; empty if it cannot be read."""
    try:
        with files.open_regular(path) as log:
            size = os.fstat(log.fileno()).st_size
            log.seek(max(0, size - LOG_KEPT))
            kept = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return kept if size <= LOG_KEPT else f"… the first {size - LOG_KEPT:,} bytes are in {path.name}\n{kept}"


def _pack(content: str) -> str:
    return base64.b64encode(zlib.compress(files.encode(content), 6)).decode("ascii")
