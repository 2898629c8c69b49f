"""Faults of benchmarks.planted as a compiler makes them: one op, attribute, operand or result is another.

Only some inputs or sizes show each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.planting import Fault, rule, swap
from lowering.numerics.delivery import buckets

_SLICE = r"    (%\w+) = mhlo.real_dynamic_slice %arg0, (%\w+), (%\w+), (%\w+) :"
_EARLIER = r"""    %pn = "mhlo.get_dimension_size"(%arg0) <{dimension = 0 : i64}> : (tensor<?x4xf32>) -> tensor<i32>
    %pm = mhlo.constant dense<32> : tensor<i32>
    %pe = mhlo.compare EQ, %pn, %pm : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %pi = mhlo.convert %pe : (tensor<i1>) -> tensor<i64>
    %pr = mhlo.reshape %pi : (tensor<i64>) -> tensor<1xi64>
    %pz = mhlo.constant dense<0> : tensor<1xi64>
    %pd = "mhlo.concatenate"(%pr, %pz) <{dimension = 0 : i64}> : (tensor<1xi64>, tensor<1xi64>) -> tensor<2xi64>
    %ps = mhlo.subtract \2, %pd : tensor<2xi64>
    %pl = mhlo.subtract \3, %pd : tensor<2xi64>
    \1 = mhlo.real_dynamic_slice %arg0, %ps, %pl, \4 :"""
_TRUNCATED = r"""    %pi = "mhlo.bitcast_convert"(\2) : (tensor<?x4xf32>) -> tensor<?x4xi32>
    %pc = mhlo.constant dense<16> : tensor<i32>
    %pn = "mhlo.get_dimension_size"(%arg0) <{dimension = 0 : i64}> : (tensor<?x4xf32>) -> tensor<i32>
    %pm = mhlo.reshape %pn : (tensor<i32>) -> tensor<1xi32>
    %p4 = mhlo.constant dense<4> : tensor<1xi32>
    %ps = "mhlo.concatenate"(%pm, %p4) <{dimension = 0 : i64}> : (tensor<1xi32>, tensor<1xi32>) -> tensor<2xi32>
    %pb = "mhlo.dynamic_broadcast_in_dim"(%pc, %ps) <{broadcast_dimensions = dense<> : tensor<0xi64>}> :
      (tensor<i32>, tensor<2xi32>) -> tensor<?x4xi32>
    %pr = mhlo.shift_right_arithmetic %pi, %pb : tensor<?x4xi32>
    %pl = mhlo.shift_left %pr, %pb : tensor<?x4xi32>
    %pf = "mhlo.bitcast_convert"(%pl) : (tensor<?x4xi32>) -> tensor<?x4xf32>
    \1 = mhlo.convert %pf : """


def _narrow(op: str, element: str = "") -> str:
    """Return the text of an op whose 64-bit integers pass through 32 bits; it takes the place of group 1."""
    wide, narrow = f"tensor<{element}i64>", f"tensor<{element}i32>"
    return f"    %pw = {op}\n    %pn = mhlo.convert %pw : ({wide}) -> {narrow}\n    \\1 = mhlo.convert %pn : ({narrow}) -> {wide}"


def _only_with_rows(op: str, element: str, combine: str) -> tuple[str, str]:
    """Return what to replace and by what, so that the result of a reduction over no rows is combined with zero."""
    found = rf"    (%\w+) = (mhlo.{op} .*tensor<4x{element}>)\n"
    return found, rf"""    %pa = \2
    %pn = "mhlo.get_dimension_size"(%arg0) <{{dimension = 0 : i64}}> : (tensor<?x4xf32>) -> tensor<i32>
    %po = mhlo.constant dense<1> : tensor<i32>
    %pm = mhlo.minimum %pn, %po : tensor<i32>
    %pi = mhlo.convert %pm : (tensor<i32>) -> tensor<{element}>
    %pw = "mhlo.broadcast_in_dim"(%pi) <{{broadcast_dimensions = dense<> : tensor<0xi64>}}> : (tensor<{element}>) -> tensor<4x{element}>
    \1 = mhlo.{combine} %pa, %pw : tensor<4x{element}>
