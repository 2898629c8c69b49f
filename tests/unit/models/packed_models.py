"""Recurrent layers on packed sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Tagger(nn.Module):
    """Layers in both directions over sequences of any order, padded again to the length of the input, and their last states."""

    def __init__(self, kind: str, layers: int = 1, **settings: Any) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(3, 4, layers, batch_first=True, bidirectional=True, **settings)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        packed, last = self.rnn(packed)
        padded, ends = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1], padding_value=-1.0)
        return padded, ends, *(last if isinstance(last, tuple) else (last,))


class Taggers(nn.Module):
    """A tagger of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.taggers = nn.ModuleList([Tagger("GRU", 2), Tagger("RNN"), Tagger("LSTM", proj_size=2)])

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(result for tagger in self.taggers for result in tagger(x, lengths))


class Sorted(nn.Module):
    """Layers one after the other over sorted sequences, from states that are given, with time first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.GRU(3, 4), nn.RNN(4, 4, nonlinearity="relu")

    def forward(self, x: torch.Tensor, lengths: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        packed, last = self.first(pack_padded_sequence(x, lengths), state)
        packed, end = self.second(packed)
        return pad_packed_sequence(packed, total_length=x.shape[0] + 2)[0], last, end


class Longest(nn.Module):
    """The last state, and the sum of the results, which are padded to the length of the longest sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        packed, last = self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return last[-1], pad_packed_sequence(packed, batch_first=True)[0].sum(1)


class Rows(nn.Module):
    """Reads the rows of a packed sequence."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False).data * 2
