"""A fork server loads modules that few jobs need when the first of them comes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lowering import files
from lowering.record.folder import JOB
from lowering.worker import forkserver


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


def test_no_job_needs_transformers_before_one_of_its_models_comes() -> None:
    assert not any(name.startswith("transformers") for name in forkserver.WARM)
    assert "transformers.modeling_utils" in forkserver.LATER["huggingface"]
