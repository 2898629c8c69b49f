"""Decomposition rows of ops whose lowering gives other numbers than eager: division, reductions, products, scalars and einsum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.fx import Node

from lowering.ops import activations, arithmetic, division, reductions, scalars
from lowering.ops.algebra import einsum, integer_powers, products
from lowering.ops.rows import NONE, Row, decompose_composite

aten, prims = torch.ops.aten, torch.ops.prims

ROWS: dict[Any, Row] = {}


def _add_rows(names: str, decomposition: Any, reason: str, when: Callable[[Node], bool] = lambda node: True) -> None:
    """Add a row for each op of `names` (`packet` or `packet.overload`). If `decomposition` is None, torch's own is used."""
    for name in names.split():
        packet, _, overload = name.partition(".")
        op = getattr(getattr(aten, packet), overload or "default")
        if op in ROWS:
            raise KeyError(f"lowering.ops.tables.number_rows has two rows for {op}")
        ROWS[op] = Row(decomposition_table[op] if decomposition is None else decomposition, reason, when)


_NUMBER = "no form whose first operand is a number"
_NAN = "NaN is dropped"
_ZERO = "a factor of 0 keeps NaN of the operand that eager drops"
_FEW = "fewer elements than the correction give -0 or negative numbers"
_REDUCED = "float16 overflows in the sum"
_STEPS = "halves are rounded after each step"
_ROUNDED = "floats are divided, then rounded: 1.0 // 0.1 gives 10, and int64 loses digits"
_EXPONENT = "XLA reads six bits of an integer's exponent"
_BYTES = "bytes and bools are reduced from a signed start: wrong numbers"

_add_rows("remainder.Tensor remainder.Scalar", division.remainder, "has the dividend's sign: wrong for negative operands")
_add_rows("remainder.Scalar_Tensor", division.remainder, _NUMBER)
_add_rows("fmod.Tensor fmod.Scalar", division.fmod, "computed as a - trunc(a / b) * b, which is not exact; no lowering of integers")
_add_rows("floor_divide floor_divide.Scalar", division.floor_divide, _ROUNDED, division.is_inexact)
_add_rows("div.Tensor_mode div.Scalar_mode", division.divide, _ROUNDED, division.is_inexact)

_add_rows("fmin", arithmetic.skip_nan(torch.minimum), "broadcast operands get wrong types")
_add_rows("fmax", arithmetic.skip_nan(torch.maximum), "broadcast operands get wrong types")

_add_rows("frobenius_norm.dim", reductions.frobenius_norm, f"imaginary parts are dropped; {_REDUCED}", reductions.is_complex_or_reduced)
_add_rows("linalg_vector_norm", reductions.vector_norm, f"imaginary parts are dropped; {_REDUCED}", reductions.is_complex_or_reduced)
for _name, (_unbiased, _corrected) in reductions.MOMENTS.items():
    _add_rows(f"{_name} {_name}.dim", _unbiased, _FEW)
    _add_rows(f"{_name}.correction", _corrected, _FEW)
for _op in ("sum", "sum.dim_IntList", "mean", "mean.dim"):
    _target = getattr(getattr(aten, _op.partition(".")[0]), _op.partition(".")[2] or "default")
    _add_rows(_op, reductions.compute_in_float32(_target), f"{_REDUCED}; no mean of bytes",
              reductions.is_mean_of_integers_or_reduced if "mean" in _op else reductions.is_reduced)
for _op, _reduce in (("max", torch.amax), ("min", torch.amin)):
    _add_rows(f"{_op}.dim", reductions.make_extreme(_reduce), f"{_NAN}; {_BYTES}", reductions.is_unordered_or_narrow)
    _add_rows(f"arg{_op}", reductions.make_index_reduction(_reduce), f"{_NAN}; {_BYTES}", reductions.is_unordered_or_narrow)
    _add_rows(_op, reductions.compute_in_int16(getattr(aten, _op).default), _BYTES, reductions.is_narrow)
    _add_rows(f"a{_op}", reductions.compute_in_int16(_reduce), _BYTES, reductions.is_narrow)
for _op in ("any", "all"):
    for _form in ("default", "dim", "dims"):
        _target = getattr(getattr(aten, _op), _form)
        _add_rows(f"{_op}.{_form}", reductions.reduce_bytes(_target), "bytes are not read as bools: 255", reductions.takes_bytes)

_add_rows("addmm", products.addmm, f"{_ZERO}; no lowering of integers", products.drops_operand)
_add_rows("addmv", products.addmv, _ZERO, products.drops_operand)
_add_rows("addbmm", products.addbmm, f"{_ZERO}; no lowering of integers", products.drops_operand)
_add_rows("baddbmm", products.baddbmm, _ZERO, products.drops_tensor)
for _op, _define in (("addcmul", products.addcmul), ("addcdiv", products.addcdiv)):
    _add_rows(_op, activations.widen(_define), f"the product may overflow before it is scaled; {_STEPS}", products.is_scaled_or_reduced)
_add_rows("xlogy.Tensor xlogy.Scalar_Self xlogy.Scalar_Other", products.xlogy, NONE)
_add_rows("special_xlog1py special_xlog1py.self_scalar special_xlog1py.other_scalar", products.xlog1py,
     "torch's decomposition takes no integers with numbers")
_add_rows("kl_div", products.kl_div, "NaN where the target is 0")
_add_rows("lerp.Scalar lerp.Tensor", None, "start + weight * (end - start) does not end at the end")
_add_rows("log_sigmoid", activations.log_sigmoid, "log(sigmoid(x)) is -inf for large negative numbers")
for _op in ("elu", "selu", "celu"):
    _add_rows(_op, getattr(activations, _op), "exp(x) - 1 loses the digits of numbers near 0")
