"""Disks that are full, read-only or damaged, and two runs over one store: a clear error or a recomputation, never a wrong artifact."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.config.plan import Plan
from flows.config.run import Run
from flows.runs import begin
from lowering.errors import InfraError
from lowering.job import Job
from lowering.record.folder import prepare
from lowering.record.result import JobResult
from lowering.store.entries import Store
from lowering.worker import watch
from tests import toys
from tests.chaos import runs

pytestmark = pytest.mark.usefixtures("light_server")
MIB = (1 << 20) - 1  # less a byte: what is longer is compressed


class Disk:
    """A file system of its own, in memory, of a size that can be changed."""

    def __init__(self, at: Path):
        self.at = at

    def mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.at)], check=True, capture_output=True)

    def become(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.at)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """256 KiB, writable; needs root."""
    made = Disk(tmp_path / "disk")
    made.at.mkdir()
    try:
        made.mount("size=256k")
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("only root can mount a small disk; RLIMIT_FSIZE stands in for it below")
    yield made
    subprocess.run(["umount", "--lazy", str(made.at)], check=True)


def large() -> Job:
    """Its second stage writes a megabyte."""
    job = toys.job()
    return replace(job, stages={**job.stages, "script": toys.Large(size=MIB)})


def lower(folder: Path, job: Job, store: Path) -> JobResult:
    prepare(job, folder, store=store)
    return watch.lower(folder)


def caches(result: JobResult) -> list[str]:
    return [stage.cache for stage in result.stages]


def text_of(folder: Path) -> str:
    return (folder / "02-script.ts").read_text()


def test_a_full_store_costs_a_warning_and_holds_nothing_half(tmp_path: Path, disk: Disk) -> None:
    full = lower(tmp_path / "first", large(), disk.at / "store")
    assert full.outcome == "ok"
    assert "No space left" in next(remark.message for remark in full.warnings if remark.code == "store")
    assert text_of(tmp_path / "first") == "x" * MIB
    disk.become("size=64m")
    assert caches(lower(tmp_path / "second", large(), disk.at / "store")) == ["hit", "miss", "miss"]
    assert caches(lower(tmp_path / "third", large(), disk.at / "store")) == ["hit", "hit", "hit"]
    assert text_of(tmp_path / "third") == text_of(tmp_path / "first")


def test_a_full_disk_of_runs_is_infra_and_the_job_goes_on_when_there_is_room(tmp_path: Path, disk: Disk) -> None:
    full = lower(disk.at / "job", large(), tmp_path / "store")
    assert full.outcome == "infra"
    assert "No space left" in "\n".join(map(str, full.problems))
    disk.become("size=64m")
    again = watch.lower(disk.at / "job")
    assert again.outcome == "ok"
    assert text_of(disk.at / "job") == "x" * MIB
    assert JobResult.load(disk.at / "job") == again


def test_a_store_that_is_read_only_still_gives(tmp_path: Path, disk: Disk) -> None:
    assert lower(tmp_path / "first", toys.job(), disk.at / "store").outcome == "ok"
    disk.become("ro")
    again = lower(tmp_path / "second", toys.job(), disk.at / "store")
    assert caches(again) == ["hit"] * 3
    other = lower(tmp_path / "third", large(), disk.at / "store")
    assert (other.outcome, caches(other)) == ("ok", ["hit", "miss", "off"])
    assert "Read-only file system" in next(remark.message for remark in other.warnings if remark.code == "store")


def test_a_read_only_output_is_reported_before_the_run(disk: Disk) -> None:
    disk.become("ro")
    with pytest.raises(InfraError,
                       match=r"cannot be written: Read-only file system \(free disk space, or choose another disk: output=FOLDER\)"):
        begin.begin(Run(Plan("toys", output=disk.at), (toys.job(),)))


def test_a_limit_on_the_size_of_files_is_infra(tmp_path: Path) -> None:
    prepare(large(), tmp_path / "job", store=tmp_path / "store")
    script = ("from pathlib import Path; from lowering.worker import client, watch; client.WARM = ('torch',); "
              f"print(watch.lower(Path({str(tmp_path / 'job')!r})).outcome)")

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 2, MIB // 2))

    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(runs.ROOT)}, preexec_fn=small_files,
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "infra"
    result = JobResult.load(tmp_path / "job")
    assert result is not None
    assert "File too large" in str(result.problems[0])


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_store_is_rebuilt_by_the_jobs_process(tmp_path: Path, damage: str) -> None:
    lower(tmp_path / "first", large(), tmp_path / "store")
    for path in (tmp_path / "store" / "entries").rglob("@.ts"):
        path.chmod(0o644)
        content = path.read_bytes()
        path.unlink()  # the first job's file shares its bytes
        path.write_bytes(content[:-1] if damage == "truncated" else content[:MIB // 2] + b"y" + content[MIB // 2 + 1:])
    again = lower(tmp_path / "second", large(), tmp_path / "store")
    assert (again.outcome, caches(again)) == ("ok", ["hit", "miss", "hit"])
    assert text_of(tmp_path / "second") == text_of(tmp_path / "first")


@pytest.mark.chaos
def test_two_runs_at_once_over_one_store(tmp_path: Path) -> None:
    ways = [f"ok#{number}" for number in range(8)]
    both = [runs.start(tmp_path, ways, job_seconds=0.3) for _ in range(2)]
    for process in both:
        runs.finish(process, tmp_path)
    folders = runs.runs(tmp_path)
    assert len(folders) == 2, "both wrote one record"
    made = [{path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("jobs/*/0*-*")}
            for folder in folders]
    assert made[0] == made[1]
    assert len(made[0]) == 3 * len(ways)
    store = Store(tmp_path / "artifacts" / "store")
    entries = [entry.key for entry, _ in store.entries()]
    assert len(entries) == 3 * len(ways)
    assert all(store.find(key) for key in entries)
    assert not list((tmp_path / "artifacts" / "store" / "drafts").iterdir())
