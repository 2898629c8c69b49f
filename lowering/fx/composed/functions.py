"""Functions that torch composes of others by looking at sizes or data, composed here without a branch.

torch.export would turn such a branch into a guard, which narrows the range of a dim, or refuse it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional

from lowering.fx.composed import by_size, fourier, linear, pooling
from lowering.fx.composed.pooling import repeat_setting
from lowering.ops import arithmetic
from lowering.ops.images import convolution


def _take_along_dim(tensor: torch.Tensor, indices: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    """Return torch.take_along_dim. torch's own compares the sizes of all dims to broadcast them."""
    if dim is None:
        return tensor.reshape(-1).gather(0, indices.reshape(-1))
    shapes = [[1 if place == dim % tensor.dim() else size for place, size in enumerate(each.shape)] for each in (tensor, indices)]
    others = torch.broadcast_shapes(*shapes)
    expanded = [each.expand([each.shape[place] if place == dim % tensor.dim() else size for place, size in enumerate(others)])
                for each in (tensor, indices)]
    return expanded[0].gather(dim, expanded[1])


def _tensor_split(tensor: torch.Tensor, sections: Any, dim: int = 0) -> tuple[torch.Tensor, ...]:
    """Return torch.tensor_split. The first parts have one element more, as many as the rest of the division."""
    if not isinstance(sections, int) or not isinstance(tensor.shape[dim], torch.SymInt):
        return torch.ops.aten.tensor_split(tensor, sections, dim)  # type: ignore[no-any-return]
    size, rest = tensor.shape[dim] // sections, tensor.shape[dim] % sections
    bounds = [part * size + torch.sym_min(part, rest) for part in range(sections + 1)]
    return tuple(tensor.narrow(dim, start, end - start) for start, end in itertools.pairwise(bounds))


