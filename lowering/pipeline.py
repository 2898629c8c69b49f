"""Runs the stages of a job one after the other in this process, and records what each did; whatever a model does is data, not an exception."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lowering.errors import InfraError, Problem, ShapelineError, StageFailed, Unsupported
from lowering.ir import text_files
from lowering.job import Job
from lowering.level import Level, Program
from lowering.plain import plain, structured
from lowering.record import symbols
from lowering.record.events import History
from lowering.record.failure import outcome_of, text_of
from lowering.record.folder import LOG
from lowering.record.measure import Watch
from lowering.record.result import JobResult, Remark, StageResult
from lowering.stage import Rung, Stage
from lowering.store import keys
from lowering.store.entries import Entry, Store
from lowering.store.reuse import Reuse, find
from lowering.symbols import levels

Emit = Callable[[Mapping[str, Any]], None]
REPORTS = ("symbols", "verify")


def check(stages: Mapping[str, Rung], entry: Level = Level.MODEL) -> list[Problem]:
    """Everything that is wrong with the ladder: each stage must take the level that the one before it gives."""
    if not stages:
        return [Problem("stages", "is empty", "list at least one stage in pipeline.yaml")]
    found, given, giver = [], entry, "the job's entry"
    for name, stage in stages.items():
        if stage.source is not given:
            others = [other for other, candidate in stages.items() if candidate.target is stage.source and candidate.source is not stage.source]
            found.append(Problem(f"stages.{name}", f"takes {stage.source.word}, but {giver} gives {given.word}",
                                 f"it belongs behind {others[0]}" if others else f"put a stage that gives {stage.source.word} before it"))
        elif stage.target.rank < stage.source.rank:
            found.append(Problem(f"stages.{name}", f"climbs from {stage.source.word} to {stage.target.word}", "stages go down the ladder"))
        given, giver = stage.target, name
    return found


def wanted(job: Job) -> dict[str, Stage]:
    """The job's stages up to its `until` level; ValueError when there is no such level."""
    if job.until is None:
        return dict(job.stages)
    ranks = {level.word: level.rank for level in Level}
    if job.until not in ranks:
        raise ValueError(f"until: '{job.until}' is not a level; one of {', '.join(ranks)}")
    return {name: stage for name, stage in job.stages.items() if stage.target.rank <= ranks[job.until]}


def run(job: Job, folder: Path, emit: Emit | None = None, store: Path | None = None, compress_bytes: int | None = text_files.LARGE) -> JobResult:
    """Lower `job` through its stages; each saves `NN-stage<suffix>` in `folder`, tracebacks go to its log.txt.

    `emit` gets one plain mapping an event (`stage`, `stage_end`, `warning`, `report`, `standing`) as soon as it happens. With a `store`,
    a stage whose result it holds is skipped, and what the others make is put there. Text of `compress_bytes` or more is compressed (None: none is).
    Raises nothing but KeyboardInterrupt: the result says how and where it ended. It is returned, not saved.
    """
    reuse = Reuse(Store(store), job, maker_of(folder)) if store else None
    record = _Record(folder, History(job.model.name, job.variant), emit or (lambda event: None), reuse, compress_bytes)
    try:
        stages = wanted(job)
        if problems := check(stages):
            raise StageFailed(problems)
        if job.model.libraries:  # also where every stage comes from the store: their IR is read with the libraries' schemas
            from lowering.custom import libraries  # loads torch, which many a caller of this module does without

            libraries.load(job.model)
        program = Program(Level.MODEL, job.model)
        for number, (name, stage) in enumerate(stages.items(), 1):
            program = record.step(name, stage, program, folder / f"{number:02}-{name}")
            if job.strict_dims and (lost := symbols.refused(record.history.reports.get("symbols"), record.history.standings)):
                raise StageFailed(lost)
        record.finish()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, and that is data
        return record.failed(error)
    return record.history.result("ok")


def maker_of(folder: Path) -> str:
    """What the store calls the maker of results in a job's folder: `run/job`, or the folder outside a run."""
    return f"{folder.parent.parent.name}/{folder.name}" if folder.parent.name == "jobs" else str(folder)


