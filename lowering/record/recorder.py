"""The log of stages: every event is emitted immediately and added to the job's history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from lowering.errors import ShapelineError
from lowering.plain import to_plain
from lowering.record.events import History
from lowering.record.failure import classify, format_traceback
from lowering.record.folder import LOG
from lowering.record.result import JobResult, Remark, StageResult
from lowering.stage import Report

Emit = Callable[[Mapping[str, Any]], None]
REPORTS: tuple[Report, ...] = get_args(Report)


@dataclass
class Recorder:
    """The `Note` passed to stages. said, filed: events that the current stage emitted, and files that it wrote through `file`."""

    folder: Path
    history: History
    emit: Emit
    said: list[Mapping[str, Any]] = field(default_factory=list)
    filed: list[Path] = field(default_factory=list)
    stem: Path = Path()

    def __call__(self, code: str, message: str, place: str = "") -> None:
        remark = Remark(code, message, place, self.history.stage)
        if remark not in self.history.remarks:
            self.record_in_stage({"event": "warning", **to_plain(remark)})

    def report(self, key: Report, data: Any) -> None:
        if key not in REPORTS:
            raise ValueError(f"'{key}' is not a report of a stage; use {', '.join(REPORTS)}")
        self.record_in_stage({"event": "report", "key": key, "data": data})

    def file(self, suffix: str, data: bytes) -> None:
        path = self.stem.with_name(self.stem.name + suffix)
        path.write_bytes(data)
        self.filed.append(path)

    def begin(self, name: str, stem: Path, peak_rss_source: str) -> None:
        """Begin a stage, whose files are written beside `stem`."""
        self.said, self.filed, self.stem = [], [], stem
        self.record({"event": "stage", "stage": name, "peak_rss_source": peak_rss_source})

    def end(self, done: StageResult) -> None:
        """Record the end of the stage."""
        self.record({"event": "stage_end", **to_plain(done)})

    def record(self, event: Mapping[str, Any]) -> None:
        """Add an event to the history and emit it."""
        self.history.add(event)
        self.emit(event)

    def record_in_stage(self, event: Mapping[str, Any]) -> None:
        """Record an event of the current stage, so that it can be replayed when the stage's result is taken from the store."""
        self.said.append(event)
        self.record(event)

    def fail(self, error: BaseException) -> JobResult:
        """Return the result of a job that ended with `error`, and write the traceback to the log."""
        text = format_traceback(error)
        if isinstance(error, ShapelineError) and error.log:
            text += f"\n{error.log.rstrip()}\n"
        try:
            with (self.folder / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"\nstage {self.history.stage}:\n{text}")
        except OSError as unwritten:
            self("log", f"the traceback could not be written: {unwritten}")
        return self.history.result(*classify(error))


@dataclass
class UnfiledRecorder(Recorder):
    """A recorder without a folder: files that stages write beside their results are dropped."""

    def file(self, suffix: str, data: bytes) -> None:
        pass
