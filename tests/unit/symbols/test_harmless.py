"""Conditions on which no number depends: what the record says of them."""

from __future__ import annotations

import pytest

from lowering.symbols.conditions.deferred import Deferred, Verdict
from lowering.symbols.conditions.harmless import mark_relations
from lowering.symbols.conditions.relations import warn_assumptions
from lowering.symbols.schema import Relation, SymbolRecord


@pytest.mark.parametrize(("verdict", "warned"), [("compared", ["n != 4"]), ("part", ["n != 2, n != 4"])])
def test_an_assumption_is_no_warning_where_the_program_was_compared(verdict: Verdict, warned: list[str]) -> None:
    relations = tuple(Relation(f"assumption:{text}#0", "assumption", expr, text, None, holds="no", fails_at={"n": size})
                      for expr, text, size in (("Ne(s77, 2)", "n != 2", 2), ("Ne(s77, 4)", "n != 4", 4)))
    record = SymbolRecord("model", relations=relations, warnings=tuple(warn_assumptions(relations)))
    assert [each.message for each in record.warnings] == ["assumed without a check: n != 2, n != 4"]
    marked = mark_relations(record, [Deferred("Ne(s77, 2)", "n != 2", "n != 2", None, verdict)])
    assert [each.message for each in marked.warnings] == [f"assumed without a check: {text}" for text in warned]
