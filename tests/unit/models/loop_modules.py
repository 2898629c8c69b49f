"""TorchScript modules of a user whose loops run as often as a dynamic dim or a tensor's values say."""
# ruff: noqa: PERF401, RUF005, UP045 - loops and words as TorchScript takes them

from __future__ import annotations

from typing import Optional

import torch

from lowering.sources.torchscript import Interpreted, save_and_reload

Tensor = torch.Tensor


class Carries(torch.nn.Module):
    """A state, a float and an int; a branch on the turn's number; the loop's weights and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)
        self.linear = torch.nn.Linear(8, 8)
        self.register_buffer("shift", torch.linspace(-1, 1, 8))

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        h, scale, even = torch.zeros_like(x[:, 0]), 1.0, 0
        for t in range(x.size(1)):
            if t % 2 == 0:
                h = self.norm(self.linear(h) + x[:, t] * scale) + self.shift
                even += 1
            else:
                h = h - x[:, t]
            scale = scale * 0.5
        return h, even


class Lists(torch.nn.Module):
    """A list appended to and one added to, from slices of tensors and their numbers; stacked, joined, reversed, read after the loop."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        outs: list[Tensor] = []
        h = torch.zeros_like(x[:, 0])
        for i, part in enumerate(x.unbind(1)):
            h = h + part * i
            outs.append(h)
        for part in x.transpose(0, 1):
            outs = outs + [part]
        return torch.stack(outs[::-1], 1), torch.cat(outs, -1), outs[0], outs[-1], len(outs)


class Layers(torch.nn.Module):
    """Two recurrent layers, whose states are in a list that is written to, from the end to the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = torch.nn.ModuleList([torch.nn.GRUCell(8, 8), torch.nn.GRUCell(8, 8)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states = [torch.zeros(x.size(0), 8) for _ in range(2)]
        outs: list[Tensor] = []
        for t in range(x.size(1) - 1, -1, -1):
            y = x[:, t]
            for i, cell in enumerate(self.cells):
                y = cell(y, states[i])
                states[i] = y
            outs.append(y)
        outs.reverse()
        return torch.stack(outs, 1), states[1]


class Started(torch.nn.Module):
    """A list with an element before the loop, windows of one step, and two elements a turn."""

    def forward(self, x: Tensor) -> Tensor:
        outs = [x[:, :1]]
        for t in range(1, x.size(1)):
            outs += [x[:, t : t + 1].relu(), x[:, t - 1 : t].neg()]
        return torch.cat(outs, 1)


class Windows(torch.nn.Module):
    """Windows that move to the beginning, padded there."""

    def forward(self, x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, [0, 0, 2, 0])
        outs: list[Tensor] = []
        for t in range(x.size(1) - 1, -1, -1):
            outs.append(padded[:, t : t + 3].mean(1))
        return torch.stack(outs, 1)


class Nested(torch.nn.Module):
    """A loop over a dynamic dim in a loop over another."""

    def forward(self, x: Tensor) -> Tensor:
        outs: list[Tensor] = []
        for t in range(x.size(1)):
            total = torch.zeros_like(x[0, 0])
            for b in range(x.size(0)):
                total = total + x[b, t]
            outs.append(total)
        return torch.stack(outs)


class Writes(torch.nn.Module):
    """Writes to a tensor of before the loop, place by place, and to a state in place."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out, h = torch.zeros_like(x), torch.zeros(x.size(0), 8)
        for t in range(x.size(1)):
            h += x[:, t]
            out[:, t] = h
            out[:, t, 0] += 1
        return out, h


class Settles(torch.nn.Module):
    """States that have their shape only after the first turn: one broadcast, one None before."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, last = torch.zeros(1, 8), torch.jit.annotate(Optional[Tensor], None)
        for t in range(x.size(1)):
            h = h + x[:, t]
            last = x[:, t] if last is None else last * 0.5 + x[:, t]
        assert last is not None
        return h, last


class WhileOnData(torch.nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        turns = 0
        while bool(x.abs().sum() > 1.0):
            x = x * 0.5
            turns += 1
        return x, turns


class Breaks(torch.nn.Module):
    """Leaves its loop on data; the list that it filled is not needed behind it."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        outs: list[Tensor] = []
        for t in range(x.size(1)):
            h = h + x[:, t]
            outs += [h]
            if bool((h > 1).any()):
                break
        return h


class Returns(torch.nn.Module):
    """Returns from inside a loop."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        for t in range(x.size(1)):
            h = h + x[:, t]
            if bool((h > 2).any()):
                return h
        return h - 1


class Decoder(torch.nn.Module):
    """Greedy decoding of at most 12 tokens, which ends when every row has met the end token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.out = torch.nn.Embedding(20, 8), torch.nn.GRUCell(8, 8), torch.nn.Linear(8, 20)

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        h, token = x.mean(1), torch.zeros(x.size(0), dtype=torch.long)
        ended, found = torch.zeros(x.size(0), dtype=torch.bool), torch.zeros(x.size(0), 12, dtype=torch.long)
        i = 0
        while i < 12 and not bool(ended.all()):
            h = self.cell(self.embed(token), h)
            token = self.out(h).argmax(-1)
            ended = ended | (token == 3)
            found[:, i] = token
            i += 1
        return found, i


class Assigns(torch.nn.Module):
    """Assigns a buffer turn by turn, and writes to another."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(8))
        self.register_buffer("turns", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        for t in range(x.size(1)):
            self.total = self.total + x[0, t]
            self.turns += 1
        return x + self.total


class Loss(torch.nn.Module):
    """A recurrence that ends in a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = torch.zeros_like(x[:, 0])
        for t in range(x.size(1)):
            h = torch.tanh(self.linear(h) + x[:, t])
        return {"loss": h.sum()}


class Longer(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(x.size(1)):
            h = torch.cat([h, x], 1)
        return h


class Prefixes(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        outs: list[Tensor] = []
        for t in range(x.size(1)):
            outs.append(x[:, : t + 1].mean(1))
        return torch.stack(outs, 1)


class ReadsWhatItFills(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        outs = [x[:, 0]]
        for t in range(x.size(1)):
            outs.append(outs[-1] + x[:, t])
        return torch.stack(outs, 1)


class UnknownLength(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        outs: list[Tensor] = []
        while bool(x.abs().sum() > 1.0):
            x = x * 0.5
            outs.append(x)
        return torch.stack(outs)


class Uneven(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        outs: list[Tensor] = []
        for t in range(x.size(1)):
            outs.append(x[:, t])
            outs.append(x[:, t, :4])
        return torch.cat(outs, 1)


class Counts(torch.nn.Module):
    """Assigns a number, which is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        for t in range(x.size(1)):
            self.count = t
            x = x + 1
        return x


class Aliases(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        first = out[:, 0]
        for t in range(x.size(1)):
            out[:, t] = first + x[:, t]
        return out


def built(name: str) -> Interpreted:
    """A module of this file, scripted, saved and loaded, with weights that are the same each time."""
    torch.manual_seed(0)
    return save_and_reload(torch.jit.script(globals()[name]().eval()))
