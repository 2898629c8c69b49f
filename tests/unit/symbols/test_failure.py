"""Failed exports: verdicts, violated relations, torch's fixes in the model's own words, and the draft of all problems."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lowering.model import Symbol
from lowering.sizes.ranges import Range
from lowering.symbols.failures.draft import run_draft
from lowering.symbols.failures.refinement import refine
from lowering.symbols.schema import Fix
from tests.unit.models import symbol_models as models
from tests.unit.models.symbol_models import export, line, model


def test_a_branch_on_a_size_names_range_line_and_fix() -> None:
    record = export(models.Branch, model(models.Branch, {"n": Symbol(1, 64)}, x=["n"])).record
    (dim,) = record.requested
    assert (dim.verdict, dim.why, dim.promised) == ("refused", "the code needs n > 3", Range(1, 64))
    assert dim.line is not None and dim.line.line == line("branch")
    (relation,) = record.relations
    assert (relation.kind, relation.text, relation.holds, dict(relation.fails_at)) == ("guard", "n > 3", "no", {"n": 1})
    assert record.error is not None and record.error.line == dim.line
    assert record.error.refined == {"symbols": {"n": {"min": 4, "max": 64}}}
    assert record.symbols[0].traced == Range(4, 64)


def test_the_refined_range_exports() -> None:
    record = export(models.Branch, model(models.Branch, {"n": Symbol(4, 64)}, x=["n"])).record
    assert record.error is None
    assert record.requested[0].verdict == "dynamic"
    assert (record.relations, record.warnings) == ((), ())


def test_divisibility_by_a_view_becomes_multiple_of() -> None:
    record = export(models.Pairs, model(models.Pairs, {"n": Symbol(1, 65, example=6)}, x=["n"])).record
    (dim,) = record.requested
    assert (dim.verdict, dim.why) == ("refused", "the code needs n % 2 == 0")
    relation = next(relation for relation in record.relations if relation.kind == "divisibility")
    assert (dict(relation.fails_at), relation.line.line if relation.line else None) == ({"n": 1}, line("pairs"))
    assert record.error is not None
    refined_range = record.error.refined["symbols"]["n"]
    assert refined_range == {"min": 2, "max": 64, "multiple_of": 2}
    again = export(models.Pairs, model(models.Pairs, {"n": Symbol(**refined_range)}, x=["n"])).record
    assert (again.error, again.requested[0].verdict, again.requested[0].expr) == (None, "dynamic", "2*_n")


def test_a_named_dim_that_specializes_fails_with_its_name() -> None:
    record = export(models.Fixed, model(models.Fixed, {"n": Symbol(1, 64, example=41)}, x=["n"])).record
    (dim,) = record.requested
    assert (dim.verdict, dim.value, dim.line.line if dim.line else None) == ("specialized", 41, line("fixed"))
    assert record.error is not None and record.error.refined == {"inputs": {"x": {"shape": [41]}}}
    assert "became_static" in [warned.code for warned in record.warnings]


def test_two_names_for_one_size_become_one() -> None:
    symbols = {"n": Symbol(1, 50, example=5), "m": Symbol(1, 30, example=5)}
    record = export(models.Sum, model(models.Sum, symbols, x=["n"], y=["m"])).record
    assert [dim.verdict for dim in record.requested] == ["refused", "merged"]
    assert {dim.line.line for dim in record.requested if dim.line} == {line("sum")}
    assert record.error is not None
    assert record.error.refined == {"symbols": {"n": {"min": 1, "max": 30}}, "inputs": {"y": {"shape": ["n"]}}}


def test_a_size_that_follows_from_another_becomes_its_expression() -> None:
    symbols = {"n": Symbol(1, 50, example=6), "m": Symbol(1, 49, example=5)}
    record = export(models.Tail, model(models.Tail, symbols, x=["n"], y=["m"])).record
    assert record.error is not None
    assert record.error.refined["inputs"] in ({"x": {"shape": ["m + 1"]}}, {"y": {"shape": ["n - 1"]}})


def test_an_error_of_the_model_itself_leaves_the_dims_undecided() -> None:
    class Raising(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise OSError("no such thing")

    record = export(Raising, model(models.Plain, {"n": Symbol(2, 8)}, x=["n"])).record
    assert record.error is not None and record.error.line is not None
    assert (record.error.kind, record.error.line.code) == ("oserror", 'raise OSError("no such thing")')
    assert [dim.verdict for dim in record.requested] == ["undecided"]


@pytest.mark.parametrize(("fix", "expected"), [
    (Fix("_n", "Dim('_n', min=2, max=6)"), {"symbols": {"n": {"min": 16, "max": 48, "multiple_of": 8}}}),
    (Fix("_n", "3"), {"inputs": {"x": {"shape": [24]}}}),
    (Fix("n", "4*_k"), {"symbols": {"n": {"min": 32, "max": 64, "multiple_of": 32}}}),
    (Fix("n", "a + b"), {}),
])
def test_fixes_of_a_multiple_are_in_the_models_own_sizes(fix: Fix, expected: dict[str, object]) -> None:
    assert refine(model(models.Plain, {"n": Symbol(8, 64, 8)}, x=["n"]), (fix,)) == expected


def test_draft_export_lists_a_problem_on_data_with_its_line() -> None:
    found = run_draft(model(models.Deciding, n=[]))
    assert [one.kind for one in found] == ["data_dependent"]
    assert found[0].line is not None and found[0].line.line == line("deciding")


def test_a_draft_export_ends_by_its_cpu_time() -> None:
    spinning = replace(model(models.Plain, x=[2]), factory={"_target_": "tests.unit.models.symbol_models.spin"})
    (found,) = run_draft(spinning, seconds=6.0)
    assert (found.kind, found.text) == ("failed", "the draft export took more than 6 s of CPU")


def test_a_failed_draft_export_is_reported() -> None:
    declared = model(models.Plain, x=[2])
    broken = type(declared)(declared.name, {"_target_": "tests.unit.models.symbol_models.nothing"}, declared.inputs)
    (found,) = run_draft(broken)
    assert found.kind == "failed" and "nothing" in found.text
