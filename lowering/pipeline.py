"""Run the stages of a job in order in this process, and record the result of each.

A model's errors become part of the result, never exceptions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lowering import ladder, tracking, trust
from lowering.errors import InfraError, Problem, StageFailed, Untrusted
from lowering.in_memory import add_twin, advance
from lowering.ir import text_files
from lowering.job import Job
from lowering.level import Level, Program
from lowering.plain import from_plain, to_plain
from lowering.record import symbols
from lowering.record.events import History
from lowering.record.failure import classify
from lowering.record.folder import OWN
from lowering.record.measure import Watch
from lowering.record.recorder import Emit, Recorder
from lowering.record.result import JobResult, StageResult
from lowering.stage import Stage
from lowering.store import executables, keys, verdicts
from lowering.store.entries import Entry, Store
from lowering.store.reuse import Reuse, Step, find

UNTRUSTED = "untrusted"  # code of the warning that a stored result was not used


def select_stages(job: Job) -> dict[str, Stage]:
    """Return the job's stages up to its `until` level. Raises ValueError if there is no such level."""
    if job.until is None:
        return dict(job.stages)
    ranks = {level.word: level.rank for level in Level}
    if job.until not in ranks:
        raise ValueError(f"until: '{job.until}' is not a level; use one of {', '.join(ranks)}")
    return {name: stage for name, stage in job.stages.items() if stage.target.rank <= ranks[job.until]}


def run(
    job: Job, folder: Path, emit: Emit | None = None, store: Path | None = None, compress_bytes: int | None = text_files.LARGE
) -> JobResult:
    """Lower `job` through its stages and return the result, without saving it.

    Each stage saves `NN-stage<suffix>` in `folder`. Tracebacks go to its log.txt.
    Never raises, except KeyboardInterrupt: the result says how and where the job ended.

    emit: called with a plain mapping for each event (`stage`, `stage_end`, `warning`, `report`, `level_inputs`) as soon as it happens.
    store: results are looked up there, in which case the stage is skipped, and new results are stored there. Only with a store are
    programs that a stage compiles taken from this user's state folder, and kept there.
    compress_bytes: texts of at least this many bytes are compressed (None: no text is).
    """
    recorder = Recorder(folder, History(job.model.name, job.variant), emit or (lambda event: None))
    client = StoreClient(None, recorder)
    runner = Runner(recorder, client, compress_bytes)
    try:
        client.reuse = Reuse(Store(store), job, name_maker(folder)) if store else None
        stages = select_stages(job)
        if problems := ladder.check(stages):
            raise StageFailed(problems)
        if job.model.libraries:  # even if every stage comes from the store: reading their IR needs the libraries' schemas
            from lowering.custom import libraries  # imports torch, which many users of this module do not need

            libraries.load(job.model)
        program = Program(Level.MODEL, job.model)
        with executables.keep(store is not None):
            for number, (name, stage) in enumerate(stages.items(), 1):
                program = runner.step(name, stage, program, folder / f"{number:02}-{name}")
                if job.strict_dims and (lost := symbols.list_refusals(recorder.history.reports.get("symbols"), recorder.history.inputs)):
                    raise StageFailed(lost)
        client.finish()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, and that becomes its result
        return recorder.fail(error)
    return recorder.history.result("ok")


def name_maker(folder: Path) -> str:
    """Return the name that the store records as the maker of a folder's results: `run/job`, or the folder if it is not in a run."""
    return f"{folder.parent.parent.name}/{folder.name}" if folder.parent.name == "jobs" else str(folder)


@dataclass(frozen=True)
class Found:
    """Result of looking up a stage in the store.

    parts: the inputs that the stage's result depends on (None: they cannot be determined, or there is no store).
    entry: the stored result, if there is one. why: if there is none, the changes since the last time.
    """

    parts: dict[str, Any] | None = None
    entry: Entry | None = None
    why: str = ""

    @property
    def key(self) -> str:
        return "" if self.parts is None else keys.compute(self.parts)


