"""Supervision of one job in one child process: a deadline for each stage, a memory limit, and a result in every case."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lowering import clock, files
from lowering.environments import Environment
from lowering.errors import InfraError, Problem
from lowering.plain import from_plain
from lowering.record.events import History
from lowering.record.folder import EVENTS, JOB, LOG, Limits, clear
from lowering.record.result import START, UNJUDGED, JobResult, Remark, add_remark
from lowering.worker import client, native, replay, stacks
from lowering.worker.child import DISK_FAILED
from lowering.worker.processes import measure_tree

TICK = 0.05  # seconds between two checks of a child: memory allocated in that time overshoots the limit
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def lower(folder: Path, limits: Limits = Limits(), environment: Mapping[str, str] | None = None) -> JobResult:
    """Run the prepared job of `folder` in a child process. Return its result, which is also saved there as manifest.json.

    Anything that the child does is an outcome, and so are errors around it (`infra`). Raises only if job.json cannot be read.
    """
    data = files.read(folder / JOB)
    watch = _Watch(folder, limits, History(data["model"]["name"], data["variant"]))
    try:
        if (result := replay.replay(folder, data, environment or {})) is not None:
            return result
        clear(folder)
        if limits.deadline is not None and clock.now() >= limits.deadline:
            return watch.build_failed("not_run", Problem("run", "the deadline had passed before the job began", "raise limits.run_seconds"))
        asked = from_plain(Environment, data["environment"]) if data.get("environment") else None
        server = client.get_server(asked, limits.deadline)
        result = watch.follow(server.fork(folder, environment or {}, limits.start_seconds))
    except InfraError as error:
        result = watch.build_failed("infra", *error.problems, log=error.log)
    except OSError as error:
        result = watch.build_failed("infra", Problem(str(error.filename or folder), f"{error.strerror or error}", "check the disk"))
    return result


def save_lost(folder: Path, outcome: str, *problems: Problem) -> JobResult:
    """Save and return the result of a job that nobody watches, from its events. Raises OSError if job.json cannot be read."""
    data = files.read(folder / JOB)
    watch = _Watch(folder, Limits(), History(data["model"]["name"], data["variant"]))
    for event in watch.events.lines():
        watch.history.add(event)
    return watch.build_failed(outcome, *problems)


_unsaved: dict[Path, JobResult] = {}  # results that this process could not save, by folder


def save_unsaved() -> None:
    """Try again to save the results that a full disk refused, where the job has none that counts."""
    while _unsaved:
        folder, result = _unsaved.popitem()
        with suppress(OSError):
            if JobResult.load(folder) is None:
                result.save(folder)


class _Watch:
    """Follows one child from its fork to its result."""

    def __init__(self, folder: Path, limits: Limits, history: History):
        self.folder, self.limits, self.history = folder, limits, history
        self.events = files.Tail(folder / EVENTS)
        self.since, self.peak, self.kernel_kills = time.monotonic(), 0, _count_kernel_kills()
        self.until: float | None = None  # time when the stage was given up

    def follow(self, child: client.Child) -> JobResult:
        self.since = time.monotonic()  # excludes the start of a cold server
        try:
            while (code := child.wait(TICK)) is None:
                self.look(child.pid)
                if reason := self.over_limit():
                    return self.stop(child, *reason)
        finally:
            child.kill()
            child.close()
            self.look(child.pid)
        committed = JobResult.load(self.folder)
        return self.judge_exit(code) if committed is None else self.accept(committed, code)

    def look(self, pid: int) -> None:
        """Read the new events and the current memory."""
        for event in self.events.lines():
            self.history.add(event)
            if event["event"] in ("stage", "stage_end", "committed"):
                self.since = time.monotonic()
            if event["event"] == "stage":
                self.peak = 0
        self.peak = max(self.peak, measure_tree(pid))

    def over_limit(self) -> tuple[str, str] | None:
        spent = time.monotonic() - self.since
        if self.history.committed:
            return ("exit", "") if spent > self.limits.exit_seconds else None
        if self.limits.memory_bytes is not None and self.peak > self.limits.memory_bytes:
            return "oom", f"its processes hold {_format_mib(self.peak)}, more than the cap of {_format_mib(self.limits.memory_bytes)}"
        if self.limits.deadline is not None and clock.now() > self.limits.deadline:
            return "not_run", "the run's deadline passed"
        if spent > self.limits.stage_seconds:
            return "timeout", f"took longer than {self.limits.stage_seconds:g} s"
        return None

    def stop(self, child: client.Child, outcome: str, cause: str) -> JobResult:
        """Kill a child that exceeded a limit; at a deadline, dump its stacks first. A result that it commits from now on is ignored."""
        self.until = time.monotonic()
        committed = JobResult.load(self.folder)
        dying = stacks.find_stacks(self.folder / LOG) if outcome == "timeout" else ""
        if outcome in ("timeout", "exit"):
            self.log(f"stage {self.history.stage}: {cause or 'did not exit after its result was committed'}; the stacks of its threads:")
            size = files.measure_size(self.folder / LOG)
            child.dump_stacks()
            _wait_until(lambda: files.measure_size(self.folder / LOG) > size, 1.0)
            self.log(native.read_stacks(child.pid))
        child.kill()
        code = child.wait(10.0)
        if committed is not None:
            return self.accept(committed, code)
        if dying:  # signal handlers can hang on a lock that was held at the crash
            cause = " ".join(filter(None, ("crashed, and hung while writing its stacks", stacks.describe_crash(dying))))
            return self.build_failed("crash", Problem(self.history.stage, cause, "see the stacks in the log"))
        fix = {"oom": "raise limits.memory_bytes", "not_run": "raise limits.run_seconds"}.get(
            outcome, "see the stacks in the log, or raise limits.stage_seconds")
        return self.build_failed(outcome, Problem(self.history.stage, cause, fix))

    def judge_exit(self, code: int) -> JobResult:
        """Return the result of a child that exited without one."""
        stage = self.history.stage
        if code == DISK_FAILED:
            fix = "check the disk; the log may have details"
            return self.build_failed("infra", Problem(str(self.folder), "the record could not be written", fix))
        if code >= 0:
            return self.build_failed("crash", Problem(stage, f"the process exited with code {code} and no result", "see the log"))
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        if -code == signal.SIGKILL and _count_kernel_kills() > self.kernel_kills:
            cause = f"killed by the kernel because memory ran out, at {_format_mib(self.peak)}"
            return self.build_failed("oom", Problem(stage, cause, "run fewer jobs at a time: cluster.workers"))
        if -code in FROM_OUTSIDE:
            return self.build_failed("infra", Problem(stage, f"killed from outside by {name}", "run the job again"))
        where = stacks.describe_crash(stacks.find_stacks(self.folder / LOG))
        return self.build_failed("crash", Problem(stage, f"the process died of {name}{where and f' {where}'}", "see the stacks in the log"))

    def accept(self, result: JobResult, code: int | None) -> JobResult:
        """Return a committed result, which counts however the process ended. An unclean exit adds a warning."""
        if not code:
            return result
        how = "hung at exit and was killed" if code == -signal.SIGKILL else f"ended with {code} at exit"
        kept = add_remark(result, Remark("exit", f"the process {how}, after its result was committed", stage=result.stage))
        try:
            kept.save(self.folder)
        except OSError:
            return result  # the result in the manifest
        return kept

    def build_failed(self, outcome: str, *problems: Problem, log: str = "") -> JobResult:
        """Build the result of a job whose child committed none, from its events. It is saved if the disk allows it."""
        if self.history.running and self.history.stage != START:
            self.history.add({"event": "stage_end", "name": self.history.stage, "outcome": outcome, "peak_rss_bytes": self.peak or None,
                              "seconds": round((self.until or time.monotonic()) - self.since, 6)})
        committed = JobResult.load(self.folder)
        if committed is not None and committed.outcome not in UNJUDGED:  # just before its process or the server died
            return committed
        result = self.history.result(outcome, problems)
        self.log("\n".join([*(f"{outcome}: {problem}" for problem in problems), log]))
        try:
            result.save(self.folder)
        except OSError as error:
            unsaved = Problem(str(self.folder), f"the record could not be written: {error.strerror}", "check the disk")
            result = _unsaved[self.folder] = replace(result, outcome="infra", problems=(*result.problems, unsaved))
        return result

    def log(self, text: str) -> None:
        try:
            with (self.folder / LOG).open("a", encoding="utf-8") as log:
                log.write(f"\n{text.rstrip()}\n")
        except OSError:
            return  # the manifest fails on the same disk, and that error is reported


def _wait_until(met: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not met() and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.05)


def _format_mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def _count_kernel_kills() -> int:
    """Count the processes that the kernel has killed for lack of memory, on this machine and in this control group."""
    total = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        if Path(path).exists():
            total += sum(int(line.split()[1]) for line in Path(path).read_text().splitlines() if line.startswith("oom_kill "))
    return total
