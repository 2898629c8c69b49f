"""`shapeline probe` on models with a planted limit: it finds exactly that, and says what stops it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.__main__ import main


def probed(folder: Path, kind: str, most: int, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    file = folder / f"{kind.lower()}.yaml"
    file.write_text(f"factory: {{_target_: tests.e2e.planted.{kind}}}\ninputs: {{x: {{dtype: float32, shape: [batch, seq, 4]}}}}\n"
                    f"symbols: {{batch: {{min: 1, max: 4}}, seq: {{min: 1, max: {most}}}}}\n")
    assert main(["probe", str(file), "--symbol", "seq", "--json", "--output", str(folder / "out")]) == 1
    return dict(json.loads(capsys.readouterr().out))


def test_a_position_table_of_32_is_found_by_running_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = probed(tmp_path, "Table", 40, capsys)
    assert (found["range"]["min"], found["range"]["max"], found["range"]["multiple_of"]) == (1, 32, 1)
    assert found["verified"] == 32
    assert found["edges"]["max"]["outcome"] == "load_error"
    assert "(4, 33, 4)" in found["edges"]["max"]["cause"]


def test_a_view_that_needs_multiples_of_4_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = probed(tmp_path, "Fours", 128, capsys)
    assert (found["range"]["max"], found["range"]["multiple_of"]) == (128, 4)
    assert found["range"]["min"] == 4
    assert "min" not in found["edges"]
    assert "tests/e2e/planted.py" in found["edges"]["multiple_of"]["place"]


def test_a_branch_at_1000_is_found_by_its_guard_and_named_by_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = probed(tmp_path, "Branch", 4000, capsys)
    assert (found["range"]["min"], found["range"]["max"]) == (1, 1000)
    assert [attempt["symbol"]["max"] for attempt in found["attempts"]] == [4000, 1000, 1001]
    assert found["edges"]["max"]["place"].endswith("if x.shape[1] > 1000:")
    assert "1000" in found["edges"]["max"]["cause"]


def test_an_unknown_job_or_symbol_is_named_with_its_near_miss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "mlp", "--symbol", "bacth"]) == 2
    assert "mlp--default has no symbol 'bacth' (did you mean 'batch'?)" in capsys.readouterr().err
    assert main(["probe", "resnet", "suite=quickstart", "--symbol", "batch"]) == 2
    assert "names 2 jobs" in capsys.readouterr().err


def test_a_limit_below_the_declared_sizes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "mlp", "--symbol", "batch", "--limit", "2"]) == 2
    assert "--limit 2\n      is less than the max of batch, 1024" in capsys.readouterr().err


def test_a_model_is_chosen_by_an_override_too(capsys: pytest.CaptureFixture[str]) -> None:
    for chosen in ("model=mlp", "model=./configs/model/mlp.yaml", "configs/model/mlp.yaml"):
        assert main(["probe", chosen, "--symbol", "bacth"]) == 2
        assert "mlp--default has no symbol 'bacth'" in capsys.readouterr().err
