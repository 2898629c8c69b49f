"""Gradients of factors of real matrices, without a decision by the sizes: torch's own compare rows with columns."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

Tensor: TypeAlias = torch.Tensor
aten = torch.ops.aten


def svd(matrix: Tensor, full_matrices: bool = False, compute_uv: bool = True, *, driver: str | None = None) -> tuple[Tensor, ...]:
    """Compute aten::_linalg_svd, differentiable if `compute_uv`."""
    if compute_uv and matrix.requires_grad:
        return _Svd.apply(matrix, full_matrices, driver)  # type: ignore[no-any-return, no-untyped-call]
    with torch._C._AutoDispatchBelowAutograd():
        return aten._linalg_svd.default(matrix, full_matrices, compute_uv, driver=driver)  # type: ignore[no-any-return]


def pseudoinverse(matrix: Tensor, *, atol: Tensor | None = None, rtol: Tensor | None = None, hermitian: bool = False) -> Tensor:
    """Compute aten::linalg_pinv.atol_rtol_tensor, differentiable."""
    return _Pseudoinverse.apply(matrix, atol, rtol, hermitian)  # type: ignore[no-any-return, no-untyped-call]


class _Svd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, full_matrices: bool, driver: str | None) -> tuple[Tensor, ...]:  # type: ignore[override]
        with torch._C._AutoDispatchBelowAutograd():
            left, values, adjoint = aten._linalg_svd.default(matrix, full_matrices, driver=driver)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(matrix, left, values, adjoint)
        return left, values, adjoint

    @staticmethod
    def backward(ctx: Any, of_left: Tensor | None, of_values: Tensor | None, of_adjoint: Tensor | None) -> Any:  # type: ignore[override]
        matrix, left, values, adjoint = ctx.saved_tensors
        kept = values.shape[-1]
        left, right = left.narrow(-1, 0, kept), adjoint.narrow(-2, 0, kept).mT
        inner = None if of_values is None else torch.diag_embed(of_values)
        squares = values * values
        apart = squares.unsqueeze(-2) - squares.unsqueeze(-1) + torch.diag_embed(torch.ones_like(values))
        if of_left is not None:
            of_left = of_left.narrow(-1, 0, kept)
            inner = _add(inner, _skew(left.mT @ of_left) / apart * values.unsqueeze(-2))
        if of_adjoint is not None:
            of_right = of_adjoint.narrow(-2, 0, kept).mT
            inner = _add(inner, values.unsqueeze(-1) * (_skew(right.mT @ of_right) / apart))
        if inner is None:
            return None, None, None
        gradient = left @ inner @ right.mT
        rows, columns = matrix.shape[-2:]
        if of_left is not None:  # of what the left vectors do not span, if there are more rows than columns
            gradient = _add_if_larger(gradient, rows, columns, _reject(left, of_left / values.unsqueeze(-2)) @ right.mT)
        if of_adjoint is not None:
            gradient = _add_if_larger(gradient, columns, rows, left @ _reject(right, of_right / values.unsqueeze(-2)).mT)
        return gradient, None, None


class _Pseudoinverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, atol: Tensor | None, rtol: Tensor | None, hermitian: bool) -> Tensor:  # type: ignore[override]
        with torch._C._AutoDispatchBelowAutograd():
            inverse = aten.linalg_pinv.atol_rtol_tensor(matrix, atol=atol, rtol=rtol, hermitian=hermitian)
        ctx.save_for_backward(matrix, inverse)
        return inverse  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        """Return the gradient, by G. Golub and V. Pereyra, The Differentiation of Pseudo-Inverses and Nonlinear Least Squares (1973)."""
        matrix, inverse = ctx.saved_tensors
        turned = gradient.mT
        outer, inner = turned @ inverse @ inverse.mT, inverse.mT @ inverse @ turned
        direct = (inverse @ turned @ inverse).mT
        return outer - matrix @ (inverse @ outer) + inner - (inner @ inverse) @ matrix - direct, None, None, None


def _skew(matrix: Tensor) -> Tensor:
    return matrix - matrix.mT


def _add(left: Tensor | None, right: Tensor) -> Tensor:
    return right if left is None else left + right


def _reject(basis: Tensor, vectors: Tensor) -> Tensor:
    """Return the part of column vectors that an orthonormal basis does not span."""
    return vectors - basis @ (basis.mT @ vectors)


def _add_if_larger(total: Tensor, larger: Any, smaller: Any, part: Tensor) -> Tensor:
    """Return `total + part` if one size is larger than another, else `total`."""
    if statically_known_true(larger <= smaller):
        return total
    is_larger = torch.scalar_tensor(larger, device=total.device) > torch.scalar_tensor(smaller, device=total.device)
    return torch.where(is_larger, total + part, total)
