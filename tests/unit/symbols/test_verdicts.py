"""What the record says became of each requested dim, and on which line it was decided."""

from __future__ import annotations

import json

import pytest
import torch

from lowering.model import Symbol
from lowering.sizes.ranges import Range
from lowering.symbols import SymbolRecord
from tests.unit.models import symbol_models as models
from tests.unit.models.symbol_models import FILE, export, line, model

BATCH = Symbol(1, 64)


def codes(record: SymbolRecord) -> list[str]:
    return [warned.code for warned in record.warnings]


def test_a_shared_named_dim_is_one_dynamic_symbol_with_its_ranges() -> None:
    record = export(models.Shared, model(models.Shared, {"batch": BATCH}, x=["batch", 7], y=["batch", 7])).record
    assert [(dim.id, dim.asked, dim.promised, dim.example, dim.verdict, dim.expr) for dim in record.requested] == [
        ("x[0]", "batch", Range(1, 64), 5, "dynamic", "batch"), ("y[0]", "batch", Range(1, 64), 5, "dynamic", "batch")]
    assert all((dim.line.file, dim.line.line, dim.line.function) == (FILE, line("shared"), "forward") for dim in record.requested)
    (free,) = [entry for entry in record.symbols if entry.became is None]
    (tied,) = [entry for entry in record.symbols if entry.became is not None]
    assert (free.created, free.traced, free.promised) == (Range(2, 64), Range(2, 64), Range(1, 64))
    assert tied.became == free.name
    assert {free.id, tied.id} == {"x[0]", "y[0]"}
    assert free.meaning == tied.meaning == "batch"
    assert record.relations == ()  # what was declared is no discovery
    assert codes(record) == ["promised_wider_than_traced"]


def test_a_range_that_tracing_covers_gives_no_warning() -> None:
    record = export(models.Plain, model(models.Plain, {"batch": Symbol(2, 64)}, x=["batch"])).record
    assert record.warnings == ()


def test_derived_dims_name_their_expression_and_root() -> None:
    declared = model(models.Derived, {"batch": BATCH, "seq": Symbol(8, 512, 8)}, x=["batch", "seq"], y=["2*batch", "seq+1"])
    record = export(models.Derived, declared).record
    verdicts = {dim.id: (dim.asked, dim.verdict, dim.expr, dim.promised, dim.multiple_of) for dim in record.requested}
    assert verdicts == {
        "x[0]": ("batch", "dynamic", "batch", Range(1, 64), 1),
        "x[1]": ("seq", "dynamic", "8*_seq", Range(8, 512), 8),
        "y[0]": ("2*batch", "derived", "2*batch", Range(2, 128), 2),
        "y[1]": ("seq + 1", "derived", "8*_seq + 1", Range(9, 513), 8),
    }
    root = next(entry for entry in record.symbols if entry.kind == "root")
    assert (root.id, root.meaning, root.promised) == ("_seq", "_seq", Range(2, 64))
    wide = [warned.message for warned in record.warnings if warned.code == "promised_wider_than_traced"]
    assert any("seq is promised in [8, 512] but was traced in [16, 512]" in text for text in wide)


def test_a_flexible_dim_that_specializes_names_value_cause_and_line() -> None:
    record = export(models.Fixed, model(models.Fixed, x=[None])).record
    (dim,) = record.requested
    assert (dim.verdict, dim.value, dim.why, dim.kept) == ("specialized", 41, "the code needs x_0 == 41", False)
    assert dim.line is not None and (dim.line.file, dim.line.line) == (FILE, line("fixed"))
    assert "torch.ones" in dim.line.code
    assert record.lost == (dim,)
    (warned,) = record.warnings
    assert (warned.code, warned.place, warned.value, warned.line) == ("became_static", "x[0]", 41, dim.line)
    (symbol,) = record.symbols
    assert [(change.what, change.range) for change in symbol.history] == [
        ("created", Range(2, None)), ("range", Range(41, 41)), ("specialized", None)]
    assert {change.line for change in symbol.history[1:]} == {dim.line}


def test_a_dim_of_which_a_guard_leaves_one_size_is_specialized_on_its_line() -> None:
    declared = model(models.Chunks, {"n": Symbol(8, 16, 4)}, x=["n"])
    (dim,) = export(models.Chunks, declared).record.requested
    assert (dim.verdict, dim.value, dim.kept, dim.line and dim.line.line) == ("specialized", 12, False, line("chunks"))
    assert dim.why == "the code allows only this one of the promised sizes: it needs (n + (4 - n % 4) % 4) // 4 == 3"


