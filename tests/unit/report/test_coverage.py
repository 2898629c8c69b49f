"""Coverage of a run by family and level, and what changed since another run."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.nights import InventedJob, invent
from flows.__main__ import main

FIRST = datetime(2026, 11, 1, 2, tzinfo=UTC)
JOBS = [InventedJob("bert"), InventedJob("bert_full", static=True),
        InventedJob("llama", outcome="unsupported", stage="torch", problem="no <lowering> of a|b"),
        InventedJob("vit")]  # fmt: skip
LATER = [replace(JOBS[0], outcome="error", stage="stablehlo"), JOBS[1], replace(JOBS[2], outcome="ok", stage="verify"),
         InventedJob("=whisper")]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coverage")
    for number, jobs in enumerate((JOBS, LATER)):
        invent(folder, jobs, started=FIRST + timedelta(days=number))
    return folder


def cells(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_levels_are_counted_by_family_with_what_changed(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage", "zoo", "--against", "previous", "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# Coverage of zoo, 2026-11-02, against 2026-11-01\n\n4 jobs: 3 reach MHLO (75.0 %), 0 agree there with eager")
    assert cells(text, "bert") == ["bert", "2", "2", "2", "2", "1 (-1)", "1 (-1)", "0", "0 (-1)"]
    assert cells(text, "llama") == ["llama", "1", "1", "1", "1 (+1)", "1 (+1)", "1 (+1)", "0", "1 (+1)"]
    assert cells(text, "vit")[:2] == ["vit", "0 (-1)"]
    assert cells(text, "all")[:2] == ["all", "4"]
    assert cells(text, "bert--default")[1:] == ["- stablehlo, mhlo, dims dynamic", "ok", "error in stablehlo"]
    assert cells(text, "vit--default") == ["vit--default", "missing", "ok", ""]


def test_the_formats_hold_hostile_text(output: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first = min(path.name for path in (output / "runs").glob("2*"))
    assert main(["coverage", first, "--format", "html", "--output", str(output)]) == 0
    page = capsys.readouterr().out
    assert "no &lt;lowering&gt; of a|b" in page and "<lowering>" not in page
    assert main(["coverage", "--format", "csv", "--output", str(output)]) == 0
    rows = {row["job"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert rows["'=whisper--default"]["mhlo"] == "1" and rows["bert--default"]["stablehlo"] == "0"
    families = tmp_path / "families.yaml"
    families.write_text("encoders: [bert, bert_full]\ndecoders: [llama]\n")
    assert main(["coverage", first, "--families", str(families), "--output", str(output)]) == 0
    assert cells(capsys.readouterr().out, "encoders")[1] == "2"


@pytest.mark.parametrize(("arguments", "problem"),
                         [(["nothing"], "nothing"), (["zoo", "--against", "20010101"], "20010101"),
                          (["zoo", "--families", "x.yaml"], "x.yaml")])
def test_what_is_not_there_is_said(arguments: list[str], problem: str, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage", *arguments, "--output", str(output)]) == 2
    assert problem in capsys.readouterr().err
