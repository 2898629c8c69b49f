"""A Llama block whose heads and hidden units are split over the devices of a process group."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import _functional_collectives as collectives

WIDTH, HEADS, HIDDEN = 32, 8, 64


class Block(nn.Module):
    """One rank's part of the block. With one rank it is the whole block, without collectives."""

    def __init__(self, ranks: int = 1) -> None:
        super().__init__()
        self.heads, self.group = HEADS // ranks, dist.group.WORLD if ranks > 1 else None
        self.attention_norm, self.norm = nn.RMSNorm(WIDTH, eps=1e-5), nn.RMSNorm(WIDTH, eps=1e-5)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH // ranks, bias=False) for _ in range(3))
        self.output = nn.Linear(WIDTH // ranks, WIDTH, bias=False)
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN // ranks, bias=False) for _ in range(2))
        self.down = nn.Linear(HIDDEN // ranks, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, width) to the same shape, equal on all ranks."""
        batch, length, _ = x.shape
        normed = self.attention_norm(x)
        query, key, value = (part(normed).view(batch, length, self.heads, -1).transpose(1, 2)
                             for part in (self.query, self.key, self.value))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self._sum(self.output(mixed.transpose(1, 2).flatten(2)))
        normed = self.norm(x)
        return x + self._sum(self.down(nn.functional.silu(self.gate(normed)) * self.up(normed)))

    def _sum(self, part: Tensor) -> Tensor:
        return part if self.group is None else collectives.all_reduce(part, "sum", self.group)


COLUMNS = ("query", "key", "value", "gate", "up")  # split by rows of the weight
ROWS = ("output", "down")  # split by columns of the weight


def shard(whole: Block, rank: int, ranks: int) -> dict[str, Tensor]:
    """Return the weights of one rank."""
    dims = dict.fromkeys(COLUMNS, 0) | dict.fromkeys(ROWS, 1)
    return {name: weight.chunk(ranks, dims[name.partition(".")[0]])[rank].contiguous() if name.partition(".")[0] in dims else weight
            for name, weight in whole.state_dict().items()}


def build(ranks: int, seed: int = 0) -> Block:
    """Build the block of this process's rank. Without a process group, one that exchanges nothing serves the export of rank 0."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if ranks > 1 and not dist.is_initialized():
        dist.init_process_group("fake", rank=0, world_size=ranks, store=FakeStore())
    torch.manual_seed(seed)
    whole = Block()
    if ranks == 1:
        return whole.eval()
    part = Block(ranks)
    part.load_state_dict(shard(whole, dist.get_rank(), ranks))
    return part.eval()
