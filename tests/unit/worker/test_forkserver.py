"""A fork server loads modules that few jobs need when the first of them comes."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from lowering import files
from lowering.record.folder import JOB, prepare
from lowering.record.result import JobResult
from lowering.worker import client, forkserver
from tests import toys
from tests.waiting import wait_for


def test_what_some_factories_need_is_loaded_for_their_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "LATER", {"huggingface": ("this_is_not_installed", "colorsys")})
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)

    def prepare(factory: object) -> list[str]:
        files.write(tmp_path / JOB, {"model": {"factory": factory}})
        return forkserver.list_needed(tmp_path)

    assert prepare({"_target_": "lowering.sources.mlp.MLP"}) == []
    assert prepare(None) == [] and forkserver.list_needed(tmp_path / "missing") == []
    needed = prepare({"_target_": "lowering.sources.huggingface.build"})
    assert "colorsys" not in sys.modules
    forkserver.load_later(needed)  # one that cannot be loaded is left to the job
    assert "colorsys" in sys.modules


def test_a_class_of_transformers_is_loaded_for_the_second_job_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "_seen", set())

    def prepare(architecture: object, target: str = "lowering.sources.huggingface.build") -> list[str]:
        files.write(tmp_path / JOB, {"model": {"factory": {"_target_": target, "config": "GPT2Config", "architecture": architecture}}})
        return forkserver.list_repeated(tmp_path)

    assert prepare("GPT2Model") == []
    assert prepare("GPT2LMHeadModel") == ["transformers:GPT2Config"]
    assert prepare("GPT2LMHeadModel") == ["transformers:GPT2Config", "transformers:GPT2LMHeadModel"]
    assert prepare(None) == ["transformers:GPT2Config"]
    assert prepare("GPT2LMHeadModel", "lowering.sources.mlp.MLP") == []
    assert forkserver.list_repeated(tmp_path / "missing") == []


def test_an_attribute_of_a_module_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    lazy = types.ModuleType("lazy_library")
    lazy.__getattr__ = lambda name: asked.append(name)  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_library", lazy)
    for _ in range(2):
        forkserver.load_later(["lazy_library:Model"])
    assert [name for name in asked if name == "Model"] == ["Model"]


def test_no_job_needs_transformers_before_one_of_its_models_comes() -> None:
    assert not any(name.startswith("transformers") for name in forkserver.WARM)
    assert "transformers.modeling_utils" in forkserver.LATER["huggingface"]


@pytest.mark.parametrize("given", ["", "ACTIVE"])
def test_waiting_threads_leave_the_cores_to_other_jobs_unless_the_user_disagrees(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WARM", ())
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    server = client.ForkServer()
    try:
        place = Path(f"/proc/{server._process.pid}/environ")
        wanted = f"OMP_WAIT_POLICY={given or 'PASSIVE'}".encode()
        assert wait_for(lambda: wanted in place.read_bytes().split(b"\0"))
    finally:
        server.close()


def test_what_the_server_is_to_do_at_its_exit_is_not_done_by_its_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loaded_once.py").write_text(
        "import os, weakref\n"
        "class Library: pass\n"
        "library = Library()\n"
        f"weakref.finalize(library, lambda: open({str(tmp_path / 'ended')!r}, 'a').write(f'{{os.getpid()}} '))\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(client, "WARM", ("loaded_once",))
    server = client.ForkServer()
    try:
        prepare(toys.job(), tmp_path / "job")
        child = server.fork(tmp_path / "job", {}, 60.0)
        assert wait_for(lambda: child.wait(1.0) is not None)
        child.close()
        assert JobResult.load(tmp_path / "job") is not None and not (tmp_path / "ended").exists()
    finally:
        server.close()
    assert (tmp_path / "ended").read_text().split() == [str(server._process.pid)]
