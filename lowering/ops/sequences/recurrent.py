"""Recurrent layers as loops over time: `aten::lstm`, `aten::gru` and `aten::rnn_*` with a sequence length that may be dynamic.

torch defines them by unrolling, even to compute their shapes, which makes the length static. `keep_whole` keeps them as nodes under
torch.export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeAlias

import torch
from torch._decomp import decomposition_table
from torch._decomp.decompositions import _rnn_helper, gather_params
from torch._higher_order_ops.while_loop import while_loop_op
from torch.fx import Node
from torch.nn.functional import linear

Tensor: TypeAlias = torch.Tensor
State: TypeAlias = tuple[Tensor, ...]  # (batch, hidden size) each; the first is the output of the step
Run: TypeAlias = Callable[..., tuple[Tensor, State]]  # as `run_layer`
Cell: TypeAlias = Callable[..., State]  # (projected input of the step, state, recurrent weights) -> the next state

aten = torch.ops.aten
_KEYS = (torch._C.DispatchKey.CompositeImplicitAutograd, torch._C.DispatchKey.Autograd)
UNROLLED = 8  # most steps for which a layer of constant length is unrolled; for more steps, a loop is the smaller program


def lstm(run: Run, inputs: Tensor, hx: Sequence[Tensor], params: Sequence[Tensor], has_biases: bool, num_layers: int, dropout: float,
         train: bool, bidirectional: bool, batch_first: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Compute aten::lstm.input. With a projection, the hidden state is narrower than the cell state."""
    layers = gather_params(params, has_biases, hx[0].size(2) != hx[1].size(2))
    given = list(zip(hx[0].unbind(0), hx[1].unbind(0), strict=True))
    output, last = _rnn_helper(inputs, given, layers, has_biases, num_layers, dropout, train, bidirectional, batch_first,
                               partial(run, _lstm_cell))
    hidden, cells = zip(*last, strict=True)
    return output, torch.stack(hidden, 0), torch.stack(cells, 0)


def run_with_one_state(cell: Cell, run: Run, inputs: Tensor, hx: Tensor, params: Sequence[Tensor], has_biases: bool, num_layers: int,
                       dropout: float, train: bool, bidirectional: bool, batch_first: bool) -> tuple[Tensor, Tensor]:
    """Compute aten::gru.input or aten::rnn_*.input."""
    given = [(hidden,) for hidden in hx.unbind(0)]
    layers = gather_params(params, has_biases, False)
    output, last = _rnn_helper(inputs, given, layers, has_biases, num_layers, dropout, train, bidirectional, batch_first,
                               partial(run, cell))
    return output, torch.stack([hidden for (hidden,) in last], 0)


def run_layer(cell: Cell, inputs: Tensor, state: State, params: Sequence[Tensor], has_biases: bool, reverse: bool = False,
              lengths: Tensor | None = None) -> tuple[Tensor, State]:
    """Run one direction of one layer on (time, batch, features).

    Return the output of every step, (time, batch, hidden size), and the last state. The input projections of all steps are one matmul
    before the loop. A step reads one row of them and writes one row of the output.

    lengths: (batch,), the number of steps of each sequence, if they differ. Beyond it the state stays, and the output is 0.
    """
    into, recurrent, *rest = params
    biases, projection = (rest[:2], rest[2:]) if has_biases else ([None, None], rest)
    projected = linear(inputs, into, biases[0])
    output = inputs.new_zeros([inputs.shape[0], inputs.shape[1], state[0].shape[1]])
    weights = [weight for weight in (lengths, recurrent, biases[1], *projection) if weight is not None]
    has_bias, width = biases[1] is not None, len(state)

    def goes_on(step: Any, *given: Any) -> Any:
        return step < given[width + 1].shape[0]

    def body(step: Any, *given: Any) -> tuple[Any, ...]:
        now, done, rows, weights = given[:width], given[width], given[width + 1], given[width + 2 :]
        ends, weights = (None, weights) if lengths is None else (weights[0], weights[1:])
        place = rows.shape[0] - 1 - step if reverse else step
        row = rows.index_select(0, torch.scalar_tensor(place, dtype=torch.int64).reshape([1])).squeeze(0)
        bias, projection = (weights[1], weights[2:]) if has_bias else (None, weights[1:])
        after = cell(row, now, weights[0], bias, *projection)
        result = after[0]
        if ends is not None:
            goes = (torch.scalar_tensor(place, dtype=torch.int64) < ends).unsqueeze(-1)
            result = torch.where(goes, result, 0)
            after = tuple(torch.where(goes, new, old) for new, old in zip(after, now, strict=True))
        return step + 1, *after, aten.select_scatter(done, result, 0, place)

    carried = (0, *(part.clone() for part in state), output)
    with torch._C._AutoDispatchBelowAutograd():
        results = while_loop_op(goes_on, body, carried, (projected, *weights))
    return results[-1], tuple(results[1:-1])


