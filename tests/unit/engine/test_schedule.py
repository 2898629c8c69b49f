"""The order in which the jobs of a run start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.engine import schedule
from flows.runs.record import Record
from lowering import files
from lowering.record.folder import JOB


def test_the_widest_ranges_of_a_model_start_first(tmp_path: Path) -> None:
    run, jobs = Record(tmp_path, {}), list[str]()

    def add(job: str, model: str, largest: int | None, decompose: str = "lazy") -> None:
        data: dict[str, Any] = {"model": {"name": model, "symbols": {"seq": {"min": 1, "max": largest, "multiple_of": 1}}},
                                "stages": {"export": {"decompose": decompose}, "mhlo": {"bounds": job.endswith("bounds")}}}
        run.job_folder(job).mkdir(parents=True)
        files.write(run.job_folder(job) / JOB, data)
        jobs.append(job)

    for size in (64, 128, None):
        add(f"bert-{size}", "bert", size)
        add(f"bert-{size}-bounds", "bert", size)
        add(f"bert-{size}-core", "bert", size, "core")
    add("gpt2", "gpt2", 64)
    run.job_folder("lost").mkdir(parents=True)
    jobs.append("lost")
    widest = ["bert-None", "bert-None-bounds", "bert-None-core"]
    assert schedule.sort_widest_first(jobs, run) == widest + [job for job in jobs if job not in widest]