def test_a_dim_of_which_the_guards_leave_several_sizes_stays_dynamic() -> None:
    record = export(models.ManyChunks, model(models.ManyChunks, {"n": Symbol(8, 20, 4)}, x=["n"])).record
    assert [(dim.verdict, dim.kept) for dim in record.requested] == [("dynamic", True)]
    assert "guard_within_range" in codes(record)


def test_an_example_of_one_never_becomes_a_symbol() -> None:
    declared = model(models.Plain, x=[None, None])
    record = export(models.Plain, declared, example={"x": torch.ones(1, 3)}).record
    lost, kept = record.requested
    assert (lost.verdict, lost.value, lost.example, lost.symbol) == ("never_symbol", 1, 1, None)
    assert (kept.verdict, kept.example) == ("dynamic", 3)
    assert codes(record) == ["example_0_or_1"]
    assert record.lost == (lost,)


def test_a_named_example_of_one_fails_and_still_has_its_verdict() -> None:
    record = export(models.Plain, model(models.Plain, {"batch": Symbol(1, 64, example=1)}, x=["batch"])).record
    assert record.error is not None and record.error.kind == "constraint_violation"
    assert [(dim.verdict, dim.value) for dim in record.requested] == [("never_symbol", 1)]
    assert codes(record) == ["example_0_or_1"]


def test_flexible_dims_that_must_be_equal_are_merged_on_the_line_that_adds_them() -> None:
    declared = model(models.Sum, x=[None], y=[None])
    record = export(models.Sum, declared, example={"x": torch.ones(5), "y": torch.ones(5)}).record
    first, second = record.requested
    assert (first.verdict, second.verdict, second.related) == ("dynamic", "merged", ("x[0]",))
    assert second.line is not None and second.line.line == line("sum")
    assert codes(record) == ["became_equal"]
    (relation,) = record.relations
    assert (relation.kind, relation.line, relation.checked_by) == ("equality", second.line, ("exported", "signature"))


def test_a_flexible_dim_that_depends_on_another_is_derived() -> None:
    declared = model(models.Tail, x=[None], y=[None])
    record = export(models.Tail, declared, example={"x": torch.ones(6), "y": torch.ones(5)}).record
    longer = record.requested[0]
    assert (longer.verdict, longer.expr, longer.related) == ("derived", "y_0 + 1", ("y_0",))
    assert longer.line is not None and longer.line.line == line("tail")
    assert codes(record) == ["became_derived"]


def test_strict_capture_finds_the_same_lines() -> None:
    record = export(models.Branch, model(models.Branch, {"n": Symbol(1, 64)}, x=["n"]), strict=True).record
    (dim,) = record.requested
    assert (dim.verdict, dim.line.line if dim.line else None) == ("refused", line("branch"))
    kept = export(models.Tail, model(models.Tail, {"n": Symbol(2, 64, example=6)}, y=["n"], x=["n + 1"]), strict=True).record
    assert [(dim.id, dim.verdict, dim.expr) for dim in kept.requested] == [("y[0]", "dynamic", "n"), ("x[0]", "derived", "n + 1")]


@pytest.mark.parametrize("module", [models.Fixed, models.Branch, models.Pairs, models.Selecting])
def test_records_survive_json(module: type[torch.nn.Module]) -> None:
    record = export(module, model(module, x=[None])).record
    assert record.requested and record.symbols and record.events
    assert SymbolRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_a_record_of_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema is 'shapeline/symbols/0'"):
        SymbolRecord.from_json({"schema": "shapeline/symbols/0", "model": "m"})


def test_ids_are_the_same_in_two_exports_of_one_process() -> None:
    declared = model(models.Selecting, {"n": Symbol(2, 64)}, x=["n"])
    one, two = export(models.Selecting, declared).record, export(models.Selecting, declared).record
    assert [entry.id for entry in one.symbols] == [entry.id for entry in two.symbols]
    assert [relation.id for relation in one.relations] == [relation.id for relation in two.relations]
    assert len({entry.id for entry in one.symbols}) == len(one.symbols) == 2
