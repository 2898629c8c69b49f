"""Source files that move or vanish while a run is on: the loaded code keeps its key, and no job dies of a file that is gone."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lowering.store import provenance

SOURCES = {
    "vanishing/__init__.py": "from vanishing import loaded\n",
    "vanishing/loaded.py": "def call():\n    from vanishing import late\n    return late\n",
    "vanishing/late.py": "import json\n",
    "other_vanishing.py": "import vanishing.late\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    provenance._locate_top_level.cache_clear()
    importlib.import_module("vanishing")
    provenance.freeze_loaded()
    provenance.stamps.renew()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("vanishing")]:
        del sys.modules[name]
    provenance._locate_top_level.cache_clear()
    provenance.stamps.renew()


def test_a_file_that_vanishes_between_two_looks_is_missing(folder: Path) -> None:
    assert len(provenance.digest_sources("vanishing.loaded")) == 3
    (folder / "vanishing/late.py").unlink()
    found = provenance.digest_sources("other_vanishing")  # in the same generation of stamps
    assert found[str(folder / "vanishing/late.py")] == provenance.MISSING
    assert found[str(folder / "other_vanishing.py")] != provenance.MISSING


def test_loaded_code_keeps_its_provenance_when_its_folder_moves(folder: Path) -> None:
    before = provenance.digest_sources("vanishing.loaded")
    shutil.move(folder / "vanishing", folder / "moved")
    provenance.stamps.look()  # as it does every few seconds
    after = provenance.digest_sources("vanishing.loaded")
    late = str(folder / "vanishing/late.py")
    assert after == {file: digest for file, digest in before.items() if file != late} and late in before
    shutil.move(folder / "moved", folder / "vanishing")
    provenance.stamps.look()
    assert provenance.digest_sources("vanishing.loaded") == before


def test_a_loaded_module_whose_file_is_gone_when_it_is_recorded_is_no_error(folder: Path) -> None:
    (folder / "vanishing_soon.py").write_text("value = 1\n")
    importlib.import_module("vanishing_soon")
    (folder / "vanishing_soon.py").unlink()
    provenance.freeze_loaded()
    assert "vanishing_soon" not in "".join(provenance.digest_sources("vanishing_soon"))
