"""The table of generative models: what is static, failed, or not compared is in its row, and fails the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import generation_page


def job(entry: str, outcome: str = "ok", size: str = "?", steps: int = 0) -> dict[str, Any]:
    dims = [{"asked": asked, "levels": [{"level": "exported", "size": "s3"}, {"level": "mhlo", "size": given}]}
            for asked, given in (("batch", "?"), ("past + 1", size), ("64", "64"))]
    walks = [{"steps": steps, "top1": 0.5}] if steps else []
    return {"model": "llama_generation", "variant": f"dynamic:{entry}", "outcome": outcome, "symbols": {"requested": dims},
            "verify": {"steps": walks}}


@pytest.mark.parametrize(("jobs", "row", "status"), [
    ([job("prefill"), job("decode", steps=8)], "| llama | dynamic | `prefill` batch, past; `decode` batch, past | 8 | 50% |", 0),
    ([job("decode", steps=8, size="7")], "| llama | dynamic | `decode` batch, past (static) | 8 | 50% |", 1),
    ([job("decode", outcome="mismatch", steps=8)], "| llama | dynamic | `decode` batch, past (mismatch) | 8 | 50% |", 1),
    ([job("decode", steps=7)], "| llama | dynamic | `decode` batch, past | 7 | 50% |", 1),
])
def test_a_program_is_a_row(jobs: list[dict[str, Any]], row: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"jobs": jobs}))
    assert generation_page.main([str(tmp_path)]) == status
    assert capsys.readouterr().out.splitlines()[-1] == row
