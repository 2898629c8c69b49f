"""Verdicts are taken over from an earlier comparison only where nothing that could change them differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering.errors import Mismatch
from lowering.model import Symbol
from lowering.numerics import bench, verifier
from lowering.plain import to_plain
from lowering.stages.verify import Verify
from lowering.store import executables, verdicts
from tests.toys import Heard
from tests.unit.models.scaled_model import MODEL, hlo, program

pytestmark = pytest.mark.usefixtures("without_iree")

PARTS = {"stage": {"seed": 0}, "input": "program", "levels": [], "weights": "a", "devices": {}, "source": {"lowering/x.py": "a"},
         "model": {"declared": to_plain(MODEL), "source": {"mine.py": "a"}}}  # fmt: skip


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path))


def verify(parts: Mapping[str, Any] | None, **planted: Any) -> dict[str, list[str]]:
    """Verify the model's program, and return the maker of each comparison by the sizes of its point, or the kind of its values."""
    heard = Heard()
    with executables.keep(), verdicts.keep(parts, "run/job"):
        Verify(points=3, platforms=("cpu",)).apply(program(**planted), heard)
    found = heard.reports["verify"]
    return {f"{point['sizes']} {point['note']}": [level.get("maker", "") for level in point["levels"].values()]
            for point in (*found["points"], *found["special"])}


def test_equal_comparisons_are_taken_over_and_the_record_says_from_whom() -> None:
    first, again = verify(PARTS), verify(PARTS)
    assert not any(maker for makers in first.values() for maker in makers)
    assert again == {key: ["run/job", "run/job"] for key in first}


def test_ranges_and_the_levels_above_do_not_matter_where_the_program_that_runs_is_equal() -> None:
    verify(PARTS)
    narrow = to_plain(replace(MODEL, symbols={"batch": Symbol(1, 32)}))
    other = {**PARTS, "input": "another", "levels": ["another"], "model": {**PARTS["model"], "declared": narrow}}  # type: ignore[dict-item]
    assert set(map(tuple, verify(other).values())) == {("run/job", "run/job")}


def test_a_comparison_is_taken_over_if_it_was_compiled_with_the_same_effort_or_more(monkeypatch: pytest.MonkeyPatch) -> None:
    less = verify(PARTS)
    with monkeypatch.context() as patch:
        patch.setattr(verifier, "is_long_loop", lambda *_: True)  # XLA's default options at all points
        assert verify(PARTS) == {key: ["run/job", ""] for key in less}
    assert verify(PARTS) == {key: ["run/job", "run/job"] for key in less}


@pytest.mark.parametrize("other", [
    None, {**PARTS, "weights": "b"}, {**PARTS, "stage": {"seed": 1}}, {**PARTS, "source": {"lowering/x.py": "b"}},
    {**PARTS, "devices": {"gpus": ["g"]}}, {**PARTS, "model": {"declared": to_plain(MODEL), "source": {"mine.py": "b"}}},
    {name: part for name, part in PARTS.items() if name != "weights"},
])  # fmt: skip
def test_nothing_is_taken_over_by_other_weights_options_or_code(other: Mapping[str, Any] | None) -> None:
    verify(PARTS)
    assert not any(maker for makers in verify(other).values() for maker in makers)


def test_an_error_is_found_again_and_beside_verdicts_of_the_right_program() -> None:
    verify(PARTS)
    for _ in range(2):
        with pytest.raises(Mismatch, match="first wrong level: mhlo"):
            verify(PARTS, mhlo=hlo("mhlo", relu="add"))
    with pytest.raises(Mismatch, match="first wrong level: torchscript"):
        verify(PARTS, factor=3)


def test_nothing_is_taken_over_on_other_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    verify(PARTS)
    monkeypatch.setattr(verifier, "_choose_seed", lambda seed, sizes: seed + 1)
    assert not any(maker for makers in verify(PARTS).values() for maker in makers)


def test_the_time_of_eager_at_a_size_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = verify(PARTS)
    monkeypatch.setattr(bench.Bench, "seconds", lambda self, sizes: pytest.fail("was measured again"))
    assert set(verify(PARTS)) == set(first)


def test_eager_runs_at_the_first_point_alone_where_it_gives_there_what_an_earlier_job_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    run = bench.Bench.reference

    def count(self: Any, point: Any, *rest: Any, **named: Any) -> Any:
        asked.append(str(point))
        return run(self, point, *rest, **named)

    monkeypatch.setattr(bench.Bench, "reference", count)
    first = verify(PARTS)
    assert len(asked) == len(first)
    asked.clear()
    assert set(verify(PARTS)) == set(first)
    assert len(asked) == 1


def test_results_of_eager_are_not_taken_over_where_its_own_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no key sees, such as another version of a library that is not watched, shows at the first point."""
    verify(PARTS)
    asked: list[str] = []
    run = bench.Bench.reference

    def differ(self: Any, point: Any, *rest: Any, **named: Any) -> Any:
        asked.append(str(point))
        reference = run(self, point, *rest, **named)
        return replace(reference, want=tuple(value * (1 + 1e-6) if value.is_floating_point() else value for value in reference.want))

    monkeypatch.setattr(bench.Bench, "reference", differ)
    again = verify(PARTS)
    assert len(asked) == len(again)
    assert not all(maker for makers in again.values() for maker in makers)


def test_what_was_kept_of_eager_is_in_the_record_of_a_job_that_takes_it_over() -> None:
    def kept() -> list[Any]:
        with executables.keep(), verdicts.keep(PARTS, "run/job"):
            found = Verify(points=3, platforms=("cpu",)).apply(program(), Heard())
        return [want for _, _, want in found.verification.kept]  # type: ignore[attr-defined]

    first, again = kept(), kept()
    assert len(first) == len(again) > 1
    for one, other in zip(first, again, strict=True):
        assert len(one) == len(other)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
