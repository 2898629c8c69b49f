"""Replay of a job whose results are all in the store, without a process for the job: nothing is imported, built or lowered."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lowering import files, pipeline
from lowering.plain import plain
from lowering.record.events import History
from lowering.record.folder import EVENTS, LOG, MANIFEST, store_of
from lowering.record.result import JobResult
from lowering.store import reuse
from lowering.store.entries import Store


def replay(folder: Path, data: Mapping[str, Any], environment: Mapping[str, str]) -> JobResult | None:
    """Commit and return the result of the job of `folder`, with all its files.

    Return None if the store lacks a result. data: its job.json.
    """
    root = store_of(data, folder)
    found = reuse.of_job(Store(root), data, environment) if root else None
    if found is None:
        return None
    for name in (MANIFEST, EVENTS, LOG):
        (folder / name).unlink(missing_ok=True)
    history = History(data["model"]["name"], data["variant"])
    lines: list[str] = []

    def tell(event: Mapping[str, Any]) -> None:
        history.add(event)
        lines.append(files.dumps({"time": round(time.time(), 3), **event}, indent=None))

    tell({"event": "begin", "pid": os.getpid()})
    try:
        for number, (name, entry) in enumerate(found, 1):
            began = time.perf_counter()
            tell({"event": "stage", "stage": name, "peak_rss_source": ""})
            done = pipeline.taken(entry, name, folder / f"{number:02}-{name}", tell)
            tell({"event": "stage_end", **plain(done), "seconds": round(time.perf_counter() - began, 6)})
        result = history.result("ok")
        tell({"event": "committed", "outcome": result.outcome})
        files.write_bytes(folder / EVENTS, files.encode("\n".join(lines) + "\n"), durable=False)
        files.write_bytes(folder / LOG, f"every stage was taken from the store {root}\n".encode(), durable=False)
        result.save(folder)
    except FileNotFoundError:  # an entry was removed in the meantime: the job's own process rebuilds it
        return None
    return result
