"""The wheel: what is in it, and that the command works where it is installed, without the repository."""

from __future__ import annotations

import json
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests import wheels
from tests.wheels import ROOT, run


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel; everything else comes from this one, whose editable installs are not seen there."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    python = environment / "bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def test_it_holds_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        texts = {name: archive.read(name).decode() for name in names if name.endswith(".yaml")}
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == (
        {"lowering", "flows", "shapeline", "configs", "hydra_plugins"})
    assert texts["configs/pipeline.yaml"] == (ROOT / "pipeline.yaml").read_text()
    assert {"flows/report/dashboard/assets/app.js", "lowering/custom/bridge.cpp", "configs/model/zoo/phi.yaml",
            "configs/suite/quickstart.yaml", "configs/schema/model.json"} <= names
    assert [name for name, text in texts.items() if "examples." in text or "examples/" in text] == []


def test_the_command_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import flows, lowering; print(flows.__file__, lowering.__file__)", cwd=tmp_path).split()
    assert all(Path(file).is_relative_to(installed.parent) for file in where)
    assert " jobs of suite quickstart" in run(installed / "shapeline", "list", cwd=tmp_path)
    assert "no problem found" in run(installed / "shapeline", "validate", "--all", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_lowers_a_model_to_mhlo_from_an_empty_folder(installed: Path, tmp_path: Path, prefect: dict[str, str]) -> None:
    server = {name: prefect[name] for name in ("PREFECT_HOME", "PREFECT_API_URL")}
    run(installed / "shapeline", "run", "model=mlp", cwd=tmp_path, **server)
    run_folder = tmp_path / "artifacts/runs/latest"
    assert json.loads((run_folder / "report.json").read_text())["as_expected"] is True
    assert "mhlo.dot" in (run_folder / "jobs/mlp--default/05-mhlo.mhlo.mlir").read_text()
    assert "shapelineView" in (run_folder / "jobs/mlp--default/view.js").read_text()
