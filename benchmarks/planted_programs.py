"""Faults of benchmarks.planted in whole programs.

They are in caches, quantized layers, complex numbers, gradients that forward computes, loops, capacities, buckets and dtypes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from benchmarks.planting import Fault, off, rule, swap
from lowering.numerics.delivery import buckets
from lowering.sizes import evaluation

_UPDATE = r"    (%\w+) = mhlo.dynamic_update_slice (%\w+), (%\w+), (%\w+), (%\w+), "


def _moved(op: str, number: int) -> str:
    """Return the text of a write to a cache whose position went through `op` with a number."""
    return (rf"    %pc = mhlo.constant dense<{number}> : tensor<i64>" "\n"
            rf"    %pp = mhlo.{op} \5, %pc : tensor<i64>" "\n"
            r"    \1 = mhlo.dynamic_update_slice \2, \3, \4, %pp, ")


def _crop_end(self: buckets.Dispatch, computed: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> tuple[torch.Tensor, ...]:
    """Keep the last rows of results instead of the first."""
    shapes = (evaluation.shape_at(result.dims, sizes) for result in self.results)
    return tuple(value[tuple(slice(value.shape[dim] - size, None) for dim, size in enumerate(shape))]
                 for value, shape in zip(computed, shapes, strict=True))


CACHES = (
    Fault("a slot written one position further", "cache", "slots", swap(_UPDATE, _moved("add", 1))),
    Fault("the last slot never written", "cache", "slots", swap(_UPDATE, _moved("minimum", 14))),
    Fault("the slot of this step masked", "cache", "slots",
          swap(r"mhlo.compare LE, (%\w+), (%\w+), SIGNED : \(tensor<16xi64>", r"mhlo.compare LT, \1, \2, SIGNED : (tensor<16xi64>")),
    Fault("values read before they are written", "cache", "slots",
          swap(r"mhlo.multiply (%\w+), %\w+ : tensor<\?x16x8xf32>", r"mhlo.multiply \1, %arg2 : tensor<?x16x8xf32>")),
)  # fmt: skip

QUANTIZED = (
    Fault("saturation at 126", "quantized", "integer", swap(r"dense<1\.270000e\+02>", "dense<1.260000e+02>")),
    Fault("saturation at -127", "quantized", "integer", swap(r"dense<-1\.280000e\+02>", "dense<-1.270000e+02>")),
    Fault("a zero point that is not taken off", "quantized", "integer",
          swap(r"mhlo.subtract (%\w+), %\w+ : tensor<\?x8xi32>", r"mhlo.maximum \1, \1 : tensor<?x8xi32>")),
    Fault("an integer weight transposed", "quantized", "integer",
          swap(r"rhs_contracting_dimensions = \[0\](.*)xi32", r"rhs_contracting_dimensions = [1]\1xi32")),
    Fault("integer sums in 16 bits", "quantized", "integer",
          swap(r"    (%\w+) = mhlo.convert (%\w+) : \(tensor<\?x8xi32>\) -> tensor<\?x8xf32>",
               r"    %ps = mhlo.convert \2 : (tensor<?x8xi32>) -> tensor<?x8xi16>" "\n"
               r"    \1 = mhlo.convert %ps : (tensor<?x8xi16>) -> tensor<?x8xf32>")),
    Fault("rounded down instead of to the nearest", "quantized", "integer", swap("round_nearest_even", "floor")),
)  # fmt: skip

COMPLEX = (
    Fault("a conjugate dropped", "complex", "complex",
          swap(r"mhlo.negate (%\w+) : tensor<\?x5x1xf32>", r"mhlo.maximum \1, \1 : tensor<?x5x1xf32>")),
    Fault("1 instead of i", "complex", "complex",
          swap(r"mhlo.complex (%\w+), (%\w+) : tensor<complex<f32>>", r"mhlo.complex \2, \1 : tensor<complex<f32>>")),
    Fault("the parts of an angle exchanged", "complex", "complex", swap(r"mhlo.atan2 (%\w+), (%\w+)", r"mhlo.atan2 \2, \1")),
    Fault("the highest frequency counted twice", "complex", "complex",
          swap(r"mhlo.or (%\w+), (%\w+) : tensor<5xi1>", r"mhlo.or \1, \1 : tensor<5xi1>")),
)  # fmt: skip

FORCES = (
    Fault("a gradient without one side of the pairs", "gradient in forward", "forces",
          swap(r"mhlo.add (%\w+), (%\w+) : tensor<\?x3xf32>(?=\n.*mhlo.negate)", r"mhlo.maximum \1, \1 : tensor<?x3xf32>")),
    Fault("a derivative of tanh without its square", "gradient in forward", "forces",
          swap(r"mhlo.multiply (%\w+), \1 : tensor<\?x8xf32>", r"mhlo.maximum \1, \1 : tensor<?x8xf32>")),
    Fault("forces of the other sign", "gradient in forward", "forces",
          swap(r"mhlo.negate (%\w+) : tensor<\?x3xf32>", r"mhlo.maximum \1, \1 : tensor<?x3xf32>")),
)  # fmt: skip

LOOPS = (
    Fault("a loop that runs once more at its bound", "loop", "scanned",
          swap(r"mhlo.compare LT, (%\w+), (%\w+), SIGNED : \(tensor<i64>", r"mhlo.compare LE, \1, \2, SIGNED : (tensor<i64>")),
    Fault("another limit on the data of a loop", "loop", "scanned",
          swap(r"dense<3\.000000e\+00> : tensor<f32>", "dense<4.000000e+00> : tensor<f32>")),
    Fault("the sign of a loop's data ignored", "loop", "scanned",
          swap(r"mhlo.abs (%\w+) : tensor<8xf32>", r"mhlo.maximum \1, \1 : tensor<8xf32>")),
    Fault("a cumulative sum without its own element", "loop", "scanned",
          swap(r"mhlo.add (%\w+), %arg0 : tensor<\?x8xf32>", r"mhlo.maximum \1, \1 : tensor<?x8xf32>")),
)  # fmt: skip

CAPACITIES = (
    Fault("rows that are not chosen first", "capacity", "chosen",
          swap(r"mhlo.compare LT, (%arg\w+), (%arg\w+)", r"mhlo.compare GT, \1, \2")),
    Fault("a capacity that is full one row early", "capacity", "chosen",
          swap(r"mhlo.compare LE, (%\w+), (%\w+), SIGNED : \(tensor<i64>", r"mhlo.compare LT, \1, \2, SIGNED : (tensor<i64>")),
)  # fmt: skip

CROPPED = (
    Fault("results cropped at the other end", "bucket", "padded", patch=rule(buckets.Dispatch, "crop", _crop_end),
          classes=("bucket_not_padded",)),
)  # fmt: skip

# What float64 computes here is not what eager does, so it must not judge.
JUDGES = (
    Fault("results between eager's and those of another branch in float64", "judge", "dtyped", off(0, times=1.2)),
    Fault("the branch that float64 takes", "judge", "dtyped", off(0, times=1.5)),
    Fault("half a step of the dtype too little", "judge", "dtyped", off(1, -0.0625)),
    Fault("the step that float64 has", "judge", "dtyped", off(1, -0.125)),
    Fault("inverses as large as those of float64", "judge", "dtyped", off(2, times=1e8)),
)  # fmt: skip

PROGRAMS = (*CACHES, *QUANTIZED, *COMPLEX, *FORCES, *LOOPS, *CAPACITIES, *CROPPED, *JUDGES)
