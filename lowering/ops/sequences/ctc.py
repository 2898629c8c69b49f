"""Connectionist temporal classification as a loop over time: `aten::_ctc_loss` and its gradient, at dynamic batch, time and target sizes.

A target of S labels is a path through 2S + 1 states: a blank before, between and after the labels. `log_alpha` holds, for each step, the
log probability of all beginnings that end in a state; a loop back computes that of all ends that start there.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch.nn.functional import pad

from lowering.ops.sequences.recurrent_gradients import put_row, run_loop, take_row

Tensor: TypeAlias = torch.Tensor
_IMPOSSIBLE = -torch.inf


def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int = 0,
             zero_infinity: bool = False) -> tuple[Tensor, Tensor]:
    """Compute aten::_ctc_loss: the negative log likelihood of each target (batch), and `log_alpha`, (batch, time, 2 * targets + 1).

    log_probs: (time, batch, classes). targets: (batch, labels), or all labels one after another. A batch that needs more steps than it has
    has a loss of infinity.
    """
    steps, ends = input_lengths.to(torch.int64), target_lengths.to(torch.int64)
    states = _list_states(targets, ends, blank)
    emitted = _emit(log_probs, states)
    start = torch.where(torch.arange(states.shape[1]) == 0, 0.0, _IMPOSSIBLE).to(log_probs.dtype).expand(states.shape)
    last, rows = _run(emitted, start, states != _shift(states, 2, blank), steps, is_backward=False)
    complete = last.gather(1, 2 * ends.unsqueeze(1))
    before_blank = last.gather(1, (2 * ends.unsqueeze(1) - 1).clamp(min=0))
    before_blank = torch.where(ends.unsqueeze(1) > 0, before_blank, _IMPOSSIBLE)
    return -_add_exponents(complete, before_blank).squeeze(1), rows.transpose(0, 1)


def ctc_loss_backward(gradient: Tensor, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, loss: Tensor,
                      log_alpha: Tensor, blank: int, zero_infinity: bool = False) -> Tensor:
    """Compute aten::_ctc_loss_backward: the gradient of logits whose log_softmax is `log_probs`, as eager defines it."""
    steps, ends = input_lengths.to(torch.int64), target_lengths.to(torch.int64)
    states = _list_states(targets, ends, blank)
    emitted = _emit(log_probs, states)
    start = torch.where(torch.arange(states.shape[1]) == 2 * ends.unsqueeze(1), 0.0, _IMPOSSIBLE).to(log_probs.dtype)
    _, log_beta = _run(emitted, start, states != _shift(states, -2, blank), steps, is_backward=True)
    paths = log_alpha.transpose(0, 1) + log_beta  # both count the step itself
    is_infinite = (loss == torch.inf).unsqueeze(1)
    shares = torch.where(paths == _IMPOSSIBLE, 0, (paths - emitted + loss.unsqueeze(1)).exp())
    by_class = torch.zeros_like(log_probs).scatter_add(2, states.expand(emitted.shape), shares)
    result = (log_probs.exp() - by_class) * gradient.unsqueeze(1)
    result = torch.where((log_probs == _IMPOSSIBLE) | is_infinite, torch.nan, result)
    goes = torch.arange(log_probs.shape[0]).reshape(-1, 1, 1) < steps.unsqueeze(1)
    return torch.where(goes & ~is_infinite if zero_infinity else goes, result, 0)


def _list_states(targets: Tensor, ends: Tensor, blank: int) -> Tensor:
    """Return the class of each state, (batch, 2 * labels + 1). States after the last one of a target are blank."""
    places = torch.arange(targets.shape[-1])
    if targets.dim() == 1:
        targets = targets[(ends.cumsum(0) - ends).unsqueeze(1).add(places).clamp(max=targets.shape[0] - 1)]
    labels = torch.where(places < ends.unsqueeze(1), targets.to(torch.int64), blank)
    return pad(torch.stack([torch.full_like(labels, blank), labels], 2).flatten(1), (0, 1), value=blank)


def _emit(log_probs: Tensor, states: Tensor) -> Tensor:
    """Return the log probability of each state's class at each step: (time, batch, states)."""
    return log_probs.gather(2, states.expand(log_probs.shape[0], *states.shape))


def _run(emitted: Tensor, start: Tensor, skips: Tensor, steps: Tensor, is_backward: bool) -> tuple[Tensor, Tensor]:
    """Return the last log probabilities (batch, states), and those of each step, (time, batch, states).

    A path stays in its state, goes to the next one, or to the one after where `skips` says so. A sequence that has ended keeps its values.
    """
    back = -1 if is_backward else 1

    def body(step: Any, values: Tensor, done: Tensor, emitted: Tensor, skips: Tensor, steps: Tensor) -> tuple[Any, ...]:
        place = emitted.shape[0] - 1 - step if is_backward else step
        skipping = torch.where(skips, _shift(values, 2 * back, _IMPOSSIBLE), _IMPOSSIBLE)
        new = _add_exponents(values, _shift(values, back, _IMPOSSIBLE), skipping) + take_row(emitted, place)
        new = torch.where((torch.scalar_tensor(place, dtype=torch.int64) < steps).unsqueeze(1), new, values)
        return step + 1, new, put_row(done, new, place)

    last, rows = run_loop(body, 2, (start.clone(memory_format=torch.contiguous_format), torch.zeros_like(emitted)),
                          (emitted, skips, steps))
    return last, rows


def _shift(rows: Tensor, count: int, fill: float) -> Tensor:
    """Move the elements of each row by `count` to the right, or to the left if it is negative."""
    width = rows.shape[1]
    return pad(rows, (count, 0) if count > 0 else (0, -count), value=fill).narrow(1, max(-count, 0), width)


def _add_exponents(*terms: Tensor) -> Tensor:
    """Return the log of the sum of the exponents of the terms."""
    stacked = torch.stack(terms)
    most = stacked.amax(0)
    kept = torch.where(most == _IMPOSSIBLE, 0, most)
    return (stacked - kept).exp().sum(0).log() + kept


def _make_empty(log_probs: Tensor, targets: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    steps, batch = log_probs.shape[:2]
    return log_probs.new_empty([batch]), log_probs.new_empty([batch, steps, 2 * targets.shape[-1] + 1])


def _make_empty_gradient(gradient: Tensor, log_probs: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(log_probs)


# Eager's own width of log_alpha depends on the largest length, which only data tell.
_LIBRARY = torch.library.Library("aten", "FRAGMENT")
torch.library.register_fake("aten::_ctc_loss.Tensor", _make_empty, lib=_LIBRARY)
torch.library.register_fake("aten::_ctc_loss_backward.Tensor", _make_empty_gradient, lib=_LIBRARY)
