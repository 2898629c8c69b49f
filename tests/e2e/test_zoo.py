"""Architectures of the zoo, one of each kind, reach MHLO through the command with every dim dynamic that their files request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.prefect_server import shapeline

ARCHITECTURES = {"olmoe": "mixture of experts", "regnet": "vision", "bart": "encoder-decoder", "wavlm": "audio"}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, prefect: dict[str, str]) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The folder and the row of each architecture's job, in one run; a lost dim fails its job."""
    folder = tmp_path_factory.mktemp("zoo")
    models = ",".join(f"zoo/{name}" for name in ARCHITECTURES)
    words = [f"model=[{models}]", "strict_dims=true", "~stages.verify", "~stages.package"]
    done = shapeline(prefect, "run", *words, f"output={folder}")
    run = folder / "runs" / "latest"
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((run / "report.json").read_text())["jobs"]
    return {row["model"]: (run / "jobs" / row["id"], row) for row in rows}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_requested_dim_is_dynamic_in_the_mhlo_program(name: str, jobs: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    folder, row = jobs[name]
    assert (row["outcome"], row["stage"]) == ("ok", "mhlo"), row
    requested = json.loads((folder / "symbols.json").read_text())["requested"]
    sizes = {dim["id"]: place["size"] for dim in requested for place in dim["levels"] if place["level"] == "mhlo"}
    assert len(sizes) == len(requested) >= 2
    assert set(sizes.values()) == {"?"}
