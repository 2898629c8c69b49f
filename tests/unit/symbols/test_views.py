"""The pages that people read."""

from __future__ import annotations

import pytest

from lowering.model import Symbol
from lowering.symbols import views
from tests.unit.models import symbol_models as models
from tests.unit.models.symbol_models import FILE, export, line, model


def test_the_page_has_warnings_before_dims_before_symbols() -> None:
    text = views.format_page(export(models.Fixed, model(models.Fixed, x=[None])).record)
    assert text.startswith("Symbols of fixed: 0 of 1 requested dims are dynamic\n")
    assert text.index("became_static: x[0], requested as null, became 41") < text.index("specialized to 41") < text.index("s77 = 41")
    assert f"{FILE}:{line('fixed')}" in text


def test_the_markdown_page_has_one_row_per_dim() -> None:
    text = views.format_page(export(models.Shared, model(models.Shared, {"batch": Symbol(2, 64)}, x=["batch"], y=["batch"])).record,
                             markdown=True)
    assert "| x[0] | batch | [2, 64] | 5 | dynamic |" in text and "| y[0] | batch | [2, 64] | 5 | dynamic |" in text


def test_a_failed_export_leads_to_the_yaml_that_works() -> None:
    text = views.format_page(export(models.Branch, model(models.Branch, {"n": Symbol(1, 64)}, x=["n"])).record)
    assert f"Export failed: constraint_violation at {FILE}:{line('branch')} in forward" in text
    assert "    symbols:\n      n: {min: 4, max: 64}\n" in text


def test_explain_follows_one_symbol_by_any_of_its_names() -> None:
    record = export(models.Counting, model(models.Counting, n=[])).record
    text = views.explain(record, "u0")
    assert f"range [2, 19] u0 < 20 at {FILE}:{line('below')} in forward" in text
    assert "count = n.item()" in text and "timeline:" in text
    tied = export(models.Branch, model(models.Branch, {"n": Symbol(1, 64)}, x=["n"])).record
    assert "verdict: refused" in views.explain(tied, "n") and "verdict: refused" in views.explain(tied, "x[0]")


def test_explain_refuses_an_unknown_symbol_with_those_there_are() -> None:
    record = export(models.Counting, model(models.Counting, n=[])).record
    with pytest.raises(ValueError, match="'u7' is not a symbol or dim of counting; known: u0"):
        views.explain(record, "u7")


def test_the_annotated_source_shows_what_was_born_under_its_line() -> None:
    lines = views.annotate_source(export(models.Counting, model(models.Counting, n=[])).record).splitlines()
    born = next(number for number, text in enumerate(lines) if text.startswith(f"{line('item'):5} | "))
    assert lines[born + 1] == "      ^ unbacked symbol u0 in [2, 19]"


def test_the_timeline_is_in_order() -> None:
    record = export(models.Branch, model(models.Branch, x=[None])).record
    kinds = [text.split()[2] for text in views.format_timeline(record).splitlines()]
    assert kinds[0] == "env" and kinds.index("symbol") < kinds.index("guard") < kinds.index("range") < kinds.index("guards_produced")
