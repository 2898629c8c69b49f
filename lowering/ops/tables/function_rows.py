"""Decomposition rows of functions that no level below knows: factors of matrices, special functions, polynomials, histograms."""

from __future__ import annotations

from typing import Any

import torch

from lowering.ops import arithmetic, floats, histograms, scalars, windows
from lowering.ops.algebra import elimination, jacobi, linear, matrix_exponential, reflections
from lowering.ops.arithmetic import is_real
from lowering.ops.rows import NONE, Decomposition, Row
from lowering.ops.sequences import ctc
from lowering.ops.special import bessel, incomplete_gamma, polynomials

aten = torch.ops.aten


_DEFINITIONS: dict[Any, Decomposition] = {
    aten.linalg_lu_factor_ex.default: elimination.lu_factor_ex,
    aten.linalg_lu.default: elimination.lu,
    aten.lu_unpack.default: elimination.unpack,
    aten.linalg_lu_solve.default: elimination.lu_solve,
    aten.lu_solve.default: elimination.lu_solve_legacy,
    aten._linalg_det.default: elimination.determinant,
    aten._linalg_slogdet.default: elimination.sign_and_logarithm,
    aten.geqrf.default: reflections.geqrf,
    aten.linalg_qr.default: reflections.qr,
    aten.linalg_householder_product.default: reflections.householder_product,
    aten.ormqr.default: reflections.ormqr,
    aten.linalg_matrix_exp.default: matrix_exponential.matrix_exp,
    aten.frexp.Tensor: floats.frexp,
    aten._linalg_eigh.default: jacobi.eigh,
    aten._linalg_svd.default: jacobi.svd,
    aten.linalg_pinv.atol_rtol_tensor: jacobi.pseudoinverse,
    aten.linalg_pinv.atol_rtol_float: jacobi.pseudoinverse,
    aten.special_hermite_polynomial_h.default: polynomials.hermite_h,
    aten.special_hermite_polynomial_he.default: polynomials.hermite_he,
    aten.special_laguerre_polynomial_l.default: polynomials.laguerre_l,
    aten.special_legendre_polynomial_p.default: polynomials.legendre_p,
}  # fmt: skip

ROWS: dict[Any, Row] = {
    **{op: Row(definition, NONE, is_real) for op, definition in _DEFINITIONS.items()},
    aten.linalg_cross.default: Row(linear.cross, "an empty dim is broadcast to one element", is_real),
    aten.linalg_solve_triangular.default: Row(linear.solve_triangular, "batch dims must be equal", linear.has_unlike_batches),
    aten.ldexp.Tensor: Row(floats.ldexp, "2^exponent overflows before the product: NaN for 0, infinity for small numbers"),
    aten.histc.default: Row(histograms.histc, NONE),
    aten.histogram.bin_ct: Row(histograms.histogram, NONE),
    aten.histogram.bins_tensor: Row(histograms.histogram, NONE),
    aten._histogramdd_bin_edges.default: Row(histograms.make_edges, NONE),
    aten._histogramdd_from_bin_cts.default: Row(histograms.count_by_number, NONE),
    aten._histogramdd_from_bin_tensors.default: Row(histograms.count_in_boxes, NONE),
    aten._ctc_loss.Tensor: Row(ctc.ctc_loss, NONE),
    aten._ctc_loss_backward.Tensor: Row(ctc.ctc_loss_backward, NONE),
    aten.special_i0e.default: Row(bessel.i0e, NONE),
    aten.special_i1.default: Row(bessel.i1, NONE),
    aten.special_i1e.default: Row(bessel.i1e, NONE),
    aten.i0.default: Row(bessel.i0, NONE),
    aten.special_modified_bessel_i0.default: Row(bessel.i0, NONE),
    aten.special_modified_bessel_i1.default: Row(bessel.i1, NONE),
    aten.special_bessel_j0.default: Row(bessel.j0, NONE),
    aten.special_bessel_j1.default: Row(bessel.j1, NONE),
    aten.special_bessel_y0.default: Row(bessel.y0, NONE),
    aten.special_bessel_y1.default: Row(bessel.y1, NONE),
    aten.special_airy_ai.default: Row(bessel.airy_ai, NONE),
    aten.igamma.default: Row(incomplete_gamma.lower, NONE),
    aten.igammac.default: Row(incomplete_gamma.upper, NONE),
    aten.special_modified_bessel_k0.default: Row(bessel.k0, NONE),
    aten.special_modified_bessel_k1.default: Row(bessel.k1, NONE),
    aten.special_scaled_modified_bessel_k0.default: Row(bessel.k0e, NONE),
    aten.special_scaled_modified_bessel_k1.default: Row(bessel.k1e, NONE),
    aten.special_spherical_bessel_j0.default: Row(bessel.spherical_j0, NONE),
    aten.special_erfcx.default: Row(bessel.erfcx, NONE),
    aten.special_ndtri.default: Row(bessel.ndtri, NONE),
}

for _window, _function in {"hann": windows.hann, "hamming": windows.hamming, "blackman": windows.blackman, "bartlett": windows.bartlett,
                           "kaiser": windows.kaiser}.items():
    _packet = getattr(aten, f"{_window}_window")
    for _form in _packet.overloads():
        if not _form.endswith("out"):
            ROWS[getattr(_packet, _form)] = Row(_function, f"{NONE}, or (hann) one with pi of six digits")

for _letter, _polynomial in {"t": polynomials.chebyshev_t, "u": polynomials.chebyshev_u, "v": polynomials.chebyshev_v,
                             "w": polynomials.chebyshev_w}.items():
    for _prefix, _given_by in {"special": _polynomial, "special_shifted": polynomials.shift(_polynomial)}.items():
        _op = getattr(aten, f"{_prefix}_chebyshev_polynomial_{_letter}").default
        ROWS[_op] = Row(_given_by, "its recurrence has a data-dependent number of steps")

for _name in sorted({op.overloadpacket.__name__ for op in ROWS if "_polynomial_" in op.overloadpacket.__name__}):
    _packet = getattr(aten, _name)
    for _form in ("x_scalar", "n_scalar"):
        ROWS[getattr(_packet, _form)] = Row(scalars.convert_numbers(ROWS[_packet.default].decomposition), "no form of a number")
for _form in ("self_scalar", "other_scalar"):
    ROWS[getattr(aten.special_zeta, _form)] = Row(scalars.convert_numbers(arithmetic.zeta), "no form of a number")
