"""Stores and folders that are copies of a URL: what one machine made another takes, checked, and damage there is made good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch

from flows import copies, workers
from lowering import pipeline, remote, weights
from lowering.errors import ConfigError, InfraError
from lowering.job import Job
from lowering.result import JobResult
from tests import toys

URL = "memory://night"


@pytest.fixture(autouse=True)
def there() -> Iterator[fsspec.AbstractFileSystem]:
    """What the URL holds; empty at first."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def machine(folder: Path) -> Path:
    """A machine's copy of the URL."""
    remote.mark(folder, URL)
    return folder


def run(on: Path, name: str, job: Job | None = None) -> JobResult:
    folder = on / "runs" / name / "jobs" / "toy--default"
    folder.mkdir(parents=True)
    return pipeline.run(job or toys.job(), folder, store=on / "store")


def cache(result: JobResult) -> list[str]:
    return [stage.cache for stage in result.stages]


def test_what_one_machine_made_another_takes(tmp_path: Path) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    assert cache(run(one, "first")) == ["miss"] * 3
    again = run(two, "second")
    assert cache(again) == ["hit"] * 3
    assert {stage.maker for stage in again.stages} == {"first/toy--default"}
    assert (two / "runs/second/jobs/toy--default/02-script.ts").read_text() == "toy from exported\n"


@pytest.mark.parametrize("part", ["entry.json", "files/@.ts", "ir"])
def test_damage_at_the_url_is_made_good(tmp_path: Path, there: fsspec.AbstractFileSystem, part: str) -> None:
    run(machine(tmp_path / "one"), "first")
    damaged = [name for name in there.find("/") if name.endswith(part)]
    before = {name: there.cat_file(name) for name in damaged}
    for name in damaged:
        there.pipe_file(name, before[name][:-3] + b"???")
    result = run(machine(tmp_path / "two"), "second")
    assert result.outcome == "ok"
    assert "miss" in cache(result)
    assert (tmp_path / "two/runs/second/jobs/toy--default/02-script.ts").read_text() == "toy from exported\n"
    assert cache(run(machine(tmp_path / "three"), "third")) == ["hit"] * 3, "the entry is whole again"


def test_a_missing_file_of_an_entry_is_no_entry(tmp_path: Path, there: fsspec.AbstractFileSystem) -> None:
    run(machine(tmp_path / "one"), "first")
    for name in [name for name in there.find("/") if name.endswith("@.ts")]:
        there.rm_file(name)
    assert cache(run(machine(tmp_path / "two"), "second")) == ["hit", "miss", "hit"]


def test_weights_travel_and_are_checked(tmp_path: Path, there: fsspec.AbstractFileSystem) -> None:
    one, two = (machine(tmp_path / name) / "store" / "weights" for name in ("one", "two"))
    key = weights.write({"w": torch.arange(4.0)}, one)
    assert torch.equal(weights.read(two, key)["w"], torch.arange(4.0))
    (name,) = there.find("/night/store/weights")
    there.pipe_file(name, there.cat_file(name)[:-4] + b"\0\0\0\0")
    with pytest.raises(InfraError, match="other bytes"):
        weights.check(machine(tmp_path / "three") / "store" / "weights", key)


def test_a_url_that_refuses_costs_a_warning_not_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("AccessDenied")

    on = machine(tmp_path / "one")
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.put", refuse)
    result = run(on, "first")
    assert result.outcome == "ok"
    assert "AccessDenied" in next(remark.message for remark in result.warnings if remark.code == "store")
    (problem,) = workers.problems({"python": workers.platform.python_version(), "packages": {}}, on / "store", None)
    assert problem.cause.startswith("cannot write to memory://night/store: RuntimeError: AccessDenied")


def test_an_output_that_is_no_url_stays_what_it_is(tmp_path: Path) -> None:
    assert copies.output("artifacts") == Path("artifacts")
    assert copies.output(f"file://{tmp_path}") == tmp_path


def test_an_output_at_a_url_has_one_copy_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(copies.FOLDER, str(tmp_path))
    found = copies.output(f"{URL}/zoo/")
    assert found == copies.output(f"{URL}/zoo")
    assert found.parent == tmp_path
    assert remote.url_of(found / "store") == f"{URL}/zoo/store"


def test_a_scheme_without_a_client_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match="no client for nosuch"):
        copies.output("nosuch://bucket")
