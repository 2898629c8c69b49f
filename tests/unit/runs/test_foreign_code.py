"""Code that jobs and artifacts of somebody else name: it runs only with trust."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.engine import attempts
from flows.runs.record import Record
from lowering import files, trust
from lowering.errors import Unsupported
from lowering.job import Job
from lowering.plain import to_plain
from lowering.record.folder import prepare
from lowering.store.digests import compute_digest
from lowering.worker import __main__ as worker
from tests import toys
from tests.unit.models.scaled_model import MODEL
from tests.unit.runs.foreign import JOB_ID, edit, said


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
    printed = capsys.readouterr().err
    assert all(word in printed for word in ("evil.so", "'-wrapper touch,ran'", "the module evil", "was not made by this user", "--trust"))
    files.write(folder / "signature.json", content | {"model": {**to_plain(MODEL), "libraries": libraries[2:]}})
    assert said("exec", folder, "--trust") == 1 and (tmp_path / "ran").exists()
    printed = capsys.readouterr().err
    assert printed.startswith("shapeline: --trust: running the module evil\n") and "SystemError: ran" in printed
    (tmp_path / "ran").unlink()
    become("me")
    files.write(folder / "job.json", trust.seal({"model": to_plain(MODEL)}, "job.json"))
    assert said("exec", folder) == 2 and not (tmp_path / "ran").exists(), "the model of the artifact is not that of my job"
    files.write(folder / "job.json", trust.seal({"model": {**to_plain(MODEL), "libraries": libraries[2:]}}, "job.json"))
    assert said("exec", folder) == 1 and (tmp_path / "ran").exists(), "my own"
    files.write(folder / "signature.json", content | {"program": {"file": "../secret", "sha256": ""}})
    assert said("exec", folder) == 2 and "signature.json program" in capsys.readouterr().err


def test_a_job_of_somebody_else_is_run_by_the_worker_only_with_trust(run: Record, tmp_path: Path,
                                                                     capsys: pytest.CaptureFixture[str]) -> None:
    folder = run.job_folder(JOB_ID)
    assert worker.main([str(folder), "--into", str(tmp_path / "again"), "--here"]) == 2
    printed = capsys.readouterr().err
    assert "would run the callable tests.toys.Export" in printed and not (tmp_path / "again").exists()
    assert worker.main([str(folder), "--into", str(tmp_path / "again"), "--here", "--trust"]) == 0
    assert "running the callable tests.toys.Export" in capsys.readouterr().err
    mine = tmp_path / "mine"
    prepare(toys.job(), mine)
    assert worker.main([str(mine), "--here"]) == 0


def test_a_worker_takes_only_the_job_that_the_flow_prepared(run: Record) -> None:
    folder = run.job_folder(JOB_ID)
    prepared = attempts.prepare(run, JOB_ID, attempts.Need(None, 0, False))
    assert attempts.check_job(folder, prepared.digest) == []
    edit(folder / "job.json", stages={"export": {"_target_": "os.system"}})
    (problem,) = attempts.check_job(folder, prepared.digest)
    assert "is not the file that the run prepared" in problem.cause


def test_an_unknown_custom_call_is_not_run() -> None:
    import torch

    from lowering.numerics.running.xla import Xla

    text = """module { func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
      %y = "stablehlo.custom_call"(%x) {call_target_name = "xla_python_cpu_callback"} : (tensor<2xf32>) -> tensor<2xf32>
      return %y : tensor<2xf32> } }"""
    with pytest.raises(Unsupported, match="xla_python_cpu_callback"):
        Xla().run(text, [torch.ones(2)])


def test_a_job_is_described_by_what_it_runs() -> None:
    job: Job = replace(toys.job(), model=replace(toys.job().model, libraries=("a.so",)))
    from lowering.record.folder import list_code

    assert list_code(job.to_json())[-1] == "the library a.so" and list_code([]) == []
