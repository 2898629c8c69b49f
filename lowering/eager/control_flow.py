"""torch's loops and branches in eager, run as Python: the ops of their bodies are dispatched one by one, with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch._C import DispatchKey, _AutoDispatchBelowAutograd
from torch._higher_order_ops.map import map_dense
from torch._higher_order_ops.scan import generic_scan
from torch._higher_order_ops.while_loop import while_loop_dense
from torch._ops import HigherOrderOperator, OperatorBase, _higher_order_ops


@contextmanager
def run_as_python() -> Iterator[None]:
    """Run loops and branches as Python inside the block.

    Compiled for each shape, as torch does it, they would cost more, and modes that watch ops would not see those of the bodies. torch's own
    gradients need compiled bodies, whose weights are arguments; here autograd records the ops of the bodies.
    """
    with torch.compiler.set_stance("force_eager"), replace_gradients(
            {_higher_order_ops[name]: _with_gradients(name, run) for name, run in _RUNS.items()}):  # fmt: skip
        yield


@contextmanager
def replace_gradients(kernels: Mapping[OperatorBase, Callable[..., Any]]) -> Iterator[None]:
    """Replace the autograd kernels of ops inside the block, and the definition that torch prefers to one where it has both."""
    with ExitStack() as stack:
        for op, kernel in kernels.items():
            keys = {DispatchKey.Autograd} | op.py_kernels.keys() & {DispatchKey.CompositeImplicitAutograd}
            stack.enter_context(mock.patch.dict(op.py_kernels, dict.fromkeys(keys, kernel)))
            stack.enter_context(mock.patch.dict(op._dispatch_cache, clear=True))  # type: ignore[attr-defined] # kernels found before
        yield


def run_below_autograd(op: HigherOrderOperator, *args: Any, **kwargs: Any) -> Any:
    """Run an op without gradients."""
    with _AutoDispatchBelowAutograd():
        return op(*args, **kwargs)


def _with_gradients(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """Return the autograd kernel that calls `run` where gradients are enabled: a weight in a body may require one and be no argument."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        return run(*args, **kwargs) if torch.is_grad_enabled() else run_below_autograd(_higher_order_ops[name], *args, **kwargs)

    return kernel


def _branch(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
    return (true_fn if pred else false_fn)(*operands)


def _scan(combine_fn: Callable[..., Any], init: Any, xs: Any, additional_inputs: Any) -> Any:
    return generic_scan(combine_fn, init, xs, additional_inputs=additional_inputs)


_RUNS: Mapping[str, Callable[..., Any]] = {"cond": _branch, "map_impl": map_dense, "scan": _scan, "while_loop": while_loop_dense}
