"""Ops that are decomposed at the FX level, with the reason. All other ops stay whole: torch-mlir lowers them in C++, in milliseconds.

By rule, an op is decomposed if torch has a decomposition and the torch dialect does not register the op. So are the ops of a backward
graph: torch-mlir lowers few of their forms, and leaky_relu_backward to wrong numbers. By table, an op is decomposed if it is registered,
but a later level rejects it or lowers it to wrong numbers.
"""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import torch
from torch._decomp import core_aten_decompositions, decomposition_table
from torch.fx import Node

from lowering.ops import (
    arithmetic,
    attention,
    complex_numbers,
    division,
    emptiness,
    factories,
    fourier,
    grouped_products,
    indexing,
    losses,
    random,
    scattering,
    sorting,
    views,
)
from lowering.ops.algebra import linear
from lowering.ops.images import convolution, folding, padding, regions, sampling
from lowering.ops.node_forms import has_data_dependent_index, has_dynamic_sizes, is_upper_or_reports, starts_by_data
from lowering.ops.quantized import quantization
from lowering.ops.rows import NO_DYNAMIC, NONE, NOT_DEFINED, Decomposition, Row, decompose_composite, find_decomposition, find_in_table
from lowering.ops.sequences import bags, packed_sequences, scans, segments
from lowering.ops.symbolic import find_kind
from lowering.ops.tables import function_rows, gradient_rows, number_rows, resampling_rows, torch_rows

aten = torch.ops.aten

