"""TorchScript files through the command: the tagger's sentences have any length, in MHLO and where it is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.__main__ import main
from tests.prefect_server import shapeline


def printed(environment: Mapping[str, str], *words: str) -> str:
    """What the command prints."""
    done = shapeline(environment, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, prefect: dict[str, str]) -> Path:
    """Where the run of the suite is; a lost dim fails its job."""
    made = tmp_path_factory.mktemp("foreign")
    printed(prefect, "run", "suite=torchscript", "strict_dims=true", f"output={made}")
    return made


def test_every_file_is_verified_and_packaged(folder: Path) -> None:
    rows = json.loads((folder / "runs" / "latest" / "report.json").read_text())["jobs"]
    names = ("scripted_tagger", "scripted_beam_step", "traced_pictures")
    assert {row["model"]: (row["outcome"], row["stage"]) for row in rows} == dict.fromkeys(names, ("ok", "package"))


def test_the_taggers_loop_is_as_long_as_the_sentence(folder: Path) -> None:
    job = folder / "runs" / "latest" / "jobs" / "scripted_tagger--default"
    requested = {dim["asked"]: dim for dim in json.loads((job / "symbols.json").read_text())["requested"]}
    sizes = {name: {place["size"] for place in dim["levels"] if place["level"] == "mhlo"} for name, dim in requested.items()}
    assert sizes == {"batch": {"?"}, "seq": {"?"}}
    (program,) = job.glob("*.mhlo.mlir")
    assert program.read_text().count("mhlo.while") == 1


def test_the_tagger_is_executed_at_lengths_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seq in (1, 23):
        assert main(["exec", "scripted_tagger", "--size", "batch=3", "--size", f"seq={seq}", "--output", str(folder)]) == 0
        said = capsys.readouterr().out
        assert f"float32[3, {seq}, 4]" in said, said
