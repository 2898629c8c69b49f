"""Recurrences of transformers that are Python loops over the tokens, as scans that an export keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


def scan_in_exports(module: torch.nn.Module) -> None:
    """Let the mLSTM layers of `module` scan over the tokens when they are exported. In eager mode they stay as they are."""
    for part in module.modules():
        if type(part).__name__ == "xLSTMBackend":
            part._inference_fn = _Mlstm(part._inference_fn)  # type: ignore[assignment]


@dataclass(frozen=True)
class _Mlstm:
    """Replaces `wrap_chunkwise_arbitrary_sequence_length` of `modeling_xlstm.py`, whose loops run over the chunks and the tokens.

    eager: that function with its options. Both compute the same recurrence; in chunks it is rounded differently.
    """

    eager: Any

    def __call__(self, **given: Any) -> Any:
        return self._scan(**given) if torch.compiler.is_exporting() else self.eager(**given)

    def _scan(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, igate: torch.Tensor, fgate: torch.Tensor,
              c_initial: torch.Tensor | None, n_initial: torch.Tensor | None, m_initial: torch.Tensor | None) -> Any:
        """Return hidden states [batch, heads, tokens, dim], and the last states. The arguments are those of `xLSTMBackend.forward`."""
        from torch._higher_order_ops.scan import scan

        step, eps = self.eager.keywords["mlstm_step_kernel"], self.eager.keywords["eps"]
        batch, heads, _, size = key.shape
        shapes = ((batch, heads, size, value.shape[-1]), (batch, heads, size), (batch, heads, 1))
        dtype = step.keywords["dtype_state"]
        states = [torch.zeros(shape, dtype=dtype, device=key.device) if state is None else state.to(dtype)
                  for state, shape in zip((c_initial, n_initial, m_initial), shapes, strict=True)]
        combine: Callable[..., Any] = _Step(step, eps)
        gates = (igate[..., None], fgate[..., None])
        tokens = [value.movedim(2, 0) for value in (query, key, value, *gates)]
        last, hidden = scan(combine, states, tokens)
        return hidden.movedim(0, 2), tuple(last)


@dataclass(frozen=True)
class _Step:
    """One token of the recurrence, as `scan` calls it."""

    kernel: Any
    eps: float

    def __call__(self, states: list[torch.Tensor], token: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
        query, key, value, igate, fgate = token
        cell, normalizer, largest = states
        hidden, new = self.kernel(query=query, key=key, value=value, igate=igate, fgate=fgate, cstate=cell, nstate=normalizer,
                                  mstate=largest, eps=self.eps)
        return list(new), hidden
