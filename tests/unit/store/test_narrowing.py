"""An export of wider ranges serves narrower ones exactly where an export of their own gives the same program, record and warnings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering import pipeline
from lowering.job import Job
from lowering.level import Level
from lowering.model import Input, Model, Symbol
from lowering.record.result import JobResult
from lowering.sizes.ranges import Range
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.store import narrowing
from lowering.store.entries import Store
from lowering.symbols.conditions.questions import is_open
from lowering.symbols.log.narrowing import Separate

WIDE = {"batch": Symbol(1, 16), "seq": Symbol(8, 512, 8)}


def build_job(name: str = "Attention", seq: Symbol = WIDE["seq"], batch: Symbol = WIDE["batch"], stages: dict[str, Any] | None = None,
              **options: Any) -> Job:
    dims = ("batch", "seq")
    inputs = {"tokens": Input("int64", dims, {"randint": [0, 16]}), "mask": Input("int64", dims, "ones")}
    model = Model(name.lower(), {"_target_": f"tests.unit.models.range_models.{name}"}, inputs, {"batch": batch, "seq": seq})
    return Job(model, {"export": Export(**options), **(stages or {})}, f"{batch.max}-{seq.min}-{seq.max}-{seq.multiple_of}")


def run(folder: Path, store: Path, job: Job) -> JobResult:
    folder.mkdir()
    return pipeline.run(job, folder, store=store)


def find_export(store: Path, result: JobResult) -> Any:
    entry = Store(store).find(result.stages[0].key)
    assert entry is not None
    return entry


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobResult]:
    """A store with an export of the widest ranges."""
    folder = tmp_path_factory.mktemp("wide")
    result = run(folder / "job", folder / "store", build_job())
    assert result.outcome == "ok", result.problems
    return folder / "store", result


@pytest.mark.parametrize(("seq", "batch"), [(Symbol(8, 64, 8), Symbol(1, 16)), (Symbol(8, 512, 8), Symbol(4, 8))])
def test_an_export_of_narrower_ranges_is_taken_from_wider_ones(
    wide: tuple[Path, JobResult], tmp_path: Path, seq: Symbol, batch: Symbol
) -> None:
    store, widest = wide
    job = build_job(seq=seq, batch=batch)
    result = run(tmp_path / "shared", store, job)
    (export,) = result.stages
    assert (result.outcome, export.cache) == ("ok", "hit"), (result.problems, export.why)
    assert (export.why.startswith("narrowed: ") and f"{seq.max}" in export.why) or f"{seq.min}" in export.why

    own = run(tmp_path / "own", tmp_path / "store", job)
    assert own.stages[0].cache == "miss"
    separate = find_export(tmp_path / "store", own)
    ranges = {name: [symbol.min, symbol.max] for name, symbol in WIDE.items()}
    derived = narrowing.derive(find_export(store, widest), ranges, job.model)
    assert narrowing.list_differences(derived, separate) == []
    assert find_export(store, result).data["identity"] == separate.data["identity"]  # so later stages are the same
    assert result.warnings == own.warnings
    shared, made = (torch.export.load(tmp_path / folder / "01-export.pt2") for folder in ("shared", "own"))
    assert shared.range_constraints == made.range_constraints
    tokens = torch.ones(4, 16, dtype=torch.int64)
    assert torch.equal(shared.module()(tokens=tokens, mask=tokens), made.module()(tokens=tokens, mask=tokens))


@pytest.mark.parametrize("depth", ["core", "torch_mlir"])
def test_a_decomposed_export_is_narrowed_to_what_an_export_of_its_own_gives(depth: str, tmp_path: Path) -> None:
    widest = run(tmp_path / "wide", tmp_path / "store", build_job(decompose=depth))
    narrow = build_job(seq=Symbol(8, 64, 8), decompose=depth)
    shared = run(tmp_path / "shared", tmp_path / "store", narrow)
    assert (widest.outcome, shared.outcome, shared.stages[0].cache) == ("ok", "ok", "hit"), shared.stages[0].why
    own = find_export(tmp_path / "other", run(tmp_path / "own", tmp_path / "other", narrow))
    ranges = {name: [symbol.min, symbol.max] for name, symbol in WIDE.items()}
    assert narrowing.list_differences(narrowing.derive(find_export(tmp_path / "store", widest), ranges, narrow.model), own) == []


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobResult]:
    """A store with the widest export of a step of generation."""
    folder = tmp_path_factory.mktemp("step")
    result = run(folder / "job", folder / "store", build_step(64))
    assert result.outcome == "ok", result.problems
    return folder / "store", result


def build_step(most: int, **options: Any) -> Job:
    inputs = {"token": Input("int64", ("batch", 1), {"randint": [0, 16]}), "mask": Input("int64", ("batch", "past + 1"), "ones"),
              "keys": Input("float32", ("batch", 2, "past", 4))}
    model = Model("step", {"_target_": "tests.unit.models.range_models.Step"}, inputs, {"batch": Symbol(1, 16), "past": Symbol(1, most)})
    return Job(model, {"export": Export(**options)}, f"past-{most}")


def test_a_step_with_a_growing_cache_is_narrowed(step: tuple[Path, JobResult], tmp_path: Path) -> None:
    """The mask's length is compared with that of the keys, and keys that heads share are views whose strides are minima."""
    store, widest = step
    guards = [relation["text"] for relation in record_of(find_export(store, widest))["relations"] if relation["kind"] == "guard"]
    assert guards == ["past + 1 >= past + 1"]
    assert run(tmp_path / "checked", store, build_step(32, share="check")).outcome == "ok"  # equal to an export of its own
    (export,) = run(tmp_path / "narrow", store, build_step(24)).stages
    assert (export.cache, export.why) == ("hit", "narrowed: past.max: 64 -> 24")


