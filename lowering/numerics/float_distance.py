"""The distance of a quantized or converted model from its float form: a figure of the record, not a judgement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lowering import types
from lowering.eager.module import instantiate
from lowering.errors import LoadError
from lowering.level import Program
from lowering.model import Model
from lowering.numerics.coverage.space import Point
from lowering.numerics.running.runner import Eager, Tensors
from lowering.signature import Signature

Kept = Sequence[tuple[Point, Tensors, Sequence[torch.Tensor]]]


def describe(program: Program, model: Model, kept: Kept) -> dict[str, Any]:
    """Return the `quantization` block of the record: bytes of weights by dtype, and the signal-to-noise ratio of each output in dB.

    kept: inputs and eager results of points, of which the one with the most elements is taken. The block is empty for a model that is
        neither quantized nor converted.
    """
    if model.quantization is None and model.dtype is None:
        return {}
    found: dict[str, Any] = {"weights": count_bytes(program.weights), "signal_to_noise": {}}
    assert program.signature is not None
    if kept:
        point, given, results = max(kept, key=lambda one: sum(value.numel() for value in (*one[1].values(), *one[2])))
        try:
            found["signal_to_noise"] = _compare_with_float(model, program.signature, given, results)
            found["point"] = str(point)
        except LoadError as error:  # the float form may not fit where the small one does
            found["not_compared"] = str(error).splitlines()[0]
    return found


def count_bytes(weights: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Count the bytes of weights by dtype, the largest first."""
    counts: dict[str, int] = {}
    for weight in weights.values():
        name = types.dtype_name(weight.dtype)
        counts[name] = counts.get(name, 0) + weight.numel() * weight.element_size()
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _compare_with_float(model: Model, signature: Signature, given: Tensors, results: Sequence[torch.Tensor]) -> dict[str, float | None]:
    plain = replace(model, quantization=None, dtype=None)
    module = instantiate(plain)
    floats = [weight.dtype for weight in module.parameters() if weight.is_floating_point()]
    wide = floats[0] if floats else torch.float32
    passed = {name: value.to(wide) if model.dtype is not None and value.is_floating_point() else value for name, value in given.items()}
    wanted = Eager(plain, module, signature)(passed)
    return {result.label: compute_ratio(want, got) for result, want, got in zip(signature.returned, wanted, results, strict=True)
            if want.is_floating_point() and want.shape == got.shape}


def compute_ratio(signal: torch.Tensor, noisy: torch.Tensor) -> float | None:
    """Return 10 log10 of the power of `signal` over that of its difference to `noisy`; None where either is 0 or not finite."""
    power = float(signal.double().square().sum())
    noise = float((signal.double() - noisy.double()).square().sum())
    ratio = power / noise if noise else math.inf
    return 10 * math.log10(ratio) if 0 < ratio < math.inf else None
