"""Signs of constants: -0.0 and 0.0 are equal, and -NaN has the text of NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import shapeline
from lowering.torchscript import deployable
from shapeline import Lowered

NAN = float("nan")


class Signed(torch.nn.Module):
    """Constants that differ in their signs only, in one program."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ones", torch.ones(6))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x * 0.0 * self.ones, x * -0.0, torch.full_like(x, -0.0), torch.full_like(x, 0.0), torch.where(x > 0, -0.0, 0.0),
                torch.copysign(x, -0.0), torch.copysign(x, 0.0), torch.copysign(x, -NAN), torch.copysign(x, NAN))


def lower(until: str) -> Lowered:
    return shapeline.lower(Signed(), (torch.ones(5, 6),), dynamic_shapes=({0: "n"},), symbols={"n": (2, 16)}, until=until)


def list_signs(results: tuple[torch.Tensor, ...]) -> list[Any]:
    return [torch.signbit(result).tolist() for result in results]


def test_signs_at_mhlo() -> None:
    x = torch.tensor([[-2.0, -0.0, 0.0, 2.0, -NAN, 1.0]] * 3)
    assert list_signs(lower("mhlo")(x)) == list_signs(Signed()(x))


def test_signs_in_a_deployed_file(tmp_path: Path) -> None:
    x, file = torch.tensor([[-2.0, -0.0, 0.0, 2.0, -1.0, 1.0]] * 3), tmp_path / "signed.pt"
    deployable.build_module(lower("torchscript").program).save(str(file))
    for module in (torch.jit.load(str(file)), torch.jit.freeze(torch.jit.load(str(file)))):
        for _ in range(3):  # the executor optimizes what it has run before
            assert list_signs(module(x)) == list_signs(Signed()(x))
