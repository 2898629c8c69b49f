"""Stores and folders that are copies of a URL: what one machine made another takes, checked, and damage there is made good."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
import torch

from flows import output
from flows.command import cache as caching
from flows.engine import workers
from flows.runs import copies
from lowering import pipeline
from lowering.errors import ConfigError, InfraError
from lowering.job import Job
from lowering.record.result import JobResult
from lowering.store import eviction, mirror, weights
from lowering.store.entries import DAY, Store
from lowering.store.mirror_eviction import There
from tests import toys

URL = "memory://night"


YEAR = 365 * DAY


@pytest.fixture(autouse=True)
def there() -> Iterator[fsspec.AbstractFileSystem]:
    """What the URL holds; empty at first."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def machine(folder: Path) -> Path:
    """A machine's copy of the URL."""
    mirror.mark_mirror(folder, URL)
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
    with pytest.raises(InfraError, match="content does not match its name"):
        weights.check(machine(tmp_path / "three") / "store" / "weights", key)


def other() -> Job:
    """A job that has no stage in common with the usual one."""
    made = toys.job(name="other")
    return replace(made, stages={**made.stages, "export": toys.Export(text="other")})


def keys(result: JobResult) -> set[str]:
    return {stage.key for stage in result.stages}


def older(there: fsspec.AbstractFileSystem, seconds: float) -> None:
    """What lies at the URL was put there that long ago."""
    for file in there.store.values():
        file.created = file.modified = datetime.now(UTC) - timedelta(seconds=seconds)


def evict(on: Path, budget: int = 0, keep: Collection[str] = (), idle: float = 0.0) -> eviction.Evicted:
    return eviction.evict(There(Store(on / "store"), on / "runs"), budget, keep, idle)


def test_the_url_is_freed_by_the_rule_of_a_store_and_the_copies_stay(tmp_path: Path, there: fsspec.AbstractFileSystem) -> None:
    one = machine(tmp_path / "one")
    first, second = run(one, "first"), run(one, "second", other())
    assert evict(one, idle=3600.0).entries == (), "all of it was put there just now"
    done = evict(one, keep=keys(second))
    assert set(done.entries) == keys(first)
    held = there.find("/night/store/entries")
    assert {name.split("/")[-2] for name in held if name.endswith("/entry.json")} == keys(second)
    assert {name.split("/")[5] for name in held} == keys(second), "a file was left of what is gone"
    assert done.after == sum(there.size(name) for name in held) < done.before
    assert {entry.key for entry, _ in Store(one / "store").entries()} == keys(first) | keys(second)
    two = machine(tmp_path / "two")
    assert cache(run(two, "third", other())) == ["hit"] * 3
    assert cache(run(two, "fourth")) == ["miss"] * 3


def test_what_a_machine_uses_is_put_anew_once_a_day(tmp_path: Path, there: fsspec.AbstractFileSystem) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    first, _ = run(one, "first"), run(one, "second", other())
    older(there, 2 * DAY)
    assert cache(run(two, "third")) == ["hit"] * 3
    assert set(evict(one, idle=3600.0).entries).isdisjoint(keys(first)), "another machine has just used it"
    older(there, 2 * DAY)
    for entry, _ in Store(two / "store").entries():
        os.utime(entry.folder / "entry.json", (0, 0))
    assert cache(run(two, "fourth")) == ["hit"] * 3
    assert evict(one, idle=3600.0).entries == (), "it was used again, from the copy"
    older(there, DAY / 2)
    assert cache(run(machine(tmp_path / "three"), "fifth")) == ["hit"] * 3
    assert set(evict(one, idle=3600.0).entries) == keys(first), "less than a day is not worth it"


