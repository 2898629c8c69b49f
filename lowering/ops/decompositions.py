"""Which ops are decomposed at the FX level, and why. Everything else stays whole: torch-mlir lowers it in C++, in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch._decomp import core_aten_decompositions, get_decompositions

aten = torch.ops.aten

# op -> why the next levels cannot take it whole
LAZY: dict[Any, str] = {
    aten.native_layer_norm.default: "no lowering with a dynamic dim (the composite layer_norm has one)",
    aten.native_group_norm.default: "no lowering with a dynamic dim",
}


def lazy(targets: Iterable[Any]) -> dict[Any, Callable[..., Any]]:
    """torch's decompositions of those `targets` that the table names."""
    wanted = [target for target in targets if target in LAZY]
    return get_decompositions(wanted) if wanted else {}


def core() -> dict[Any, Callable[..., Any]]:
    """All of torch's core ATen decompositions, as the FX importer of torch-mlir expects them."""
    return dict(core_aten_decompositions())