def _lstm_cell(row: Tensor, state: State, weight: Tensor, bias: Tensor | None, projection: Tensor | None = None) -> State:
    before, cell = state
    gates = (linear(before, weight, bias) + row).chunk(4, 1)
    entering, kept, leaving = gates[0].sigmoid(), gates[1].sigmoid(), gates[3].sigmoid()
    cell = kept * cell + entering * gates[2].tanh()
    hidden = leaving * cell.tanh()
    return hidden if projection is None else linear(hidden, projection), cell


def _gru_cell(row: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    (before,) = state
    given, recurrent = row.chunk(3, 1), linear(before, weight, bias).chunk(3, 1)
    reset, kept = (recurrent[0] + given[0]).sigmoid(), (recurrent[1] + given[1]).sigmoid()
    new = (given[2] + recurrent[2] * reset).tanh()
    return ((before - new) * kept + new,)


def _plain_cell(activation: Callable[[Tensor], Tensor], row: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    return (activation(linear(state[0], weight, bias) + row),)


# Each takes a `Run` first.
DEFINITIONS: dict[Any, Callable[..., Any]] = {
    aten.lstm.input: lstm,
    aten.gru.input: partial(run_with_one_state, _gru_cell),
    aten.rnn_tanh.input: partial(run_with_one_state, partial(_plain_cell, torch.tanh)),
    aten.rnn_relu.input: partial(run_with_one_state, partial(_plain_cell, torch.relu)),
}


def define(op: Any, run: Run) -> Callable[..., Any]:
    """Return the definition of a recurrent op whose layers are run by `run`."""
    return partial(DEFINITIONS[op], run)


def choose_loop(node: Node) -> Callable[..., Any] | None:
    """Return the definition of a recurrent node as a loop over time, or None for other nodes.

    A constant length of few steps is unrolled, as torch does.
    """
    return partial(_choose, define(node.target, run_layer), decomposition_table[node.target]) if node.target in DEFINITIONS else None


def _choose(looped: Callable[..., Any], unrolled: Callable[..., Any], inputs: Tensor, *rest: Any) -> Any:
    steps = _count_steps(inputs, rest)
    return unrolled(inputs, *rest) if isinstance(steps, int) and steps <= UNROLLED else looped(inputs, *rest)


def _count_steps(inputs: Any, rest: Sequence[Any]) -> Any:
    return inputs.shape[1 if rest[-1] else 0]


def has_dynamic_length(node: Node) -> bool:
    """Return whether a node is a recurrent layer over a length that is not constant."""
    return node.target in DEFINITIONS and not isinstance(_count_steps(node.args[0].meta["val"], node.args[1:]),
                                                         int)  # type: ignore[union-attr]


_runs_steps = ContextVar("_runs_steps", default=False)


@contextmanager
def run_steps() -> Iterator[None]:
    """Run the steps of recurrent layers inside the block, though it may be in one of `keep_whole`."""
    token = _runs_steps.set(True)
    try:
        yield
    finally:
        _runs_steps.reset(token)


@contextmanager
def keep_whole() -> Iterator[None]:
    """Keep each recurrent layer as one node while tracing inside the block. Shapes are computed without running the steps.

    Inside a transform of torch.func, and of `run_steps`, the steps are run: nothing differentiates such a node there.
    """
    torchs = {(op, key): op.py_kernels[key] for op in DEFINITIONS for key in _KEYS}

    def choose(kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            is_differentiated = _runs_steps.get() or torch._C._functorch.peek_interpreter_stack() is not None
            return (kernel if is_differentiated else _make_empty)(*args)

        return run

    try:
        for (op, key), kernel in torchs.items():
            _define(op, key, choose(kernel))
        yield
    finally:
        for (op, key), kernel in torchs.items():
            _define(op, key, kernel)


def _make_empty(inputs: Tensor, hx: Any, params: Sequence[Tensor], has_biases: bool, num_layers: int, dropout: float, train: bool,
           bidirectional: bool, batch_first: bool) -> tuple[Tensor, ...]:
    """Return results of the right shapes: the output, and the last of each state."""
    states = [hx] if isinstance(hx, torch.Tensor) else list(hx)
    output = inputs.new_empty([*inputs.shape[:2], states[0].shape[2] * (2 if bidirectional else 1)])
    return output, *(torch.empty_like(state) for state in states)


def _define(op: Any, key: Any, kernel: Callable[..., Any]) -> None:
    op.py_kernels[key] = kernel
    op._dispatch_cache.clear()
