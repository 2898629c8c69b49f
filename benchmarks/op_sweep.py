"""Many trials in child processes: a crash or a hang costs one op its row, never another's."""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import torch

from benchmarks import module_samples, op_samples, op_trial, op_value_trial
from benchmarks.op_samples import Sample
from benchmarks.op_trial import Trial
from lowering.plain import from_plain, to_plain

Tell = Callable[[str], None]  # hears of each stage before it begins

_STAGE = "stage: "
_SPARE = 6  # further samples of a task, tried where the first ones tell nothing
BATCH = 24  # ops a child; each child starts XLA once
MEMORY = 8 << 30  # bytes of data that a child may hold: what wants more fails by itself, and takes nothing else on the machine with it
_SEVERITY = ("crash", "timeout", "mismatch", "error", "unsupported", "not_compared", "ok", "static", "not_exported", "load_error",
             "no_sample")


@dataclass(frozen=True)
class Task:
    """An op at a dtype, or a module at a dtype and mode, and how many of its samples to try. suite: one of SUITES."""

    op: str
    dtype: str
    count: int = 1
    suite: str = "ops"


@dataclass
class _Child:
    """A forked process that works through `tasks` and writes a line when it begins one, and one when it has ended it."""

    tasks: list[Task]
    pid: int = 0
    pipe: int = -1
    errors: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    text: bytes = b""
    began: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        self.pipe, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.pipe)
            _work(self.tasks, write, self.errors)
        os.close(write)
        self.began = time.monotonic()

    def kill(self) -> None:
        """Kill the child and its descendants, so that none holds the pipe open or runs on."""
        for kill in (os.killpg, os.kill):
            try:
                kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # not yet a group of its own


def sweep(tasks: Sequence[Task], workers: int, seconds: float) -> Iterator[Trial]:
    """Yield the trial of each task as soon as it ends, the worst of its samples; `seconds` is the deadline of one task.

    The children are forks of this process, which must not have started XLA: a fork has none of its threads.
    """
    batches = [list(tasks[start : start + BATCH]) for start in range(0, len(tasks), BATCH)]
    running: dict[int, _Child] = {}
    try:
        with selectors.DefaultSelector() as selector:
            while batches or running:
                _fill(running, batches, workers, selector)
                yield from _step(running, batches, seconds, selector)
    finally:
        for child in running.values():  # the caller reads no more trials
            child.kill()


def _fill(running: dict[int, _Child], batches: list[list[Task]], workers: int, selector: selectors.BaseSelector) -> None:
    while batches and len(running) < workers:
        child = _Child(batches.pop(0))
        child.start()
        running[child.pipe] = child
        selector.register(child.pipe, selectors.EVENT_READ)


def _step(running: dict[int, _Child], batches: list[list[Task]], seconds: float, selector: selectors.BaseSelector) -> Iterator[Trial]:
    """Yield the trials that the children reported since the last step; reap those that have ended or take too long."""
    for key, _ in selector.select(timeout=0.5):
        child = running[key.fd]
        chunk = os.read(key.fd, 1 << 16)
        yield from _read(child, chunk)
        if not chunk:
            yield from _reap(child, "crash", batches)
            _forget(child, running, selector)
    for child in [child for child in running.values() if time.monotonic() - child.began > seconds]:
        yield from _reap(child, "timeout", batches, f"no result within {seconds:g} s")
        _forget(child, running, selector)


def _read(child: _Child, chunk: bytes) -> Iterator[Trial]:
    """Return the trials whose lines are complete; each one starts the clock of the next."""
    child.text += chunk
    *lines, child.text = child.text.split(b"\n")
    for line in lines:
        child.tasks.pop(0)
        child.began = time.monotonic()
        yield from_plain(Trial, json.loads(line))


