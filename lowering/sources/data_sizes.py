"""Small models whose sizes data decide: typical parts of networks, each in a few lines."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import nn

Tensor: TypeAlias = torch.Tensor


class MaskedPooler(nn.Module):
    """Means of the hidden states of tokens that a mask selects: ids and mask (batch, seq) -> (width,) and a score per feature."""

    def __init__(self, vocabulary: int, width: int):
        super().__init__()
        self.table, self.project = nn.Embedding(vocabulary, width), nn.Linear(width, width)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        chosen = self.project(self.table(ids))[mask]
        return {"mean": chosen.mean(0), "deviation": chosen.std(0, correction=0), "weights": chosen.sum(-1).softmax(0)}


class TopPSampler(nn.Module):
    """The nucleus of the last row of logits (batch, vocabulary): the likeliest tokens up to a probability, and their number."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, logits: Tensor) -> dict[str, Tensor | int]:
        likely, tokens = logits[-1].softmax(-1).sort(descending=True, stable=True)
        kept = likely.cumsum(0) - likely < self.probability
        nucleus = likely[kept]
        return {"probabilities": nucleus / nucleus.sum(), "tokens": tokens[kept], "number": nucleus.shape[0]}


class SortedExperts(nn.Module):
    """A mixture of experts on tokens (tokens, width): sorted by expert, split by how many each gets, and put back.

    grouped: let one grouped product multiply all experts instead of a loop.
    """

    def __init__(self, width: int, experts: int, active: int, grouped: bool = False):
        super().__init__()
        self.gate, self.active, self.grouped = nn.Linear(width, experts), active, grouped
        self.weight = nn.Parameter(torch.randn(experts, width, width) / width**0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        shares, chosen = self.gate(tokens).softmax(-1).topk(self.active, -1)
        expert = chosen.reshape(-1)
        order = expert.argsort(stable=True)
        given = tokens[order // self.active]
        made = self._run_grouped(given, expert) if self.grouped else self._run_loop(given, expert)
        back = given.new_zeros(given.shape).index_copy(0, order, made)
        return (back.reshape(-1, self.active, tokens.shape[-1]) * shares.unsqueeze(-1)).sum(1)

    def _run_loop(self, given: Tensor, expert: Tensor) -> Tensor:
        counts = torch.nn.functional.one_hot(expert, self.weight.shape[0]).sum(0).tolist()
        for count in counts:
            torch._check(count <= given.shape[0])
        return torch.cat([part @ weight for part, weight in zip(given.split(counts), self.weight, strict=True)]).relu()

    def _run_grouped(self, given: Tensor, expert: Tensor) -> Tensor:
        ends = torch.nn.functional.one_hot(expert, self.weight.shape[0]).sum(0).cumsum(0).to(torch.int32)
        made = torch._grouped_mm(given.to(torch.bfloat16), self.weight.to(torch.bfloat16), offs=ends)
        return made.to(given.dtype).relu()


class JaggedRecommender(nn.Module):
    """A recommender on dense features (batch, dense) and bags of items, all bags in one tensor (items,) with the length of each."""

    def __init__(self, items: int, dense: int, width: int):
        super().__init__()
        self.bags, self.history = nn.EmbeddingBag(items, width, mode="mean"), nn.Embedding(items, width)
        self.bottom, self.top = nn.Linear(dense, width), nn.Linear(3 * width, 1)

    def forward(self, dense: Tensor, items: Tensor, lengths: Tensor) -> Tensor:
        rows = torch.repeat_interleave(torch.arange(lengths.shape[0]), lengths)
        total = rows.shape[0]
        torch._check(total <= items.shape[0])
        used = items[:total]
        means = self.bags(used, lengths.cumsum(0) - lengths)
        sums = torch.zeros_like(means).index_add(0, rows, self.history(used))
        return self.top(torch.cat([self.bottom(dense), means, sums], -1)).sigmoid()


class GraphCoarsening(nn.Module):
    """Merge the nodes (nodes, width) of each cluster, and keep one edge for all edges (2, edges) between two clusters."""

    def forward(self, features: Tensor, cluster: Tensor, edges: Tensor) -> dict[str, Tensor]:
        names, merged, sizes = torch.unique(cluster, return_inverse=True, return_counts=True)
        pooled = features.new_zeros(names.shape[0], features.shape[1]).index_add(0, merged, features) / sizes.unsqueeze(1)
        source, target = merged[edges[0]], merged[edges[1]]
        outer = source != target
        keys = torch.unique(source[outer] * cluster.shape[0] + target[outer])
        return {"nodes": names, "features": pooled, "edges": torch.stack([keys // cluster.shape[0], keys % cluster.shape[0]]),
                "affinity": pooled @ pooled.T}


class PackedEncoder(nn.Module):
    """A transformer layer on the tokens that a mask selects of hidden states (batch, seq, width), packed into one sequence."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True)

    def forward(self, hidden: Tensor, mask: Tensor) -> dict[str, Tensor]:
        packed = self.layer(hidden[mask].unsqueeze(0)).squeeze(0)
        return {"packed": packed, "mean": packed.mean(0)}


class BoxSelection(nn.Module):
    """The head of a detector: boxes (boxes, 4) as corner and size, and scores, above a threshold and without overlaps."""

    def __init__(self, score: float, overlap: float):
        super().__init__()
        self.score, self.overlap = score, overlap

    def forward(self, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
        likely = scores > self.score
        corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)[likely]
        kept = torch.ops.torchvision.nms(corners, scores[likely], self.overlap)
        return {"boxes": corners[kept], "scores": scores[likely][kept]}


class SingleShotDetector(nn.Module):
    """A detector in the manner of SSD on images (batch, 3, height, width): a box and class scores per cell, suppressed image by image."""

    def __init__(self, width: int, classes: int, score: float, overlap: float):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU())
        self.classify, self.locate = nn.Conv2d(width, classes, 1), nn.Conv2d(width, 4, 1)
        self.score, self.overlap = score, overlap

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.trunk(images)
        batch, _, height, width = maps.shape
        scores = self.classify(maps).softmax(1).permute(0, 2, 3, 1).reshape(batch * height * width, -1)
        offsets = self.locate(maps).permute(0, 2, 3, 1).reshape(batch * height * width, 4)
        place = torch.arange(batch * height * width)
        image, row, column = place // (height * width), place // width % height, place % width
        centers = torch.stack([column, row], 1) + offsets[:, :2].tanh()
        halves = offsets[:, 2:].exp()
        boxes = torch.cat([centers - halves, centers + halves], 1)
        cell, label = torch.where(scores > self.score)
        best, at = scores[cell, label], boxes[cell]
        apart = (image[cell] * scores.shape[1] + label).unsqueeze(1) * (height + width + 100)  # boxes of two classes never overlap
        kept = torch.ops.torchvision.nms(at + apart, best, self.overlap)
        return {"boxes": at[kept], "scores": best[kept], "labels": label[kept], "images": image[cell[kept]]}
