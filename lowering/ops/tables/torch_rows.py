"""Decomposition rows of ops that the torch dialect registers, and that torch itself decomposes into ops with a lowering."""

from __future__ import annotations

from typing import Any

import torch

from lowering.ops.rows import NO_DYNAMIC, NONE, Row, find_decomposition

aten = torch.ops.aten

_NAMES = {
    NONE: """expand_copy alias_copy view_copy permute_copy squeeze_copy.default squeeze_copy.dim squeeze_copy.dims unsqueeze_copy t_copy
        transpose_copy.int unbind_copy.int split_with_sizes_copy linalg_det linalg_slogdet linalg_norm norm.Scalar norm.ScalarOpt_dim
        isclose binary_cross_entropy cosine_embedding_loss poisson_nll_loss cross_entropy_loss nll_loss_forward nll_loss2d_forward
        native_dropout_backward rms_norm pad im2col""",
    NO_DYNAMIC: """tril triu reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
        diag trace squeeze logsumexp native_group_norm group_norm log_softmax.int grid_sampler
        fft_fft fft_ifft fft_rfft fft_irfft stft istft max_unpool2d max_unpool3d
        split.Tensor unbind.int repeat binary_cross_entropy_with_logits log_sigmoid_forward meshgrid meshgrid.indexing
        max_pool2d_with_indices_backward""",
}


def _make_row(name: str, reason: str) -> tuple[Any, Row]:
    packet, _, overload = name.partition(".")
    op = getattr(getattr(aten, packet), overload or "default")
    decomposition = find_decomposition(op)
    if decomposition is None:
        raise KeyError(f"torch has no decomposition of {op}, which lowering.ops.tables.torch_rows names")
    return op, Row(decomposition, reason)


ROWS: dict[Any, Row] = dict(_make_row(name, reason) for reason, names in _NAMES.items() for name in names.split())
