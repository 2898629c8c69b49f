"""The state of a job derived from its events, both in the process that runs it and in the one that watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lowering.errors import Problem
from lowering.plain import from_plain
from lowering.record.result import START, JobResult, Remark, StageResult
from lowering.record.symbols import add_levels


@dataclass
class History:
    """Accumulates events into a result.

    Events, in the order they occur: `stage` {stage, peak_rss_source}, `warning` (a Remark), `report` {key, data},
    `level_inputs` (state of the inputs at a stage's level), `stage_end` (a StageResult), `committed` {outcome}. Others are ignored.
    """

    model: str
    variant: str
    stage: str = START
    running: bool = True
    committed: bool = False
    stages: list[StageResult] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    reports: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by stage
    peak_rss_source: str = ""

    def add(self, event: Mapping[str, Any]) -> None:
        """Add the next event of the job."""
        match event["event"]:
            case "stage":
                self.stage, self.running, self.peak_rss_source = event["stage"], True, event["peak_rss_source"]
            case "stage_end":
                self.running = False
                self.stages.append(from_plain(StageResult, event))
            case "warning":
                self.remarks.append(from_plain(Remark, event))
            case "report":
                self.reports[event["key"]] = event["data"]
            case "level_inputs":
                self.inputs[self.stage] = event["level_inputs"]
            case "committed":
                self.committed = True

    def result(self, outcome: str, problems: tuple[Problem, ...] = ()) -> JobResult:
        """Return the result of a job that ended like this after its last event."""
        peaks = [stage.peak_rss_bytes for stage in self.stages if stage.peak_rss_bytes]
        symbols, remarks = add_levels(self.reports.get("symbols", {}), self.inputs)
        return JobResult(
            f"{self.model}--{self.variant}", self.model, self.variant, outcome, self.stage, problems=problems,
            seconds=round(sum(stage.seconds for stage in self.stages), 6), peak_rss_bytes=max(peaks, default=None),
            peak_rss_source=self.peak_rss_source, stages=tuple(self.stages), symbols=symbols,
            verify=self.reports.get("verify", {}), buckets=self.reports.get("buckets", ()),
            warnings=tuple(dict.fromkeys((*self.remarks, *remarks))),
        )
