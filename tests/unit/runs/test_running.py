"""A run that a process works on is left alone, also if it has a report already."""

from __future__ import annotations

import fcntl
import os
import shutil

from flows.history import retention
from flows.history.retention import Keep
from flows.runs import record
from flows.runs.record import Record
from lowering import files
from tests.unit.runs.foreign import edit


def test_a_run_in_progress_is_not_removed(run: Record) -> None:
    newer = run.folder.with_name("20020101T000000Z-toys")
    shutil.copytree(run.folder, newer, symlinks=True)
    edit(run.folder / "report.json", started="2001-01-01T00:00:00+00:00")
    edit(newer / "report.json", run=newer.name, started="2002-01-01T00:00:00+00:00")
    (removal,) = retention.plan(run.folder.parent, Keep(runs=1))
    lock = files.open_lock(run.folder / record.LOCK)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert record.is_running(run.folder)
    assert retention.plan(run.folder.parent, Keep(runs=1)) == []
    retention.apply([removal])
    assert (run.folder / "report.json").exists()
    os.close(lock)
    assert not record.is_running(run.folder)
    retention.apply(retention.plan(run.folder.parent, Keep(runs=1)))
    assert not run.folder.exists()