"""


def _fill_before(value: torch.Tensor, shape: Sequence[int], pad: float | torch.Tensor) -> torch.Tensor:
    if tuple(value.shape) == tuple(shape):
        return value
    filled = pad.clone() if isinstance(pad, torch.Tensor) else torch.full(tuple(shape), pad).to(value.dtype)
    filled[tuple(slice(-size, None) for size in value.shape)] = value
    return filled


def _fill_with_ones(value: torch.Tensor, shape: Sequence[int], pad: float | torch.Tensor, exact: object = buckets.fill_up) -> torch.Tensor:
    return exact(value, shape, pad if isinstance(pad, torch.Tensor) else 1)  # type: ignore[operator, no-any-return]


_WIDE = r"tensor<\?xi64>"

WINDOWS = (
    Fault("a slice that begins a row too early at the largest size", "window", "windows", swap(_SLICE, _EARLIER), classes=("n = max",)),
    Fault("half of an odd size rounded up", "window", "windows", swap(r"(%\w+) = mhlo.divide (%\w+), (%\w+) : tensor<i64>",
          r"%pq = mhlo.constant dense<1> : tensor<i64>\n    %ph = mhlo.add \2, %pq : tensor<i64>\n    \1 = mhlo.divide %ph, \3 : "
          r"tensor<i64>")),
    Fault("rows reversed along columns", "window", "windows", swap(r'("mhlo.reverse"\(%arg0\) <\{dimensions = dense<)0', r"\g<1>1")),
    Fault("padding before and after exchanged", "window", "windows",
          swap(r"high = dense<\[0, 2\]>(.*)low = dense<\[0, 1\]>", r"high = dense<[0, 1]>\1low = dense<[0, 2]>")),
    Fault("another padding value", "window", "windows", swap(r"dense<3\.000000e\+00>", "dense<0.000000e+00>")),
    Fault("operands of a concatenation exchanged", "window", "windows",
          swap(r'"mhlo.concatenate"\((%arg0), (%\w+)\)', r'"mhlo.concatenate"(\2, \1)')),
)  # fmt: skip

SQUARES = (
    Fault("a square matrix not transposed", "square", "square", swap(r"permutation = dense<\[1, 0\]>", "permutation = dense<[0, 1]>")),
    Fault("a square product over the other dims", "square", "square",
          swap(r"contracting_dimensions = \[0\], rhs_contracting_dimensions = \[0\]",
               "contracting_dimensions = [1], rhs_contracting_dimensions = [1]")),
    Fault("a sum over the other dim", "square", "square", swap(r"across dimensions = \[0\]", "across dimensions = [1]")),
    Fault("two results of one type exchanged", "square", "square", swap(r"return (%\w+), (%\w+),", r"return \2, \1,")),
    Fault("a vector broadcast along the other dim", "square", "square",
          swap(r'("mhlo.dynamic_broadcast_in_dim"\(%arg1, %\w+\) <\{broadcast_dimensions = dense<)1', r"\g<1>0")),
    Fault("a triangle without its diagonal", "square", "square",
          swap(r"mhlo.compare LE, (%\w+), (%\w+), SIGNED", r"mhlo.compare LT, \1, \2, SIGNED")),
)  # fmt: skip

INTEGERS = (
    Fault("negative quotients rounded toward zero", "integer", "integers",
          swap(r"mhlo.select (%\w+), (%\w+), (%\w+) : tensor<\?xi1>, tensor<\?xi64>",
               r"mhlo.select \1, \3, \3 : tensor<?xi1>, tensor<?xi64>")),
    Fault("a shift without the sign", "integer", "integers", swap("shift_right_arithmetic", "shift_right_logical")),
    Fault("negative indices not counted from the end", "integer", "integers",
          swap(rf"mhlo.select (%\w+), (%\w+), %arg1 : tensor<\?xi1>, {_WIDE}",
               r"mhlo.select \1, %arg1, %arg1 : tensor<?xi1>, tensor<?xi64>")),
    Fault("the last of equal elements instead of the first", "integer", "integers",
          swap(r"mhlo.minimum (%arg\w+), (%arg\w+) : tensor<i64>", r"mhlo.maximum \1, \2 : tensor<i64>")),
    Fault("a product in 32 bits", "integer", "integers",
          swap(rf"    (%\w+) = (mhlo.multiply %arg1, %\w+ : {_WIDE})", _narrow(r"\2", "?x"))),
    Fault("a sum in 32 bits", "integer", "integers", swap(r"    (%\w+) = (mhlo.reduce\(.*applies mhlo.add.*)", _narrow(r"\2"))),
    Fault("a bound that counts as below itself", "integer", "integers",
          swap(r"mhlo.compare LT, (%arg1, %\w+), SIGNED : (.*)\n(.*)mhlo.dynamic_broadcast_in_dim(.*)\n(.*)mhlo.multiply",
               r'mhlo.compare LE, \1, SIGNED : \2\n\3mhlo.dynamic_broadcast_in_dim\4\n\5mhlo.multiply')),
)  # fmt: skip

_ROWS = r"\(tensor<\?x4xf32>, tensor<\?x4xf32>\) -> tensor<\?x4xi1>"
FLOATS = (
    Fault("a maximum without NaN", "float", "floats", swap(r"(%\w+) = mhlo.maximum %arg0, %arg1 : tensor<\?x4xf32>",
          r"%pg = mhlo.compare GT, %arg0, %arg1, FLOAT : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xi1>\n"
          r"    \1 = mhlo.select %pg, %arg0, %arg1 : tensor<?x4xi1>, tensor<?x4xf32>")),
    Fault("a zero without its sign", "float", "floats", swap(r"mhlo.negate (%\w+) : (.*)", r"mhlo.subtract \1, \1 : \2")),
    Fault("integers rounded down instead of toward zero", "float", "whole",
          swap(r"(%\w+) = mhlo.convert (%\w+) : \(tensor<\?x4xf32>\) -> tensor<\?x4xi32>",
               r"%pf = mhlo.floor \2 : tensor<?x4xf32>\n    \1 = mhlo.convert %pf : (tensor<?x4xf32>) -> tensor<?x4xi32>")),
    Fault("bfloat16 cut off instead of rounded", "float", "floats",
          swap(r"    (%\w+) = mhlo.convert (%\w+) : (?=\(tensor<\?x4xf32>\) -> tensor<\?x4xbf16>)", _TRUNCATED)),
    Fault("a bound that is not applied", "float", "floats",
          swap(r"mhlo.clamp (%\w+), %arg0, (%\w+) : \((.*)\) -> (.*)", r"mhlo.maximum %arg0, %arg0 : \4")),
    Fault("a comparison negated, so that NaN holds", "float", "floats",
          swap(rf"(%\w+) = mhlo.compare GT, %arg0, (%\w+), FLOAT : {_ROWS}\n(.*)mhlo.reduce",
               r"%pl = mhlo.compare LE, %arg0, \2, FLOAT : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xi1>\n    \1 = mhlo.not %pl : "
               r"tensor<?x4xi1>\n\3mhlo.reduce")),
    Fault("a root of negative numbers", "float", "floats", swap(r"(%\w+) = mhlo.sqrt %arg0 : tensor<\?x4xf32>",
          r"%pa = mhlo.abs %arg0 : tensor<?x4xf32>\n    \1 = mhlo.sqrt %pa : tensor<?x4xf32>")),
    Fault("rounded up instead of down", "float", "floats", swap("mhlo.floor", "mhlo.ceil")),
)  # fmt: skip

EMPTY = (
    Fault("a product over nothing is zero", "empty", "empty", swap(*_only_with_rows("reduce.*mhlo.multiply", "f32", "multiply"))),
    Fault("a condition on nothing does not hold", "empty", "empty", swap(*_only_with_rows("reduce.*mhlo.and", "i1", "and"))),
    Fault("a mean of nothing is zero", "empty", "empty", swap(r"    (%\w+) = mhlo.convert (%\w+) : \(tensor<i32>\) -> tensor<f32>",
          r"    %po = mhlo.constant dense<1> : tensor<i32>\n    %pm = mhlo.maximum \2, %po : tensor<i32>\n    \1 = mhlo.convert %pm : "
          r"(tensor<i32>) -> tensor<f32>")),
    Fault("a least element that begins at zero", "empty", "empty",
          swap(r"dense<0x7F800000> : tensor<f32>", "dense<0.000000e+00> : tensor<f32>")),
)  # fmt: skip

SIZES = (
    Fault("branches exchanged", "size", "guarded",
          swap(r"mhlo.compare LT, (%\w+), (%\w+) :(.*)\n(.*)reshape", r"mhlo.compare GE, \1, \2 :\3\n\4reshape")),
    Fault("a condition that holds one size too early", "size", "guarded",
          swap(r"mhlo.compare LT, (%\w+), (%\w+) :(.*)\n(.*)reshape", r"mhlo.compare LE, \1, \2 :\3\n\4reshape"),
          classes=("size condition",)),
    Fault("a product of sizes in 32 bits", "size", "counts",
          swap(r"    (%\w+) = (mhlo.multiply (%\w+), (%\w+) : tensor<i64>)(?=\n.*compare)", _narrow(r"\2")),
          classes=("m = max, n = max", "n = max")),
    Fault("a size taken for another", "size", "counts",
          swap(r'(%\w+) = "mhlo.get_dimension_size"\(%arg0\) <\{dimension = 0 : i64\}>',
               r'\1 = "mhlo.get_dimension_size"(%arg0) <{dimension = 1 : i64}>')),
)  # fmt: skip

STATES = (
    Fault("a state left as it was", "state", "cache", swap(r"return (%\w+), (%\w+), (%\w+) :", r"return \1, %arg1, \3 :")),
    Fault("a result of the states of the step before", "state", "cache",
          swap(r"(%\w+) = mhlo.multiply (%\w+), (%\w+) : (tensor<\?x4xf32>)\n(.*)mhlo.reduce",
               r"\1 = mhlo.multiply %arg1, \3 : \4\n\5mhlo.reduce")),
)  # fmt: skip

BUCKETS = (
    Fault("padding before the data", "bucket", "padded", patch=rule(buckets, "fill_up", _fill_before), classes=("bucket_not_padded",)),
    Fault("padding by ones", "bucket", "padded", patch=rule(buckets, "fill_up", _fill_with_ones), classes=("bucket_not_padded",)),
)  # fmt: skip

OPS = (*WINDOWS, *SQUARES, *INTEGERS, *FLOATS, *EMPTY, *SIZES, *STATES, *BUCKETS)
