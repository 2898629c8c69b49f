"""Jobs in environments: installed by pip from local wheels, run by the Python of the environment, and kept apart in the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.config.plan import Plan
from flows.config.run import Run
from flows.report import report
from flows.runs import begin
from lowering import environments
from lowering.environments import Environment
from lowering.errors import InfraError
from lowering.job import Job
from lowering.record import folder as folders
from lowering.record.result import JobResult
from lowering.worker import client, watch
from tests import toys
from tests.unit.models.environment_stages import Scaled

pytestmark = pytest.mark.usefixtures("light_server")


def make_wheel(folder: Path, version: str, scale: int) -> Path:
    wheel = folder / f"tiny_scale-{version}-py3-none-any.whl"
    info = f"tiny_scale-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_scale.py", f"SCALE = {scale}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-scale\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"tiny_scale.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Environment]]:
    """Environments `one` and `two` with the package in versions 1 and 2, in a cache of their own. pip reaches no index."""
    folder = tmp_path_factory.mktemp("wheels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setattr(client, "WARM", ())
        yield {name: Environment(name, (str(make_wheel(folder, f"{number}.0", number)),)) for number, name in enumerate(("one", "two"), 1)}


def make_job(environment: Environment | None) -> Job:
    return replace(toys.job(), stages={"export": Scaled()}, until="exported", variant=environment.name if environment else "own",
                   environment=environment)


def lower(environment: Environment | None, output: Path) -> JobResult:
    folder = output / (environment.name if environment else "own")
    folders.prepare(make_job(environment), folder, store=output / "store")
    return watch.lower(folder)


def read_scale(folder: Path) -> str:
    (file,) = folder.glob("01-export.*")
    return file.read_text()


def test_each_environment_has_its_own_version_and_results(wheels: dict[str, Environment], tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in wheels.values():
        result = lower(environment, tmp_path)
        assert (result.outcome, result.problems) == ("ok", ())
    assert [read_scale(tmp_path / name) for name in wheels] == ["scale 1\n", "scale 2\n"]
    with monkeypatch.context() as patch:
        patch.setattr(client, "get_server", lambda *_: pytest.fail("a process was started, although the results are in the store"))
        assert [lower(environment, tmp_path).stages[0].cache for environment in wheels.values()] == ["hit", "hit"]
    assert [read_scale(tmp_path / name) for name in wheels] == ["scale 1\n", "scale 2\n"]
    assert lower(None, tmp_path).outcome == "error"  # this process does not have the package at all


def test_an_environment_is_installed_once_and_again_if_its_wheel_changes(wheels: dict[str, Environment], tmp_path: Path) -> None:
    first = environments.build(wheels["one"])
    written = first.lstat().st_mtime_ns
    assert environments.build(wheels["one"]) == first and first.lstat().st_mtime_ns == written
    assert lower(wheels["one"], tmp_path).outcome == "ok"
    assert lower(Environment("one", (str(make_wheel(tmp_path, "1.0", 7)),)), tmp_path).outcome == "ok"  # the same name and version
    assert read_scale(tmp_path / "one") == "scale 7\n"


def test_what_pip_refuses_is_infra_with_its_words(wheels: dict[str, Environment], tmp_path: Path) -> None:
    result = lower(Environment("gone", ("tiny-scale==3.0",)), tmp_path)
    assert result.outcome == "infra"
    assert "environment gone: pip failed: " in str(result.problems[0])
    assert "No matching distribution found for tiny-scale==3.0" in str(result.problems[0])


def test_a_missing_python_is_infra(wheels: dict[str, Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_base_executable", str(tmp_path / "no/python"))
    result = lower(Environment("broken", ("tiny-scale==4.0",)), tmp_path)
    assert result.outcome == "infra"
    assert "environment broken" in str(result.problems[0])


def test_an_installation_is_given_up_when_the_run_ends(wheels: dict[str, Environment]) -> None:
    with pytest.raises(InfraError, match="was not finished when the run ended"):
        environments.run_pip([sys.executable, "-c", "import time; time.sleep(60)"], [], "environment slow", lambda: True)


def test_a_module_that_would_hide_the_package_is_refused(wheels: dict[str, Environment], tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny_scale.py").write_text("SCALE = 9\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = lower(wheels["two"], tmp_path)
    assert result.outcome == "infra"
    assert f"installs tiny-scale 2.0, but {tmp_path}/tiny_scale.py would be imported instead" in str(result.problems[0])


def test_the_report_names_the_versions_of_each_environment(wheels: dict[str, Environment], tmp_path: Path) -> None:
    jobs = tuple(make_job(environment) for environment in wheels.values())
    plan = Plan("toys", output=tmp_path, axes={job.id: {"environment": job.variant} for job in jobs})
    begun = begin.begin(Run(plan, jobs))
    for job in jobs:
        watch.lower(begun.job_folder(job.id))
    data = json.loads((report.write(begun).parent / "report.json").read_text())
    assert {name: row["installed"] for name, row in data["environments"].items()} == (
        {"one": {"tiny-scale": "1.0"}, "two": {"tiny-scale": "2.0"}})
    assert [(row["value"], row["ok"]) for row in data["by_axis"]["environment"]] == [("one", 1), ("two", 1)]
    assert "- environment `two`: tiny-scale 2.0" in (begun.folder / "report.md").read_text()


@pytest.mark.parametrize("options", [[], ["--here"]])
def test_the_recorded_job_runs_again_in_its_environment(wheels: dict[str, Environment], tmp_path: Path, options: list[str]) -> None:
    folders.prepare(make_job(wheels["two"]), tmp_path / "job")
    command = [sys.executable, "-c",
               "import sys; from lowering.worker import client, __main__ as again; client.WARM = (); sys.exit(again.main(sys.argv[1:]))"]
    done = subprocess.run([*command, str(tmp_path / "job"), *options], env={**os.environ, "PYTHONPATH": str(Path.cwd())},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_scale(tmp_path / "job/repro") == "scale 2\n"
