"""kill -9 at any moment: the same command again brings every result, equal to those of an undisturbed run, and none is made twice."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import runs

POINTS = 10  # at which something is killed
SECONDS = 0.5  # of the middle stage of each job
FEW, MANY = [f"ok#{number}" for number in range(6)], [f"ok#{number}" for number in range(24)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], dict[str, str]]:
    """The digests of all files of a run of these jobs that nothing happened to; the few are among the many."""
    made: dict[str, str] = {}

    def digests(ways: list[str]) -> dict[str, str]:
        if len(made) < 3 * len(ways):
            home = tmp_path_factory.mktemp("undisturbed")
            runs.finish(runs.start(home, ways), home)
            made.update(runs.digests(home))
        names = {f"{way.replace('#', '-')}--default" for way in ways}
        return {file: digest for file, digest in made.items() if file.partition("/")[0] in names}

    return digests


class Disturbed:
    """A run in `home` that is killed, wholly or in part, and started again by the same command until every job has its result."""

    def __init__(self, home: Path, ways: list[str], runner: str = "threads", seconds: float = SECONDS, embedded: bool = False):
        self.home, self.ways, self.runner, self.seconds, self.embedded = home, ways, runner, seconds, embedded
        self.counted: dict[str, int] = {}
        self.starts = 1
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        return runs.start(self.home, self.ways, self.runner, job_seconds=self.seconds, embedded=self.embedded)

    def goes_on(self) -> bool:
        """Whether the run is still at it; one that ended before its jobs is started again. What had counted must not be made again."""
        now = runs.committed(self.home)
        assert {job: now.get(job) for job in self.counted} == self.counted, "a result that counted was made again"
        self.counted = now
        if self.process.poll() is None:
            return True
        if runs.runs(self.home) and runs.ended_well(self.home):
            return False
        self.starts += 1
        assert self.starts < 3 * POINTS, (self.home / "out.txt").read_text()[-4000:]
        self.process = self.start()
        return True

    def until_jobs_run(self) -> bool:
        """Wait until jobs of this start of the run are under way; False when it ended before."""
        runs.wait_for(lambda: runs.children(self.home) or self.process.poll() is not None, 240)
        return self.process.poll() is None

    def ends_like(self, undisturbed: dict[str, str], starts: int = 5) -> None:
        """The same command, again if need be, comes to the end: all is there, equal to the undisturbed run, in one record."""
        for _ in range(starts):
            if not self.goes_on():
                break
            runs.finish(self.process, self.home)
        assert {job["outcome"] for job in runs.jobs(self.home).values()} == {"ok"}, (self.home / "out.txt").read_text()[-4000:]
        assert runs.digests(self.home) == undisturbed
        assert len(runs.runs(self.home)) == 1


def kill_flow(run: Disturbed, delay: float) -> None:
    if not run.until_jobs_run():
        return
    time.sleep(delay)
    running = runs.children(run.home)
    servers = [pid for pid in runs.descendants(run.process.pid) if "prefect.server" in runs.command_of(pid)]
    runs.kill(run.process.pid)
    run.process.wait()
    assert runs.wait_for(lambda: not runs.alive(running), 10), "jobs outlived their flow"
    assert runs.wait_for(lambda: not runs.alive(servers), 20), "Prefect's server outlived its flow"


def test_a_run_whose_flow_was_killed_goes_on(tmp_path: Path, undisturbed: Callable[[list[str]], dict[str, str]]) -> None:
    run = Disturbed(tmp_path, FEW, embedded=True)
    kill_flow(run, 0.8)
    run.ends_like(undisturbed(FEW))


@pytest.mark.chaos
def test_the_flow_killed_again_and_again(tmp_path: Path, undisturbed: Callable[[list[str]], dict[str, str]]) -> None:
    chance, run = random.Random(1), Disturbed(tmp_path, MANY, seconds=1.0)
    for _ in range(POINTS):
        kill_flow(run, chance.uniform(0.0, 1.5))
        assert run.goes_on(), "the jobs were too few for as many kills"
    run.ends_like(undisturbed(MANY))


@pytest.mark.chaos
def test_children_killed_are_tried_again(tmp_path: Path, undisturbed: Callable[[list[str]], dict[str, str]]) -> None:
    chance, run = random.Random(2), Disturbed(tmp_path, MANY)
    killed: set[int] = set()
    while len(killed) < POINTS + 5 and run.goes_on():
        time.sleep(chance.uniform(0.05, 0.4))
        for pid in sorted(set(runs.children(tmp_path)) - killed)[:1]:
            runs.kill(pid)
            killed.add(pid)
    assert len(killed) >= POINTS
    run.ends_like(undisturbed(MANY))
    assert any(remark["code"] == "retried" for job in runs.jobs(tmp_path).values() for remark in job["warnings"])


@pytest.mark.chaos
def test_the_prefect_server_killed_is_started_again(tmp_path: Path, undisturbed: Callable[[list[str]], dict[str, str]]) -> None:
    chance, run = random.Random(3), Disturbed(tmp_path, MANY, seconds=4.0, embedded=True)
    killed: set[int] = set()
    while len(killed) < POINTS and run.goes_on():
        if not run.until_jobs_run():
            continue
        time.sleep(chance.uniform(0.5, 4.0))
        for pid in set(runs.descendants(run.process.pid)) - killed:
            if "prefect.server" in runs.command_of(pid):
                runs.kill(pid)
                killed.add(pid)
    assert len(killed) >= POINTS
    run.ends_like(undisturbed(MANY))


@pytest.mark.chaos
@pytest.mark.parametrize(("runner", "sign"), [("dask", "spawn_main"), ("ray", "ray::")])
def test_a_cluster_worker_killed(tmp_path: Path, undisturbed: Callable[[list[str]], dict[str, str]], runner: str, sign: str) -> None:
    if importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"prefect-{runner} is not installed: pip install 'shapeline[{runner}]'")
    # Of Ray's processes only workers: its node dies with its agent, as a machine does with its Dask nanny and all.
    chance, run = random.Random(4), Disturbed(tmp_path, MANY, runner, seconds=1.0)
    killed: set[int] = set()
    while len(killed) < POINTS and run.goes_on():
        if not run.until_jobs_run():
            continue
        time.sleep(chance.uniform(0.2, 2.0))
        found = {pid: runs.command_of(pid) for pid in runs.descendants(run.process.pid)}
        workers = [pid for pid, command in found.items() if sign in command and "Agent" not in command and pid not in killed]
        if workers:
            victim = chance.choice(workers)
            runs.kill(victim)
            killed.add(victim)
    assert len(killed) >= POINTS
    run.ends_like(undisturbed(MANY))
