"""TorchScript models in the style of users: a scripted LSTM tagger, a scripted step of a beam search, a traced convolutional network."""

from __future__ import annotations

import torch
from torch import nn

from lowering.sources.torchscript import Interpreted, save_and_reload
from lowering.sources.weights import spread


class Tagger(nn.Module):
    """Maps (batch, seq) token ids to (batch, seq, tags) log probabilities, with an LSTM cell in a loop over seq."""

    def __init__(self, vocabulary: int = 50, width: int = 8, tags: int = 4):
        super().__init__()
        self.width = width
        self.embed = nn.Embedding(vocabulary, width)
        self.drop = nn.Dropout(0.1)
        self.cell = nn.LSTMCell(width, width)
        self.out = nn.Linear(width, tags)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.embed(tokens))
        h = torch.zeros(x.size(0), self.width)
        c = torch.zeros(x.size(0), self.width)
        outs: list[torch.Tensor] = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            outs.append(self.out(h))
        return torch.log_softmax(torch.stack(outs, 1), -1)


class BeamStep(nn.Module):
    """Maps (batch, width) hidden states and (batch,) scores to scores and tokens of the best `beams` continuations, each (batch, beams)."""

    def __init__(self, width: int = 8, vocabulary: int = 20, beams: int = 3):
        super().__init__()
        self.beams = beams
        self.project = nn.Linear(width, vocabulary)

    def forward(self, hidden: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = scores.unsqueeze(-1) + torch.log_softmax(self.project(hidden), -1)
        if total.dim() > 2:
            total = total.flatten(1)
        best: list[torch.Tensor] = []
        where: list[torch.Tensor] = []
        for _ in range(self.beams):
            value, index = total.max(-1)
            best.append(value)
            where.append(index)
            total = total.scatter(-1, index.unsqueeze(-1), -1e9)
        if len(best) > 1:
            chosen = torch.stack(best, -1)
        else:
            chosen = best[0].unsqueeze(-1)
        chosen -= chosen.logsumexp(-1, keepdim=True)
        return chosen, torch.stack(where, -1)


class Pictures(nn.Module):
    """Maps (batch, 3, 16, 16) to (batch, classes), with two convolutions and batch norm. Its flattening reads the batch from the tensor."""

    def __init__(self, classes: int = 5):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, 3, padding=1), nn.MaxPool2d(2)
        )
        self.head = nn.Linear(8 * 4 * 4, classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.body(pixels)
        return self.head(x.view(x.size(0), -1))


def tagger() -> Interpreted:
    """Return the tagger, scripted, saved and loaded."""
    return save_and_reload(torch.jit.script(_randomize(Tagger())))


def beam_step() -> Interpreted:
    """Return the step of the beam search, scripted, saved and loaded."""
    return save_and_reload(torch.jit.script(_randomize(BeamStep())))


def pictures() -> Interpreted:
    """Return the convolutional network, traced on two pictures, saved and loaded."""
    return save_and_reload(torch.jit.trace(_randomize(Pictures()), torch.randn(2, 3, 16, 16)))


def _randomize(module: nn.Module) -> nn.Module:
    spread(module)
    return module.eval()
