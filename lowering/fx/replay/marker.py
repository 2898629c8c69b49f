"""The ops that stand for calls of modules in a traced graph.

`template` names the inputs and outputs of a call that was traced; `call` stands for one that is a copy of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx.node import has_side_effect

_LIBRARY = torch.library.Library("shapeline_replay", "DEF")
_LIBRARY.define("template(Tensor[] inputs, Tensor[] outputs, int template) -> ()")
_LIBRARY.define("call(Tensor[] inputs, int template, int call) -> Tensor[]")

TEMPLATE, CALL = torch.ops.shapeline_replay.template.default, torch.ops.shapeline_replay.call.default


@dataclass(frozen=True)
class Type:
    """The type of an output: sizes and strides are ints or SymInts."""

    sizes: tuple[Any, ...]
    strides: tuple[Any, ...]
    dtype: torch.dtype
    device: torch.device

    @staticmethod
    def from_tensor(tensor: torch.Tensor) -> Type:
        return Type(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)


outputs: dict[int, Sequence[Type]] = {}  # of the templates of the traces that run


def _make_outputs(inputs: Sequence[torch.Tensor], template: int, call: int) -> list[torch.Tensor]:  # noqa: ARG001
    return [torch.empty_strided(made.sizes, made.strides, dtype=made.dtype, device=made.device) for made in outputs[template]]


torch.library.register_fake("shapeline_replay::template", lambda inputs, outputs, template: None, lib=_LIBRARY)
torch.library.register_fake("shapeline_replay::call", _make_outputs, lib=_LIBRARY)
for _op in (TEMPLATE, CALL):
    has_side_effect(_op)
