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

WAYS = [f"ok#{number}" for number in range(6)]
POINTS = 10
SECONDS = 0.3  # of the middle stage of each job


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("undisturbed")
    runs.finish(runs.start(home, WAYS, job_seconds=SECONDS), home)
    return runs.digests(home)


def brought_to_the_end(home: Path, undisturbed: dict[str, str], runner: str = "threads") -> None:
    """The same command again: all is there, nothing that counted before was made again, and it is still one run."""
    before = runs.committed(home)
    runs.finish(runs.start(home, WAYS, runner, job_seconds=SECONDS), home)
    assert {job["outcome"] for job in runs.jobs(home).values()} == {"ok"}
    assert runs.digests(home) == undisturbed
    after = runs.committed(home)
    assert {job: after[job] for job in before} == before


def begun(home: Path) -> Callable[[], bool]:
    return lambda: bool(list((home / "artifacts").glob("runs/2*/jobs/*/events.jsonl")))


def kill_flow(home: Path, delay: float) -> None:
    process = runs.start(home, WAYS, job_seconds=SECONDS)
    assert runs.wait_for(begun(home))
    time.sleep(delay)
    runs.kill(process.pid)
    process.wait()
    assert runs.wait_for(lambda: not runs.children(home), 10), "jobs outlived their flow"


def test_a_run_whose_flow_was_killed_goes_on(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    kill_flow(tmp_path, 0.8)
    brought_to_the_end(tmp_path, undisturbed)


@pytest.mark.chaos
def test_the_flow_killed_again_and_again(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    chance = random.Random(1)
    for point in range(POINTS):
        home = tmp_path / str(point)
        home.mkdir()
        kill_flow(home, chance.uniform(0.0, 2.0))
        brought_to_the_end(home, undisturbed)


@pytest.mark.chaos
def test_children_killed_are_tried_again_in_the_same_run(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    chance = random.Random(2)
    process = runs.start(tmp_path, WAYS, job_seconds=SECONDS)
    killed: set[int] = set()
    while len(killed) < POINTS and process.poll() is None:
        time.sleep(chance.uniform(0.05, 0.4))
        for pid in set(runs.children(tmp_path)) - killed:
            runs.kill(pid)
            killed.add(pid)
            break
    runs.finish(process, tmp_path)
    assert killed
    assert {job["outcome"] for job in runs.jobs(tmp_path).values()} <= {"ok", "infra"}
    assert any(remark["code"] == "retried" for job in runs.jobs(tmp_path).values() for remark in job["warnings"])


@pytest.mark.chaos
def test_the_prefect_server_killed(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    chance = random.Random(3)
    for point in range(POINTS):
        home = tmp_path / str(point)
        home.mkdir()
        process = runs.start(home, WAYS, job_seconds=SECONDS)
        assert runs.wait_for(begun(home))
        time.sleep(chance.uniform(0.0, 2.0))
        for pid in runs.descendants(process.pid):
            if "prefect" in runs.command_of(pid):
                runs.kill(pid)
        try:
            ended = process.wait(30) == 0
        except subprocess.TimeoutExpired:  # Prefect's client asks the dead server again for minutes; a user would not wait
            ended = False
            runs.kill(process.pid)
            process.wait()
        if not ended:
            brought_to_the_end(home, undisturbed)
        assert {job["outcome"] for job in runs.jobs(home).values()} == {"ok"}
        assert len(runs.runs(home)) == 1


@pytest.mark.chaos
@pytest.mark.parametrize(("runner", "sign"), [("dask", "spawn_main"), ("ray", "ray::")])
def test_a_cluster_worker_killed(tmp_path: Path, undisturbed: dict[str, str], runner: str, sign: str) -> None:
    if importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"prefect-{runner} is not installed: pip install 'shapeline[{runner}]'")
    chance = random.Random(4)
    for point in range(3):
        home = tmp_path / str(point)
        home.mkdir()
        process = runs.start(home, WAYS, runner, job_seconds=SECONDS)
        assert runs.wait_for(begun(home), 240)
        time.sleep(chance.uniform(0.0, 1.0))
        workers = [pid for pid in runs.descendants(process.pid) if sign in runs.command_of(pid)]
        if workers:
            runs.kill(chance.choice(workers))
        process.wait(400)
        assert {job["outcome"] for job in runs.jobs(home).values()} == {"ok"}, (home / "out.txt").read_text()[-4000:]
        assert runs.digests(home) == undisturbed
