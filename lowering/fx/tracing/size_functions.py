"""Keep sizes symbolic in functions that would make them numbers, while torch.export runs the model's code.

Python's `math.sqrt`, `math.log`, `math.pow` and others, `divmod`, and `round` to digits, torch functions whose parameters are plain ints
(`torch.numel`, `torch.linspace`), and TorchScript's ops on numbers (`torch.ops.aten.size`) read the traced number of a size. Inside
`keep_symbolic` they compute the same by operators that stay symbolic.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._export.non_strict_utils import _NonStrictTorchFunctionHandler
from torch.export import _trace
from torch.overrides import TorchFunctionMode

from lowering.fx.tracing import batch_norms, detection_functions, patching, scans, size_texts, symbolic_numbers
from lowering.fx.tracing.symbolic_calls import SymbolicCalls, TracedCalls
from lowering.ops import attention


@contextmanager
def keep_symbolic(is_model_code: size_texts.IsModelCode) -> Iterator[None]:
    """Replace the functions inside the block. Their behaviour differs on symbolic numbers only.

    is_model_code: whether a file is the model's, whose texts of sizes are values (see `size_texts`).
    """
    replaced: dict[tuple[Any, str], Any] = {(torch.nn.Module, name): _keep_equal(name, dtype) for name, dtype in _CONVERSIONS.items()}
    replaced[torch.distributions.Distribution, "_validate_args"] = False  # validation branches on the values of the arguments
    replaced[torch.nn.modules.transformer, "_detect_is_causal_mask"] = _read_is_causal
    if flex := sys.modules.get("torch.nn.attention.flex_attention"):  # the model's code has imported it
        replaced |= {(flex, "flex_attention_hop"): attention.flexible, (flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"): True}
    replaced[_trace, "_NonStrictTorchFunctionHandler"] = _watch_calls
    replaced |= symbolic_numbers.list_replacements() | size_texts.list_replacements(is_model_code)
    replaced |= detection_functions.list_replacements() | scans.list_replacements() | batch_norms.list_replacements()
    originals = {(owner, name): getattr(owner, name) for owner, name in replaced}
    added = symbolic_numbers.list_additions() | size_texts.list_additions(is_model_code) | detection_functions.list_additions()
    for (owner, name), function in (replaced | added).items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for (owner, name), function in originals.items():
            setattr(owner, name, function)
        for owner, name in added:
            delattr(owner, name)


@contextmanager
def _watch_calls() -> Iterator[None]:
    """Enter torch's mode for the trace inside ours. Torch makes fakes of all weights before its mode, where ours would only cost time."""
    with SymbolicCalls(), _NonStrictTorchFunctionHandler():
        yield


@contextmanager
def compose_in_graphs() -> Iterator[None]:
    """Replace torch's functions inside the block where Dynamo runs the graph that it made, and where that graph is traced again.

    Dynamo's graph holds the calls as the model's code wrote them. A mode around Dynamo itself would be traced as part of the model.
    """
    from torch._dynamo import utils as dynamo_utils  # most of a second, which an export that is not strict does without

    replaced = {(dynamo_utils, "run_node"): _enter_mode(dynamo_utils.run_node, SymbolicCalls)}
    replaced |= {(_trace, name): _enter_mode(getattr(_trace, name), TracedCalls)
                 for name in ("_export_to_aten_ir", "_export_to_aten_ir_make_fx")}
    with patching.replace_functions(replaced):
        yield


def _enter_mode(function: Callable[..., Any], mode: Callable[[], TorchFunctionMode]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with mode():
            return function(*args, **kwargs)

    return call


def _keep_equal(name: str, dtype: torch.dtype | None) -> Callable[..., torch.nn.Module]:
    """Return a conversion of torch.nn.Module that does nothing if the module has the dtype already. torch.export refuses such a write too.

    name: of the conversion. dtype: the dtype that it converts to, None if its arguments say so.
    """
    original = getattr(torch.nn.Module, name)

    def convert(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        device, wanted, _, memory_format = torch._C._nn._parse_to(*args, **kwargs) if dtype is None else (None, dtype, None, None)
        is_equal = memory_format is None and all(
            device in (None, tensor.device) and (wanted in (None, tensor.dtype) or not (tensor.is_floating_point() or tensor.is_complex()))
            for tensor in (*module.parameters(), *module.buffers()))
        return module if is_equal else original(module, *args, **kwargs)  # type: ignore[no-any-return]

    return convert


def _read_is_causal(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:  # noqa: ARG001 - torch's parameters
    """Return the caller's hint. torch's own compares the mask's data to find one, though attention adds the mask either way."""
    return bool(is_causal)


_CONVERSIONS = {"to": None, "float": torch.float32, "double": torch.float64, "half": torch.float16, "bfloat16": torch.bfloat16}