TABLE: dict[Any, Row] = {
    aten.scaled_dot_product_attention.default: Row(attention.scaled_dot_product, "only its plain form lowers: no scale, no is_causal"),
    aten.native_layer_norm.default: Row(find_in_table(aten.native_layer_norm.default), f"{NO_DYNAMIC} (layer_norm has one)"),
    aten.instance_norm.default: Row(decompose_composite(aten.instance_norm.default), "running statistics give wrong numbers"),
    aten.prelu.default: Row(arithmetic.prelu, "a weight per channel is broadcast along the last dim: wrong shapes"),
    aten.broadcast_tensors.default: Row(decompose_composite(aten.broadcast_tensors.default), "empty dims become dims of one element"),
    aten.clamp.Tensor: Row(arithmetic.clamp, "dynamic dims abort the process"),
    aten.clamp_min.Tensor: Row(torch.maximum, NO_DYNAMIC),
    aten.clamp_max.Tensor: Row(torch.minimum, NO_DYNAMIC),
    aten.real.default: Row(arithmetic.real, "no lowering of real tensors", arithmetic.is_real),
    aten.hypot.default: Row(arithmetic.hypot, NONE),
    aten.digamma.default: Row(arithmetic.digamma, "NaN at zero"),
    aten.special_zeta.default: Row(arithmetic.zeta, "NaN at the poles"),
    aten.polygamma.default: Row(arithmetic.trigamma, "wrong for negative numbers", arithmetic.is_trigamma),
    aten.angle.default: Row(arithmetic.angle, NONE),
    aten.view_as_complex.default: Row(arithmetic.view_as_complex, NONE),
    aten.topk.default: Row(sorting.topk, "no lowering with a dynamic dim"),
    aten.kthvalue.default: Row(sorting.kthvalue, NONE),
    aten.median.default: Row(sorting.median, NONE),
    aten.median.dim: Row(sorting.median_along, NONE),
    aten.nanmedian.default: Row(sorting.nanmedian, NONE),
    aten.nanmedian.dim: Row(sorting.nanmedian_along, NONE),
    aten._fft_c2c.default: Row(fourier.complex_to_complex, NONE),
    aten._fft_r2c.default: Row(fourier.real_to_complex, NONE),
    aten._fft_c2r.default: Row(fourier.complex_to_real, NONE),
    aten.fft_fftfreq.default: Row(fourier.frequencies, NONE),
    aten.fft_rfftfreq.default: Row(fourier.real_frequencies, NONE),
    aten._conj.default: Row(arithmetic.conjugate, NONE),
    aten._conj_physical.default: Row(arithmetic.conjugate, NONE),
    aten.pixel_shuffle.default: Row(views.pixel_shuffle, NO_DYNAMIC),
    aten.pixel_unshuffle.default: Row(views.pixel_unshuffle, NO_DYNAMIC),
    aten.channel_shuffle.default: Row(views.channel_shuffle, NO_DYNAMIC),
    aten.empty.memory_format: Row(factories.zeros, "uninitialized memory has no form in StableHLO"),
    aten.new_zeros.default: Row(factories.new_zeros, "needs a constant shape"),
    aten.new_ones.default: Row(factories.new_ones, "needs a constant shape"),
    aten.unfold_backward.default: Row(views.unfold_backward, "torch's sums windows that are broadcast element by element"),
    aten.diagonal_scatter.default: Row(views.diagonal_scatter, NO_DYNAMIC),
    aten._new_zeros_with_same_feature_meta.default: Row(factories.new_zeros_with_dims, NOT_DEFINED),
    aten.empty_permuted.default: Row(factories.zeros_permuted, "uninitialized memory has no form in StableHLO"),
    aten.empty_like.default: Row(factories.zeros_like, "uninitialized memory has no form in StableHLO"),
    aten.new_empty.default: Row(factories.new_zeros, "uninitialized memory has no form in StableHLO"),
    aten.new_empty_strided.default: Row(factories.new_zeros_strided, "uninitialized memory has no form in StableHLO"),
    aten.constant_pad_nd.default: Row(padding.pad_constant, "needs constant sizes and real numbers", padding.is_dynamic_or_complex),
    aten.convolution.default: Row(convolution.convolve, "needs constant kernels, paddings and groups", convolution.has_own_form),
    **{op: Row(decompose_composite(op), "needs constant kernels and paddings", convolution.needs_decomposition)
       for op in (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)},
    **{op: Row(partial(convolution.convolve_whole, op), "needs a batch dim and constant groups", convolution.is_unusual)
       for op in (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)},
    aten.gcd.default: Row(division.gcd, NONE),
    aten.lcm.default: Row(division.lcm, NONE),
    aten.multilabel_margin_loss_forward.default: Row(losses.multilabel_margin_forward, "torch's own gives wrong numbers"),
    aten.multilabel_margin_loss.default: Row(losses.multilabel_margin, "torch's own gives wrong numbers"),
    aten.multi_margin_loss.default: Row(losses.multi_margin, "torch's own keeps NaN, which eager drops"),
    aten._linalg_solve_ex.default: Row(linear.solve, NONE),
    aten.linalg_inv_ex.default: Row(linear.inverse, NONE),
    aten.convolution_backward.default: Row(convolution.backward, f"{NO_DYNAMIC}, wrong shapes of grouped ones"),
    aten._to_copy.default: Row(arithmetic.convert, "constants of complex numbers abort the process, and narrow dtypes saturate",
                               arithmetic.needs_any_care),
    **{op: Row(arithmetic.convert_real, "narrow dtypes saturate", arithmetic.needs_care) for op in (aten.to.dtype, aten.to.dtype_layout)},
    aten.index.Tensor: Row(indexing.index, "negative indices give wrong numbers", indexing.has_integer_indices),
    aten.index_put.default: Row(indexing.index_put, "negative indices give wrong numbers, and masks depend on data", indexing.can_put),
    aten.embedding.default: Row(indexing.embedding, "no form with a scaled or sparse gradient", indexing.has_settings_of_training),
    aten.take.default: Row(indexing.take, "negative indices give wrong numbers"),
    **{getattr(aten.normal, form): Row(random.normal, NONE) for form in ("Tensor_Tensor", "Tensor_float", "float_Tensor")},
    aten.normal.float_float: Row(random.normal_of_size, NONE),
    aten.rand.default: Row(random.uniform, NONE),
    aten.rand_like.default: Row(random.uniform_like, NONE),
    aten.randn.default: Row(random.standard_normal, NONE),
    aten.randn_like.default: Row(random.standard_normal_like, NONE),
    aten.randint.default: Row(random.integers, NONE),
    aten.randint.low: Row(random.integers, NONE),
    aten.geometric.default: Row(random.geometric, "torch's own draws integers"),
    aten.randint_like.default: Row(random.integers_like, NONE),
    aten.randint_like.low_dtype: Row(random.integers_like, NONE),
    aten.randperm.default: Row(random.permutation, NONE),
    aten.cholesky.default: Row(linear.cholesky, NONE),
    aten.linalg_cholesky_ex.default: Row(linear.cholesky_ex, "only lower factors lower, and without info", is_upper_or_reports),
    aten.cholesky_solve.default: Row(linear.cholesky_solve, NONE),
    aten.cholesky_inverse.default: Row(linear.cholesky_inverse, NONE),
    aten.triangular_solve.default: Row(linear.triangular_solve, NONE),
    aten.split_with_sizes.default: Row(views.split_with_sizes, "needs constant sizes", has_dynamic_sizes),
    aten.unflatten.int: Row(views.unflatten, NO_DYNAMIC),
    aten.index_select.default: Row(indexing.select_nothing, "needs constant sizes to select nothing",
                                   indexing.selects_nothing),
    aten.multinomial.default: Row(random.multinomial, NONE),
    aten.arange.start_step: Row(factories.arange, "needs integers to have a dynamic size", factories.steps_by_float),
    aten.eye.default: Row(factories.eye, NO_DYNAMIC),
    aten.eye.m: Row(factories.eye, NO_DYNAMIC),
    aten.nonzero_static.default: Row(indexing.nonzero_static, NONE),
    aten.slice_scatter.default: Row(indexing.slice_scatter, "needs constant bounds inside the dim", indexing.has_step),
    aten.roll.default: Row(indexing.roll, "wrong shapes where a dim is smaller than its shift"),
    aten.fill.Tensor: Row(factories.fill, NONE),
    **{op.padding: Row(decompose_composite(op.padding), "an even kernel gives wrong shapes")
       for op in (aten.conv1d, aten.conv2d, aten.conv3d)},
    aten.conv_tbc.default: Row(convolution.convolve_by_time, "wrong shapes"),
    **{getattr(aten.bucketize, form): Row(sorting.bucketize, "torch's own makes the boundaries' size static")
       for form in ("Tensor", "Scalar")},
    aten.searchsorted.Scalar: Row(sorting.searchsorted_number, NONE),
    aten.select.int: Row(indexing.select, "a data-dependent index makes its size depend on data", has_data_dependent_index),
    aten.slice.Tensor: Row(indexing.slice_, "a data-dependent start makes its size depend on data", starts_by_data),
    aten._weight_norm_interface.default: Row(find_in_table(aten._weight_norm_interface.default),
                                             "the norm is over the wrong dims: wrong shapes"),
    aten.erf.default: Row(arithmetic.compute_in_float(torch.erf), "no lowering of integers", arithmetic.takes_integers),
    aten.erfinv.default: Row(arithmetic.compute_in_float(torch.erfinv), "no lowering of integers", arithmetic.takes_integers),
    aten.reciprocal.default: Row(arithmetic.reciprocal, "no lowering of integers and of float64", arithmetic.is_reciprocal_of_others),
    aten.isfinite.default: Row(arithmetic.all_true, "no lowering of integers", arithmetic.takes_integers),
    aten.nan_to_num.default: Row(arithmetic.copy_tensor, "no lowering of integers", arithmetic.takes_integers),
    aten.mode.default: Row(sorting.mode, NONE),
    **{getattr(aten.isin, form): Row(sorting.isin, "torch's chooses an algorithm by the sizes at hand")
       for form in ("Tensor_Tensor", "Tensor_Scalar", "Scalar_Tensor")},
    aten.searchsorted.Tensor: Row(sorting.searchsorted, NONE),
    aten._cdist_forward.default: Row(arithmetic.cdist, NONE),
    aten._pdist_forward.default: Row(arithmetic.pdist, NOT_DEFINED),
    aten.segment_reduce.default: Row(segments.segment_reduce, NOT_DEFINED),
    aten.grid_sampler_2d.default: Row(sampling.grid_sample, "reflections need a remainder of floats"),
    aten.grid_sampler_3d.default: Row(sampling.grid_sample, NOT_DEFINED),
    **{op: Row(bags.embedding_bag, NOT_DEFINED, bags.uses_only_bags) for op in (
        aten.embedding_bag.default, aten.embedding_bag.padding_idx, aten._embedding_bag.default, aten._embedding_bag_forward_only.default)},
    aten.col2im.default: Row(folding.col2im, NONE),
    aten.native_batch_norm.default: Row(find_in_table(aten.native_batch_norm.default), "its empty statistics in eval have no lowering"),
    aten.index_copy.default: Row(scattering.index_copy, NONE),
    aten.index_add.default: Row(scattering.index_add, NONE),
    **{getattr(aten.index_fill, form): Row(indexing.index_fill, "torch's own needs index_copy to take negative indices")
       for form in ("int_Scalar", "int_Tensor")},
    aten.index_reduce.default: Row(scattering.index_reduce, NONE),
    packed_sequences.PACKED_RNN: Row(packed_sequences.packed_rnn, "an op of ours, for export alone"),
    aten.put.default: Row(scattering.put, NONE),
    aten.masked_scatter.default: Row(scattering.masked_scatter, NONE),
    aten.scatter.reduce: Row(scattering.scatter_and_reduce, NONE),
    aten.scatter.value_reduce: Row(scattering.scatter_and_reduce, NONE),
    aten.zeros.default: Row(factories.zeros, "needs a constant shape"),
    aten.ones.default: Row(factories.ones, "needs a constant shape"),
    aten.full.default: Row(factories.complex_full, "no constant of complex numbers", lambda node: isinstance(node.args[1], complex)),
    aten.scalar_tensor.default: Row(factories.complex_number, "no constant of complex numbers",
                                    lambda node: isinstance(node.args[0], complex)),
    aten.rsub.Scalar: Row(arithmetic.rsub, "no constant of complex numbers", lambda node: isinstance(node.args[1], complex)),
    aten.cumsum.default: Row(scans.cumsum, NONE),
    aten.cumprod.default: Row(scans.cumprod, NONE),
    aten.cummax.default: Row(scans.cummax, NONE),
    aten.cummin.default: Row(scans.cummin, NONE),
    aten.logcumsumexp.default: Row(scans.logcumsumexp, NONE),
    aten.diagonal.default: Row(views.take_diagonal, NO_DYNAMIC),
    aten.diagonal_copy.default: Row(views.take_diagonal, NONE),
    aten.diag_embed.default: Row(views.diag_embed, NO_DYNAMIC),
    aten.unfold.default: Row(views.unfold, NO_DYNAMIC),
    aten.unfold_copy.default: Row(views.unfold, NONE),
    **{getattr(aten, f"{name}_copy").default: Row(getattr(aten, name).default, NONE)  # gradients of loops keep detached copies
       for name in ("detach", "lift_fresh", "view_as_complex", "view_as_real", "_conj")},
    aten._neg_view_copy.default: Row(aten.neg.default, NONE),
    aten.select_copy.int: Row(aten.select.int, NONE),
    aten.slice_copy.Tensor: Row(aten.slice.Tensor, NONE),
    aten.split_copy.Tensor: Row(aten.split.Tensor, NONE),
    aten.as_strided.default: Row(views.as_strided, NONE, views.is_contiguous_storage),
    aten.as_strided_scatter.default: Row(views.as_strided_scatter, NONE, views.is_contiguous_storage),
    aten.view.dtype: Row(views.view_as_dtype, "TorchScript takes the dtype for a size"),
    aten.squeeze.dim: Row(views.keep_dim, "no lowering of a dim of more than one element", views.keeps_dim),
    **{op: Row(partial(scattering.scatter_within_index, op), "the source must have the sizes of the index", scattering.has_larger_source)
       for op in (aten.scatter_reduce.two, aten.scatter.src, aten.scatter_add.default)},
    aten.as_strided_copy.default: Row(views.as_strided, NONE, views.is_contiguous_storage),
}

