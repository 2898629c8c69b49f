"""The symbol log of real models: every dim that was asked for is accounted for, and said to be what it is in the IR."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from lowering.sizes.dims import Affine
from lowering.symbols.views import PAGE, SOURCE
from tests.e2e.quickstart import IDS, Lowered

MLIR = ("torch", "stablehlo", "mhlo")
ENTRY = re.compile(r"func\.func @main\((.*?)\) (?:->|attributes|\{)", re.DOTALL)
ARGUMENT = re.compile(r"%arg\d+: (?:!torch\.vtensor<\[([^\]]*)\]|tensor<((?:(?:\?|\d+)x)*))")


def entry_dims(text: str) -> list[list[str]]:
    """The dims of every argument of @main, as the IR has them."""
    entry = ENTRY.search(text)
    assert entry is not None
    return [[dim for dim in re.split("[x,]", torch or hlo) if dim] for torch, hlo in ARGUMENT.findall(entry[1])]


@pytest.mark.parametrize("job", IDS)
def test_every_requested_dim_is_dynamic_in_every_program_and_in_the_log(job: str, quickstart: Mapping[str, Lowered]) -> None:
    done = quickstart[job]
    assert done.result.outcome == "ok", done.result.problems
    asked = {f"{name}[{position}]" for name, declared in done.job.model.inputs.items()
             for position, dim in enumerate(declared.dims()) if isinstance(dim, Affine)}
    assert asked
    assert {dim.id for dim in done.record.requested} == asked
    assert all(dim.kept for dim in done.record.requested)
    for stage in MLIR:
        dims = entry_dims(done.text(stage))
        found = {f"{argument.name}[{position}]": size
                 for argument, sizes in zip(done.signature.arguments, dims, strict=True) if argument.kind == "input"
                 for position, size in enumerate(sizes)}
        assert {dim for dim, size in found.items() if size == "?"} == asked
        assert {dim.id: place.size for dim in done.record.requested for place in dim.levels if place.level == stage} == (
            dict.fromkeys(asked, "?"))


@pytest.mark.parametrize("job", IDS)
def test_every_dim_and_symbol_leads_to_a_code_line(job: str, quickstart: Mapping[str, Lowered]) -> None:
    record = quickstart[job].record
    assert record.symbols
    for line in (*(dim.line for dim in record.requested), *(entry.line for entry in record.symbols)):
        assert line is not None
        assert "def forward" in line.code
    assert set(quickstart[job].job.model.symbols) <= {entry.meaning.removeprefix("_") for entry in record.symbols}


@pytest.mark.parametrize("job", IDS)
def test_the_pages_and_the_trace_are_beside_the_log(job: str, quickstart: Mapping[str, Lowered]) -> None:
    done = quickstart[job]
    page = (done.folder / PAGE).read_text()
    assert all(f"| {dim.id} | mhlo | %arg" in page for dim in done.record.requested)
    assert "backed symbol" in (done.folder / SOURCE).read_text()
    assert '"create_symbol"' in (done.folder / "01-export.trace.log").read_text()
