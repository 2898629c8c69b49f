"""Models of speech whose loss is CTC."""

from __future__ import annotations

import torch
from torch.nn import functional


class Losses(torch.nn.Module):
    """The loss of each sequence, and the mean that leaves out those that no path fits."""

    def forward(self, scores: torch.Tensor, targets: torch.Tensor, steps: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, ...]:
        log_probs = scores.log_softmax(-1)
        return (functional.ctc_loss(log_probs, targets, steps, ends, reduction="none"),
                functional.ctc_loss(log_probs, targets, steps, ends, zero_infinity=True))


class Recognizer(torch.nn.Module):
    """In training: the mean loss of a linear layer's scores."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 5)

    def forward(self, x: torch.Tensor, targets: torch.Tensor, steps: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        return functional.ctc_loss(self.layer(x).log_softmax(-1), targets, steps, ends)
