"""Runs and store at a URL: a real server that speaks S3, workers with disks of their own, and another machine that finds it all."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import runs

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not (importlib.util.find_spec("moto") and importlib.util.find_spec("s3fs")), reason="needs moto[server] and s3fs"),
]
URL = "s3://night/shapeline"
WAYS = ["ok#0", "ok#1", "raise"]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """What makes S3's clients find the server; it has one bucket, `night`."""
    port = runs.free_port()
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    found = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything",
             "AWS_DEFAULT_REGION": "us-east-1"}
    assert runs.wait_for(lambda: runs.answers(address), 120)
    urllib.request.urlopen(urllib.request.Request(f"{address}/night", method="PUT"), timeout=20).close()
    yield found
    server.kill()
    server.wait()


def files(environment: dict[str, str]) -> dict[str, bytes]:
    """All that the bucket holds."""
    script = "import s3fs, sys, json; s = s3fs.S3FileSystem(); print(json.dumps({n: s.cat_file(n).hex() for n in s.find('night')}))"
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return {name.removeprefix("night/shapeline/"): bytes.fromhex(content) for name, content in json.loads(done.stdout).items()}


def run(home: Path, environment: dict[str, str], runner: str = "threads", address: str = "", ways: list[str] = WAYS) -> str:
    """A run on a machine whose disk is `home`; what it printed."""
    home.mkdir(exist_ok=True)
    more = {**environment, "SHAPELINE_COPIES": str(home / "copies"), "CHAOS_OUTPUT": URL, "CHAOS_ADDRESS": address}
    runs.finish(runs.start(home, ways, runner, more=more), home)
    return (home / "out.txt").read_text()


def report(home: Path, name: str = "latest") -> dict[str, Any]:
    """A report that the machine has, by default the newest."""
    return runs.report(copy(home), name)


def copy(home: Path) -> Path:
    (only,) = (home / "copies").iterdir()
    return only


def test_a_run_at_a_url_gives_another_machine_its_results(tmp_path: Path, environment: dict[str, str]) -> None:
    assert "all of it: s3://night/shapeline/runs/" in run(tmp_path / "one", environment)
    held = files(environment)
    (name,) = {file.split("/")[1] for file in held if file.startswith("runs/2")}
    assert held["runs/latest.txt"].decode() == name
    assert {f"runs/{name}/{file}" for file in ("run.json", "report.json", "report.html", "ended.json")} <= held.keys()
    assert held[f"runs/{name}/jobs/ok-0--default/03-torch.torch.mlir"] == b"the end of ok#0 from torchscript\n"
    entries = [file for file in held if file.startswith("store/entries/")]
    assert len([file for file in entries if file.endswith("entry.json")]) == 3 + 3 + 1  # `raise` ends in its second stage

    time.sleep(1.1)  # a run's name has its second
    run(tmp_path / "two", environment)
    found = report(tmp_path / "two")
    assert {job["model"]: [stage["cache"] for stage in job["stages"]] for job in found["jobs"]} == {
        "ok-0": ["hit"] * 3, "ok-1": ["hit"] * 3, "raise": ["hit", "miss"]}
    assert files(environment)["runs/latest.txt"].decode() == found["run"] != name


def test_a_damaged_object_is_rebuilt(tmp_path: Path, environment: dict[str, str]) -> None:
    run(tmp_path / "one", environment, ways=["ok#damaged"])
    before = files(environment)
    damaged = next(file for file, content in before.items()
                   if content == b"the end of ok#damaged from torchscript\n" and "/entries/" in file)
    script = f"import s3fs; s3fs.S3FileSystem().pipe_file('night/shapeline/{damaged}', b'the END of it')"
    subprocess.run([sys.executable, "-c", script], env={**os.environ, **environment}, check=True)
    time.sleep(1.1)
    run(tmp_path / "two", environment, ways=["ok#damaged"])
    found = report(tmp_path / "two")
    assert [stage["cache"] for stage in found["jobs"][0]["stages"]] == ["hit", "hit", "miss"]
    assert files(environment)[damaged] == before[damaged]


def test_gc_frees_the_url_and_keeps_what_a_named_run_uses(tmp_path: Path, environment: dict[str, str]) -> None:
    run(tmp_path / "one", environment, ways=["ok#kept"])
    kept = files(environment)["runs/latest.txt"].decode()
    time.sleep(1.1)
    run(tmp_path / "one", environment, ways=["ok#gone"])
    time.sleep(1.1)  # what was put there in this second was used lately
    command = [sys.executable, "-m", "flows", "cache", "gc", "--max-bytes", "0", "--idle", "0", "--keep", kept, "--output", URL, "--at-url",
               "--json"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **environment, "SHAPELINE_COPIES": str(tmp_path / "two" / "copies"),
                                                      "PYTHONPATH": str(runs.ROOT)}, capture_output=True, text=True, check=True)
    held = {file for file in files(environment) if file.startswith("store/entries/")}
    named = {stage["key"] for job in report(tmp_path / "one", kept)["jobs"] for stage in job["stages"]}
    assert {file.split("/")[3] for file in held} == named
    assert named.isdisjoint(json.loads(done.stdout)["removed"])
    run(tmp_path / "three", environment, ways=["ok#kept", "ok#gone"])
    found = report(tmp_path / "three")
    assert {job["model"]: [stage["cache"] for stage in job["stages"]] for job in found["jobs"]} == (
        {"ok-kept": ["hit"] * 3, "ok-gone": ["miss"] * 3})


def test_workers_with_other_disks(tmp_path: Path, environment: dict[str, str]) -> None:
    if importlib.util.find_spec("prefect_dask") is None:
        pytest.skip("prefect-dask is not installed: pip install 'shapeline[dask]'")
    port = runs.free_port()
    address = f"tcp://127.0.0.1:{port}"
    worker = {**os.environ, **environment, "SHAPELINE_COPIES": str(tmp_path / "worker" / "copies"), "PYTHONPATH": str(runs.ROOT),
              "DASK_DISTRIBUTED__WORKER__DAEMON": "False", "CUDA_VISIBLE_DEVICES": ""}
    (tmp_path / "worker").mkdir()
    commands = [["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
                ["worker", address, "--nthreads", "1", "--no-dashboard"]]
    cluster = [subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:]], cwd=tmp_path / "worker",
                                env=worker, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for command in commands]
    try:
        run(tmp_path / "flow", environment, "dask", address, ["ok#far", "raise"])
    finally:
        for process in reversed(cluster):
            process.terminate()
            process.wait(60)
    found = report(tmp_path / "flow")
    assert {job["model"]: job["outcome"] for job in found["jobs"]} == {"ok-far": "ok", "raise": "error"}
    text = (copy(tmp_path / "flow") / "runs" / "latest" / "jobs" / "ok-far--default" / "03-torch.torch.mlir").read_text()
    assert text == "the end of ok#far from torchscript\n"
    assert list((tmp_path / "worker" / "copies").glob("*/runs/*/jobs/ok-far--default/manifest.json")), "it ran somewhere else"


def test_an_unwritable_url_is_reported_before_the_run(tmp_path: Path, environment: dict[str, str]) -> None:
    tmp_path.joinpath("one").mkdir()
    more = {**environment, "SHAPELINE_COPIES": str(tmp_path / "copies"), "CHAOS_OUTPUT": "s3://nobody/there"}
    process = runs.start(tmp_path / "one", ["ok"], more=more)
    assert process.wait(300) != 0
    said = (tmp_path / "one" / "out.txt").read_text()
    assert "s3://nobody/there" in said
    assert "cannot be written" in said