for _op in ("silu", "softplus", "hardswish", "hardsigmoid", "leaky_relu", "rrelu", "mish", "glu"):
    _add_rows(_op, activations.widen(getattr(aten, _op).default), _STEPS, reductions.is_reduced)
_add_rows("cosine_similarity", decompose_composite(aten.cosine_similarity.default), _STEPS, reductions.is_reduced)
_add_rows("logaddexp", activations.widen(decomposition_table[aten.logaddexp.default]), _STEPS, reductions.is_reduced)
_add_rows("layer_norm", activations.layer_norm, f"no lowering over several dims; {_STEPS}", activations.has_dims_or_halves)
_add_rows("l1_loss", reductions.reduce_in_float32(lambda tensor, target, _: (tensor - target).abs()), _REDUCED, reductions.is_reduced)
for _op in ("mse_loss", "smooth_l1_loss", "huber_loss"):
    _add_rows(_op, reductions.reduce_in_float32(decomposition_table[getattr(aten, _op).default]), _REDUCED, reductions.is_reduced)
_add_rows("embedding_dense_backward", reductions.compute_in_float32(decomposition_table[aten.embedding_dense_backward.default]),
          "float16 is rounded after every row", reductions.is_reduced)
_add_rows("gelu", reductions.compute_in_float32(aten.gelu.default), "1 + erf(x) in halves loses the tail", reductions.is_reduced)
_add_rows("round.decimals", reductions.compute_in_float32(aten.round.decimals), "the scaled number is rounded to float16 first",
          reductions.is_reduced)
_add_rows("batch_norm", activations.batch_norm, f"statistics and weights must have the dtype of the tensor; {_STEPS}",
          activations.is_mixed_or_reduced)
_add_rows("softshrink", None, "wrong for negative numbers")
_add_rows("hardshrink threshold", None, _NAN)

for _op in ("add", "sub"):
    _add_rows(f"{_op}.Tensor", scalars.make_arithmetic(getattr(aten, _op).Tensor, rounds_number=True),
              "a bool is not a number; a number beyond the range of a reduced float is inf or 0", scalars.has_unusual_term)
for _op in ("mul", "div"):
    _add_rows(f"{_op}.Tensor", scalars.make_arithmetic(getattr(aten, _op).Tensor, rounds_number=False),
              "a bool is not a number; a number is rounded to the reduced float of the tensor", scalars.has_unusual_factor)
for _op in ("eq", "ne", "lt", "le", "gt", "ge"):
    _add_rows(f"{_op}.Scalar", scalars.make_comparison(getattr(torch, _op), getattr(aten, _op).Tensor),
         "a bool is not a number; comparing constants of different kinds gives wrong results, or aborts the process",
         scalars.compares_unlike_kinds)
for _op in ("and", "or", "xor"):
    _target = getattr(aten, f"bitwise_{_op}").Tensor
    _add_rows(f"bitwise_{_op}.Scalar bitwise_{_op}.Scalar_Tensor __{_op}__.Scalar", scalars.convert_numbers(_target), "no form of a number")
    _add_rows(f"__{_op}__.Tensor", _target, NONE)
for _name, _target in (("left", aten.bitwise_left_shift.Tensor), ("right", aten.bitwise_right_shift.Tensor)):
    _shift = scalars.make_shift(_target)
    _forms = f"bitwise_{_name}_shift.Tensor_Scalar bitwise_{_name}_shift.Scalar_Tensor"
    _add_rows(f"{_forms} __{_name[0]}shift__.Scalar __{_name[0]}shift__.Tensor", _shift, NONE)
    _add_rows(f"bitwise_{_name}_shift.Tensor", _shift, "not broadcast; bytes are shifted with a sign", scalars.has_unlike_operands)
_add_rows("clamp clamp_min", scalars.clamp, "floats do not clamp integers", arithmetic.changes_dtype)
_add_rows("clamp_max", scalars.clamp_max, "floats do not clamp integers", arithmetic.changes_dtype)
_add_rows("pow.Tensor_Scalar", scalars.power, f"infinity of -inf, where eager's sqrt is NaN; {_EXPONENT}",
          scalars.is_root_or_power_of_integers)
_add_rows("pow.Tensor_Tensor pow.Scalar", integer_powers.power, _EXPONENT, integer_powers.needs_decomposition)
_add_rows("masked_fill.Scalar", scalars.fill_bools, "bools take the lowest bit of an int", reductions.is_bool)
_add_rows("copysign.Scalar", scalars.copysign, "no form of a number")
_add_rows("copysign.Tensor", scalars.copysign, "the absolute value of the least integer overflows", arithmetic.takes_integers)
_add_rows("isinf", arithmetic.all_false, "no lowering of bytes", arithmetic.takes_integers)
_add_rows("deg2rad", activations.widen(decomposition_table[aten.deg2rad.default]), _STEPS, reductions.is_reduced)
_add_rows("rad2deg", None, "torch-mlir's pi has six digits")
_add_rows("abs", arithmetic.copy_tensor, "no lowering of bytes", reductions.takes_bytes)
ROWS[prims.amax.default] = Row(torch.amax, NONE)
ROWS[prims.amin.default] = Row(torch.amin, NONE)
ROWS[prims.prod.default] = Row(scalars.prod, NONE)

_add_rows("einsum", einsum.einsum, "aborts the process, or no lowering", einsum.needs_decomposition)