def _kron(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return torch.kron."""
    rank = max(first.dim(), second.dim())
    first, second = (each.reshape(*[1] * (rank - each.dim()), *each.shape) for each in (first, second))
    interleaved = first.reshape([size for each in first.shape for size in (each, 1)]) * second.reshape(
        [size for each in second.shape for size in (1, each)])
    return interleaved.reshape([one * other for one, other in zip(first.shape, second.shape, strict=True)])


def _multi_dot(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the product of matrices, from the left. torch's own chooses an order by the sizes at hand."""
    return functools.reduce(torch.matmul, tensors)


def _matrix_norm(tensor: torch.Tensor, ord: Any = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False, *,  # noqa: A002 - torch's name
                 dtype: torch.dtype | None = None) -> torch.Tensor:  # fmt: skip
    """Return torch.linalg.matrix_norm. torch's own makes a size constant where it takes the largest or the smallest sum."""
    if ord not in (1, -1, math.inf, -math.inf):
        return torch.linalg.matrix_norm(tensor, ord, dim, keepdim, dtype=dtype)
    rows, columns = dim if abs(ord) == 1 else reversed(dim)
    sums = torch.linalg.vector_norm(tensor, 1, rows, keepdim=True, dtype=dtype)
    norms = sums.amax(columns, keepdim=True) if ord > 0 else sums.amin(columns, keepdim=True)
    return norms if keepdim else norms.squeeze(dim)


def _norm(tensor: torch.Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *,  # noqa: A002 - torch's name
          dtype: torch.dtype | None = None) -> torch.Tensor:  # fmt: skip
    """Return torch.linalg.norm, by `_matrix_norm`."""
    if isinstance(ord, int | float) and (tensor.dim() == 2 if dim is None else isinstance(dim, list | tuple) and len(dim) == 2):
        return _matrix_norm(tensor, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return torch.linalg.norm(tensor, ord, dim, keepdim, dtype=dtype)


def _cond(tensor: torch.Tensor, p: Any = None) -> torch.Tensor:
    """Return torch.linalg.cond. torch's own asks whether there are elements, at which the sizes become constant."""
    if p in (None, 2, -2):
        return torch.linalg.cond(tensor, p)
    inverse, info = torch.linalg.inv_ex(tensor)
    inverse = torch.where(info[..., None, None] > 0, math.inf, inverse)
    return torch.nan_to_num(_matrix_norm(tensor, p) * _matrix_norm(inverse, p), math.inf, math.inf, -math.inf)


def _vander(tensor: torch.Tensor, N: int | None = None, increasing: bool = False) -> torch.Tensor:  # noqa: N803 - torch's name
    """Return torch.vander."""
    powers = torch.arange(tensor.shape[-1] if N is None else N, device=tensor.device)
    return torch.pow(tensor.unsqueeze(-1), powers if increasing else powers.flip(0))


def _gaussian_nll_loss(scores: torch.Tensor, target: torch.Tensor, var: Any, full: bool = False, eps: float = 1e-6,
                       reduction: str = "mean") -> torch.Tensor:
    """Return the loss without its check that no variance is negative, which depends on data."""
    var = var if isinstance(var, torch.Tensor) else torch.full_like(scores, var)
    if var.shape != scores.shape and var.shape == scores.shape[:-1]:
        var = var.unsqueeze(-1)
    kept = var.detach().clamp(min=eps) + (var - var.detach())
    losses = 0.5 * (torch.log(kept) + (scores - target) ** 2 / kept) + (0.5 * math.log(2 * math.pi) if full else 0)
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


_BY_PRODUCTS, _BY_SIZE = "use_mm_for_euclid_dist", "use_mm_for_euclid_dist_if_necessary"


def _cdist(left: torch.Tensor, right: torch.Tensor, p: float = 2.0, compute_mode: str = _BY_SIZE) -> torch.Tensor:
    """Return torch.cdist. torch's own multiplies matrices at more than 25 rows; here all sizes of the range must have them."""
    has_many = any(statically_known_true(each.shape[-2] > 25) for each in (left, right))
    if p == 2 and (compute_mode == _BY_PRODUCTS or (compute_mode == _BY_SIZE and has_many)):
        return torch.cdist(left, right, p, _BY_PRODUCTS)
    return arithmetic.cdist(left, right, p)


def _conv2d(image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: Any = 1, padding: Any = 0,
            dilation: Any = 1, groups: Any = 1) -> torch.Tensor:
    """Return torch.conv2d. With a symbolic number of groups, as where each sample has its own weights, it is a batch of matrix products."""
    if not isinstance(groups, torch.SymInt) or isinstance(padding, str) or image.dim() != 4:
        return torch.conv2d(image, weight, bias, stride, padding, dilation, groups)
    stride, padding, dilation = (repeat_setting(value, 2) for value in (stride, padding, dilation))
    (batch, _, *sizes), (outs, ins, *kernel) = image.shape, weight.shape
    columns = functional.unfold(image.reshape(batch * groups, ins, *sizes), kernel, dilation, padding, stride)
    product = weight.reshape(groups, outs // groups, -1) @ columns.reshape(batch, groups, *columns.shape[1:])
    spatial = [(sizes[dim] + 2 * padding[dim] - dilation[dim] * (kernel[dim] - 1) - 1) // stride[dim] + 1 for dim in (0, 1)]
    return _add_bias(product.reshape(batch, outs, *spatial), bias)


def _conv_transpose2d(image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: Any = 1, padding: Any = 0,
                      output_padding: Any = 0, groups: Any = 1, dilation: Any = 1) -> torch.Tensor:
    """Return torch.conv_transpose2d, with a symbolic number of groups as a batch of matrix products."""
    if not isinstance(groups, torch.SymInt) or image.dim() != 4:
        return torch.conv_transpose2d(image, weight, bias, stride, padding, output_padding, groups, dilation)
    stride, padding, output_padding, dilation = (repeat_setting(value, 2) for value in (stride, padding, output_padding, dilation))
    (batch, _, *sizes), (ins, outs, *kernel) = image.shape, weight.shape
    pixels = image.reshape(batch, groups, ins // groups, sizes[0] * sizes[1])
    columns = weight.reshape(groups, ins // groups, -1).transpose(1, 2) @ pixels
    spatial = [(sizes[dim] - 1) * stride[dim] - 2 * padding[dim] + dilation[dim] * (kernel[dim] - 1) + output_padding[dim] + 1
               for dim in (0, 1)]
    product = functional.fold(columns.reshape(batch * groups, *columns.shape[2:]), spatial, kernel, dilation, padding, stride)
    return _add_bias(product.reshape(batch, groups * outs, *spatial), bias)


def _cov(tensor: torch.Tensor, *, correction: int = 1, fweights: torch.Tensor | None = None,
         aweights: torch.Tensor | None = None) -> torch.Tensor:
    """Return torch.cov without its checks of the weights and their sum, which depend on data."""
    variables = tensor.reshape(1, -1) if tensor.dim() < 2 else tensor
    given = [weights for weights in (fweights, aweights) if weights is not None]
    weights = functools.reduce(torch.mul, given) if given else None
    weighted = variables if weights is None else variables * weights
    total = variables.shape[1] if weights is None else weights.sum()
    centered = variables - (weighted.sum(1) / total).unsqueeze(1)
    products = (centered if weights is None else centered * weights) @ centered.mH
    if weights is None:
        # a tensor: a maximum of a size and 0 is dropped, because traces take sizes for 2 or more
        freedom = torch.full((), total - correction, dtype=products.real.dtype, device=products.device)
        return (products / freedom.clamp(min=0)).squeeze()
    lost = correction if aweights is None else correction * (weights * aweights).sum() / total
    return (products / (total - lost).clamp(min=0)).squeeze()


def _corrcoef(tensor: torch.Tensor) -> torch.Tensor:
    """Return torch.corrcoef."""
    covariance = _cov(tensor)
    if covariance.dim() == 0:
        return covariance / covariance
    deviations = covariance.diagonal().real.sqrt() if covariance.is_complex() else covariance.diagonal().sqrt()
    ratios = covariance / deviations.unsqueeze(1) / deviations
    return torch.complex(ratios.real.clip(-1, 1), ratios.imag.clip(-1, 1)) if ratios.is_complex() else ratios.clip(-1, 1)


def _affine_grid(theta: torch.Tensor, size: Sequence[Any], align_corners: bool | None = None) -> torch.Tensor:
    """Return torch.nn.functional.affine_grid. torch's own makes the sizes of the image constant."""
    spatial = list(size[2:])
    steps = [torch.sym_max(length - 1, 1) if align_corners else length for length in spatial]
    lines = [(2 * torch.arange(length, dtype=theta.dtype, device=theta.device) + (1 - length)) / step
             for length, step in zip(spatial, steps, strict=True)]
    axes = torch.meshgrid(*lines, indexing="ij")[::-1]  # x first
    points = torch.stack([*axes, torch.ones_like(axes[0])], -1)
    return (points.reshape(1, -1, points.shape[-1]) @ theta.mT).reshape(theta.shape[0], *spatial, len(spatial))


def _div(number: Any, divisor: Any, *, rounding_mode: str | None = None) -> Any:
    """Return torch.div. The quotient of two sizes is a size, where torch's own is a tensor, which is data."""
    numbers = (int, torch.SymInt)
    if rounding_mode is None:
        return torch.div(number, divisor)
    if not (isinstance(number, numbers) and isinstance(divisor, numbers)):
        return torch.div(number, divisor, rounding_mode=rounding_mode)
    if rounding_mode == "floor" or all(map(_is_never_negative, (number, divisor))):
        return number // divisor
    return torch.sym_int(number / divisor)


def _is_never_negative(size: Any) -> bool:
    return bool(size.node.expr.is_nonnegative) if isinstance(size, torch.SymInt) else size >= 0


def _combinations(tensor: torch.Tensor, r: int = 2, with_replacement: bool = False) -> torch.Tensor:
    """Return torch.combinations. Pairs of a dynamic number of elements are listed by their indices; torch's own picks them by a mask."""
    if r != 2 or not isinstance(tensor.shape[0], torch.SymInt):
        return torch.combinations(tensor, r, with_replacement)
    size = tensor.shape[0]
    indices = by_size.list_upper(size, size, 0 if with_replacement else 1, device=tensor.device)
    return tensor[indices].mT


def _block_diag(*tensors: torch.Tensor) -> torch.Tensor:
    """Return torch.block_diag. torch's own makes the sizes constants."""
    blocks = [torch.atleast_2d(tensor) for tensor in tensors]
    width, before, rows = sum(block.shape[1] for block in blocks), 0, []
    for block in blocks:
        rows.append(functional.pad(block, (before, width - before - block.shape[1])))
        before += block.shape[1]
    return torch.cat(rows)


def _gradient(tensor: torch.Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> Any:
    """Return torch.gradient with numbers as spacing. torch's own compares the sizes with the order, at which they become constant."""
    dims = list(range(tensor.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    steps = list(spacing) if isinstance(spacing, list | tuple) else [spacing] * len(dims)
    if any(isinstance(step, torch.Tensor) for step in steps) or not any(isinstance(size, torch.SymInt) for size in tensor.shape):
        return torch.gradient(tensor, spacing=spacing, dim=dim, edge_order=edge_order)
    return tuple(itertools.starmap(functools.partial(_slope, tensor, edge_order=edge_order), zip(dims, steps, strict=True)))


def _slope(tensor: torch.Tensor, dim: int, step: float, *, edge_order: int) -> torch.Tensor:
    """Return the central differences along a dim, at its ends those to one side, each over steps of `step`."""
    size = tensor.shape[dim]

    def take(start: Any, length: Any = 1) -> torch.Tensor:
        return tensor.narrow(dim, start, length)

    if edge_order == 1:
        first, last = take(1) - take(0), take(size - 1) - take(size - 2)
    else:
        first = -1.5 * take(0) + 2 * take(1) - 0.5 * take(2)
        last = 1.5 * take(size - 1) - 2 * take(size - 2) + 0.5 * take(size - 3)
    return torch.cat([first / step, (take(2, size - 2) - take(0, size - 2)) / (2 * step), last / step], dim)


def _fill_diagonal(tensor: torch.Tensor, fill_value: Any, wrap: bool = False) -> torch.Tensor:
    """Return torch.Tensor.fill_diagonal_. torch's own makes constants of the sizes."""
    first, *others = (torch.arange(size, device=tensor.device).reshape([-1, *[1] * (tensor.dim() - 1 - dim)])
                      for dim, size in enumerate(tensor.shape))
    first = torch.remainder(first, tensor.shape[1] + 1) if wrap and tensor.dim() == 2 else first
    return tensor.masked_fill_(functools.reduce(torch.logical_and, [first == other for other in others]), fill_value)


def _measure_lengths(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return a CTC loss whose lengths are tensors. torch's own reads the data of tensors that it makes of lists of ints."""

    def run(log_probs: torch.Tensor, targets: torch.Tensor, input_lengths: Any, target_lengths: Any, *settings: Any,
            **named: Any) -> torch.Tensor:
        lengths = [given if isinstance(given, torch.Tensor) else torch.tensor(given) for given in (input_lengths, target_lengths)]
        return loss(log_probs, targets, *lengths, *settings, **named)

    return run


def _add_bias(image: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return image if bias is None else image + bias.reshape(-1, 1, 1)


COMPOSED: dict[Any, Callable[..., Any]] = {
    torch.take_along_dim: _take_along_dim, torch.Tensor.take_along_dim: _take_along_dim, torch.tensor_split: _tensor_split,
    torch.Tensor.tensor_split: _tensor_split, torch.kron: _kron, torch.Tensor.kron: _kron, torch.linalg.multi_dot: _multi_dot,
    torch.chain_matmul: lambda *matrices: _multi_dot(matrices), torch.vander: _vander, torch.linalg.cond: _cond,
    torch.linalg.matrix_norm: _matrix_norm, torch.linalg.norm: _norm,
    functional.gaussian_nll_loss: _gaussian_nll_loss, torch.cdist: _cdist,
    functional.ctc_loss: _measure_lengths(functional.ctc_loss), torch.ctc_loss: _measure_lengths(torch.ctc_loss),
    torch.Tensor.fill_diagonal_: _fill_diagonal, torch.combinations: _combinations, torch.block_diag: _block_diag,
    torch.gradient: _gradient,
    torch.cov: _cov, torch.Tensor.cov: _cov, torch.corrcoef: _corrcoef, torch.Tensor.corrcoef: _corrcoef,
    torch.conv_tbc: convolution.convolve_by_time, torch.linalg.lstsq: linear.solve_least_squares,
    functional.affine_grid: _affine_grid, torch.affine_grid_generator: _affine_grid,
    **fourier.COMPOSED, **pooling.COMPOSED,
}  # fmt: skip

# These replace only calls that take a symbolic number.
COMPOSED_OF_NUMBERS: dict[Any, Callable[..., Any]] = {
    torch.div: _div, torch.conv2d: _conv2d, torch.conv_transpose2d: _conv_transpose2d,
}  # fmt: skip
