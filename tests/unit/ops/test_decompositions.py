"""Decompositions of our own give what torch's ops give, in every form of their schemas."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from lowering.ops import (
    arithmetic,
    attention,
    complex_numbers,
    division,
    factories,
    fourier,
    histograms,
    indexing,
    random,
    scattering,
    sorting,
    views,
)
from lowering.ops.algebra import products
from lowering.ops.images import convolution, padding, pooling
from lowering.ops.sequences import scans, segments
from lowering.ops.special import bessel, polynomials
from lowering.ops.tables import decompositions

aten = torch.ops.aten
NAN, INF = float("nan"), float("inf")
RANDOM = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=RANDOM)


def whole(low: int, high: int, *shape: int) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=RANDOM)


ROW = torch.tensor([[3.0, -1.0, NAN, 2.0, 2.0], [0.5, INF, -INF, 4.0, -2.0]])
INTS = whole(-9, 10, 4, 6)
IMAGE = normal(2, 4, 9, 7)
LOW = IMAGE.where(IMAGE > 1, -torch.inf)  # windows of minus infinity alone
SERIES = normal(3, 8)
COMPLEX = torch.complex(normal(3, 3), normal(3, 3))
VOLUME = normal(2, 4, 6, 9, 7)
RANDOM_STARTS = torch.rand((2, 4, 3), generator=RANDOM)

# (ours, torch's, arguments, keyword arguments)
Case = tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def case(ours: Callable[..., Any], torchs: Callable[..., Any], *args: Any, **kwargs: Any) -> Case:
    return ours, torchs, args, kwargs


CASES: list[Case] = [
    *(case(division.remainder, torch.remainder, left, right)
      for left, right in ((INTS, 4), (INTS, -4), (normal(4, 6), normal(4, 6)), (INTS, INTS.flip(0).clamp(max=-1)))),
    *(case(division.fmod, torch.fmod, INTS, right) for right in (4, -4, INTS.flip(0).clamp(min=1))),
    case(arithmetic.prelu, torch.nn.functional.prelu, IMAGE, normal(4)),
    case(arithmetic.prelu, torch.nn.functional.prelu, SERIES, normal(1)),
    case(arithmetic.clamp, torch.clamp, SERIES, normal(8), normal(3, 1)),
    case(arithmetic.hypot, torch.hypot, torch.tensor([3.0, 0.0, 1e30, INF, NAN]), torch.tensor([4.0, 0.0, 1e30, NAN, 1.0])),
    *(case(arithmetic.pdist, torch.pdist, rows, p) for rows in (SERIES, ROW, SERIES[:1], normal(7, 3)) for p in (0.0, 1.0, 2.0, INF)),
    *(case(segments.segment_reduce, torch.segment_reduce, IMAGE, reduce, axis=axis, initial=initial, unsafe=True, **bounds)
      for reduce in ("sum", "mean", "max", "min", "prod") for initial in (None, 0.5) for axis, bounds in (
          (0, {"lengths": torch.tensor([1, 0, 1])}), (1, {"lengths": torch.tensor([[3, 1], [0, 4]])}),
          (0, {"offsets": torch.tensor([0, 0, 2])}))),
    case(arithmetic.angle, torch.angle, ROW),
    case(arithmetic.angle, torch.angle, torch.complex(SERIES, SERIES.flip(0))),
    case(partial(arithmetic.trigamma, 1), partial(torch.polygamma, 1), torch.tensor([-1.5, -0.2, 0.3, 4.0, INF])),
    case(convolution.convolve_by_time, torch.conv_tbc, normal(7, 2, 4), normal(3, 4, 5), normal(5), 1),
    case(products.addmm, torch.addmm, INTS, INTS @ INTS.T, INTS, beta=2, alpha=3),
    case(products.addbmm, torch.addbmm, normal(2, 4), normal(3, 2, 5), normal(3, 5, 4), beta=2, alpha=3),
    *(case(lambda a, b, p=p: arithmetic.cdist(a, b, p), lambda a, b, p=p: torch.cdist(a, b, p), *rows)
      for p in (0.0, 1.0, 2.0, 3.0, INF) for rows in ((normal(2, 3, 4), normal(2, 5, 4)), (ROW, ROW[:1] * 0))),
    *(case(getattr(scans, name), getattr(torch, name), tensor, dim)
      for name in ("cumsum", "cumprod", "cummax", "cummin") for tensor in (normal(3, 5, 2), INTS.abs() % 3) for dim in (0, -1)),
    case(scans.cummax, torch.cummax, ROW, 1),
    case(scans.cumsum, torch.cumsum, torch.tensor(2.5), 0),
    case(scans.logcumsumexp, torch.logcumsumexp, torch.tensor([[-INF, 1.0, 2.0], [INF, 0.0, 1.0]]), 1),
    *(case(views.take_diagonal, torch.diagonal, normal(3, 4, 5), offset, first, second)
      for offset in (-1, 0, 2) for first, second in ((0, 1), (-1, 0), (1, 2))),
    *(case(views.diag_embed, torch.diag_embed, normal(2, 3), offset, *dims) for offset in (-2, 0, 1) for dims in ((), (0, 2))),
    *(case(views.diagonal_scatter, torch.diagonal_scatter, normal(3, 4), normal(length), offset)
      for offset, length in ((0, 3), (1, 3), (-1, 2))),
    *(case(views.view_as_dtype, torch.Tensor.view, torch.cat([ROW, ROW], 1)[:, :8].to(held).contiguous(), dtype)
      for held in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
      for dtype in (torch.float64, torch.int64, torch.float32, torch.int32, torch.int16, torch.float16, torch.int8, torch.uint8)),
    case(views.view_as_dtype, torch.Tensor.view, torch.complex(SERIES, SERIES.flip(0)), torch.int32),
    case(views.view_as_dtype, torch.Tensor.view, whole(0, 256, 3, 16).to(torch.uint8), torch.complex64),
    case(views.view_as_dtype, torch.Tensor.view, SERIES > 0, torch.int8),
    case(views.view_as_dtype, torch.Tensor.view, (SERIES > 0).to(torch.int8), torch.bool),
    case(views.unfold, aten.unfold.default, normal(3, 10), 1, 4, 3),
    *(case(decompositions.TABLE[op].decomposition, op, *args) for op, *args in (
        (aten.detach_copy.default, normal(3)), (aten._neg_view_copy.default, normal(3)), (aten.select_copy.int, normal(3, 4), 1, -1),
        (aten.slice_copy.Tensor, normal(5), 0, 1, 4, 2), (aten.split_copy.Tensor, normal(5, 2), 2),
        (aten.view_as_complex_copy.default, normal(3, 2)),
    )),
    case(views.as_strided, torch.as_strided, normal(4, 6), (2, 3), (6, 2), 1),
    case(views.pixel_shuffle, torch.nn.functional.pixel_shuffle, normal(2, 8, 3, 5), 2),
    case(views.pixel_unshuffle, torch.nn.functional.pixel_unshuffle, normal(2, 3, 4, 6), 2),
    case(views.channel_shuffle, torch.nn.functional.channel_shuffle, normal(2, 6, 3), 3),
    *(case(partial(pooling.maximum, 2), aten.max_pool2d_with_indices.default, IMAGE, [3, 2], stride, pad, [1, 2], ceil)
      for stride in ([], [2, 1]) for pad in ([0, 0], [1, 1]) for ceil in (False, True)),
    *(case(partial(pooling.average, 2), aten.avg_pool2d.default, IMAGE, [3, 2], [2], [1], ceil, counted, divisor)
      for ceil in (False, True) for counted in (False, True) for divisor in (None, 5)),
    *(case(pooling.adaptive_average, torch.nn.functional.adaptive_avg_pool2d, IMAGE, size) for size in ([1, 1], [4, 3], [9, 7])),
    *(case(pooling.fractional_maximum, aten.fractional_max_pool2d.default, IMAGE, [2, 3], size, RANDOM_STARTS[..., :2])
      for size in ([1, 1], [4, 2], [7, 4])),
    *(case(pooling.fractional_maximum, aten.fractional_max_pool3d.default, VOLUME, 2, size, RANDOM_STARTS)
      for size in ([1, 2, 3], [3, 6, 5])),
    case(pooling.fractional_maximum, aten.fractional_max_pool3d.default, VOLUME[0], [2, 3, 1], [2, 5, 6], RANDOM_STARTS[:1]),
    *(case(pooling.adaptive_maximum, aten.adaptive_max_pool2d.default, image, [4, 3]) for image in (IMAGE, LOW)),
    case(partial(pooling.maximum, 2), aten.max_pool2d_with_indices.default, LOW, [3, 2], [2], [1]),
    *(case(sorting.topk, torch.topk, SERIES, 3, 1, largest) for largest in (False, True)),
    case(sorting.kthvalue, torch.kthvalue, SERIES, 2, 1, True),
    case(sorting.median, torch.median, SERIES),
    case(sorting.median, torch.median, ROW),
    case(sorting.nanmedian, torch.nanmedian, ROW),
    case(lambda x: sorting.median_along(x, 1)[0], lambda x: torch.median(x, 1)[0], ROW),
    case(lambda x: sorting.nanmedian_along(x, 1)[0], lambda x: torch.nanmedian(x, 1)[0], ROW),
    *(case(lambda x: sorting.mode(x, 1)[0], lambda x: torch.mode(x, 1)[0], values)
      for values in (INTS % 3, normal(4, 1), normal(3, 9).round())),
    *(case(sorting.searchsorted, torch.searchsorted, torch.tensor([1.0, 2.0, 2.0, 5.0]), ROW, right=right) for right in (False, True)),
    *(case(sorting.isin, torch.isin, INTS, torch.tensor([[1, -3], [7, 2]]), invert=invert) for invert in (False, True)),
    case(sorting.isin, torch.isin, 3, INTS),
    case(sorting.isin, torch.isin, INTS, 3),
    *(case(indexing.index, aten.index.Tensor, normal(4, 5, 6), indices) for indices in (
        [torch.tensor([[-1, 0], [2, 1]])], [None, torch.tensor(-2)], [torch.tensor([0, -1]), None, torch.tensor([[-1], [2]])],
        [None, torch.tensor([1, -1]), torch.tensor([-3, 0])])),
    *(case(indexing.index_put, aten.index_put.default, normal(4, 5), [torch.tensor([-1, 0, -1])], torch.ones(3, 5), add)
      for add in (True, False)),
    *(case(indexing.nonzero_static, torch.nonzero_static, mask, size=size, fill_value=fill) for size, fill in ((0, -1), (5, -1), (40, 7))
      for mask in (INTS.clamp(min=0), INTS[0] * 0, ROW, INTS[0, :0])),
    case(indexing.take, torch.take, normal(4, 5), torch.tensor([[-1, 3], [19, -20]])),
    *(case(scattering.index_reduce, torch.index_reduce, normal(3, 4), 1, torch.tensor([0, 2, 0, 3, 3]), normal(3, 5), how,
           include_self=whole_)
      for how in ("prod", "mean", "amin", "amax") for whole_ in (True, False)),
    *(case(scattering.put, torch.Tensor.put, normal(3, 4), torch.tensor([-1, 0, 5]), normal(3), add) for add in (True, False)),
    *(case(padding.pad_constant, aten.constant_pad_nd.default, tensor, [1, -2, 0, 3], 2.5)
      for tensor in (normal(3, 6), torch.complex(SERIES, SERIES))),
    case(factories.eye, torch.eye, 3, 5),
    *(case(histograms.histogram, torch.histogram, values, bins, weight=weight, density=weight is not None)
      for values in (SERIES, SERIES[:0], ROW[:1, :2]) for bins in (1, 7, torch.tensor([-2.0, -0.5, 0.0, 0.0, 1.0]))
      for weight in (None, torch.rand(values.shape, generator=RANDOM))),
    case(histograms.histogram, torch.histogram, ROW, 4, range=(-1.0, 3.0)),
    case(lambda *given, **named: (histograms.count_by_number(*given, **named), histograms.make_edges(*given, **named)),
         lambda *given, **named: (torch.histogramdd(*given, **named).hist, list(torch.histogramdd(*given, **named).bin_edges)),
         SERIES[:, :2], [3, 5], range=[-1.0, 1.0, -2.0, 0.5]),
    *(case(complex_numbers.power, torch.pow, COMPLEX, exponent) for exponent in (0, 1, 2, 3, -1, -2, 0.5, 2.5, 1 + 2j)),
    *(case(complex_numbers.power, torch.pow, base, exponent) for base in (SERIES, 2.0, torch.zeros(3, 8))
      for exponent in (torch.complex(SERIES.abs() + 0.1, SERIES),)),
    *(case(complex_numbers.ROWS[op], op, COMPLEX, *rest) for op, rest in (
        (aten.sum.default, ()), (aten.sum.dim_IntList, ([0], True)), (aten.mean.dim, ([1],)), (aten.eq.Scalar, (COMPLEX[0, 0].item(),)),
        (aten.ne.Tensor, (COMPLEX.real,)), (aten.isfinite.default, ()), (aten.any.dim, (0,)), (aten.all.default, ()),
        (aten.count_nonzero.default, ()), (aten.sinh.default, ()), (aten.cosh.default, ()), (aten.tan.default, ()),
        (aten.sigmoid.default, ()), (aten.silu.default, ()), (aten.sgn.default, ()), (aten.log2.default, ()), (aten.log10.default, ()),
        (aten.l1_loss.default, (COMPLEX.conj(), 0)), (aten.linalg_cross.default, (COMPLEX.conj(),)))),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "torchs", "args", "kwargs"), CASES)
def test_a_decomposition_gives_what_the_op_gives(ours: Callable[..., Any], torchs: Callable[..., Any], args: Any, kwargs: Any) -> None:
    got, want = ours(*args, **kwargs), torchs(*args, **kwargs)
    for one, other in zip(*((result if isinstance(result, tuple) else (result,)) for result in (got, want)), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


@pytest.mark.parametrize(("ours", "torchs"), [
    (getattr(bessel, ours), getattr(torch.special, torchs)) for ours, torchs in {
        "i0": "i0", "i0e": "i0e", "i1": "i1", "i1e": "i1e", "j0": "bessel_j0", "j1": "bessel_j1", "k0": "modified_bessel_k0",
        "k1": "modified_bessel_k1", "k0e": "scaled_modified_bessel_k0", "k1e": "scaled_modified_bessel_k1",
        "spherical_j0": "spherical_bessel_j0", "erfcx": "erfcx"}.items()])  # fmt: skip
def test_a_special_function_is_exact_to_single_precision(ours: Callable[..., Any], torchs: Callable[..., Any]) -> None:
    x = torch.cat([torch.linspace(-80, 80, 161), torch.linspace(-6, 6, 97), torch.tensor([0.0, 1e-3, -1e-3, 64.5, 24.9, 25.1, 4.9, 5.1])])
    torch.testing.assert_close(ours(x), torchs(x.double()).float(), rtol=2e-5, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize("letter", ["t", "u", "v", "w"])
def test_chebyshev_polynomials_in_closed_form(letter: str) -> None:
    ours = {"t": polynomials.chebyshev_t, "u": polynomials.chebyshev_u, "v": polynomials.chebyshev_v, "w": polynomials.chebyshev_w}[letter]
    x = torch.cat([torch.linspace(-1.5, 1.5, 31, dtype=torch.float64), torch.tensor([-1.0, 1.0], dtype=torch.float64)]).unsqueeze(-1)
    degrees = torch.tensor([-1, 0, 1, 2, 3.7, 6, 9], dtype=torch.float64)
    torch.testing.assert_close(ours(x, degrees), getattr(torch.special, f"chebyshev_polynomial_{letter}")(x, degrees), rtol=1e-7, atol=1e-7)
    shifted = getattr(torch.special, f"shifted_chebyshev_polynomial_{letter}")
    torch.testing.assert_close(polynomials.shift(ours)(x, degrees), shifted(x, degrees), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("normalization", [0, 1, 2])
@pytest.mark.parametrize("length", [7, 8])
def test_fourier_transforms(normalization: int, length: int) -> None:
    real, spectrum = normal(3, length, 5), torch.complex(normal(3, length, 5), normal(3, length, 5))
    for forward in (True, False):
        torch.testing.assert_close(fourier.complex_to_complex(spectrum, [0, 1], normalization, forward),
                                   aten._fft_c2c(spectrum, [0, 1], normalization, forward))
    for onesided in (True, False):
        torch.testing.assert_close(fourier.real_to_complex(real, [0, 1], normalization, onesided),
                                   aten._fft_r2c(real, [0, 1], normalization, onesided))
    for size in (8, 9):
        torch.testing.assert_close(fourier.complex_to_real(spectrum, [0, 2], normalization, size),
                                   aten._fft_c2r(spectrum, [0, 2], normalization, size))


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution(groups: int) -> None:
    arguments = (normal(2, 4, 5, 6), normal(4, 3, 3, 2), normal(3 * groups), [2, 3], [1, 0], [1, 2], True, [1, 0], groups)
    torch.testing.assert_close(convolution.transpose_convolution(*arguments), aten.convolution.default(*arguments), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("given", "sizes", "dim"), [((1, 4, 6), [3, 12], 1), ((4, 1, 6), [12, 2], -2), ((4, 6), [12], 0)])
def test_windows_that_are_broadcast_are_summed_by_one_scatter(given: tuple[int, ...], sizes: list[int], dim: int) -> None:
    windows = normal(*given)
    program = make_fx(lambda given: views.unfold_backward(given, sizes, dim, 6, 2))(windows)
    torch.testing.assert_close(program(windows), aten.unfold_backward(windows.expand(*(4 if size == 12 else size for size in sizes), 6),
                                                                      sizes, dim, 6, 2))
    assert not [node for node in program.graph.nodes if node.target is aten.index_add.default]


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_in_groups(groups: int) -> None:
    arguments = (normal(2, 4, 5, 6), normal(3 * groups, 4 // groups, 3, 2), normal(3 * groups), [2, 3], [1, 0], [1, 2])
    want = aten.convolution.default(*arguments, False, [0, 0], groups)
    torch.testing.assert_close(convolution.convolve_in_groups(*arguments, groups), want, rtol=1e-4, atol=1e-5)


def test_nan_of_a_transposed_kernel_reaches_only_what_it_is_multiplied_with() -> None:
    image, weight = normal(2, 3, 5), normal(3, 4, 3)
    weight[1, 2, 0], weight[0, 1, 2] = NAN, INF
    arguments = (image, weight, None, [2], [1], [1], True, [0], 1)
    torch.testing.assert_close(convolution.transpose_convolution(*arguments), aten.convolution.default(*arguments), equal_nan=True)


@pytest.mark.parametrize("form", ["plain", "causal", "bool", "float"])
@pytest.mark.parametrize(("place", "number"), [(1, NAN), (1, INF), (1, -INF), (2, NAN), (2, INF), (0, INF)])
def test_attention_keeps_nan_and_infinities_where_eager_has_them(form: str, place: int, number: float) -> None:
    given = [normal(2, 4, 5, 8), normal(2, 4, 6, 8), normal(2, 4, 6, 8)]
    given[1][:, :, :2, 3] = torch.tensor([1.0, -1.0])
    given[place][0, 1, -1, 3] = number
    kept = torch.rand(2, 1, 5, 6) > 0.4
    kept[:, :, 0] = False
    masks = {"bool": kept, "float": torch.where(kept, normal(2, 1, 5, 6), -INF)}
    mask, is_causal = masks.get(form), form == "causal"
    torch.testing.assert_close(attention.scaled_dot_product(*given, mask, is_causal=is_causal),
                               torch.nn.functional.scaled_dot_product_attention(*given, mask, is_causal=is_causal), equal_nan=True)


@pytest.mark.parametrize("keys", [0, 1, 6])
def test_attention_to_keys_of_infinity_is_zero(keys: int) -> None:
    query, value = normal(2, 4, 5, 8).abs(), normal(2, 4, keys, 8)
    given = query, torch.full((2, 4, keys, 8), -INF), value
    torch.testing.assert_close(attention.scaled_dot_product(*given), torch.nn.functional.scaled_dot_product_attention(*given))


@pytest.mark.parametrize(("replacement", "samples"), [(True, 3), (False, 3), (False, 1)])
def test_multinomial_draws_by_weight(replacement: bool, samples: int) -> None:
    weights = torch.tensor([[0.0, 1.0, 4.0, 0.0, 5.0], [2.0, 2.0, 0.0, 4.0, 2.0]])
    torch.manual_seed(0)
    drawn = random.multinomial(weights.expand(4000, 2, 5), samples, replacement)
    wanted = torch.multinomial(weights.expand(4000, 2, 5).reshape(-1, 5), samples, replacement).reshape(4000, 2, samples)
    assert (drawn.dtype, drawn.shape) == (wanted.dtype, wanted.shape)
    for row in range(2):
        for place in range(samples):
            counts, others = (torch.bincount(found[:, row, place], minlength=5) / 4000 for found in (drawn, wanted))
            torch.testing.assert_close(counts, others, atol=0.04, rtol=0)
            assert not counts[weights[row] == 0].any()
    if not replacement and samples > 1:
        assert bool((drawn.sort(-1)[0].diff(dim=-1) > 0).all())


@pytest.mark.parametrize("name",
                         ["chebyshev_polynomial_t", "shifted_chebyshev_polynomial_w", "hermite_polynomial_he", "legendre_polynomial_p",
                          "zeta"])
def test_numbers_in_the_place_of_a_tensor(name: str) -> None:
    packet = getattr(aten, f"special_{name}")
    for form in packet.overloads():
        if "scalar" in form and not form.endswith("out"):
            given = (2.5, SERIES.abs().round() + 1) if form in ("x_scalar", "self_scalar") else (SERIES.abs() + 1.5, 3)
            decomposition = decompositions.TABLE[getattr(packet, form)].decomposition
            torch.testing.assert_close(decomposition(*given), getattr(packet, form)(*given), rtol=1e-4, atol=1e-4)


def test_every_row_has_a_reason() -> None:
    assert all(row.reason for row in decompositions.TABLE.values())
