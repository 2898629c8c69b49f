"""Runs the stages of a job one after the other in this process, and records what each did; whatever a model does is data, not an exception."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lowering.errors import InfraError, Problem, StageFailed, Unsupported
from lowering.ir import text_files
from lowering.job import Job
from lowering.level import Level, Program
from lowering.plain import plain, structured
from lowering.record import symbols
from lowering.record.events import History
from lowering.record.failure import outcome_of
from lowering.record.measure import Watch
from lowering.record.recorder import Emit, Recorder
from lowering.record.result import JobResult, StageResult
from lowering.stage import Rung, Stage
from lowering.store import keys
from lowering.store.entries import Entry, Store
from lowering.store.reuse import Reuse, find
from lowering.symbols import levels


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
    recorder = Recorder(folder, History(job.model.name, job.variant), emit or (lambda event: None))
    client = StoreClient(reuse, recorder)
    runner = Runner(recorder, client, compress_bytes)
    try:
        stages = wanted(job)
        if problems := check(stages):
            raise StageFailed(problems)
        if job.model.libraries:  # also where every stage comes from the store: their IR is read with the libraries' schemas
            from lowering.custom import libraries  # loads torch, which many a caller of this module does without

            libraries.load(job.model)
        program = Program(Level.MODEL, job.model)
        for number, (name, stage) in enumerate(stages.items(), 1):
            program = runner.step(name, stage, program, folder / f"{number:02}-{name}")
            if job.strict_dims and (lost := symbols.refused(recorder.history.reports.get("symbols"), recorder.history.standings)):
                raise StageFailed(lost)
        client.finish()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, and that is data
        return recorder.fail(error)
    return recorder.history.result("ok")


def maker_of(folder: Path) -> str:
    """What the store calls the maker of results in a job's folder: `run/job`, or the folder outside a run."""
    return f"{folder.parent.parent.name}/{folder.name}" if folder.parent.name == "jobs" else str(folder)


@dataclass(frozen=True)
class Found:
    """What the store has for a stage. parts: what the stage's result depends on (None: it cannot be told, or there is no store).

    entry: the stored result; why: what changed since the last time, where there is none.
    """

    parts: dict[str, Any] | None = None
    entry: Entry | None = None
    why: str = ""

    @property
    def key(self) -> str:
        return "" if self.parts is None else keys.of(self.parts)


@dataclass
class StoreClient:
    """Looks up results of a job's stages in the store, and puts them there. A store that refuses one costs a warning, not the job."""

    reuse: Reuse | None
    recorder: Recorder

    def look_up(self, name: str, stage: Stage) -> Found:
        """Find the result of `stage` on the program reached."""
        if self.reuse is None or (parts := self.reuse.parts(stage)) is None:
            return Found()
        entry = find(self.reuse.store, keys.of(parts))
        return Found(parts, entry, "" if entry else self.reuse.why(name, parts))

    def take(self, name: str, entry: Entry, program: Program) -> Program:
        """The program that a stored result stands for, read when a stage looks at it."""
        assert self.reuse is not None
        return self.reuse.take(name, entry, program)

    def keep(self, found: Found, given: Program, made: Program, done: StageResult, saved: list[Path]) -> None:
        """Put what a stage made of `given`, the files it saved, and what it said into the store."""
        if self.reuse is None:
            return
        stem = self.recorder.stem
        record = {"done": plain(done), "stem": stem.name, "said": list(self.recorder.said)}
        try:
            self.reuse.keep(done.name, found.parts, given, made, record, stem, [*saved, *self.recorder.filed])
        except (OSError, InfraError) as error:
            self.reuse.lose()
            message = f"the result could not be stored, so this stage and those after it run again next time: {error}"
            self.recorder("store", message, str(self.reuse.store.root))

    def remember(self, found: Found, done: StageResult) -> None:
        """Remember what a stage that ran was made of and took."""
        if self.reuse is not None and done.cache != "hit":
            with suppress(OSError):  # only the next run's schedule and explanations need it
                self.reuse.note(done.name, found.parts if done.outcome == "ok" else None, done.seconds, done.peak_rss_bytes)

    def finish(self) -> None:
        """Remember the whole job, which ended well."""
        if self.reuse is not None:
            with suppress(OSError):  # the next run then looks at stage by stage
                self.reuse.finish()


@dataclass
class Runner:
    """Runs single stages: each is taken from the store, or checked, run, saved and measured."""

    recorder: Recorder
    store: StoreClient
    compress_bytes: int | None = text_files.LARGE

    def step(self, name: str, stage: Stage, program: Program, stem: Path) -> Program:
        """Run one stage, or take its result from the store; its StageResult is recorded however it ends."""
        watch = Watch()
        self.recorder.begin(name, stem, watch.source)
        done, found = StageResult(name, "error"), Found()
        try:
            found = self.store.look_up(name, stage)
            if found.entry is not None:
                done = taken(found.entry, name, stem, self.recorder.record)
                return self.store.take(name, found.entry, program)
            if found.parts is not None:
                done = replace(done, cache="miss", key=found.key, why=found.why)
            _clear(stem)
            result = self.apply(name, stage, program, watch)
            with watch.phase("ensures"):
                broken = tuple(stage.ensures(result))
            saved: list[Path] = []
            try:  # a broken result is saved too: it is what one wants to look at
                with watch.phase("save"):
                    saved = [text_files.compacted(path, self.compress_bytes) for path in stage.save(result, stem)]
                    done = replace(done, artifact=saved[0].relative_to(self.recorder.folder).as_posix() if saved else None,
                                   ops=dict(stage.ops(result)))
            finally:
                if broken:
                    raise StageFailed(broken)
            done = replace(done, outcome="ok")
            with watch.phase("store"):
                self.store.keep(found, program, result, done, saved)
        except BaseException as error:
            done = replace(done, outcome=outcome_of(error)[0])
            raise
        finally:
            done = watch.stop(done)
            self.recorder.end(done)
            self.store.remember(found, done)
        return result

    def apply(self, name: str, stage: Stage, program: Program, watch: Watch) -> Program:
        """Apply a stage to a program that it takes; the result is of the level that it promises."""
        with watch.phase("load"):
            _ = program.ir  # one from the store is read when it is first looked at
        with watch.phase("requires"):
            refusals = tuple(stage.requires(program))
        if refusals:
            raise Unsupported(refusals)
        with watch.phase("apply"):
            result = stage.apply(program, self.recorder)
        if result.level is not stage.target:
            raise StageFailed(Problem(name, f"gave {result.level.word} where it promises {stage.target.word}"))
        if result.ir is not program.ir:
            self.report_standing(result)
        return result

    def report_standing(self, made: Program) -> None:
        """Say where the inputs stand in a new program; when the log fails at that, it is a warning."""
        try:
            standing = levels.standing_of(made)
        except Exception:  # noqa: BLE001 - what the log cannot read may still be a good program
            self.recorder("log_failed", traceback.format_exc(), f"the symbol log at level {made.level.word}")
            return
        if standing is not None:
            self.recorder.say({"event": "standing", "standing": plain(standing)})


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
