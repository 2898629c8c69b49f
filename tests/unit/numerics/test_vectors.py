"""Eigenvectors and singular vectors are compared up to what their definition leaves open, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol
from lowering.numerics.bench import Bench
from lowering.numerics.judging.vectors import Owned, Vectors
from lowering.numerics.reference import Reference
from lowering.stage import Silent
from lowering.stages.export import Export

Tensors = tuple[torch.Tensor, ...]
SQUARE = torch.tensor([[2.0, 1, 0, 0.5], [1, 3, 1, 0], [0, 1, 5, 0.3], [0.5, 0, 0.3, 9]])
WIDE = torch.randn((2, 3, 5), generator=torch.Generator().manual_seed(0))
MIXED = torch.tensor([1.0, -1, -1])


def watch(function: Callable[[torch.Tensor], Any], given: torch.Tensor) -> tuple[Owned, Tensors]:
    with Vectors() as vectors:
        found = function(given)
    results = tuple(found) if isinstance(found, tuple | list) else (found,)
    return vectors.find_owners(results), results


def distance(owned: Owned, got: Tensors, want: Tensors) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(owned.turn(got, want), want, strict=True))


def eigenvectors(matrix: torch.Tensor) -> torch.Tensor:
    return torch.linalg.eigh(matrix)[1]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("given", [WIDE, WIDE.mT])
def test_pairs_of_singular_vectors_have_one_sign(given: torch.Tensor, full: bool) -> None:
    owned, want = watch(lambda x: torch.linalg.svd(x, full_matrices=full), given)
    signs = torch.ones(5)
    signs[:3] = MIXED
    left, values, right = want
    both = left * signs[: left.shape[-1]], values, right * signs[: right.shape[-2], None]
    assert distance(owned, both, want) == 0
    assert distance(owned, (both[0], values, right), want) > 0.1


@pytest.mark.parametrize("given", [torch.eye(4), torch.zeros(3, 5), torch.ones(4, 4), torch.tensor([3.0, 3, 1, 0, 0]).diag()])
def test_vectors_of_equal_values_may_be_rotated(given: torch.Tensor) -> None:
    owned, want = watch(torch.linalg.svd, given)
    noise = 1e-7 * torch.randn(given.shape, generator=torch.Generator().manual_seed(0))
    got = tuple(torch.linalg.svd(given + noise))
    assert distance(owned, got, want) < 1e-5
    wrong = got[0].clone()
    wrong[0, 0] += 0.01
    assert distance(owned, (wrong, *got[1:]), want) > 4e-3


def test_vectors_of_the_value_0_may_turn_into_those_that_are_left_out() -> None:
    flat = torch.tensor([[1.0, 2, 0, 0, 0], [0, 1, 3, 0, 0], [1, 3, 3, 0, 0]])  # the third row is the sum of the others
    owned, want = watch(lambda x: torch.linalg.svd(x, full_matrices=False), flat)
    left, values, right = want
    other = right.clone()
    other[2] = torch.tensor([0.0, 0, 0, 0, 1])
    assert distance(owned, (left, values, other), want) < 1e-5
    for wrong in ((left.flip(0), values, right), (left, values, torch.cat([right[:1], other[1:].flip(0)]))):
        assert distance(owned, wrong, want) > 0.1


FOLLOWED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "views": lambda x: eigenvectors(x).mT.contiguous().view(-1, 2)[2:], "some": lambda x: eigenvectors(x)[:, 1:3] * 3,
    "product": lambda x: x @ eigenvectors(x), "rows": lambda x: torch.linalg.svd(x)[2] @ x, "one": lambda x: -eigenvectors(x)[:, 0],
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_moved_and_multiplied_vectors_are_followed(name: str) -> None:
    owned, (want,) = watch(FOLLOWED[name], SQUARE)
    assert distance(owned, (-want,), (want,)) < 1e-6
    wrong = (-want).contiguous()
    wrong.view(-1)[-1] += 1e-3
    assert distance(owned, (wrong,), (want,)) > 5e-4


def oriented(matrix: torch.Tensor) -> torch.Tensor:
    vectors = eigenvectors(matrix)
    return vectors * vectors[0].sign()


SIGNED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a sign of its own": oriented, "written": lambda x: eigenvectors(x).abs_(), "sizes": lambda x: eigenvectors(x).abs(),
    "values": lambda x: torch.linalg.eigh(x)[0], "a product of vectors": lambda x: eigenvectors(x) @ eigenvectors(x).mT,
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNED)
def test_what_has_a_definite_sign_keeps_it(name: str) -> None:
    owned, (want,) = watch(SIGNED[name], SQUARE)
    assert torch.equal(owned.turn((-want,), (want,))[0], -want)


def test_vectors_are_turned_as_before_when_read_from_a_record() -> None:
    owned, want = watch(torch.linalg.svd, torch.tensor([3.0, 3, 1, 0, 0]).diag())
    labels = ["left", "values", "right"]
    read = Owned.from_tensors(owned.to_tensors(labels), labels)
    assert read is not None
    got = tuple(part.roll(1, 0) for part in want)
    assert all(torch.equal(one, other) for one, other in zip(read.turn(got, want), owned.turn(got, want), strict=True))
    assert Owned.from_tensors({}, labels) is None


class Decomposed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        values, vectors = torch.linalg.eigh(x)
        return values, vectors, (x @ vectors).tanh()


@pytest.mark.parametrize(("index", "change", "wrong"), [
    (1, lambda vectors: -vectors, []),
    (1, lambda vectors: vectors + 1e-3 * torch.eye(4), ["1"]),
    (1, lambda vectors: vectors.flip(-1), ["1"]),
    (0, lambda values: -values, ["0"]),
    (2, lambda sizes: -sizes, ["2"]),
])  # fmt: skip
def test_a_program_with_wrong_vectors_is_a_mismatch(index: int, change: Callable[[torch.Tensor], torch.Tensor], wrong: list[str]) -> None:
    declared = Model("decomposed", {"_target_": f"{__name__}.Decomposed"}, {"x": Input("float32", ("n", "n"))}, {"n": Symbol(2, 8)})
    program = Export(archive=False).apply(Program(Level.MODEL, Built(declared, Decomposed().eval())), Silent())
    top = program.at(Level.MODEL)
    assert top is not None and program.signature is not None
    bench = Bench(top.ir, program.signature)
    given = {"x": SQUARE}
    want = bench.eager(given)
    got = tuple(change(result) if place == index else result for place, result in enumerate(want))
    found = bench.check(lambda _: got, given, Reference(want))
    assert [name for name, compared in found.outputs.items() if not compared.agrees] == wrong
    assert {code for code, _, _ in bench.noted} == (set() if wrong else {"verify_signs"})
