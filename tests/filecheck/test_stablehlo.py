"""torch-mlir's mixture in, pure StableHLO out: each file of stablehlo/ holds a module, its signature and CHECK lines (or REFUSED lines)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lowering.ir import mlir
from lowering.legalize import driver
from lowering.signature import Argument, Signature
from lowering.sizes.ranges import Bound
from tests.filecheck.matcher import check

CASES = sorted((Path(__file__).parent / "stablehlo").glob("*.mlir"))


def signature_of(declared: dict[str, Any]) -> Signature:
    dtypes = declared.get("dtypes", {})
    arguments = tuple(Argument("input", name, dtypes.get(name, "float32"), tuple(dims)) for name, dims in declared["inputs"].items())
    bounds = {name: Bound(*values) for name, values in declared["symbols"].items()}
    return Signature(arguments, (), bounds, tuple(declared.get("guards", ())))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_legalized(case: Path) -> None:
    text = case.read_text(encoding="utf-8")
    declared = json.loads(re.search(r"SIGNATURE: (.*)", text)[1])  # type: ignore[index]
    module = mlir.parse(text, mlir.create_torch_context())
    problems = driver.legalize(module, signature_of(declared), declared.get("assertions", True))
    refused = re.findall(r"REFUSED: (\S+)", text)
    if refused:
        assert [problem.place.split()[0] for problem in problems] == refused
        return
    assert not problems, "\n".join(map(str, problems))
    mlir.run(module, "builtin.module(func.func(canonicalize,cse))", "test")
    assert module.operation.verify()
    assert not mlir.list_impurities(module, ("func", "stablehlo", "builtin"))
    check(mlir.text(module), text)
