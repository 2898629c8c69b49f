"""Replay of a job whose results are all in the store, without a process for the job: nothing is imported, built or lowered."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lowering import files, pipeline
from lowering.plain import to_plain
from lowering.record.events import History
from lowering.record.folder import EVENTS, LOG, clear, find_store
from lowering.record.result import JobResult
from lowering.store import reuse
from lowering.store.entries import Store


def replay(folder: Path, data: Mapping[str, Any], environment: Mapping[str, str]) -> JobResult | None:
    """Commit and return the result of the job of `folder`, with all its files.

    Return None if the store lacks a result. data: its job.json.
    """
    root = find_store(data, folder)
    found = reuse.find_job_entries(Store(root), data, environment) if root else None
    if found is None:
        return None
    clear(folder)
    history = History(data["model"]["name"], data["variant"])
    lines: list[str] = []

    def tell(event: Mapping[str, Any]) -> None:
        history.add(event)
        lines.append(files.encode_json({"time": round(time.time(), 3), **event}, indent=None))

    tell({"event": "begin", "pid": os.getpid()})
    try:
        for number, (name, entry) in enumerate(found, 1):
            began = time.perf_counter()
            tell({"event": "stage", "stage": name, "peak_rss_source": ""})
            done = pipeline.take_stored(entry, name, folder / f"{number:02}-{name}", tell)
            tell({"event": "stage_end", **to_plain(done), "seconds": round(time.perf_counter() - began, 6)})
        result = history.result("ok")
        tell({"event": "committed", "outcome": result.outcome})
        files.write_bytes(folder / EVENTS, files.encode("\n".join(lines) + "\n"), durable=False)
        files.write_bytes(folder / LOG, f"every stage was taken from the store {root}\n".encode(), durable=False)
        result.save(folder)
    except FileNotFoundError:  # an entry was removed in the meantime: the job's own process rebuilds it
        return None
    return result