@dataclass
class _Record:
    """Runs single stages and tells `emit` and `history` about them. It is the `Note` that stages get."""

    folder: Path
    history: History
    emit: Emit
    reuse: Reuse | None = None
    compress_bytes: int | None = text_files.LARGE
    noted: list[Mapping[str, Any]] = field(default_factory=list)
    stem: Path = Path()
    filed: list[Path] = field(default_factory=list)

    def tell(self, event: Mapping[str, Any]) -> None:
        self.history.add(event)
        self.emit(event)

    def __call__(self, code: str, message: str, place: str = "") -> None:
        remark = Remark(code, message, place, self.history.stage)
        if remark not in self.history.remarks:
            self.say({"event": "warning", **plain(remark)})

    def report(self, key: Literal["symbols", "verify"], data: Any) -> None:
        if key not in REPORTS:
            raise ValueError(f"a stage reports {' or '.join(REPORTS)}, not '{key}'")
        self.say({"event": "report", "key": key, "data": data})

    def file(self, suffix: str, data: bytes) -> None:
        path = self.stem.with_name(self.stem.name + suffix)
        path.write_bytes(data)
        self.filed.append(path)

    def say(self, event: Mapping[str, Any]) -> None:
        """Tell what a stage says, and keep it for whoever takes the stage's result from the store."""
        self.noted.append(event)
        self.tell(event)

    def step(self, name: str, stage: Stage, program: Program, stem: Path) -> Program:
        """One stage: taken from the store, or checked, run, saved and measured; its StageResult is recorded however it ends."""
        watch = Watch()
        self.noted, self.filed, self.stem = [], [], stem
        self.tell({"event": "stage", "stage": name, "peak_rss_source": watch.source})
        done = StageResult(name, "error")
        parts = None
        try:
            if self.reuse is not None and (parts := self.reuse.parts(stage)) is not None:
                if (entry := find(self.reuse.store, keys.of(parts))) is not None:
                    done = taken(entry, name, stem, self.tell)
                    return self.reuse.take(name, entry, program)
                done = replace(done, cache="miss", key=keys.of(parts), why=self.reuse.why(name, parts))
            _clear(stem)
            with watch.phase("load"):
                _ = program.ir  # one from the store is read when it is first looked at
            with watch.phase("requires"):
                refusals = tuple(stage.requires(program))
            if refusals:
                raise Unsupported(refusals)
            with watch.phase("apply"):
                result = stage.apply(program, self)
            if result.level is not stage.target:
                raise StageFailed(Problem(name, f"gave {result.level.word} where it promises {stage.target.word}"))
            self.stand(program, result)
            with watch.phase("ensures"):
                broken = tuple(stage.ensures(result))
            saved: list[Path] = []
            try:  # a broken result is saved too: it is what one wants to look at
                with watch.phase("save"):
                    saved = [text_files.compacted(path, self.compress_bytes) for path in stage.save(result, stem)]
                    done = replace(done, artifact=saved[0].relative_to(self.folder).as_posix() if saved else None,
                                   ops=dict(stage.ops(result)))
            finally:
                if broken:
                    raise StageFailed(broken)
            done = replace(done, outcome="ok")
            with watch.phase("store"):
                self.keep(name, parts, program, result, done, stem, [*saved, *self.filed])
        except BaseException as error:
            done = replace(done, outcome=outcome_of(error)[0])
            raise
        finally:
            done = watch.stop(done)
            self.tell({"event": "stage_end", **plain(done)})
            self.remember(parts, done)
        return result

    def stand(self, given: Program, made: Program) -> None:
        """Say where the inputs stand in a new program; when the log fails at that, it is a warning."""
        try:
            standing = None if made.ir is given.ir else levels.standing_of(made)
        except Exception:  # noqa: BLE001 - what the log cannot read may still be a good program
            self("log_failed", traceback.format_exc(), f"the symbol log at level {made.level.word}")
            return
        if standing is not None:
            self.say({"event": "standing", "standing": plain(standing)})

    def keep(self, name: str, parts: dict[str, Any] | None, given: Program, made: Program, done: StageResult, stem: Path,
             saved: list[Path]) -> None:
        """Put a stage's result into the store; a store that refuses it costs a warning, not the job."""
        if self.reuse is None:
            return
        record = {"done": plain(done), "stem": stem.name, "said": list(self.noted)}
        try:
            self.reuse.keep(name, parts, given, made, record, stem, saved)
        except (OSError, InfraError) as error:
            self.reuse.lose()
            message = f"the result could not be stored, so this stage and those after it run again next time: {error}"
            self("store", message, str(self.reuse.store.root))

    def remember(self, parts: dict[str, Any] | None, done: StageResult) -> None:
        if self.reuse is not None and done.cache != "hit":
            with suppress(OSError):  # only the next run's schedule and explanations need it
                self.reuse.note(done.name, parts if done.outcome == "ok" else None, done.seconds, done.peak_rss_bytes)

    def finish(self) -> None:
        if self.reuse is not None:
            with suppress(OSError):  # the next run then looks at stage by stage
                self.reuse.finish()

    def failed(self, error: BaseException) -> JobResult:
        """The result of a job that ended in `error`; the traceback goes to the log."""
        text = text_of(error)
        if isinstance(error, ShapelineError) and error.log:
            text += f"\n{error.log.rstrip()}\n"
        try:
            with (self.folder / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"\nstage {self.history.stage}:\n{text}")
        except OSError as unwritten:
            self("log", f"the traceback could not be written: {unwritten}")
        return self.history.result(*outcome_of(error))


def taken(entry: Entry, name: str, stem: Path, tell: Emit) -> StageResult:
    """Put the files of a stored result into the job's folder, and say again what its stage said; a hit's StageResult. Raises OSError."""
    _clear(stem)
    entry.place(stem)
    for event in entry.data["said"]:
        tell({**event, "stage": name} if event["event"] == "warning" else event)
    done = structured(StageResult, entry.data["done"])
    artifact = done.artifact and done.artifact.replace(entry.data["stem"], stem.name, 1)
    return StageResult(name, "ok", cache="hit", key=entry.key, maker=entry.data["maker"], artifact=artifact, ops=done.ops)


def _clear(stem: Path) -> None:
    """Remove what an earlier attempt left: its files may share their bytes with the store, and must not be written over."""
    for path in stem.parent.iterdir():
        if path.name.removeprefix(".").startswith(stem.name):  # a draft of a file begins with a dot
            path.unlink()
