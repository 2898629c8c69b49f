"""Decomposition rows of functions that no level below knows: factors of matrices, parts of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from lowering.ops import elimination, floats, jacobi, polynomials, reflections

aten = torch.ops.aten

_NONE = "no lowering to StableHLO"


def is_real_matrix(node: Node) -> bool:
    """Return whether a node's first tensor is of real numbers."""
    return not node.args[0].meta["val"].dtype.is_complex  # type: ignore[union-attr]


_DEFINITIONS: dict[Any, Callable[..., Any]] = {
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

# By op: the decomposition, the reason why the op cannot stay whole, and the forms that are decomposed.
ROWS = {op: (definition, _NONE, is_real_matrix) for op, definition in _DEFINITIONS.items()}
