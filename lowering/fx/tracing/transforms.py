"""Gradients in forward: transforms of torch.func (grad, jacrev, jacfwd, vjp, hessian) and torch.autograd.grad.

torch.export traces above autograd, where it loses the values of nested gradients: it lifts them as constants, or fails. Traced below
autograd, the ops of the gradients are ops like others.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._functorch import eager_transforms
from torch._subclasses import FakeTensorMode, fake_impls
from torch.export import ExportedProgram
from torch.nn import functional
from torch.utils import _pytree as pytree

from lowering.errors import Problem
from lowering.fx import cleanup
from lowering.fx.tracing import patching
from lowering.ops import factories
from lowering.ops.sequences import recurrent

_FILES = ("eager_transforms.py", "predispatch.py", "vmap.py", "pyfunctorch.py", "apis.py")
_LOST_BATCH = "fake tensor in the exported program constant's list"  # torch's words for a value that vmap moved the batch dim of
_DIFFERENTIATING = ((eager_transforms, "grad_increment_nesting"), (eager_transforms, "jvp_increment_nesting"), (torch.autograd, "grad"))
_ZEROS = torch.ops.aten._new_zeros_with_same_feature_meta.default


def are_lost(program: ExportedProgram | None, error: BaseException | None, entered: Sequence[str]) -> bool:
    """Return whether an export lost values of a transform, or failed in one, or fixed sizes after it had `entered` one."""
    if error is not None and entered:
        return True
    if program is not None:
        return bool(find_lost(program)) or any(getattr(node.target, "__name__", "") == "_unwrap_for_grad"
                                               for body in cleanup.bodies(program.graph_module) for node in cleanup.calls(body))
    while error is not None:
        if _LOST_BATCH in str(error):
            return True
        frames = traceback.extract_tb(error.__traceback__)
        if any("_functorch" in frame.filename and frame.filename.endswith(_FILES) for frame in frames):
            return True
        error = error.__cause__ or error.__context__
    return False


def find_lost(program: ExportedProgram) -> list[Problem]:
    """Report each constant of dynamic size. It was computed from the inputs, and its computation is not in the graph."""
    fix = "compute it in plain ops, outside of transforms of torch.func"
    return [Problem(f"constant '{name}'", f"depends on the sizes of inputs ({list(value.shape)}), and the export lost how it is computed",
                    fix)
            for name, value in program.constants.items()
            if isinstance(value, torch.Tensor) and any(isinstance(size, torch.SymInt) for size in value.shape)]


def _linear(tensor: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return torch.nn.functional.linear. torch's own reads the traced sizes of a tensor of more than two dims."""
    product = tensor @ weight.transpose(-1, -2)
    return product if bias is None else product + bias


def _layer_norm(tensor: torch.Tensor, normalized_shape: Sequence[int], weight: torch.Tensor | None = None, bias: torch.Tensor | None = None,
                eps: float = 1e-5) -> torch.Tensor:
    """Return torch.nn.functional.layer_norm. torch's own rule for batches reads the traced sizes."""
    dims = list(range(-len(normalized_shape), 0))
    wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    centred = wide - wide.mean(dims, keepdim=True)
    result = centred * ((centred * centred).mean(dims, keepdim=True) + eps).rsqrt()
    result = result if weight is None else result * weight
    return (result if bias is None else result + bias).to(tensor.dtype)


def find_composed(function: Any) -> Callable[..., Any] | None:
    """Return the composed form of a function for use inside a transform, where torch's own turns sizes into numbers; None elsewhere."""
    return COMPOSED.get(function) if function in COMPOSED and torch._C._functorch.peek_interpreter_stack() is not None else None


def _gather(tensor: torch.Tensor, dim: int, index: torch.Tensor, **_: bool) -> torch.Tensor:
    """Return torch.gather, without sparse gradients. torch's own rule for batches reads the traced sizes."""
    if tensor.dim() == 0 or index.dim() == 0:
        return tensor.reshape(-1)[index.reshape(-1)].reshape(index.shape)
    dim = dim % tensor.dim()
    shapes = ([-1 if other == place else 1 for other in range(index.dim())] for place in range(index.dim()))
    places = [torch.arange(size, device=index.device).reshape(shape) for size, shape in zip(index.shape, shapes, strict=True)]
    places[dim] = index
    return tensor[tuple(places)]


