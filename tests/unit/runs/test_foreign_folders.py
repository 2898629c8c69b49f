"""Folders and URLs of somebody else: nothing in them runs, nothing outside of them is read or written, and the reason is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from flows import output
from flows.config.plan import Plan
from flows.config.run import Run
from flows.history import retention
from flows.history.retention import Keep
from flows.runs import begin, copies
from flows.runs.record import Record
from lowering import files, trust
from lowering.store import mirror
from tests import toys
from tests.unit.runs.foreign import JOB_ID, edit, said


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_names_at_a_url_do_not_leave_the_copy(tmp_path: Path, become: Callable[[str], None], monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    become("me")
    monkeypatch.setenv(output.COPIES, str(tmp_path / "copies"))
    system = fsspec.filesystem("memory")
    try:
        system.pipe_file("/theirs/runs/one/report.json", b"{}")
        monkeypatch.setattr(type(system), "find", lambda self, path, **_: {f"{path}/../../../evil.txt": {"size": 1, "created": None}})
        monkeypatch.setattr(mirror, "_read_upload_time", lambda *_: 0.0)
        assert said("report", "one", "--output", "memory://theirs") == 2
        assert "'../../../evil.txt' is not the name of a file inside" in capsys.readouterr().err
        system.pipe_file("/theirs/runs/latest.txt", b"../..")
        assert said("report", "--output", "memory://theirs") == 2
        assert "latest.txt" in capsys.readouterr().err
        assert not list(tmp_path.rglob("evil.txt"))
    finally:
        system.store.clear()


def test_a_foreign_folder_is_no_mirror(run: Record, tmp_path: Path, become: Callable[[str], None],
                                       capsys: pytest.CaptureFixture[str]) -> None:
    top = run.folder.parents[1]
    files.write(top / "origin.json", {"url": f"file://{tmp_path / 'home'}", "root": str(top)})
    assert mirror.find_url(run.folder) is None
    copies.upload_reports(run.folder)
    assert not (tmp_path / "home").exists()
    become("somebody")
    files.write(top / "origin.json", trust.seal({"url": "memory://x", "root": str(tmp_path / "elsewhere")}, "origin.json"))
    assert mirror.find_url(run.folder) is None, "a mark that was copied from another folder"


def test_prune_deletes_nothing_behind_a_link(run: Record, tmp_path: Path) -> None:
    target = _folder(tmp_path / "precious")
    (target / "01-x.mlir").write_text("mine")
    (target / "model.pt").write_text("mine")
    (run.folder / "jobs/x").symlink_to(target)
    newer = run.folder.with_name("20020101T000000Z-toys")
    shutil.copytree(run.folder, newer, symlinks=True)
    edit(run.folder / "report.json", started="2001-01-01T00:00:00+00:00")
    edit(newer / "report.json", run=newer.name, started="2002-01-01T00:00:00+00:00")
    for keep in (Keep(ir_runs=0, bytes=0), Keep(runs=1)):
        retention.apply(retention.plan(run.folder.parent, keep))
    assert sorted(path.name for path in target.iterdir()) == ["01-x.mlir", "model.pt"]
    assert not run.folder.exists()


@pytest.mark.parametrize("log", ["{secret}", "../../../../../home/secret.txt", "link"])
def test_report_copies_no_file_from_elsewhere(run: Record, secret: Path, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run.job_folder(JOB_ID)
    (folder / "view.js").unlink()
    if log == "link":
        (folder / "log.txt").unlink(missing_ok=True)
        (folder / "log.txt").symlink_to(secret)
        assert said("report", run.folder) == 0
    else:
        edit(folder / "manifest.json", log=log.format(secret=secret))
        assert said("report", run.folder) == 2
        assert "manifest.json log" in capsys.readouterr().err
    assert not any(b"PRIVATE" in path.read_bytes() or _packed(path, "PRIVATE")
                   for path in run.folder.rglob("*") if path.is_file() and not path.is_symlink())


def _packed(path: Path, words: str) -> bool:
    """Whether the packed data of a job's page holds words."""
    import base64
    import re
    import zlib

    if path.suffix not in (".js", ".html"):
        return False
    found = re.findall(r'"([A-Za-z0-9+/=]{40,})"', path.read_text())
    return any(words.encode() in zlib.decompress(base64.b64decode(text)) for text in found if text.startswith("eJ"))


