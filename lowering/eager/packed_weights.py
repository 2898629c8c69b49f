"""Weights of 4 bits, two in a byte: torchao keeps each in a byte of its own, in the form that torch.export takes."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils import parametrize

SCALES = ("parametrizations.weight.original1", ".scale")  # ends of the names of scales
_OFFSET = 8  # from [-8, 7] to [0, 15]


def pack(module: torch.nn.Module) -> None:
    """Replace each of torchao's int4 weights with a parametrization of packed bytes and scales, and each such embedding with its own class.

    Scales are per group of elements along dim 1. Only symmetric weights are packed, those whose zero points are all zero.
    """
    from torchao.quantization import IntxUnpackedToInt8Tensor

    for name, part in list(module.named_modules()):
        weight = getattr(part, "weight", None)
        if not isinstance(weight, IntxUnpackedToInt8Tensor) or weight.activation_quantization is not None:
            continue
        if weight.target_dtype is not torch.int4 or bool(weight.zero_point.any()) or weight.qdata.shape[1] % 2:
            continue
        if isinstance(part, torch.nn.Embedding):
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, PackedEmbedding(part, weight))
        else:
            parametrize.register_parametrization(part, "weight", Int4(weight.dtype), unsafe=True)


def pack_pairs(values: torch.Tensor) -> torch.Tensor:
    """Return int8 in [-8, 7] (N, K, ...) as bytes (N, K / 2, ...): the first of two neighbours along dim 1 is in the low 4 bits."""
    shifted = (values + _OFFSET).to(torch.uint8)
    return shifted[:, 0::2] | (shifted[:, 1::2] << 4)


def unpack_pairs(packed: torch.Tensor) -> torch.Tensor:
    """Return bytes (N, K / 2, ...) as int32 in [-8, 7] (N, K, ...)."""
    wide = packed.to(torch.int32)
    return torch.stack([wide & 15, wide >> 4], 2).flatten(1, 2) - _OFFSET


def dequantize(packed: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the weight (N, K, ...) of packed bytes, each group of dim 1 times its scale (N, groups, ...)."""
    values = unpack_pairs(packed).to(dtype)
    groups = scale.shape[1]
    split = values.reshape(values.shape[0], groups, values.shape[1] // groups, *values.shape[2:])
    return (split * scale.to(dtype).unsqueeze(2)).reshape(values.shape)


class Int4(torch.nn.Module):
    """A parametrization: the weight that packed bytes and scales give."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, packed: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return dequantize(packed, scale, self.dtype)

    def right_inverse(self, weight: Any) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
        return (torch.nn.Parameter(pack_pairs(weight.qdata), requires_grad=False),
                torch.nn.Parameter(weight.scale.clone(), requires_grad=False))  # fmt: skip


class PackedEmbedding(torch.nn.Module):
    """An embedding that unpacks only the rows that it looks up."""

    def __init__(self, embedding: torch.nn.Embedding, weight: Any):
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.padding_idx = embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx
        self.dtype = weight.dtype
        self.packed = torch.nn.Parameter(pack_pairs(weight.qdata), requires_grad=False)
        self.scale = torch.nn.Parameter(weight.scale.clone(), requires_grad=False)

    @property
    def weight(self) -> torch.Tensor:
        return dequantize(self.packed, self.scale, self.dtype)

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        rows, scale = (torch.nn.functional.embedding(indices, table).reshape(-1, table.shape[1]) for table in (self.packed, self.scale))
        return dequantize(rows, scale, self.dtype).reshape(*indices.shape, self.embedding_dim)
