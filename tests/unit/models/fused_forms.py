"""Hand-written forms of fused ops, and forms that look like them and compute something else."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.to(torch.float32)
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


def rms_norm_over_rows(x: Tensor, weight: Tensor) -> Tensor:
    return weight * (x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5))


def rotate_half(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x * cos + rotate_half(x) * sin


def rope_with_one_sign(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((x[..., half:], x[..., :half]), dim=-1) * sin


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def gelu_with_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def gelu_with_other_scale(x: Tensor) -> Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / 2.0))


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def silu_with_gate(x: Tensor) -> tuple[Tensor, Tensor]:
    gate = torch.sigmoid(x)
    return x * gate, gate


def repeat_heads(x: Tensor, count: int) -> Tensor:
    batch, heads, length, width = x.shape
    return x[:, :, None].expand(batch, heads, count, length, width).reshape(batch, heads * count, length, width)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    key, value = repeat_heads(key, 2), repeat_heads(value, 2)
    scores = torch.matmul(query, key.transpose(2, 3)) * 0.25 + mask
    return torch.matmul(nn.functional.dropout(torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype), p=0.0, training=False),
                        value)


def attention_over_queries(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return torch.matmul(torch.softmax(torch.matmul(query, key.transpose(2, 3)) + mask, dim=-2), value)


class Form(nn.Module):
    """A function as a module."""

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.form = form

    def forward(self, *values: Tensor) -> Any:
        return self.form(*values)


class Block(nn.Module):
    """One layer of grouped attention with rotary embeddings, RMS norms, and a SiLU gate."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.rand(16) + 0.5), nn.Parameter(torch.rand(16) + 0.5)
        self.query, self.pair, self.output = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        angles = torch.arange(length)[:, None] * torch.tensor([1.0, 0.1])
        cos, sin = (table.repeat(1, 2) for table in (angles.cos(), angles.sin()))
        normalized = rms_norm(x, self.first)
        query = self.query(normalized).view(batch, length, 4, 4).transpose(1, 2)
        key, value = self.pair(normalized).view(batch, length, 4, 4).transpose(1, 2).split(2, 1)
        mixed = nn.functional.scaled_dot_product_attention(
            rope(query, cos, sin), repeat_heads(rope(key, cos, sin), 2), repeat_heads(value, 2), is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, length, 16))
        return x + silu(rms_norm(x, self.second))


class Groups(nn.Module):
    """Rows of x (batch, length, 8) multiplied by the matrix of their group, and columns by that of theirs. The last row has no group."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices, self.columns = nn.Parameter(torch.rand(3, 8, 8)), nn.Parameter(torch.rand(8, 16))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows, matrices = x.flatten(0, 1).to(torch.bfloat16), self.matrices.to(torch.bfloat16)
        number = rows.shape[0]
        of_rows = torch._grouped_mm(rows, matrices, offs=torch.tensor([number // 3, number // 3, number - 1], dtype=torch.int32))
        columns = self.columns.to(torch.bfloat16) * rows[0].unsqueeze(1)
        of_columns = torch._grouped_mm(matrices, columns, offs=torch.tensor([4, 4, 16], dtype=torch.int32))
        return of_rows[:-1].float(), of_columns.float()