def test_ages_at_the_url_are_measured_by_its_own_clock(
    tmp_path: Path, there: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine(tmp_path / "one")
    first, now = run(one, "first"), time.time()
    for skew in (-YEAR, YEAR):
        monkeypatch.setattr(time, "time", lambda skew=skew: now + skew)
        assert evict(one, idle=3600.0).entries == (), "this machine's clock is a year off"
    older(there, 7200.0)
    assert cache(run(machine(tmp_path / "two"), "second")) == ["hit"] * 3, "and it is put there again"
    assert evict(one, idle=3600.0).entries == ()
    older(there, 7200.0)
    assert set(evict(one, idle=3600.0).entries) == keys(first)
    assert not there.find("/night/store/.clock*") and not [name for name in there.store if ".clock" in name]


def test_weights_at_the_url_go_when_nothing_needs_them(tmp_path: Path, there: fsspec.AbstractFileSystem) -> None:
    one = machine(tmp_path / "one")
    packaged, needless = (weights.write({"w": torch.full([4], value)}, one / "store" / "weights") for value in (1.0, 2.0))
    there.pipe_file("/night/runs/first/jobs/toy--default/signature.json", json.dumps({"weights": {"sha256": packaged}}).encode())
    assert evict(one, idle=3600.0).weights == (), "a job may be about to store what needs them"
    assert evict(one).weights == (needless,)
    assert mirror.exists(Store(one / "store").weights_file(packaged))
    assert not mirror.exists(Store(one / "store").weights_file(needless))


def test_what_a_killed_machine_left_half_put_is_swept_after_a_day(tmp_path: Path, there: fsspec.AbstractFileSystem) -> None:
    one = machine(tmp_path / "one")
    half = f"/night/store/entries/ab/{'ab' * 32}/files/@.ts"
    there.pipe_file(half, b"half")
    evict(one)
    assert there.exists(half)
    older(there, 2 * DAY)
    evict(one)
    assert not there.exists(half)


def test_gc_at_a_url_keeps_what_named_runs_use_wherever_they_ran(tmp_path: Path, there: fsspec.AbstractFileSystem,
                                                                  monkeypatch: pytest.MonkeyPatch,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    one = machine(tmp_path / "one")
    kept = run(one, "kept", other())
    kept.save(one / "runs/kept/jobs/toy--default")
    copies.upload_job(one / "runs/kept/jobs/toy--default")
    gone = run(one, "gone")
    monkeypatch.setenv(output.COPIES, str(tmp_path / "copies"))
    assert caching.main(["gc", "--max-bytes", "0", "--idle", "0", "--keep", "kept", "--output", URL, "--at-url", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["removed"]) == keys(gone)
    with pytest.raises(ConfigError, match="has no run 'nosuch'"):
        caching.main(["gc", "--max-bytes", "0", "--keep", "nosuch", "--output", URL, "--at-url"])
    with pytest.raises(ConfigError, match=r"--at-url: .* is a local folder"):
        caching.main(["gc", "--max-bytes", "0", "--output", str(tmp_path), "--at-url"])
    for name in ("", "..", "../runs"):
        with pytest.raises(ConfigError, match="has no run"):
            caching.main(["gc", "--max-bytes", "0", "--keep", name, "--output", str(tmp_path)])


def test_a_url_that_refuses_costs_a_warning_not_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("AccessDenied")

    on = machine(tmp_path / "one")
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.put", refuse)
    result = run(on, "first")
    assert result.outcome == "ok"
    assert "AccessDenied" in next(remark.message for remark in result.warnings if remark.code == "store")
    (problem,) = workers.check_worker({"python": workers.platform.python_version(), "packages": {}}, on / "store", None)
    assert problem.cause.startswith("cannot write to memory://night/store: RuntimeError: AccessDenied")


def test_an_output_that_is_no_url_stays_what_it_is(tmp_path: Path) -> None:
    assert output.locate("artifacts") == Path("artifacts")
    assert output.locate(f"file://{tmp_path}") == tmp_path


def test_an_output_at_a_url_has_one_copy_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(output.COPIES, str(tmp_path))
    found = output.locate(f"{URL}/zoo/")
    assert found == output.locate(f"{URL}/zoo")
    assert found.parent == tmp_path
    assert mirror.find_url(found / "store") == f"{URL}/zoo/store"


def test_a_scheme_without_a_client_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match="no client for nosuch"):
        output.locate("nosuch://bucket")
