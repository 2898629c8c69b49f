"""One suite of jobs that do their worst, with good ones between them: each gets its own outcome and stage, on every engine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.chaos import runs

WAYS = {
    "ok#1": ("ok", "torch"), "segfault": ("crash", "script"), "abort": ("crash", "script"), "os._exit": ("crash", "script"),
    "loop in C": ("timeout", "script"), "loop in Python": ("timeout", "script"), "ok#2": ("ok", "torch"), "blow up": ("oom", "script"),
    "garbage": ("ok", "torch"), "raise": ("error", "script"), "unreadable": ("error", "script"), "hang at exit": ("ok", "torch"),
    "die at exit": ("ok", "torch"), "unsupported": ("unsupported", "script"), "disk full": ("infra", "script"), "ok#3": ("ok", "torch"),
}  # fmt: skip


@pytest.mark.chaos
@pytest.mark.parametrize("runner", ["threads", "dask", "ray"])
def test_every_bad_end_is_one_outcome_and_touches_no_other_job(tmp_path: Path, runner: str) -> None:
    if runner != "threads" and importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"prefect-{runner} is not installed: pip install 'shapeline[{runner}]'")
    runs.finish(runs.start(tmp_path, list(WAYS), runner, stage_seconds=20.0, embedded=True), tmp_path)
    found = {model: (job["outcome"], job["stage"]) for model, job in runs.jobs(tmp_path).items()}
    assert found == {way.replace(" ", "-").replace("#", "-"): end for way, end in WAYS.items()}
