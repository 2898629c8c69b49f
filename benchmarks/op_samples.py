"""Samples of PyTorch's OpInfo database as modules of tensor inputs alone: what is no tensor is part of the module."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from torch.utils import _pytree as pytree

from lowering import types
from lowering.model import Input, Model

MOST_TENSORS = 8
MOST_ELEMENTS = 1 << 16  # of one tensor: larger samples test kernels, not lowerings
LOOKED_AT = 64  # samples of one op


# What an op searches must be sorted; repeating values undoes that.
_SORTED = {"searchsorted": ("x0",), "bucketize": ("x1",), "histogram": ("x1",), "histogramdd": ("x1", "x2", "x3", "x4", "x5")}
# Matrices of repeated rows have no inverse: these are drawn again.
_REGULAR = ("linalg.solve", "linalg.solve_ex", "linalg.inv", "linalg.inv_ex", "linalg.det", "linalg.slogdet", "linalg.qr",
            "linalg.tensorinv", "linalg.tensorsolve", "linalg.cond", "linalg.pinv", "logdet", "qr", "pinverse", "linalg.lu_factor",
            "linalg.lu_factor_ex", "linalg.lu", "lu")

# So are these, which must be positive definite.
_DEFINITE = ("linalg.cholesky_ex",)


class Call(torch.nn.Module):
    """`op` on the tensors it is given by name, put in their places among its other arguments."""

    def __init__(self, op: Any, leaves: Sequence[Any], spec: pytree.TreeSpec) -> None:
        super().__init__()
        self.op, self.leaves, self.spec = op, tuple(leaves), spec

    def forward(self, x0: Any = None, x1: Any = None, x2: Any = None, x3: Any = None, x4: Any = None, x5: Any = None, x6: Any = None,
                x7: Any = None) -> Any:  # fmt: skip
        given = iter((x0, x1, x2, x3, x4, x5, x6, x7))
        leaves = [next(given) if leaf is Call else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.op(*args, **kwargs)


@dataclass(frozen=True)
class Sample:
    """One call of an op. tensors: by the name that forward gives them; constants: the other arguments, as text; mode: of the model."""

    op: str
    dtype: str
    module: torch.nn.Module
    tensors: dict[str, torch.Tensor]
    constants: str = ""
    mode: Literal["inference", "training"] = "inference"
    model: Model = field(init=False)

    def __post_init__(self) -> None:
        """Build the model: every dim that export can make dynamic (2 or more) is left to it as `null`."""
        declared = {name: Input(types.dtype_name(tensor.dtype), tuple(None if size > 1 else size for size in tensor.shape))
                    for name, tensor in self.tensors.items()}
        object.__setattr__(self, "model", Model(self.op, {"_target_": f"opinfo {self.op}"}, declared, mode=self.mode))

    def at(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        """Return the tensors at other shapes: their own values are repeated along each dim, so that domains and index ranges stay.

        Repeated floats shrink by 1 % a copy, so that maxima and orders stay unique.
        """
        resized = _draw if self.op in _REGULAR else _draw_definite if self.op in _DEFINITE else _repeat
        found = {name: resized(self.tensors[name], shape) for name, shape in shapes.items()}
        return {name: tensor.sort(-1).values if name in _SORTED.get(self.op, ()) else tensor for name, tensor in found.items()}

    def __str__(self) -> str:
        tensors = ", ".join(f"{types.dtype_name(tensor.dtype)}{list(tensor.shape)}" for tensor in self.tensors.values())
        return f"{tensors}{'; ' + self.constants if self.constants else ''}"


def _draw(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, dtype=tensor.dtype, generator=torch.Generator().manual_seed(sum(shape)))


def _draw_definite(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    drawn = _draw(tensor, shape)
    return drawn @ drawn.mT + torch.eye(shape[-1], dtype=tensor.dtype)


def _repeat(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    for dim, (size, old) in enumerate(zip(shape, tensor.shape, strict=True)):
        if size != old:
            places = torch.arange(size)
            tensor = tensor.index_select(dim, places % old)
            if tensor.dtype.is_floating_point:
                shrunk = (1 - 0.01 * (places // old)).reshape(-1, *(1 for _ in shape[dim + 1 :]))
                tensor = tensor * shrunk.to(tensor.dtype)
    return tensor.clone()


@cache
def database() -> dict[str, Any]:
    """Return every OpInfo by name, with its variant (`var_mean.unbiased`)."""
    if importlib.util.find_spec("expecttest") is None:
        raise ModuleNotFoundError("torch's OpInfo database needs expecttest, which is not installed: pip install -e '.[dev]'")
    from torch.testing._internal import common_methods_invocations as invocations

    # random ops are wrapped to draw the same numbers in every run, which have no distribution
    invocations.wrapper_set_seed = lambda op, *args, **kwargs: op(*args, **kwargs)
    return {f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name: op for op in invocations.op_db}


def supports(name: str, dtype: str) -> bool:
    return types.DTYPES[dtype].torch in database()[name].supported_dtypes("cpu")


def samples(name: str, dtype: str) -> list[Sample]:
    """Return the samples of an op, in the order of `sort_samples`."""
    torch.manual_seed(0)
    return sort_samples(_usable(name, dtype))


def sort_samples(found: Iterable[Sample]) -> list[Sample]:
    """Sort samples: the one with the most dims that can be dynamic, those that differ in their other arguments, then the rest."""
    first: dict[str, Sample] = {}
    rest = [sample for sample in sorted(found, key=_dynamic_dims, reverse=True) if first.setdefault(sample.constants, sample) is not sample]
    return [*first.values(), *rest]


def _usable(name: str, dtype: str) -> Iterator[Sample]:
    info = database()[name]
    given = info.sample_inputs("cpu", types.DTYPES[dtype].torch, requires_grad=False)
    for _, sample in zip(range(LOOKED_AT), given, strict=False):
        if sample.kwargs.get("sorter") is None:
            yield from calls(name, dtype, info.op, (sample.input, *sample.args), sample.kwargs)


def calls(name: str, dtype: str, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Sample]:
    """Yield the call as a sample, unless it has no tensors, or too many, too large or no plain ones."""
    leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
    tensors = [leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if tensors and len(tensors) <= MOST_TENSORS and all(map(_is_plain, tensors)):
        rest = [Call if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        constants = ", ".join(word(leaf) for leaf in rest if leaf is not Call)
        yield Sample(name, dtype, Call(op, rest, spec).eval(), {f"x{number}": tensor for number, tensor in enumerate(tensors)}, constants)


def _is_plain(tensor: torch.Tensor) -> bool:
    known = tensor.layout is torch.strided and types.dtype_name(tensor.dtype) in types.DTYPES and not tensor.is_quantized
    return known and tensor.numel() <= MOST_ELEMENTS


def _dynamic_dims(sample: Sample) -> tuple[int, int]:
    """Return the number of dims that can be dynamic, then how small the smallest is; an empty tensor makes a sample a last resort."""
    sizes = [size for tensor in sample.tensors.values() for size in tensor.shape if size > 1]
    if any(tensor.numel() == 0 for tensor in sample.tensors.values()):
        return -1, 0
    return len(sizes), min(sizes, default=0)


def word(leaf: Any) -> str:
    """Abbreviate an argument that is no tensor."""
    text = str(leaf)
    return text if len(text) <= 40 and " at 0x" not in text else type(leaf).__name__
