"""Recurrent layers on packed sequences, as loops over the padded time in which a sequence that has ended keeps its state.

A packed sequence has as many rows as its lengths say, which only data tells. While torch.export traces, `keep_padded` gives packed
sequences a form that holds the padded tensor and the lengths. Layers on it become nodes of one op, `shapeline::packed_rnn`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.utils import rnn

from lowering.errors import Problem, Unsupported
from lowering.ops.sequences import recurrent

Tensor: TypeAlias = torch.Tensor

aten = torch.ops.aten
_LAYERS = (nn.RNN, nn.LSTM, nn.GRU)
_OPS = {"LSTM": aten.lstm.input, "GRU": aten.gru.input, "RNN_TANH": aten.rnn_tanh.input, "RNN_RELU": aten.rnn_relu.input}

_library = torch.library.Library("shapeline", "DEF")
_library.define("packed_rnn(str mode, Tensor padded, Tensor lengths, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, "
                "float dropout, bool train, bool bidirectional) -> Tensor[]")  # fmt: skip


@torch.library.register_fake("shapeline::packed_rnn", lib=_library)
def _make_empty(mode: str, padded: Tensor, lengths: Tensor, hx: Sequence[Tensor], params: Sequence[Tensor], has_biases: bool,
                num_layers: int, dropout: float, train: bool, bidirectional: bool) -> list[Tensor]:
    output = padded.new_empty([*padded.shape[:2], hx[0].shape[2] * (2 if bidirectional else 1)])
    return [output, *(torch.empty_like(state) for state in hx)]


PACKED_RNN = torch.ops.shapeline.packed_rnn.default


def packed_rnn(mode: str, padded: Tensor, lengths: Tensor, hx: Sequence[Tensor], *settings: Any) -> list[Tensor]:
    """Return the output (time, batch, features), 0 beyond each length, and the state of each sequence at its last step."""
    definition = recurrent.define(_OPS[mode], partial(recurrent.run_layer, lengths=lengths))
    return list(definition(padded, list(hx) if mode == "LSTM" else hx[0], *settings, False))


class Longest:
    """The largest of the lengths, where no number stands for it yet. No total length is less than it: eager refuses those."""

    def size(self, dim: int) -> Longest:
        return self

    def __gt__(self, other: Any) -> bool:
        return False


class PaddedSequence(rnn.PackedSequence):
    """A packed sequence that holds its padded tensor (time, batch, ...) and the lengths. It has no packed rows."""

    padded: Tensor
    lengths: Tensor

    def __new__(cls, padded: Tensor, lengths: Tensor, order: Tensor | None, back: Tensor | None) -> PaddedSequence:
        made = tuple.__new__(cls, (None, None, order, back))
        made.padded, made.lengths = padded, lengths
        return made

    @property
    def data(self) -> Any:  # type: ignore[override]
        return self._for_torch("data")

    @property
    def batch_sizes(self) -> Any:  # type: ignore[override]
        self._for_torch("batch_sizes")
        return Longest()

    def _for_torch(self, name: str) -> PaddedSequence:
        """Return this sequence to torch's own function, which hands it on, and refuse anybody else."""
        frame = sys._getframe(2)
        if frame.f_code.co_filename != rnn.__file__:
            cause = f"reads '{name}' of a packed sequence, whose number of rows depends on the lengths"
            fix = "read the result of pad_packed_sequence, and mask it beyond each length"
            raise Unsupported([Problem(f"{frame.f_code.co_filename}:{frame.f_lineno}", cause, fix)])
        return self


def _pack(tensor: Tensor, lengths: Tensor, batch_first: bool) -> tuple[tuple[Tensor, Tensor], None]:
    return (tensor.transpose(0, 1) if batch_first else tensor, lengths), None


def _build(parts: tuple[Tensor, Tensor], _: None, order: Tensor | None, back: Tensor | None) -> PaddedSequence:
    return PaddedSequence(*parts, order, rnn.invert_permutation(order) if back is None else back)


def _pad(sequence: PaddedSequence, _: Longest, batch_first: bool, value: float, total: Any) -> tuple[Tensor, Tensor]:
    padded, lengths = sequence.padded, sequence.lengths
    steps = padded.shape[0]
    is_inside = torch.arange(steps).unsqueeze(-1) < lengths
    padded = torch.where(is_inside.reshape([*is_inside.shape, *[1] * (padded.dim() - 2)]), padded, value)
    if isinstance(total, Longest):
        longest = lengths.max().item()
        torch._check(longest >= 1)
        torch._check(longest <= steps)
        padded = padded.narrow(0, 0, longest)  # type: ignore[arg-type]
    elif total is not steps and total != steps:
        padded = nn.functional.pad(padded, [*[0, 0] * (padded.dim() - 1), 0, total - steps], value=value)
    return padded.transpose(0, 1) if batch_first else padded, lengths


def _run(layer: nn.RNNBase, sequence: PaddedSequence, hx: Any) -> tuple[PaddedSequence, Any]:
    order, back, batch = sequence.sorted_indices, sequence.unsorted_indices, sequence.padded.shape[1]
    is_lstm = layer.mode == "LSTM"
    if hx is None:
        widths = (layer.proj_size or layer.hidden_size, layer.hidden_size) if is_lstm else (layer.hidden_size,)
        count = layer.num_layers * (2 if layer.bidirectional else 1)
        states = [sequence.padded.new_zeros([count, batch, width]) for width in widths]
    else:
        moved = layer.permute_hidden(hx, order)
        states = list(moved) if is_lstm else [moved]
    output, *last = PACKED_RNN(layer.mode, sequence.padded, sequence.lengths, states, layer._flat_weights, layer.bias, layer.num_layers,
                               float(layer.dropout), layer.training, layer.bidirectional)  # fmt: skip
    hidden = layer.permute_hidden(tuple(last) if is_lstm else last[0], back)  # type: ignore[arg-type]
    return PaddedSequence(output, sequence.lengths, order, back), hidden


def _take_padded(forward: Callable[..., Any]) -> Callable[..., Any]:
    def taking(layer: Any, input: Any, hx: Any = None) -> Any:  # noqa: A002 - torch's name, which callers may use
        return _run(layer, input, hx) if isinstance(input, PaddedSequence) else forward(layer, input, hx)

    return taking


@contextmanager
def keep_padded() -> Iterator[None]:
    """Keep sequences padded while tracing inside the block, where the model packs them, runs recurrent layers, and pads them."""
    kept = rnn._VF, rnn._packed_sequence_init, [layer.forward for layer in _LAYERS]
    try:
        rnn._VF = SimpleNamespace(_pack_padded_sequence=_pack, _pad_packed_sequence=_pad)  # type: ignore[assignment]
        rnn._packed_sequence_init = _build  # type: ignore[assignment]
        for layer in _LAYERS:
            layer.forward = _take_padded(layer.forward)  # type: ignore[method-assign]
        yield
    finally:
        rnn._VF, rnn._packed_sequence_init, forwards = kept
        for layer, forward in zip(_LAYERS, forwards, strict=True):
            layer.forward = forward  # type: ignore[method-assign]
