"""Indices of equal elements are compared by the values that they pick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lowering.model import Input
from lowering.numerics.judging.ties import Picks
from tests.unit.models.verified_jobs import codes, lowered, model

pytestmark = pytest.mark.usefixtures("without_iree")


class Order(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        values, places = x.topk(3, -1)
        return {"values": values, "topk": places.int().T, "argsort": x.argsort(-1), "argmax": x.argmax(-1),
                "stable": x.argsort(stable=True, dim=-1), "kth": x.kthvalue(2)[1], "twice": places * 2}


def test_indices_of_equal_elements_are_compared_by_what_they_pick(tmp_path: Path) -> None:
    result = lowered(model(Order, {"x": Input("int64", ("n", 6), {"randint": [0, 300]})}, high=8), tmp_path)
    assert result.outcome == "ok", result.problems
    assert codes(result) <= {"verify_ties"}


class First(torch.nn.Module):
    """Picks the first of equal elements, but for the export the last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        marks = (x > 0).float()
        return x.shape[1] - 1 - marks.flip(-1).argmax(-1) if torch.compiler.is_exporting() else marks.argmax(-1)


def test_the_last_of_equal_elements_is_a_mismatch_where_the_first_is_defined(tmp_path: Path) -> None:
    assert lowered(model(First, {"x": Input("int64", ("n", 6), {"randint": [-2, 3]})}, high=8), tmp_path).outcome == "mismatch"


@pytest.mark.parametrize(("source", "is_followed"), [
    (torch.tensor([2, 5, 5]), False), (torch.tensor([0.0, 1.0, 1.0]), False), (torch.tensor([-torch.inf, 1.0, 1.0]), False),
    (torch.tensor([0.5, 1.25, 1.25]), True), (torch.tensor([256.0, 300.0, 300.0], dtype=torch.bfloat16), True),
])  # fmt: skip
def test_equal_elements_are_in_any_order_only_where_rounding_may_part_them(source: torch.Tensor, is_followed: bool) -> None:
    with Picks() as picks:
        assert (picks.find(source.argmax()) is not None) == is_followed
        assert (picks.find(source.max(0)[1]) is not None) == is_followed
        assert picks.ties == is_followed
        assert picks.find(source.topk(2)[1]) is not None


class TopP(torch.nn.Module):
    """Masks all but the most likely elements, and of the rest those after a share of the whole: which of equal ones, torch leaves open."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = x.masked_fill(x < x.topk(20, -1).values[:, -1:], float("-inf"))
        ordered, places = x.sort(descending=True, dim=-1)
        likely = ordered.softmax(-1)
        before = likely.cumsum(-1) - likely
        masks = [torch.zeros_like(x, dtype=torch.bool).scatter(1, places, before > share) for share in (0.3, 0.4, 0.5, 0.6)]
        return [x.masked_fill(mask, float("-inf")) for mask in masks]


def test_elements_masked_in_the_order_of_equal_ones_are_not_decided(tmp_path: Path) -> None:
    result = lowered(replace(model(TopP, {"x": Input("float32", ("n", 32))}), seed=1), tmp_path)  # whose inputs round to equal elements
    assert (result.outcome, codes(result)) == ("ok", {"verify_ties"})


class WrongTopP(TopP):
    """Masks by another share in eager than in the program."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return super().forward(x if torch.compiler.is_exporting() else 3 * x)


def test_elements_masked_wrongly_are_a_mismatch(tmp_path: Path) -> None:
    assert lowered(model(WrongTopP, {"x": Input("float32", ("n", 32))}), tmp_path).outcome == "mismatch"


def picked(indices: torch.Tensor, source: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether `got` picks what `indices`, of `source`'s sort, do."""
    with Picks() as picks:
        found = indices_of(source)
    record = picks.find(found)
    assert record is not None and torch.equal(found, indices)
    ours, theirs = record.positions(got), record.positions(found)
    values = record.source.reshape(-1)
    return ours is not None and theirs is not None and torch.equal(values[ours], values[theirs])


def indices_of(source: torch.Tensor) -> torch.Tensor:
    return source.topk(2, dim=0)[1].T.unsqueeze(0).to(torch.int32)


def test_moved_and_cast_indices_are_followed_to_what_they_pick() -> None:
    source = torch.tensor([[5, 1], [5, 3], [2, 3], [5, 0]])
    found = indices_of(source)
    other = found.clone()
    other[0, 0] = torch.tensor([3, 0])  # 5 and 5, of other rows
    assert picked(found, source, other)
    other[0, 0, 0] = 2
    assert not picked(found, source, other)
    other[0, 0, 0] = 4
    assert not picked(found, source, other)


def test_a_stable_sort_is_not_followed_and_ties_are_seen() -> None:
    tied, plain = torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1.0, 3.0, float("nan")])
    with Picks() as picks:
        assert picks.find(tied.argsort(stable=True)) is None
        assert not picks.ties
        assert picks.find(plain.argsort()) is not None
        assert not picks.ties
        (tied / 3).argmax()
    assert picks.ties and picks.finite_ties
    with Picks() as masked:
        torch.tensor([1.0, -torch.inf, -torch.inf]).sort()
    assert masked.ties and not masked.finite_ties
