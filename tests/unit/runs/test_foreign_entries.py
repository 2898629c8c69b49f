"""Records of entries, environments and causes of somebody else: no link is followed, no pipe is waited for, nothing is taken over."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flows.config.plan import Plan
from flows.config.run import Run
from flows.engine import joining
from flows.runs import begin, record
from flows.runs.record import Record
from lowering import environments, files
from lowering.errors import InfraError
from lowering.numerics.running import tensor_files
from lowering.record.joining import Joining
from lowering.store import weights
from tests import toys
from tests.unit.runs.foreign import JOB_ID, edit, said


def test_a_joined_program_that_is_a_link_is_refused(run: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(run.folder / "run.json", jobs=[*run.data["jobs"], {"id": "two--default:a", "model": "two", "variant": "default:a"}])
    elsewhere = tmp_path / "elsewhere"
    Joining("two--default", {"a": "two--default_a"}, outcome="ok").save(elsewhere)
    (run.folder / "jobs/two--default").symlink_to(elsewhere)
    for command in (["show", "two--default"], ["explain", "two--default"], ["exec", "two--default", "--entry", "a"]):
        assert said(*command, "--run", run.folder) == 2
        assert "links in records are not followed" in capsys.readouterr().err


@pytest.mark.parametrize("whose", ["me", "somebody"])
def test_only_an_own_joined_program_is_taken_over(whose: str, run: Record, become: Callable[[str], None], tmp_path: Path) -> None:
    request = Joining("toy--two", {}, digest="d")
    other = run.job_folder("toy--two")
    Joining("toy--two", {}, digest="d", outcome="ok", checked=("a",)).save(other)
    (other / "link").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "secret.txt").write_text("PRIVATE KEY")
    become(whose)
    mine = begin.begin(Run(Plan("others", output=run.folder.parents[1], overrides=("suite=others",)), (toys.job(),)))
    folder = mine.job_folder("toy--two")
    assert joining._take_earlier(mine, folder, request) is (whose == "somebody")
    assert folder.exists() is (whose == "somebody")
    assert not folder.exists() or (folder / "link").is_symlink()
    os.close(mine.lock or 0)


def test_archives_that_a_foreign_environment_names_are_not_read(run: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(run.folder / "run.json", jobs=[{**run.data["jobs"][0], "axes": {"environment": "a"}}])
    edit(run.job_folder(JOB_ID) / "job.json", environment={"name": "a", "requirements": ["/proc/kcore"]})
    asked: list[object] = []
    monkeypatch.setattr(environments, "list_versions", asked.append)
    assert said("report", run.folder) == 0
    assert not asked
    assert files.read(run.folder / "report.json")["environments"] == {"a": {"requirements": ["/proc/kcore"], "installed": None}}


def test_a_job_whose_id_is_of_another_model_is_refused(run: Record, capsys: pytest.CaptureFixture[str]) -> None:
    edit(run.folder / "run.json", jobs=[*run.data["jobs"], {"id": "../../x", "model": "m", "variant": "v"}])
    assert said("report", run.folder) == 2
    assert "'../../x' is not the id of m--v" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_tensors_and_weights_are_read_from_files_only(kind: str, tmp_path: Path) -> None:
    key = weights.write({"w": torch.ones(2)}, tmp_path)
    path = weights.locate(tmp_path, key)
    moved = path.rename(tmp_path / "moved.safetensors")
    path.symlink_to(moved) if kind == "link" else os.mkfifo(path)
    with pytest.raises(OSError, match=r"symbolic|regular"):
        tensor_files.read(path)
    if kind == "pipe":
        with pytest.raises(InfraError, match="regular"):
            weights.read(tmp_path, key)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_lock_in_a_foreign_folder_is_neither_followed_nor_waited_for(kind: str, run: Record, tmp_path: Path,
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    lock = run.folder.parent / ".causes.lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(tmp_path / "victim") if kind == "link" else os.mkfifo(lock)
    assert said("report", run.folder) == 1
    assert ".causes.lock" in capsys.readouterr().err and not (tmp_path / "victim").exists()
    assert record.load(run.folder).ids == run.ids
