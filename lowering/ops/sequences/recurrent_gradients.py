"""Recurrent layers that autograd can differentiate at dynamic lengths: a loop over time, and for the gradient a loop back.

The loop keeps the states of all steps, (time, batch, width) each. The loop back computes each step's gates again from the state before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch._higher_order_ops.while_loop import while_loop_op
from torch.nn.functional import linear

from lowering.ops.sequences import recurrent
from lowering.ops.sequences.recurrent import Cell, State

Tensor: TypeAlias = torch.Tensor
aten = torch.ops.aten

# (projected input of the step, state before it, gradient of the state after it, recurrent weights) -> gradients of: the projected input,
# the recurrent product, the state before; and that of the projection, if there is one
CellGradient: TypeAlias = Callable[..., tuple[Tensor, Tensor, State, Tensor | None]]


def run_layer(gradient: CellGradient, cell: Cell, inputs: Tensor, state: State, params: Sequence[Tensor], has_biases: bool,
              reverse: bool = False) -> tuple[Tensor, State]:
    """Run one direction of one layer on (time, batch, features), as `recurrent.run_layer` does."""
    into, weights, *rest = params
    biases, projection = (rest[:2], rest[2:]) if has_biases else ([None, None], rest)
    recurrent_weights = [weight for weight in (weights, biases[1], *projection) if weight is not None]
    settings = _Settings(cell, gradient, len(state), has_biases, reverse)
    output, *last = _Layer.apply(settings, linear(inputs, into, biases[0]), *state, *recurrent_weights)
    return output, tuple(last)


class _Settings:
    def __init__(self, cell: Cell, gradient: CellGradient, width: int, has_bias: bool, reverse: bool) -> None:
        self.cell, self.gradient, self.width, self.has_bias, self.reverse = cell, gradient, width, has_bias, reverse

    def place(self, step: Any, count: Any, backward: bool = False) -> Any:
        """Return the index of the row that an iteration reads."""
        return count - 1 - step if self.reverse != backward else step

    def split(self, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor | None, Sequence[Tensor]]:
        """Return weight, bias and projection."""
        return (weights[0], weights[1], weights[2:]) if self.has_bias else (weights[0], None, weights[1:])


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, settings: _Settings, projected: Tensor, *given: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        width = settings.width
        state, weights = given[:width], given[width:]
        count = projected.shape[0]
        kept = [projected.new_zeros([count, *part.shape]) for part in state]

        def body(step: Any, *values: Any) -> tuple[Any, ...]:
            now, done, rows, weights = values[:width], values[width : 2 * width], values[2 * width], values[2 * width + 1 :]
            place = settings.place(step, rows.shape[0])
            weight, bias, projection = settings.split(weights)
            after = settings.cell(take_row(rows, place), now, weight, bias, *projection)
            return step + 1, *after, *(put_row(stack, part, place) for stack, part in zip(done, after, strict=True))

        results = run_loop(body, 2 * width, (*(part.clone() for part in state), *kept), (projected, *weights))
        last, stacks = results[:width], results[width:]
        ctx.settings = settings
        ctx.save_for_backward(projected, *state, *weights, *stacks)
        return stacks[0].clone(), *last

    @staticmethod
    def backward(ctx: Any, output: Tensor, *last: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        settings: _Settings = ctx.settings
        width = settings.width
        projected, *saved = ctx.saved_tensors
        state, weights, kept = saved[:width], saved[width:-width], saved[-width:]
        before = [_shift(stack, part, settings.reverse) for stack, part in zip(kept, state, strict=True)]
        _, bias, projection = settings.split(weights)
        stacks = [torch.zeros_like(projected), torch.zeros_like(projected)]
        of_projection = [torch.zeros_like(weight) for weight in projection]
        carried = len(last) + len(stacks) + len(of_projection)

        def body(step: Any, *values: Any) -> tuple[Any, ...]:
            now, into, rest = values[:width], values[width : width + 2], values[width + 2 : carried]
            rows, outputs, *others = values[carried:]
            place = settings.place(step, rows.shape[0], backward=True)
            weight, bias, projection = settings.split(others[width:])
            gradients = (now[0] + take_row(outputs, place), *now[1:])
            earlier = tuple(take_row(stack, place) for stack in others[:width])
            row, product, gradients, more = settings.gradient(take_row(rows, place), earlier, gradients, weight, bias, *projection)
            sums = [total + more for total in rest] if more is not None else []
            return step + 1, *gradients, put_row(into[0], row, place), put_row(into[1], product, place), *sums

        results = run_loop(body, carried, (*(part.clone() for part in last), *stacks, *of_projection),
                        (projected, output, *before, *weights))
        states, (rows, products), sums = results[:width], results[width : width + 2], results[width + 2 :]
        by_weight = products.flatten(0, 1).t() @ before[0].flatten(0, 1)
        by_bias = [products.sum([0, 1])] if bias is not None else []
        return None, rows, *states, by_weight, *by_bias, *sums


def run_loop(body: Callable[..., Any], carried: int, start: Sequence[Tensor], more: Sequence[Tensor]) -> tuple[Any, ...]:
    """Run `body` for each row of the first tensor of `more`. Return the carried values, without the number of the step."""
    def goes_on(step: Any, *values: Any) -> Any:
        return step < values[carried].shape[0]

    with torch._C._AutoDispatchBelowAutograd():
        return tuple(while_loop_op(goes_on, body, (0, *start), tuple(more))[1:])


def take_row(stack: Tensor, place: Any) -> Tensor:
    return stack.index_select(0, torch.scalar_tensor(place, dtype=torch.int64).reshape([1])).squeeze(0)


def put_row(stack: Tensor, row: Tensor, place: Any) -> Tensor:
    return aten.select_scatter(stack, row, 0, place)


def _shift(stack: Tensor, first: Tensor, reverse: bool) -> Tensor:
    """Return the state before each step, of the state after each."""
    places = torch.arange(stack.shape[0], device=stack.device)
    start = stack.shape[0] - 1 if reverse else 0
    earlier = stack.index_select(0, (places + 1).clamp(max=start) if reverse else (places - 1).clamp(min=0))
    return torch.where((places == start).reshape(-1, 1, 1), first, earlier)


def _lstm(row: Tensor, before: State, after: State, weight: Tensor, bias: Tensor | None,
          projection: Tensor | None = None) -> tuple[Tensor, Tensor, State, Tensor | None]:
    gates = (linear(before[0], weight, bias) + row).chunk(4, 1)
    entering, kept, leaving, new = gates[0].sigmoid(), gates[1].sigmoid(), gates[3].sigmoid(), gates[2].tanh()
    bounded = (kept * before[1] + entering * new).tanh()
    of_hidden, of_cell = after
    of_projection = None if projection is None else of_hidden.t() @ (leaving * bounded)
    of_hidden = of_hidden if projection is None else of_hidden @ projection
    of_cell = of_cell + of_hidden * leaving * (1 - bounded * bounded)
    of_gates = torch.cat([of_cell * new * entering * (1 - entering), of_cell * before[1] * kept * (1 - kept),
                          of_cell * entering * (1 - new * new), of_hidden * bounded * leaving * (1 - leaving)], 1)
    return of_gates, of_gates, (of_gates @ weight, of_cell * kept), of_projection


def _gru(row: Tensor, before: State, after: State, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State, None]:
    given, recurrent = row.chunk(3, 1), linear(before[0], weight, bias).chunk(3, 1)
    reset, kept = (recurrent[0] + given[0]).sigmoid(), (recurrent[1] + given[1]).sigmoid()
    new = (given[2] + recurrent[2] * reset).tanh()
    of_new = after[0] * (1 - kept) * (1 - new * new)
    of_reset = of_new * recurrent[2] * reset * (1 - reset)
    of_kept = after[0] * (before[0] - new) * kept * (1 - kept)
    products = torch.cat([of_reset, of_kept, of_new * reset], 1)
    return torch.cat([of_reset, of_kept, of_new], 1), products, (after[0] * kept + products @ weight,), None


def _plain(slope: Callable[[Tensor], Tensor], row: Tensor, before: State, after: State, weight: Tensor,
           bias: Tensor | None) -> tuple[Tensor, Tensor, State, None]:
    of_gate = after[0] * slope(linear(before[0], weight, bias) + row)
    return of_gate, of_gate, (of_gate @ weight,), None


def _tanh_slope(gate: Tensor) -> Tensor:
    return 1 - gate.tanh().square()


def _relu_slope(gate: Tensor) -> Tensor:
    return (gate > 0).to(gate.dtype)


_GRADIENTS: dict[Any, CellGradient] = {
    aten.lstm.input: _lstm, aten.gru.input: _gru, aten.rnn_tanh.input: partial(_plain, _tanh_slope),
    aten.rnn_relu.input: partial(_plain, _relu_slope),
}  # fmt: skip


def define(op: Any) -> Callable[..., Any]:
    """Return the definition of a recurrent op that autograd differentiates. It is a function with a name, as FX requires."""
    definition = recurrent.define(op, partial(run_layer, _GRADIENTS[op]))

    def differentiable_layer(*arguments: Any) -> Any:
        return definition(*arguments)

    return differentiable_layer
