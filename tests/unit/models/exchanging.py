"""A module of one rank, whose weight differs from rank to rank."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import _functional_collectives as collectives


class Exchanging(torch.nn.Module):
    """Sums and maxima over the ranks of rows (n, 3) by the rank's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]) * (1 + dist.get_rank()))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        group = dist.group.WORLD
        assert group is not None
        return {"total": collectives.all_reduce(x * self.weight, "sum", group),
                "most": collectives.all_reduce(x * self.weight, "max", group)}


def build() -> Exchanging:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if not dist.is_initialized():
        dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    return Exchanging()