for _rows in (torch_rows.ROWS, resampling_rows.ROWS, gradient_rows.ROWS, number_rows.ROWS, function_rows.ROWS):
    if _twice := TABLE.keys() & _rows.keys():
        raise KeyError(f"two tables of lowering.ops have rows for {', '.join(map(str, _twice))}")
    TABLE.update(_rows)


def choose(node: Node) -> Decomposition | None:
    """Return the decomposition of a node that must not stay whole, else None."""
    op = node.target
    if not isinstance(op, torch._ops.OpOverload):
        return None
    if (of_empty := emptiness.find(node)) is not None:
        return of_empty
    if (of_parts := complex_numbers.find(node)) is not None:
        return of_parts
    row = TABLE.get(op)
    if row is not None:
        return row.decomposition if row.when(node) else _choose_by_rule(op)
    return _choose_by_rule(op)


_NAMED: dict[str, Decomposition] = {**grouped_products.ROWS, **regions.ROWS}


@functools.cache
def _choose_by_rule(op: torch._ops.OpOverload) -> Decomposition | None:
    if (arithmetic_of := quantization.find(op)) is not None:
        return arithmetic_of
    if op.name() in _NAMED:
        return _NAMED[op.name()]
    if op.namespace != "aten" or find_kind(op) is not None:
        return None
    if op._schema.name.removesuffix("_data").endswith("_backward"):
        return decomposition_table.get(op) or find_decomposition(op)
    return None if is_registered(op) else find_decomposition(op)


