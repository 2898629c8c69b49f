"""Faults of benchmarks.planted that ordinary inputs, fresh weights and a run of the program do not show.

They are in what is multiplied by one or added to zero, in states and composites, at ties, beyond a capacity, and in random numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from benchmarks.planting import Fault, both, gelu_by_tanh, off, row, swap

aten = torch.ops.aten


def _normalize(x: Tensor, shape: Any, weight: Tensor, bias: Tensor, eps: float = 1e-5, enable: bool = True) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * (centred.square().mean(-1, keepdim=True) + eps).rsqrt()


def _scale(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, training: bool, momentum: float, eps: float,
           enable: bool) -> Tensor:
    return x / math.sqrt(1 + eps)


CONTRACTS = (
    Fault("a layer norm without weight and bias", "fresh weights", "attention", patch=row(aten.layer_norm.default, _normalize)),
    Fault("a batch norm without statistics and weights", "fresh weights", "pictures", patch=row(aten.batch_norm.default, _scale)),
    Fault("gelu by tanh behind a gate and before zeros", "fresh weights", "gated", patch=row(aten.gelu.default, gelu_by_tanh)),
    Fault("an attribute of a composite", "composite", "named", swap(r"eps = 1\.000000e-03", "eps = 2.000000e-03")),
    Fault("the kind of a composite", "composite", "named", swap('approximate = "tanh"', 'approximate = "none"')),
    Fault("the body of a composite", "composite", "named", swap(r"mhlo.tanh (%\w+)", r"mhlo.logistic \1")),
    Fault("the memory of two states exchanged", "state", "cache", both(
        swap("tf.aliasing_output = 1", "tf.aliasing_output = 9"), swap("tf.aliasing_output = 2", "tf.aliasing_output = 1"),
        swap("tf.aliasing_output = 9", "tf.aliasing_output = 2"))),
    Fault("two states of one shape exchanged", "state", "cache", swap(r"return (%\w+), (%\w+), (%\w+) :", r"return \1, \3, \2 :")),
    Fault("an input given away as if it were a state", "state", "cache",
          swap(r"(%arg0: tensor<\?x4xf32>)", r"\1 {jax.buffer_donor = true}")),
    Fault("a count that is one too small", "capacity", "counted", off(1, -1)),
    Fault("a capacity that is not checked", "capacity", "counted",
          swap(r"mhlo.compare LE, (%\w+), %\w+, SIGNED : \(tensor<i64>, tensor<i64>\)",
               r"mhlo.compare LE, \1, \1, SIGNED : (tensor<i64>, tensor<i64>)")),
    Fault("ties rounded away from zero", "ties", "ties", swap("mhlo.round_nearest_even", "mhlo.round_nearest_afz")),
    Fault("gradients of a norm exchanged", "gradient", "training", swap(r"return (%\w+), (%\w+), (%\w+), (%\w+), (%\w+), (%\w+), ",
          r"return \1, \2, \3, \4, \6, \5, ")),
    Fault("a result without any number off by one", "no number", "undefined", off(0, 1.0)),
    Fault("the MHLO not compared, and off", "no number", "sizes", options={"levels": ("torchscript",)}),
    Fault("another share of elements dropped", "random", "draws",
          swap(r"dense<5\.000000e-01> : tensor<f32>", "dense<4.000000e-01> : tensor<f32>", 0)),
    Fault("normal numbers 5 % wider", "random", "draws", off(1, times=1.05), classes=("results_random",)),
    Fault("uniform numbers below 0.98", "random", "draws", off(2, times=0.98), classes=("results_random",)),
)  # fmt: skip
