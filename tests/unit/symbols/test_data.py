"""Sizes that depend on data: where they are born, how their ranges grow tight, and what nobody checks."""

from __future__ import annotations

from lowering.model import Symbol
from lowering.sizes.ranges import Range
from lowering.symbols.schema import SymbolEntry, SymbolRecord
from lowering.symbols.tracing.capture import Settings
from tests.unit.models import symbol_models as models
from tests.unit.models.symbol_models import FILE, export, line, model


def unbacked(record: SymbolRecord) -> SymbolEntry:
    (entry,) = [entry for entry in record.symbols if entry.kind == "unbacked"]
    return entry


def test_nonzero_gives_a_symbol_with_the_line_and_op_that_made_it() -> None:
    record = export(models.Selecting, model(models.Selecting, {"n": Symbol(2, 64)}, x=["n"])).record
    entry = unbacked(record)
    assert (entry.created, entry.traced) == (Range(None, None), Range(0, 64))  # no more than there are
    assert entry.line is not None and (entry.line.file, entry.line.line) == (FILE, line("nonzero"))
    assert (entry.op, entry.made_by) == ("aten.nonzero.default", "create_unbacked_symint")
    assert entry.id.startswith(f"{FILE}:forward:return x[x.nonzero()")
    assert record.warnings == () and record.relations == ()  # torch assumes that there are several rows, of strides alone


def test_an_assumption_of_the_models_own_code_is_unchecked() -> None:
    record = export(models.Guessing, model(models.Guessing, {"n": Symbol(2, 64)}, x=["n"])).record
    (relation,) = record.relations
    assert (relation.kind, relation.text, relation.checked_by) == ("assumption", "u0 != 3", ())
    (warned,) = [warned for warned in record.warnings if warned.code == "unchecked_assumption"]
    assert warned.line is not None and (warned.line.file, warned.line.line) == (FILE, line("guess"))


def test_the_size_of_a_slice_that_ends_by_data_is_no_condition() -> None:
    record = export(models.Sliced, model(models.Sliced, {"n": Symbol(2, 64)}, x=["n"])).record
    assert record.relations == () and not {"unchecked_assumption", "guard_not_carried"} & {warned.code for warned in record.warnings}


def test_checks_tighten_an_item_and_stay_run_time_asserts() -> None:
    record = export(models.Counting, model(models.Counting, n=[])).record
    entry = unbacked(record)
    assert entry.line is not None and entry.line.line == line("item")
    assert [(change.range, change.line.line) for change in entry.history if change.what == "range" and change.line] == [
        (Range(2, None), line("at least")), (Range(2, 19), line("below"))]
    assert entry.promised == Range(2, 19)
    asserts = [(relation.expr, relation.line.line, relation.checked_by) for relation in record.relations
               if relation.kind == "runtime_assert" and relation.line]
    assert asserts == [(f"{entry.name} >= 2", line("at least"), ("exported",)), (f"{entry.name} < 20", line("below"), ("exported",))]


def test_a_retrace_adds_no_symbols_but_is_folded_in() -> None:
    declared = model(models.Selecting, {"n": Symbol(2, 64)}, x=["n"])
    once, again = export(models.Selecting, declared).record, export(models.Selecting, declared, decompose=True).record
    assert [entry.id for entry in again.symbols] == [entry.id for entry in once.symbols]
    assert [relation.id for relation in again.relations] == [relation.id for relation in once.relations]
    assert unbacked(once).renamed == ()
    assert unbacked(again).renamed


def test_a_branch_on_data_fails_with_its_line_and_the_checks_that_would_decide_it() -> None:
    record = export(models.Deciding, model(models.Deciding, n=[])).record
    error = record.error
    assert error is not None and error.kind == "data_dependent"
    assert error.line is not None and error.line.line == line("deciding")
    assert [fix.spec for fix in error.fixes] == ["torch._check(u0 > 3)", "torch._check(u0 <= 3)"]
    entry = unbacked(record)
    assert entry.line is not None and entry.line.line == line("decided")


def test_extended_debug_reports_the_whole_stack_of_one_symbol_only() -> None:
    captured = export(models.Counting, model(models.Counting, n=[]), Settings(extended_debug=("u0",)))
    assert "torch/export" in unbacked(captured.record).detail
    assert unbacked(export(models.Counting, model(models.Counting, n=[])).record).detail == ""
