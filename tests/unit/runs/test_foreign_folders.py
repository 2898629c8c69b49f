"""Folders, stores and URLs of somebody else: nothing in them runs, nothing outside of them is read or written, and the reason is said."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flows import output
from flows.__main__ import main
from flows.config.plan import Plan
from flows.config.run import Run
from flows.engine import attempts
from flows.history import publish, retention
from flows.history.retention import Keep
from flows.runs import begin, copies, record
from flows.runs.record import Record
from lowering import files, pipeline, trust
from lowering.errors import Unsupported, Untrusted
from lowering.job import Job
from lowering.plain import to_plain
from lowering.record.folder import prepare
from lowering.store import guard, mirror
from lowering.store.entries import Store, compute_digest
from lowering.worker import __main__ as worker
from tests import toys
from tests.unit.models.scaled_model import MODEL

JOB_ID = "toy--default"


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Become another user, who has another key."""
    return lambda name: monkeypatch.setenv(trust.STATE, str(tmp_path / "state" / name))


@pytest.fixture
def run(tmp_path: Path, become: Callable[[str], None]) -> Record:
    """A finished run of one job with a store, made by somebody else; from now on the test is this user."""
    become("somebody")
    home = tmp_path / "theirs"
    made = Plan("toys", output=home, overrides=("suite=toys",), expectations=tmp_path / "expected.yaml")
    begun = begin.begin(Run(made, (toys.job(),)))
    folder = begun.job_folder(JOB_ID)
    pipeline.run(toys.job(), folder, store=home / "store").save(folder)
    publish.write(begun, 1.0)
    begin.end(begun, 1.0)
    become("me")
    return record.load(begun.folder)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of the run, which must be neither read nor changed."""
    path = tmp_path / "home" / "secret.txt"
    path.parent.mkdir()
    path.write_text("PRIVATE KEY")
    return path


def edit(path: Path, **changes: Any) -> None:
    files.write(path, {**files.read(path), **changes})


def said(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def test_exec_runs_no_library_of_a_foreign_record(tmp_path: Path, become: Callable[[str], None], capsys: pytest.CaptureFixture[str],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    module, sources = tmp_path / "evil.py", tmp_path / "evil.cpp"
    module.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nraise SystemError('ran')\n")
    sources.write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    libraries: list[Any] = [str(tmp_path / "evil.so"), {"sources": [str(sources)], "flags": ["-wrapper", "touch,ran"], "module": None},
                            {"sources": [], "flags": [], "module": "evil"}]
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "program.stablehlo").write_bytes(b"")
    content = {"schema": "shapeline/signature/1", "program": {"file": "program.stablehlo", "sha256": compute_digest(b"")},
               "weights": {"sha256": "0" * 64, "store": "../../../../.."}, "signature": {"arguments": [], "results": []},
               "model": {**to_plain(MODEL), "libraries": libraries}}
    files.write(folder / "signature.json", content)
    files.write(folder / "job.json", {})
    assert said("exec", folder) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in ("evil.so", "'-wrapper touch,ran'", "the module evil", "was not made by this user", "--trust"))
    files.write(folder / "signature.json", content | {"model": {**to_plain(MODEL), "libraries": libraries[2:]}})
    assert said("exec", folder, "--trust") == 1 and (tmp_path / "ran").exists()
    told = capsys.readouterr().err
    assert told.startswith("shapeline: --trust: running the module evil\n") and "SystemError: ran" in told
    (tmp_path / "ran").unlink()
    become("me")
    files.write(folder / "job.json", trust.seal({"model": to_plain(MODEL)}, "job.json"))
    assert said("exec", folder) == 2 and not (tmp_path / "ran").exists(), "the model of the artifact is not that of my job"
    files.write(folder / "job.json", trust.seal({"model": {**to_plain(MODEL), "libraries": libraries[2:]}}, "job.json"))
    assert said("exec", folder) == 1 and (tmp_path / "ran").exists(), "my own"
    files.write(folder / "signature.json", content | {"program": {"file": "../secret", "sha256": ""}})
    assert said("exec", folder) == 2 and "signature.json program" in capsys.readouterr().err


def test_a_job_of_somebody_else_is_run_by_the_worker_only_with_trust(run: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run.job_folder(JOB_ID)
    assert worker.main([str(folder), "--into", str(tmp_path / "again"), "--here"]) == 2
    told = capsys.readouterr().err
    assert "would run the callable tests.toys.Export" in told and not (tmp_path / "again").exists()
    assert worker.main([str(folder), "--into", str(tmp_path / "again"), "--here", "--trust"]) == 0
    assert "running the callable tests.toys.Export" in capsys.readouterr().err
    mine = tmp_path / "mine"
    prepare(toys.job(), mine)
    assert worker.main([str(mine), "--here"]) == 0


@pytest.mark.parametrize("text", [
    "__import__('os').system('touch {ran}')", "__import__('os').system('touch {ran}').floor(1)", "Symbol(__import__('os').system('touch {ran}'))",
    "(lambda: 0)()", "[c for c in ().__class__.__bases__]", "Pow(Integer(9), Integer(999999999))", "9**9**9**9", "x" * 30_000,
])
def test_no_size_expression_of_a_stored_graph_reaches_torch(text: str, tmp_path: Path) -> None:
    saved = json.dumps({"graph_module": {"graph": {"sym_int_values": {"s": {"as_expr": {"expr_str": text.replace("{ran}", str(tmp_path / "ran"))}}}}}})
    with pytest.raises(guard.Unsafe):
        guard.check_graph(saved.encode())
    assert not (tmp_path / "ran").exists()


def test_no_target_of_a_stored_graph_is_anything_but_an_op() -> None:
    for target in ("torch.ops.aten.add.Tensor", "_operator.mul", "math.floor", "torch.sym_max", "torch.ops.higher_order.cond"):
        guard.check_graph(json.dumps({"nodes": [{"target": target}]}).encode())
    for target in ("torch.os.system", "torch.ops.load_library", "_operator.methodcaller", "torch.ops.aten.from_file", "#evil:op", "torch.hub.load",
                   "torch.ops.aten.__class__.x"):
        with pytest.raises(guard.Unsafe, match="is not the name of an op"):
            guard.check_graph(json.dumps({"nodes": [{"target": target}]}).encode())
    with pytest.raises(guard.Unsafe, match="enum"):
        guard.check_graph(json.dumps({"in_spec": '[1, {"__enum__": true, "fqn": "antigravity:X"}]'}).encode())


def stored(store: Path, stage: str = "torch") -> Path:
    """The entry of a stage of the toy job."""
    return next(path.parent for path in store.glob("entries/*/*/entry.json") if files.read(path)["data"]["stage"] == stage)


def forge(entry: Path, name: str, content: bytes = b"evil") -> None:
    """Rename the only file of a stored result, as whoever can write to the store may."""
    told = files.read(entry / "entry.json")
    told["files"] = {name: [compute_digest(content), len(content)]}
    told["sha256"] = compute_digest([entry.name, told["data"], told["files"], told["ir"]])
    files.write(entry / "entry.json", told)
    shutil.rmtree(entry / "files")
    target = entry / "files" / name
    (entry / "files" / "a").mkdir(parents=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


@pytest.mark.parametrize("name", ["../../../../../outside.txt", "a/../../../../../../outside.txt", "job.json"])
def test_a_stored_result_writes_nothing_outside_of_the_job(run: Record, tmp_path: Path, name: str) -> None:
    store = tmp_path / "theirs/store"
    forge(stored(store), name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.txt")}
    result = pipeline.run(toys.job(), _folder(tmp_path / "mine"), store=store)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*.txt") if "mine" not in path.parts}
    assert after == before and not (tmp_path / "mine/job.json").exists()
    said = [str(problem) for problem in result.problems] + [remark.message for remark in result.warnings if remark.code == "untrusted"]
    assert len(said) == 1 and ("is not the name of a file inside" in said[0] or "belongs to the job" in said[0])


def test_a_linked_result_is_not_followed(run: Record, tmp_path: Path, secret: Path) -> None:
    store = tmp_path / "theirs/store"
    entry = stored(store)
    (file,) = (entry / "files").iterdir()
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(Untrusted, match="links in records are not followed"):
        Store(store).find(entry.name)
    for key in ("../../../home", "x", ""):
        with pytest.raises(Untrusted, match="is not the key"):
            Store(store).find(key)
    assert secret.read_text() == "PRIVATE KEY"


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


def test_a_foreign_folder_is_no_mirror(run: Record, tmp_path: Path, become: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
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
    newer = run.folder.with_name("29990101T000000Z-toys")
    shutil.copytree(run.folder, newer, symlinks=True)
    edit(newer / "report.json", run=newer.name, started="2999-01-01T00:00:00+00:00")
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
    assert not any(b"PRIVATE" in path.read_bytes() or _packed(path, "PRIVATE") for path in run.folder.rglob("*") if path.is_file() and not path.is_symlink())


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
    from lowering.symbols import frames

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
    told = capsys.readouterr().err
    assert "run.json expectations" in told and str(target) in told and not target.exists()
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


def test_a_worker_takes_only_the_job_that_the_flow_prepared(run: Record) -> None:
    folder = run.job_folder(JOB_ID)
    prepared = attempts.prepare(run, JOB_ID, attempts.Need(None, 0, False))
    assert attempts.check_job(folder, prepared.digest) == []
    edit(folder / "job.json", stages={"export": {"_target_": "os.system"}})
    (problem,) = attempts.check_job(folder, prepared.digest)
    assert "is not what the run prepared" in problem.cause


def test_a_key_that_others_can_read_seals_nothing(tmp_path: Path, become: Callable[[str], None]) -> None:
    become("me")
    sealed = trust.seal({"a": 1}, "job.json")
    assert trust.is_own(sealed, "job.json")
    assert not trust.is_own(sealed, "run.json") and not trust.is_own({**sealed, "a": 2}, "job.json") and not trust.is_own({"a": 1}, "job.json")
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


def test_an_unknown_custom_call_is_not_run() -> None:
    import torch

    from lowering.numerics.xla import Xla

    text = """module { func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
      %y = "stablehlo.custom_call"(%x) {call_target_name = "xla_python_cpu_callback"} : (tensor<2xf32>) -> tensor<2xf32>
      return %y : tensor<2xf32> } }"""
    with pytest.raises(Unsupported, match="xla_python_cpu_callback"):
        Xla().run(text, [torch.ones(2)])


def test_a_job_is_described_by_what_it_runs() -> None:
    job: Job = replace(toys.job(), model=replace(toys.job().model, libraries=("a.so",)))
    from lowering.record.folder import list_code

    assert list_code(job.to_json())[-1] == "the library a.so" and list_code([]) == []