def is_registered(op: torch._ops.OpOverload) -> bool:
    """Return whether the torch dialect has an op of this schema."""
    return _context().is_registered_operation(f"torch.{op._schema.name.replace('::', '.')}{_suffix(op)}")  # type: ignore[no-any-return]


def _suffix(op: torch._ops.OpOverload) -> str:
    return f".{op._overloadname}" if op._overloadname != "default" else ""


@functools.cache
def _context() -> Any:
    from lowering.ir import mlir

    return mlir.create_torch_context()


def core_table() -> dict[Any, Decomposition]:
    """Return torch's core ATen decompositions, except those of writes at an index that varies in a loop.

    torch's own of `number - tensor` is a subtraction whose first operand is a number, which TorchScript does not have.
    """
    return _drop_select_scatter(dict(core_aten_decompositions())) | {aten.rsub.Scalar: arithmetic.rsub}


def torch_mlir_table() -> dict[Any, Decomposition]:
    """Return the default decompositions of `torch_mlir.fx.export_and_import`."""
    from torch_mlir.extras.fx_decomp_util import get_decomposition_table

    return _drop_select_scatter(dict(get_decomposition_table()))


def _drop_select_scatter(table: dict[Any, Decomposition]) -> dict[Any, Decomposition]:
    """Remove select_scatter from `table`. Its definition asks for the sign of its index; we have our own rule for it."""
    table.pop(aten.select_scatter.default, None)
    return table
