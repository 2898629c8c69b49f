"""TorchScript text in, torch dialect text out: each file of torch_dialect/ holds a graph and CHECK lines (or REFUSED lines)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lowering.ir import mlir
from lowering.torch_dialect import importer, refusals
from lowering.torchscript import text
from tests.filecheck.matcher import check

CASES = sorted((Path(__file__).parent / "torch_dialect").glob("*.ts"))


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_case(path: Path) -> None:
    source = path.read_text()
    graph = text.parse("\n".join(line for line in source.splitlines() if not line.startswith("#")) + "\n")
    wanted = re.findall(r"#\s*REFUSED:\s*(.*)", source)
    found = [str(problem) for problem in refusals.find_problems(graph)]
    assert len(found) == len(wanted), found
    assert all(part in problem for part, problem in zip(wanted, found, strict=True)), found
    if not wanted:
        check(mlir.text(importer.import_graph(graph, mlir.create_torch_context()), locations="# model.py" in source), source)
