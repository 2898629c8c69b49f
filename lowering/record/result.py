"""Results of jobs as data: frozen, to and from JSON. A JobResult is the job's manifest and its row in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lowering import files, trust
from lowering.errors import Problem
from lowering.fitting import find_misfit
from lowering.plain import from_plain, to_plain
from lowering.record.folder import LOG, MANIFEST, REPRO, TIMINGS
from lowering.symbols import schema, views

# All outcomes of a job. `infra` and `not_run` say nothing about the model.
OUTCOMES = ("ok", "unsupported", "error", "mismatch", "crash", "timeout", "oom", "load_error", "infra", "not_run")

UNJUDGED = ("infra", "not_run")
SOURCE_UNVERIFIED = ("source_not_run", "source_unverified")  # warnings of a source in MLIR, of which nothing or only a part is verified
DELIVERED = "mhlo"  # the level that a comparison must include
UNSPECIFIED = "unspecified"  # expected outcome of a job that the expectations do not list yet

START = "start"  # the stage of a job that ended before its first stage began


def describe_changes(changes: Mapping[str, Any]) -> str:
    """Return the changes of a config as text: `num_hidden_layers 2, hidden_size 64`."""
    return ", ".join(f"{key} {value}" for key, value in changes.items()) or "the same config"


@dataclass(frozen=True)
class Remark:
    """A recorded warning. code: a short, stable word; place: a user line, dim or op; stage: where it was raised."""

    code: str
    message: str
    place: str = ""
    stage: str = ""


@dataclass(frozen=True)
class StageResult:
    """Result of one stage of a job.

    seconds: wall time; peak_rss_bytes: highest resident size of the process during the stage.
    cache: `off`, `hit` (taken from the store, where `maker`, a `run/job`, had put it) or `miss` (`why`: changes since the last time).
    key: key of the result in the store. artifact: main file, relative to the job's folder; ops: occurrences by op name.
    phases: seconds of load (of a program from the store), requires, apply, ensures, save and store.
    """

    name: str
    outcome: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_bytes: int | None = None
    cache: str = "off"
    key: str = ""
    maker: str = ""
    why: str = ""
    artifact: str | None = None
    ops: Mapping[str, int] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Expectation:
    """Expected end of a job: its `outcome` (or UNSPECIFIED), its `stage` (empty: any), and the reason. strict: a pass does not meet it."""

    outcome: str = "ok"
    stage: str = ""
    reason: str = ""
    strict: bool = True

    def met(self, outcome: str, stage: str) -> bool:
        """Return whether an end meets the expectation. `infra` and `not_run` say nothing about a model, so they meet none."""
        if outcome in UNJUDGED:
            return False
        if self.outcome == UNSPECIFIED or (outcome == "ok" and not self.strict):
            return True
        return outcome == self.outcome and (outcome == "ok" or self.stage in ("", stage))

    def __str__(self) -> str:
        return f"{self.outcome} in {self.stage}" if self.stage and self.outcome != "ok" else self.outcome


@dataclass(frozen=True)
class JobResult:
    """Result of a job. stage: the last one that began; seconds: wall time of all stages; problems: all reasons why it is not ok.

    symbols, verify and buckets hold the reports of the stages. peak_rss_source says how the peaks of the stages were measured
    (`VmHWM`: reset for each stage; `ru_maxrss`: high-water mark since the process began). log and repro are files of the job's folder.
    """

    id: str
    model: str
    variant: str
    outcome: str
    stage: str = START
    expect: Expectation = Expectation()
    seconds: float = 0.0
    peak_rss_bytes: int | None = None
    peak_rss_source: str = ""
    stages: tuple[StageResult, ...] = ()
    symbols: Any = field(default_factory=dict)
    warnings: tuple[Remark, ...] = ()
    verify: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    log: str = LOG
    repro: str = REPRO
    buckets: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"{self.id}: '{self.outcome}' is not an outcome; use one of {', '.join(OUTCOMES)}")

    @property
    def as_expected(self) -> bool:
        return self.expect.met(self.outcome, self.stage)

    @property
    def expected(self) -> str:
        """The expected outcome, or UNSPECIFIED."""
        return self.expect.outcome

    @property
    def unverified(self) -> str:
        """Why an `ok` job is unverified, or verified less strictly than by default; empty for verified jobs and failed ones."""
        if self.outcome != "ok":
            return ""
        if source := next((remark.message for remark in self.warnings if remark.code in SOURCE_UNVERIFIED), ""):
            return source
        points = self.verify.get("points") if isinstance(self.verify, Mapping) else None
        held = [point.get("levels") for point in points] if isinstance(points, list | tuple) else None
        levels = None if held is None else {level for one in held if isinstance(one, Mapping) for level in one}
        if levels is not None:
            levels |= self._list_agreeing({level.partition(" on ")[0] for level in levels})
        if not points or levels == set():
            return "no level was compared with eager"
        if levels is not None and not any(level.partition(" on ")[0] == DELIVERED for level in levels):
            return f"the {DELIVERED} level was not compared with eager, only {', '.join(sorted(levels))}"
        if uncompared := self.verify.get("uncompared"):
            return f"no number was compared of {', '.join(uncompared)}"
        if weakened := self.verify.get("weakened"):
            listed = ", ".join(f"{dtype} ({reason})" if reason else dtype for dtype, reason in weakened.items())
            return f"tolerances were weakened: {listed}"
        return ""

    def _list_agreeing(self, levels: set[str]) -> set[str]:
        """Return the consumers that agree with eager, as `LEVEL:CONSUMER`, but for those of the `levels` that are compared anyway."""
        cells = self.verify.get("consumers")
        found = [cell for cell in cells if isinstance(cell, Mapping)] if isinstance(cells, list | tuple) else []
        return {f"{cell.get('level')}:{cell.get('consumer')}" for cell in found
                if cell.get("outcome") == "agrees" and cell.get("level") not in levels}

    @property
    def verified_on(self) -> str:
        """The changes of the twin that was verified in place of a model without weights; empty for others."""
        changes = self.verify.get("twin") if isinstance(self.verify, Mapping) else None
        return f"a twin with {describe_changes(changes)}" if self.outcome == "ok" and changes is not None else ""

    def to_json(self) -> dict[str, Any]:
        return {**to_plain(self), "expected": self.expected, "as_expected": self.as_expected, "unverified": self.unverified,
                "verified_on": self.verified_on}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> JobResult:
        return from_plain(JobResult, data)

    def save(self, folder: Path) -> None:
        """Write timings.json, symbols.json with its pages and, last and atomically, manifest.json, which commits the result.

        Raises OSError.
        """
        files.write(folder / TIMINGS, {
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "peak_rss_source": self.peak_rss_source,
            "stages": {
                stage.name: {"seconds": stage.seconds, "cpu_seconds": stage.cpu_seconds, "peak_rss_bytes": stage.peak_rss_bytes,
                             "phases": stage.phases}
                for stage in self.stages
            },
        })
        files.write(folder / schema.FILE, self.symbols)
        if isinstance(self.symbols, Mapping) and self.symbols.get("schema") == schema.SCHEMA:
            views.save(schema.SymbolRecord.from_json(self.symbols), folder)
        files.write(folder / MANIFEST, self.to_json())

    @staticmethod
    def load(folder: Path) -> JobResult | None:
        """Load the committed result of the job in `folder`. Return None if there is none, or it cannot be read.

        Raises Untrusted if it names a file outside of the folder.
        """
        try:
            data = files.read(folder / MANIFEST)
        except (OSError, ValueError):
            return None
        if explain_misfit(data):
            return None
        found = JobResult.from_json(data)
        place = str(folder / MANIFEST)
        for key, name in (("log", found.log), ("repro", found.repro), *(("artifact", stage.artifact) for stage in found.stages)):
            if name is not None:
                trust.check_name(name, f"{place} {key}")
        return found


@dataclass(frozen=True)
class _Verified:
    """The parts of the report of verify that readers of results use."""

    points: tuple[Mapping[str, Any], ...] | int = ()
    uncompared: tuple[str, ...] = ()
    weakened: Mapping[str, str | None] = field(default_factory=dict)
    max_abs: float | str | None = None
    max_rel: float | str | None = None


def explain_misfit(data: Any) -> str:
    """Return the key and the cause for which `data` is not a result as JSON; empty if it is one."""
    misfit = find_misfit(JobResult, data)
    symbols = None if misfit else data.get("symbols")
    if not misfit and (inner := find_misfit(_Verified, data.get("verify", {}))):
        misfit = f"verify.{inner}"
    if not misfit and isinstance(symbols, Mapping) and symbols.get("schema") == schema.SCHEMA:
        misfit = find_misfit(schema.SymbolRecord, symbols)
    elif not misfit and symbols and not isinstance(symbols, Mapping):
        misfit = "symbols: is not a mapping"
    if not misfit and data["outcome"] not in OUTCOMES:
        misfit = f"outcome: {data['outcome']!r:.60} is not an outcome"
    return misfit


def explain_unreadable(folder: Path) -> str:
    """Return why the manifest of the job in `folder` cannot be read; empty if there is none."""
    try:
        return explain_misfit(files.read(folder / MANIFEST))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"


def add_remark(result: JobResult, remark: Remark) -> JobResult:
    return replace(result, warnings=(*result.warnings, remark))


def build_not_run(model: str, variant: str, cause: str = "no result was recorded") -> JobResult:
    """Return the row of a job without a result. cause: why there is none."""
    problem = Problem("run", cause, "run the job again")
    return JobResult(f"{model}--{variant}", model, variant, "not_run", problems=(problem,))