def test_a_guard_that_no_dim_implies_is_for_the_widest_ranges_only(step: tuple[Path, JobResult]) -> None:
    store, widest = step
    entry = find_export(store, widest)
    (mask,) = (dim["symbol"] for dim in record_of(entry)["requested"] if dim["id"] == "mask[1]")
    (guard,) = (relation for relation in record_of(entry)["relations"] if relation["kind"] == "guard")
    guard["expr"] = f"{mask} <= 65"
    with pytest.raises(Separate, match="guards on ranges"):
        narrowing.derive(entry, {"batch": [1, 16], "past": [1, 64]}, build_step(32).model)


def record_of(entry: Any) -> dict[str, Any]:
    return next(event["data"] for event in entry.data["said"] if event.get("key") == "symbols")


def test_the_comparison_sees_a_difference(wide: tuple[Path, JobResult]) -> None:
    store, widest = wide
    entry, ranges = find_export(store, widest), {name: [symbol.min, symbol.max] for name, symbol in WIDE.items()}
    narrow = narrowing.derive(entry, ranges, build_job(seq=Symbol(8, 64, 8)).model)
    assert narrowing.list_differences(narrow, entry) == ["the program", "the signature", "the symbol record", "the warnings"]


def test_check_compares_with_an_export_of_its_own(wide: tuple[Path, JobResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = wide
    result = run(tmp_path / "job", store, build_job(seq=Symbol(8, 128, 8), share="check"))
    assert (result.outcome, result.stages[0].cache) == ("ok", "miss")
    derive = narrowing.derive

    def derive_wrongly(*arguments: Any) -> narrowing.Derived:
        right = derive(*arguments)
        return replace(right, data={**right.data, "signature": {**right.data["signature"], "guards": ["seq > 8"]}})

    monkeypatch.setattr(narrowing, "derive", derive_wrongly)
    result = run(tmp_path / "wrong", store, build_job(seq=Symbol(8, 256, 8), share="check"))
    assert result.outcome == "error" and "the signature differs from that of attention--16-8-512-8" in str(result.problems)


@pytest.mark.parametrize(("name", "why"), [("KnownShort", "may decide s"), ("LongInputs", "exported as")])
def test_what_narrower_ranges_decide_is_exported_by_itself(name: str, why: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert run(tmp_path / "wide", store, build_job(name, Symbol(1, 512))).outcome == "ok"
    job = build_job(name, Symbol(1, 64))
    result = run(tmp_path / "narrow", store, job)
    assert result.stages[0].cache == "miss" and why in result.stages[0].why
    own = run(tmp_path / "own", tmp_path / "other", job)
    assert find_export(store, result).data["identity"] == find_export(tmp_path / "other", own).data["identity"]


def test_other_examples_steps_and_options_are_exported_by_themselves(wide: tuple[Path, JobResult], tmp_path: Path) -> None:
    store, _ = wide
    for number, job in enumerate((build_job(seq=Symbol(8, 32, 8)), build_job(seq=Symbol(16, 64, 16)),
                                  build_job(seq=Symbol(8, 64, 8), share="off"), build_job(seq=Symbol(40, 512, 8)))):
        assert run(tmp_path / str(number), store, job).stages[0].cache == "miss", job.variant


def test_lower_levels_are_the_same(wide: tuple[Path, JobResult], tmp_path: Path) -> None:
    store, _ = wide
    stages = {"torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO()}
    job = build_job(seq=Symbol(8, 48, 8), stages=stages)
    shared, own = run(tmp_path / "shared", store, job), run(tmp_path / "own", tmp_path / "store", job)
    assert [result.outcome for result in (shared, own)] == ["ok", "ok"], shared.problems + own.problems
    assert [result.stages[0].cache for result in (shared, own)] == ["hit", "miss"]
    assert [stage.key for stage in shared.stages[1:]] == [stage.key for stage in own.stages[1:]]  # the first also has what the factory read
    text = [next((tmp_path / folder).glob(f"*{Level.MHLO.suffix}")).read_text() for folder in ("shared", "own")]
    assert text[0] == text[1]


@pytest.mark.parametrize(("question", "spans", "open_"), [
    ("Eq(s1, s2)", {"s1": Range(2, 64), "s2": Range(8, 512)}, True),
    ("Eq(s1, s2)", {"s1": Range(2, 64), "s2": Range(65, 512)}, False),
    ("s1 < 100", {"s1": Range(2, 512)}, True),
    ("s1 < 100", {"s1": Range(2, 99)}, False),
    ("s1//64", {"s1": Range(2, 63)}, False),
    ("s1//64", {"s1": Range(2, 64)}, True),
    ("Max(1, s1 - 5)", {"s1": Range(2, None)}, True),
    ("Eq(Mod(s1*s2, s1), 0)", {"s1": Range(2, 9), "s2": Range(2, 9)}, False),
    ("Eq(u0, s1)", {"s1": Range(2, 9)}, False),
])
def test_questions_stay_open_where_sizes_answer_them_differently(question: str, spans: dict[str, Range], open_: bool) -> None:
    assert is_open(question, spans) is open_


@pytest.mark.parametrize(("batch", "why"), [(Symbol(5, 5), "is no declared dim"), (Symbol(1, 2, example=2), "single size of batch")])
def test_a_single_size_is_exported_by_itself(wide: tuple[Path, JobResult], batch: Symbol, why: str) -> None:
    store, widest = wide
    entry, ranges = find_export(store, widest), {name: [symbol.min, symbol.max] for name, symbol in WIDE.items()}
    unasked = [event | {"data": {**event["data"], "open": []}} if event.get("key") == "sharing" else event for event in entry.data["said"]]
    entry = replace(entry, data={**entry.data, "said": unasked})
    with pytest.raises(Separate, match=why):
        narrowing.derive(entry, ranges, build_job(batch=batch).model)


def test_a_result_that_tells_nothing_is_not_shared(wide: tuple[Path, JobResult]) -> None:
    store, widest = wide
    entry = find_export(store, widest)
    silent = replace(entry, data={**entry.data, "said": [event for event in entry.data["said"] if event.get("key") != "sharing"]})
    with pytest.raises(Separate, match="has no record of the questions on sizes"):
        narrowing.derive(silent, {name: [symbol.min, symbol.max] for name, symbol in WIDE.items()}, build_job().model)