def test_sources_that_a_record_names_are_not_read(run: Record, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowering.symbols.tracing import frames

    source = secret.with_suffix(".py")
    source.write_text("PASSWORD = 1\n")
    assert frames.find(str(secret)) is None and frames.find(str(source)) is None
    monkeypatch.syspath_prepend(source.parent)
    assert frames.find(str(source)) == source and frames.find("secret.py") == source


def test_a_job_folder_that_is_a_link_is_refused(run: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run.job_folder(JOB_ID)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    for command in (["report", run.folder], ["show", JOB_ID, "--run", run.folder], ["update-expected", run.folder, "--trust"]):
        assert said(*command) == 2
        assert "links in records are not followed" in capsys.readouterr().err


def test_update_expected_writes_nowhere_that_a_foreign_run_names(run: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "expected.yaml"
    assert said("update-expected", run.folder) == 2
    printed = capsys.readouterr().err
    assert "run.json expectations" in printed and str(target) in printed and not target.exists()
    assert said("update-expected", run.folder, "--trust") == 0
    assert f"{target}: 1 entry changed" in capsys.readouterr().out and "toy--default: ok" in target.read_text()


def test_rerun_failed_shows_foreign_overrides_before_it_runs_them(run: Record, capsys: pytest.CaptureFixture[str],
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    edit(run.job_folder(JOB_ID) / "manifest.json", outcome="error")
    edit(run.folder / "run.json", overrides=["model.x.factory._target_=os.system", "suite=toys"])
    ran: list[list[str]] = []
    monkeypatch.setattr("flows.command.run.main", lambda arguments: ran.append(list(arguments)) or 0)
    assert said("rerun-failed", run.folder) == 2
    assert "would run shapeline run model.x.factory._target_=os.system suite=toys" in capsys.readouterr().err and not ran
    assert said("rerun-failed", run.folder, "--trust") == 0
    assert "model.x.factory._target_=os.system" in capsys.readouterr().err and len(ran) == 1


def test_a_foreign_run_is_not_continued(run: Record, tmp_path: Path, become: Callable[[str], None]) -> None:
    (run.folder / begin.ENDED).unlink()
    again = Run(Plan("toys", output=tmp_path / "theirs", overrides=("suite=toys",), expectations=tmp_path / "expected.yaml"), (toys.job(),))
    mine = begin.begin(again)
    assert mine.folder != run.folder
    os.close(mine.lock or 0)
    job = mine.job_folder(JOB_ID) / "job.json"
    edit(job, stages={})
    assert begin.begin(again).folder == mine.folder
    assert files.read(job)["stages"], "a job that was changed is prepared again"


def test_a_key_that_others_can_read_seals_nothing(tmp_path: Path, become: Callable[[str], None]) -> None:
    become("me")
    sealed = trust.seal({"a": 1}, "job.json")
    assert trust.is_own(sealed, "job.json")
    assert not trust.is_own(sealed, "run.json") and not trust.is_own({**sealed, "a": 2}, "job.json")
    assert not trust.is_own({"a": 1}, "job.json")
    assert trust.locate_key().stat().st_mode & 0o777 == 0o600
    trust.locate_key().chmod(0o644)
    assert not trust.is_own(sealed, "job.json") and trust.seal({"a": 1}, "job.json") == {"a": 1}


def test_reads_wait_for_no_pipe_and_follow_no_link(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to("/dev/zero")
    (tmp_path / "deep.json").write_text("[" * 200_000)
    for name in ("pipe.json", "link.json"):
        with pytest.raises(OSError, match=r"link|regular|symbolic"):
            files.read(tmp_path / name)
    with pytest.raises(ValueError, match="nested too deeply"):
        files.read(tmp_path / "deep.json")
    (tmp_path / f".out.json.{os.getpid()}-{__import__('threading').get_ident()}").symlink_to(tmp_path / "victim")
    files.write(tmp_path / "out.json", {})
    assert not (tmp_path / "victim").exists()
