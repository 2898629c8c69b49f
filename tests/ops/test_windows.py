"""Pooling, segments and normalization: every setting, at sizes that leave rests, and in mixed dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from tests.ops.forms import differences

RANDOM = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=RANDOM)


def test_max_pooling_of_a_dynamic_length() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "padded": lambda x: functional.max_pool1d(x, 3, 2, 1), "ceil_mode": lambda x: functional.max_pool1d(x, 3, 2, 1, ceil_mode=True),
        "dilated": lambda x: functional.max_pool1d(x, 2, 1, 0, 2), "unbatched": lambda x: functional.max_pool1d(x[0], 2),
        "module": torch.nn.MaxPool1d(4), "torch's": lambda x: torch.max_pool1d(x, (2,), (3,)),
        "with indices": lambda x: functional.max_pool1d(x, 2, return_indices=True),
    }  # fmt: skip
    assert differences(forms, ((2, 6, "length"),), [(normal(2, 6, 40),), (normal(2, 6, 7),), (normal(2, 6, 4),)], least=4) == []


def test_halves_are_rounded_once() -> None:
    mean, variance, weight, bias = (normal(6).abs() for _ in range(4))
    forms: dict[str, Callable[..., Any]] = {
        "batch_norm of float32": lambda x: functional.batch_norm(x, mean, variance, weight, bias),
        "batch_norm without weights": lambda x: functional.batch_norm(x, mean, variance),
        "round to digits": lambda x: x.round(decimals=2), "round to tens": lambda x: (30 * x).round(decimals=-1),
    }  # fmt: skip
    x = normal(3, 6, 40).half()
    assert differences(forms, (("b", 6, "length"),), [(x,), (x[:1, :, :1],)], least=1) == []


def test_the_last_window_of_a_ceil_mode_begins_inside() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "avg_pool1d": lambda x: functional.avg_pool1d(x[0], 2, padding=1, ceil_mode=True),
        "avg_pool2d": lambda x: functional.avg_pool2d(x, 2, 2, 1, ceil_mode=True, count_include_pad=False),
        "avg_pool3d": lambda x: functional.avg_pool3d(x, (2, 1, 3), (3, 2, 2), (1, 0, 1), ceil_mode=True, divisor_override=4),
        "max_pool2d": lambda x: functional.max_pool2d(x, 2, 3, 1, ceil_mode=True, return_indices=True),
        "dilated": lambda x: functional.max_pool2d(x, 2, 3, 1, (1, 2), ceil_mode=True),
    }  # fmt: skip
    assert differences(forms, ((2, 3, "h", "w"),), [(normal(2, 3, h, w),) for h, w in ((7, 6), (6, 7), (5, 9), (2, 3))], least=2) == []


def test_pooling_over_a_whole_map() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "max_pool2d": lambda x: functional.max_pool2d(x, x.shape[-2:]), "avg_pool2d": lambda x: functional.avg_pool2d(x, x.size()[2:]),
        "max_pool1d": lambda x: functional.max_pool1d(x[0], x.size(-1)), "avg_pool1d": lambda x: functional.avg_pool1d(x[0], x.size(-1)),
        "max_pool3d": lambda x: functional.max_pool3d(x, x.shape[1:]), "avg_pool3d": lambda x: functional.avg_pool3d(x, x.shape[1:]),
        "ceil_mode": lambda x: functional.avg_pool2d(x, x.shape[-2:], ceil_mode=True, count_include_pad=False),
        "of a map without a dim of one element": lambda x: functional.max_pool2d(x.squeeze(2), x.squeeze().shape[-2:]),
        "a dim that is kept": lambda x: functional.adaptive_max_pool2d(x, (None, 3), return_indices=True),
        "windows of numbers": lambda x: functional.max_pool2d(x, 2, stride=1, padding=1, return_indices=True),
    }  # fmt: skip
    x = normal(2, 3, 6, 7)
    x[0, 1, 2, 3] = float("nan")
    assert differences(forms, ((2, 3, "h", "w"),), [(x,), (normal(2, 3, 5, 4),), (normal(2, 3, 2, 2),)], least=2) == []


def test_windows_between_fractions() -> None:
    starts = torch.rand((1, 3, 3), generator=RANDOM)

    def of(x: torch.Tensor, rank: int) -> torch.Tensor:
        return starts[..., :rank].expand(x.shape[0], 3, rank)

    forms: dict[str, Callable[..., Any]] = {
        "size": lambda x: functional.fractional_max_pool2d(x[:, :, 0], 2, 3, _random_samples=of(x, 2)),
        "ratio": lambda x: functional.fractional_max_pool3d(x, (1, 2, 2), output_ratio=(0.5, 0.7, 0.5), return_indices=True,
                                                            _random_samples=of(x, 3)),
        "gradient": lambda x: torch.func.grad(
            lambda y: functional.fractional_max_pool2d(y[:, :, 0], 3, (4, 3), _random_samples=of(y, 2)).square().sum())(x),
    }  # fmt: skip
    x = normal(2, 3, 2, 9, 7)
    x[0, 1, 0, 2, 3] = float("nan")
    assert differences(forms, ((2, 3, 2, "h", "w"),), [(x,), (normal(2, 3, 2, 8, 11),)], least=7) == []


def test_adaptive_means_below_autograd() -> None:
    aten = torch.ops.aten
    forms: dict[str, Callable[..., Any]] = {
        "two dims": lambda x: aten._adaptive_avg_pool2d(x[:, :, 0], [3, 2]),
        "three dims": lambda x: aten._adaptive_avg_pool3d(x, [1, 3, 2]),
    }  # fmt: skip
    assert differences(forms, (("b", 3, 2, "h", "w"),), [(normal(2, 3, 2, 9, 7),), (normal(1, 3, 2, 2, 3),)], least=1) == []


def test_segments_and_pairs_of_rows() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "pdist": lambda x, lengths: torch.pdist(x), "sums of pairs": lambda x, lengths: torch.pdist(x, 1.0),
        **{reduce: lambda x, lengths, reduce=reduce: torch.segment_reduce(x, reduce, lengths=lengths, axis=0, unsafe=True)
           for reduce in ("sum", "mean", "max", "min", "prod")},
        "offsets": lambda x, lengths: torch.segment_reduce(x, "sum", offsets=functional.pad(lengths.cumsum(0), (1, 0)), axis=0,
                                                           initial=1.5),
    }  # fmt: skip
    x, lengths = normal(5, 3), torch.tensor([2, 0, 2, 1])
    points = [(x, lengths), (x[:3], torch.tensor([1, 2, 0])), (x[:1], torch.tensor([1]))]
    assert differences(forms, (("n", 3), ("segments",)), points, least=1) == []


def test_images_get_their_sizes_back() -> None:
    down, up, line = normal(4, 3, 3, 3), normal(4, 3, 3, 3), normal(2, 2, 3)
    rows = torch.nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1)
    rows.weight, rows.bias = torch.nn.Parameter(up, requires_grad=False), None
    forms: dict[str, Callable[..., Any]] = {
        "output_size": lambda x: rows(functional.conv2d(x, down, stride=2, padding=1), output_size=x.shape),
        "dilated, in groups": lambda x: functional.conv_transpose1d(
            x[0, :2].flatten(1), line, stride=2, dilation=3, groups=2, output_padding=x.shape[2] % 3),
        "uneven output padding": lambda x: functional.conv_transpose2d(
            x, down.transpose(0, 1), stride=(2, 3), padding=(1, 0), output_padding=(0, 2), dilation=(1, 2)),
    }  # fmt: skip
    assert differences(forms, ((2, 3, "h", "w"),), [(normal(2, 3, 6, 7),), (normal(2, 3, 5, 4),), (normal(2, 3, 1, 2),)], least=1) == []


def test_a_convolution_in_as_many_groups_as_a_size_has() -> None:
    line, square, bias = torch.arange(5.0), normal(1, 1, 3, 2), normal(1)
    forms: dict[str, Callable[..., Any]] = {
        "channels": lambda x: functional.conv1d(x, line.repeat(x.shape[1], 1, 1), padding=2, groups=x.shape[1]),
        "unbatched": lambda x: functional.conv1d(x[0], line.repeat(x.shape[1], 1, 1), stride=2, dilation=2, padding=4, groups=x.shape[1]),
        "images": lambda x: functional.conv2d(x[None], square.expand(x.shape[0], 1, 3, 2), bias.expand(x.shape[0]), (1, 2), (1, 0), 1,
                                              x.shape[0]),
    }  # fmt: skip
    assert differences(forms, (("b", "channels", "length"),), [(normal(2, 3, 9),), (normal(4, 5, 6),), (normal(1, 1, 4),)], least=1) == []


def test_spectra_of_another_length() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "rfft": lambda x: torch.fft.rfft(x, n=6, norm="ortho"), "irfftn": lambda x: torch.fft.irfftn(x, (-1, 7)),
    }  # fmt: skip
    assert differences(forms, (("n", "m"),), [(normal(5, 7),), (normal(3, 3),), (normal(4, 6),)], least=1) == []
