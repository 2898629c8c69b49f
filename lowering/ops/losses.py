"""Margin losses, which torch defines otherwise than eager computes them."""

from __future__ import annotations

from typing import TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor

MEAN, SUM = 1, 2


def multilabel_margin(scores: Tensor, target: Tensor, reduction: int = MEAN) -> Tensor:
    """Compute aten::multilabel_margin_loss."""
    return multilabel_margin_forward(scores, target, reduction)[0]


def multilabel_margin_forward(scores: Tensor, target: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    """Compute aten::multilabel_margin_loss_forward. Labels end before the first -1; torch's own counts label 0 for each missing one."""
    rows, labels = torch.atleast_2d(scores), torch.atleast_2d(target)
    count = rows.shape[1]
    places = torch.arange(count, device=rows.device)
    end = torch.where(labels < 0, places, count).amin(-1, keepdim=True)
    is_label = places < end
    chosen = torch.where(is_label, labels, 0)
    is_target = ((places == chosen.unsqueeze(-1)) & is_label.unsqueeze(-1)).any(1)
    losses = _hinge(1 - rows.gather(1, chosen).unsqueeze(-1) + rows.unsqueeze(1))  # (row, label, class)
    by_row = torch.where(is_label.unsqueeze(-1) & ~is_target.unsqueeze(1), losses, 0).sum([1, 2]) / count
    result = by_row.mean() if reduction == MEAN else by_row.sum() if reduction == SUM else by_row.reshape(scores.shape[:-1])
    return result, is_target.to(scores.dtype).reshape(target.shape)


def multi_margin(scores: Tensor, target: Tensor, p: float = 1, margin: float = 1, weight: Tensor | None = None,
                 reduction: int = MEAN) -> Tensor:
    """Compute aten::multi_margin_loss."""
    rows, labels = torch.atleast_2d(scores), torch.atleast_1d(target)
    places = torch.arange(rows.shape[1], device=rows.device)
    losses = _hinge(margin - rows.gather(1, labels.unsqueeze(1)) + rows) ** p
    weighted = losses if weight is None else losses * weight.index_select(0, labels).unsqueeze(1)
    by_row = torch.where(places == labels.unsqueeze(1), 0, weighted).sum(1) / rows.shape[1]
    return by_row.mean() if reduction == MEAN else by_row.sum() if reduction == SUM else by_row.reshape(target.shape)


def _hinge(losses: Tensor) -> Tensor:
    """Return positive losses, and 0 for NaN, as eager does."""
    return torch.where(losses > 0, losses, 0)
