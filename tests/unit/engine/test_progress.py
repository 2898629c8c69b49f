"""What a run shows while it goes on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from flows.config.plan import Plan
from flows.config.run import Run
from flows.engine.progress import Progress
from flows.runs.begin import begin
from lowering.record.folder import EVENTS
from tests import toys


def test_a_job_that_is_tried_again_is_followed_from_its_beginning(tmp_path: Path) -> None:
    begun = begin(Run(Plan("toys", output=tmp_path), (toys.job(),)))
    shown = Progress(begun, io.StringIO())
    (row,) = shown.rows.values()
    events = begun.job_folder(begun.ids[0]) / EVENTS

    def attempt(*stages: str) -> None:
        lines = [json.dumps({"event": "begin", "time": 1.0, "pid": 1}),
                 *(json.dumps({"event": "stage", "time": 2.0, "stage": stage}) for stage in stages)]
        events.write_text("\n".join(lines) + "\n")
        shown.look()
        shown.look()

    attempt("export", "script")
    assert row.stage == "script"
    attempt("export")  # shorter
    assert row.stage == "export"
    attempt("a stage with a longer name", "script", "torch")  # longer, and other lines
    assert row.stage == "torch"


def test_a_closed_output_does_not_end_the_run(tmp_path: Path) -> None:
    begun = begin(Run(Plan("toys", output=tmp_path), (toys.job(),)))
    stream = io.StringIO()
    stream.close()
    shown = Progress(begun, stream)
    with shown:
        shown.look()
    shown.conclude(begun.results(), 0, 1.0)
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it raises
    shown = Progress(begun, full)
    shown.line("text")
    assert shown.silent
    shown.line("more")
    with pytest.raises(OSError, match="No space left"):
        full.close()