def _reap(child: _Child, outcome: str, batches: list[list[Task]], why: str = "") -> Iterator[Trial]:
    """Reap a child: the task in hand gets a row of its own, the rest become a new batch."""
    child.kill()  # one that left by itself has its status; one that only closed its pipe would never be heard of again
    status = os.waitpid(child.pid, 0)[1]
    if child.tasks:
        task = child.tasks[0]
        stage, said = _last(child.errors)
        cause = why or f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit status {os.WEXITSTATUS(status)}"
        yield Trial(task.op, task.dtype, outcome, stage, problems=(f"{cause}: {said}" if said else cause,))
        if child.tasks[1:]:
            batches.insert(0, child.tasks[1:])


def _forget(child: _Child, running: dict[int, _Child], selector: selectors.BaseSelector) -> None:
    selector.unregister(child.pipe)
    del running[child.pipe]
    os.close(child.pipe)
    child.errors.close()


def _last(errors: IO[bytes]) -> tuple[str, str]:
    """Return the stage that a child began last, and its last line that reads like an error."""
    errors.seek(0)
    lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    begun = [number for number, line in enumerate(lines) if line.startswith(_STAGE)]
    stage = lines[begun[-1]].removeprefix(_STAGE) if begun else "export"
    since = lines[begun[-1] + 1 :] if begun else lines
    return stage, next((line for line in reversed(since) if "ssert" in line or "rror" in line), since[-1] if since else "")[:300]


def _work(tasks: Sequence[Task], write: int, errors: IO[bytes]) -> None:
    """Run the tasks of a child; never return."""
    try:
        os.setpgid(0, 0)  # a signal that an op sends to its group stays here
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(errors.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        torch.set_num_threads(1)
        with os.fdopen(write, "wb") as lines:
            for task in tasks:
                lines.write(json.dumps(to_plain(one(task, _tell))).encode() + b"\n")
                lines.flush()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a fork must not fall into its parent's code
        import traceback

        traceback.print_exc()
        os._exit(70)


def _tell(stage: str) -> None:
    os.write(1, f"{_STAGE}{stage}\n".encode())  # not by print: what a child has buffered is lost when it dies


def tasks(pattern: str, dtypes: Sequence[str], count: int, suite: str = "ops", step: int = 1) -> list[Task]:
    """List a task for each `step`-th op and each dtype that has samples. pattern: parts of names, separated by commas."""
    names = [name for name in op_samples.database() if any(part in name for part in pattern.split(","))]
    return [Task(name, dtype, count, suite) for name in names[::step] for dtype in dtypes if op_samples.supports(name, dtype)]


# By name: what gives the samples of a task, and what tries one.
SUITES: dict[str, tuple[Callable[[str, str], list[Sample]], Callable[[Sample, Tell], Trial]]] = {
    "ops": (op_samples.samples, op_trial.attempt),
    "modules": (module_samples.samples, op_trial.attempt),
    "values": (op_samples.samples, op_value_trial.attempt),
}


def one(task: Task, tell: Tell = lambda stage: None) -> Trial:
    """Return the worst trial of the task's samples, in this process.

    A sample that export refuses or makes static, or that runs at no other shape, gives its place to the next one.
    """
    sample_of, attempt = SUITES[task.suite]
    try:
        found = sample_of(task.op, task.dtype)
    except Exception as error:  # noqa: BLE001 - the generators of PyTorch's databases may need what this machine lacks
        return Trial(task.op, task.dtype, "no_sample", "export", problems=(f"{type(error).__name__}: {error}"[:300],))
    if not found:
        return Trial(task.op, task.dtype, "no_sample", "export", problems=("no sample with plain tensors",))
    trials: list[Trial] = []
    for sample in found[: task.count + _SPARE]:
        trials.append(attempt(sample, tell))
        if sum(trial.tells for trial in trials) == task.count:
            break
    counted = [trial for trial in trials if trial.tells] or [trial for trial in trials if trial.counts] or trials
    worst = min(counted, key=lambda trial: _SEVERITY.index(trial.outcome))
    return replace(worst, seconds=sum(trial.seconds for trial in trials))


def read(path: Path) -> list[Trial]:
    """Read the trials that a sweep wrote with `--json`; none if it has not begun."""
    if not path.exists():
        return []
    return [from_plain(Trial, row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