def _nll_loss(tensor: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, size_average: bool | None = None,
              ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean") -> torch.Tensor:  # fmt: skip
    """Return torch.nn.functional.nll_loss, by `_gather`."""
    if size_average is not None or reduce is not None:
        reduction = torch.nn._reduction.legacy_get_string(size_average, reduce, emit_warning=False)
    dim = min(tensor.dim() - 1, 1)
    is_kept = target != ignore_index
    classes = torch.where(is_kept, target, 0)
    factors = is_kept.to(tensor.dtype) if weight is None else torch.where(is_kept, weight[classes], 0)
    losses = torch.where(is_kept, -_gather(tensor, dim, classes.unsqueeze(dim)).squeeze(dim) * factors, 0)
    return losses.sum() / factors.sum() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


def _cross_entropy(tensor: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, size_average: bool | None = None,
                   ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean", label_smoothing: float = 0.0,
                   ) -> torch.Tensor:  # fmt: skip
    """Return torch.nn.functional.cross_entropy, by `_nll_loss` where targets are classes, without smoothing; else torch's own."""
    if target.is_floating_point() or label_smoothing:
        return functional.cross_entropy(tensor, target, weight, size_average, ignore_index, reduce, reduction, label_smoothing)
    logarithms = torch.log_softmax(tensor, min(tensor.dim() - 1, 1))
    return _nll_loss(logarithms, target, weight, size_average, ignore_index, reduce, reduction)


def _embedding(index: torch.Tensor, weight: torch.Tensor, padding_idx: int | None = None, max_norm: float | None = None,
               norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> torch.Tensor:  # fmt: skip
    """Return torch.nn.functional.embedding, whose padding has no gradient; torch's own where it writes norms or scales gradients."""
    if max_norm is not None or scale_grad_by_freq:
        return functional.embedding(index, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    rows = weight[index]
    if padding_idx is None:
        return rows
    return torch.where((index == padding_idx % weight.shape[0]).unsqueeze(-1), rows.detach(), rows)


COMPOSED: dict[Any, Callable[..., Any]] = {
    functional.linear: _linear, functional.layer_norm: _layer_norm, functional.embedding: _embedding, functional.nll_loss: _nll_loss,
    functional.cross_entropy: _cross_entropy, torch.gather: _gather, torch.Tensor.gather: _gather,
}  # fmt: skip


@contextmanager
def watch() -> Iterator[list[str]]:
    """List the calls inside the block that differentiate, by the names of torch's functions."""
    entered: list[str] = []

    def note(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def enter(*args: Any, **kwargs: Any) -> Any:
            entered.append(name)
            return original(*args, **kwargs)

        return enter

    with patching.replace_functions({(owner, name): note(name, getattr(owner, name)) for owner, name in _DIFFERENTIATING}):
        yield entered


@contextmanager
def trace_below(module: torch.nn.Module) -> Iterator[None]:
    """Prepare for a trace of `module` below autograd inside the block: all ops have shapes and gradients, and no result needs one."""
    with _detach_results(module), _define_zeros(), recurrent.run_steps():
        yield


@contextmanager
def _detach_results(module: torch.nn.Module) -> Iterator[None]:
    """Detach the results of `module` inside the block, except those of calls by its own forward, which may be differentiated."""
    depth = 0

    def enter(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(*called: Any) -> Any:
        nonlocal depth
        depth -= 1
        return called[-1] if depth else pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, called[-1])

    hooks = module.register_forward_pre_hook(enter), module.register_forward_hook(leave)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _define_zeros() -> Iterator[None]:
    """Define the shape of forward-mode zeros inside the block: torch's own definition refuses dynamic sizes."""
    table = fake_impls.op_implementations_dict
    before = table.get(_ZEROS)

    def make(mode: FakeTensorMode, _: Any, *arguments: Any, **named: Any) -> Any:
        with mode:
            return factories.new_zeros_with_dims(*arguments, **named)

    table[_ZEROS] = make
    try:
        yield
    finally:
        if before is None:
            del table[_ZEROS]
        else:
            table[_ZEROS] = before
