"""Recurrent layers on packed sequences reach MHLO with the numbers of eager; what reads packed rows is refused by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from tests.unit.ops.test_op_forms import STAGES

X, FIRST = Input("float32", ("batch", "seq", 3)), Input("float32", ("seq", "batch", 3))
LENGTHS, ALL = Input("int64", ("batch",), {"randint": [1, 5]}), Input("int64", ("batch",), {"constant": 4})


@pytest.mark.parametrize(("name", "given"), [
    ("Taggers", {"x": X, "lengths": LENGTHS}),
    ("Sorted", {"x": FIRST, "lengths": ALL, "state": Input("float32", (1, "batch", 4))}),
])
def test_packed_sequences_have_the_numbers_of_eager(name: str, given: dict[str, Input], tmp_path: Path) -> None:
    model = Model(name, {"_target_": f"tests.unit.models.packed_models.{name}"}, given, {"batch": Symbol(1, 24), "seq": Symbol(4, 24)})
    result = pipeline.run(Job(model, STAGES), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())


def test_rows_of_a_packed_sequence_are_refused_by_line(tmp_path: Path) -> None:
    model = Model("rows", {"_target_": "tests.unit.models.packed_models.Rows"}, {"x": X, "lengths": LENGTHS},
                  {"batch": Symbol(1, 24), "seq": Symbol(4, 24)})  # fmt: skip
    result = pipeline.run(Job(model, STAGES), tmp_path)
    assert result.outcome == "unsupported"
    assert "packed_models.py" in str(result.problems[0]) and "reads 'data' of a packed sequence" in str(result.problems[0])
