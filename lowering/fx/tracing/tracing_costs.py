"""Work that torch.export does for every node or graph of a trace, and whose results nothing reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from operator import getitem
from typing import Any
from unittest import mock

import torch
from torch._ops import _higher_order_ops
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import GraphModule
from torch.fx.experimental import proxy_tensor
from torch.fx.experimental.proxy_tensor import _ModuleStackTracer
from torch.fx.graph import CodeGen
from torch.utils import _pytree as pytree

from lowering.eager.control_flow import replace_gradients, run_below_autograd
from lowering.fx.replay import marker


@contextmanager
def skip_stack_traces() -> Iterator[None]:
    """Take no stack traces inside the block of placeholders, and of nodes that stand for copies of a call.

    torch keeps the frames below a `forward`, and placeholders are made outside of it: what it formats for every weight is dropped. Copies
    have the traces of the nodes that they are made of.
    """
    original = _ModuleStackTracer.create_node

    def create_node(tracer: Any, kind: str, target: Any, args: Any, *rest: Any, **kwargs: Any) -> Any:
        source = getattr(args[0], "target", None) if target is getitem else target
        is_dropped = kind == "placeholder" or source is marker.CALL
        if not (is_dropped and tracer.record_stack_traces):
            return original(tracer, kind, target, args, *rest, **kwargs)
        tracer.record_stack_traces = False
        try:
            return original(tracer, kind, target, args, *rest, **kwargs)
        finally:
            tracer.record_stack_traces = True

    with mock.patch.object(_ModuleStackTracer, "create_node", create_node):
        yield


@contextmanager
def read_values_directly() -> Iterator[None]:
    """Read the sizes and strides of a node's value past the modes of the trace, which take each read for a call of the model.

    Those of other subclasses than fakes, such as quantized weights, are read by their own functions.
    """
    original = proxy_tensor.set_meta

    def set_meta(proxy: Any, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and type(value) not in _PLAIN:
            return original(proxy, value)
        with torch._C.DisableTorchFunction():
            return original(proxy, value)

    with mock.patch.object(proxy_tensor, "set_meta", set_meta):
        yield


def describe_values_once() -> AbstractContextManager[Any]:
    """Return a context in which nodes have their values, and no second description of the same sizes and strides.

    For each description torch asks whether the tensor is contiguous in three memory formats, which takes a twelfth of a trace with
    symbolic sizes.
    """
    return mock.patch.object(proxy_tensor, "_extract_tensor_metadata", _describe_nothing)


def _describe_nothing(*_: object) -> None:
    """Return no description of a tensor."""


_PLAIN = (torch.Tensor, torch.nn.Parameter, FakeTensor)
_WITH_BODIES = ("associative_scan", "cond", "map_impl", "scan", "while_loop")


@contextmanager
def skip_gradients_of_bodies() -> Iterator[list[str]]:
    """Trace no gradients inside the block for the bodies of loops and branches, and list the ops that would have had them.

    torch traces and partitions a body together with its gradients wherever an argument, such as a weight, requires one. The results of the
    listed ops have no gradient; those of torch's own trace above autograd have none either, and no error says so.
    """
    skipped: list[str] = []

    def skip(name: str) -> Callable[..., Any]:
        def kernel(*args: Any, **kwargs: Any) -> Any:
            if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in _find_tensors(args, kwargs)):
                skipped.append(name)
            return run_below_autograd(_higher_order_ops[name], *args, **kwargs)

        return kernel

    with replace_gradients({_higher_order_ops[name]: skip(name) for name in _WITH_BODIES}):
        yield skipped


def _find_tensors(*arguments: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, torch.Tensor))


def defer_code() -> AbstractContextManager[Any]:
    """Return a context in which the Python code of a graph module is only generated when it is called or read.

    torch generates it after each of a dozen changes of a graph, and reads it after none.
    """
    return mock.patch.object(GraphModule, "recompile", _defer)


_generate = GraphModule.recompile


def _defer(module: GraphModule) -> None:
    if type(module.graph._codegen) is not CodeGen:  # of a module that is made to be called, which takes attributes from it
        _generate_now(module)
        return
    kind: Any = type(module)  # every graph module has a class of its own
    kind.forward, kind.code = _generate_and_call, property(_generate_and_read)
    for child in module.children():
        if isinstance(child, GraphModule):
            _defer(child)


def _generate_and_call(module: GraphModule, *args: Any, **kwargs: Any) -> Any:
    _generate_now(module)
    return module(*args, **kwargs)


def _generate_and_read(module: GraphModule) -> str:
    _generate_now(module)
    return module.code


def _generate_now(module: GraphModule) -> None:
    kind: Any = type(module)
    if "code" in vars(kind):
        del kind.code
    _generate(module)