@dataclass
class StoreClient:
    """Looks up the results of a job's stages in the store, and adds new ones.

    If the store rejects one, the job gets a warning and goes on.
    """

    reuse: Reuse | None
    recorder: Recorder

    def look_up(self, name: str, stage: Stage) -> Found:
        """Look up the result of `stage` applied to the current program."""
        if self.reuse is None or (parts := self.reuse.list_parts(stage)) is None:
            return Found()
        try:
            entry = find(self.reuse.store, keys.compute(parts))
        except Untrusted as error:
            self.recorder(UNTRUSTED, str(error), str(self.reuse.store.root))
            return Found(parts, None, "the stored result cannot be trusted")
        if entry is not None:
            return Found(parts, entry)
        why, reason = self.reuse.explain_miss(name, parts), ""
        if stage.shares() == "auto":
            try:
                entry, reason = self.reuse.narrow(parts, self.recorder.stem)
            except (OSError, RuntimeError, Untrusted) as error:  # the stage then runs, and its own result is stored or not
                reason = str(error)
        return Found(parts, entry, "" if entry else f"{why}; not narrowed from wider ranges: {reason}" if reason else why)

    def check_narrowed(self, stage: Stage, found: Found) -> Sequence[Problem]:
        """List how a stored result differs from one derived from wider ranges, if the stage asks for the comparison."""
        if self.reuse is None or found.parts is None or stage.shares() != "check":
            return ()
        return [Problem(f"{self.recorder.history.stage}: share=check", difference, "report it, and use share=off for this model")
                for difference in self.reuse.list_differences(found.parts)]

    def take(self, name: str, entry: Entry, program: Program) -> Program:
        """Return the program of a stored result. It is read when a stage first accesses it."""
        assert self.reuse is not None
        return self.reuse.take(name, entry, program)

    def update(self, found: Found) -> Found:
        """Return `found` with the files and variables that the model's factory read. Reads that no key can cover become remarks."""
        module = sys.modules.get("lowering.eager.module")  # not loaded unless a stage has built a model
        ran = module.read.pop(self.reuse.job.model.name, []) if module is not None and self.reuse is not None else []
        if self.reuse is None or not ran:
            return found
        reads = tracking.Reads(set[str]().union(*(one.names for one in ran)), set[str]().union(*(one.untracked for one in ran)))
        for what in sorted(reads.untracked):
            self.recorder("untracked", f"the factory {what}: if that changes, stored results are still used; run with --no-cache then")
        return replace(found, parts=self.reuse.update(found.parts, reads))

    def keep(self, found: Found, given: Program, made: Program, done: StageResult, saved: list[Path]) -> None:
        """Store the result of a stage applied to `given`, with the files that it saved and the events that it emitted."""
        if self.reuse is None:
            return
        stem = self.recorder.stem
        said = [event for event in self.recorder.said if event.get("code") != UNTRUSTED]  # of the result that this one replaces
        record = {"done": to_plain(done), "stem": stem.name, "said": said}
        try:
            self.reuse.keep(Step(done.name, given, made, record, stem, [*saved, *self.recorder.filed]), found.parts)
        except (OSError, InfraError) as error:
            self.reuse.stop_storing()
            message = f"the result could not be stored, so this stage and all later ones will run again next time: {error}"
            self.recorder("store", message, str(self.reuse.store.root))

    def remember(self, found: Found, done: StageResult) -> None:
        """Record the dependencies and the cost of a stage that ran."""
        if self.reuse is not None and done.cache != "hit":
            with suppress(OSError):  # only the schedule and the explanations of the next run need it
                self.reuse.note(done.name, found.parts if done.outcome == "ok" else None, done.seconds, done.peak_rss_bytes)

    def finish(self) -> None:
        """Record that the whole job succeeded."""
        if self.reuse is not None:
            with suppress(OSError):  # the next run then looks up each stage by itself
                self.reuse.finish()


@dataclass
class Runner:
    """Runs single stages: takes each from the store, or checks, runs, saves and measures it. passed: the stages so far."""

    recorder: Recorder
    store: StoreClient
    compress_bytes: int | None = text_files.LARGE
    passed: dict[str, Stage] = field(default_factory=dict)

    def step(self, name: str, stage: Stage, program: Program, stem: Path) -> Program:
        """Run one stage, or take its result from the store. Its StageResult is recorded in any case."""
        watch = Watch()
        self.recorder.begin(name, stem, watch.source)
        done, found = StageResult(name, "error"), Found()
        try:
            found = self.store.look_up(name, stage)
            if found.entry is not None:
                done = take_stored(found.entry, name, stem, self.recorder.record)
                return self.store.take(name, found.entry, program)
            if found.parts is not None:
                done = replace(done, cache="miss", key=found.key, why=found.why)
            remove_leftovers(stem)
            given = add_twin(program, self.passed) if stage.takes_twin else program
            with verdicts.keep(found.parts, name_maker(self.recorder.folder)):
                result, broken = advance(name, stage, given, self.recorder, watch.phase)
            saved: list[Path] = []
            try:  # save an invalid result too: it is the one worth looking at
                with watch.phase("save"):
                    saved = [text_files.compact(path, self.compress_bytes) for path in stage.save(result, stem)]
                    done = replace(done, artifact=saved[0].relative_to(self.recorder.folder).as_posix() if saved else None,
                                   ops=dict(stage.ops(result)))
            finally:
                if broken:
                    raise StageFailed(broken)
            found = self.store.update(found)
            done = replace(done, outcome="ok", key=found.key)
            with watch.phase("store"):
                self.store.keep(found, program, result, done, saved)
                if problems := self.store.check_narrowed(stage, found):
                    raise StageFailed(problems)
        except BaseException as error:
            done = replace(done, outcome=classify(error)[0])
            raise
        finally:
            done = watch.stop(done)
            self.recorder.end(done)
            self.store.remember(found, done)
            self.passed[name] = stage
        return result


def take_stored(entry: Entry, name: str, stem: Path, tell: Emit) -> StageResult:
    """Link the files of a stored result into the job's folder, replay its events, and return the StageResult of the hit.

    Raises OSError, and Untrusted if it would replace the job's own record.
    """
    remove_leftovers(stem)
    if taken := sorted(OWN.intersection(entry.files)):
        raise Untrusted(Problem(str(entry.folder), f"holds {taken[0]}, which belongs to the job and not to a stage", "remove the result"))
    entry.place(stem)
    for event in entry.data["said"]:
        tell({**event, "stage": name} if event["event"] == "warning" else event)
    done = from_plain(StageResult, entry.data["done"])
    artifact = done.artifact and done.artifact.replace(entry.data["stem"], stem.name, 1)
    if artifact is not None:
        trust.check_name(artifact, f"{entry.folder} artifact")
    return StageResult(name, "ok", cache="hit", key=entry.key, maker=entry.data["maker"], why=_describe_narrowed(entry), artifact=artifact,
                       ops=done.ops)


def _describe_narrowed(entry: Entry) -> str:
    """Return how the ranges differ from those of the result that an entry was derived from; empty if it was made by itself."""
    narrowed = entry.data.get("narrowed", "")
    return f"narrowed: {narrowed}" if narrowed else ""


def remove_leftovers(stem: Path) -> None:
    """Remove files of an earlier attempt. They may be hard links into the store, so they must not be overwritten in place."""
    for path in stem.parent.iterdir():
        if path.name.removeprefix(".").startswith(stem.name):  # the temporary name of a file begins with a dot
            path.unlink()
