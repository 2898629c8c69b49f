"""Functions that torch computes from plain ints are composed of functions that keep sizes symbolic: equal at every size and form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.export import Dim
from torch.nn import functional

import shapeline
from lowering.fx.composed.by_size import BY_SIZE

SIZES = (1, 2, 3, 7, 8)
WINDOWS: list[tuple[Callable[..., torch.Tensor], tuple[float, ...]]] = [
    (torch.hann_window, ()), (torch.hamming_window, ()), (torch.hamming_window, (0.5, 0.3)), (torch.blackman_window, ()),
    (torch.bartlett_window, ()), (torch.kaiser_window, (8.0,)),
]  # fmt: skip


@pytest.mark.parametrize("function", [torch.tril_indices, torch.triu_indices])
def test_indices_of_triangles(function: Callable[..., torch.Tensor]) -> None:
    for row in SIZES:
        for col in SIZES:
            for offset in (-9, -2, -1, 0, 1, 3, 9):
                torch.testing.assert_close(BY_SIZE[function](row, col, offset), function(row, col, offset))
    torch.testing.assert_close(BY_SIZE[function](3, 4, dtype=torch.int32), function(3, 4, dtype=torch.int32))


@pytest.mark.parametrize(("function", "parameters"), WINDOWS)
def test_windows(function: Callable[..., torch.Tensor], parameters: tuple[float, ...]) -> None:
    for size in SIZES:
        for periodic in (True, False):
            torch.testing.assert_close(BY_SIZE[function](size, periodic, *parameters), function(size, periodic, *parameters))
    torch.testing.assert_close(BY_SIZE[function](5, dtype=torch.float64), function(5, dtype=torch.float64))


def test_windows_of_constant_length_are_as_precise_as_eagers() -> None:
    class Windows(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(x[:1] * function(9, periodic, *parameters) for function, parameters in WINDOWS for periodic in (True, False))

    lowered = shapeline.lower(Windows(), (torch.ones(4),), dynamic_shapes={"x": {0: Dim("n", max=9)}})
    torch.testing.assert_close(lowered(torch.ones(2)), Windows()(torch.ones(2)), rtol=0, atol=5e-7)


def test_frequencies() -> None:
    for size in SIZES:
        for function in (torch.fft.fftfreq, torch.fft.rfftfreq):
            torch.testing.assert_close(BY_SIZE[function](size, 0.1), function(size, 0.1))


def test_functions_of_a_tensor_and_a_size() -> None:
    x = torch.randn(3, 7, 2)
    for size, step in ((1, 1), (3, 2), (7, 1), (2, 5)):
        torch.testing.assert_close(BY_SIZE[torch.Tensor.unfold](x, 1, size, step), x.unfold(1, size, step))
        torch.testing.assert_close(BY_SIZE[torch.repeat_interleave](x, size, -2), torch.repeat_interleave(x, size, -2))
    torch.testing.assert_close(BY_SIZE[torch.repeat_interleave](x, 2), torch.repeat_interleave(x, 2))
    ids = torch.tensor([[0, 4], [2, 2]])
    torch.testing.assert_close(BY_SIZE[functional.one_hot](ids, 5), functional.one_hot(ids, 5))


@pytest.mark.parametrize("settings", [
    {}, {"normalized": True}, {"onesided": False}, {"win_length": 12, "hop_length": 3}, {"center": False, "window": None},
])  # fmt: skip
def test_inverse_transforms_of_any_length(settings: dict[str, Any]) -> None:
    forms = {"hop_length": 4, "window": torch.hann_window(settings.get("win_length", 16)), **settings}
    spectrum = torch.stft(torch.randn(2, 50), 16, return_complex=True, **forms)
    for length in (5, 40, 52):
        torch.testing.assert_close(BY_SIZE[torch.istft](spectrum, 16, length=length, **forms),
                                   torch.istft(spectrum, 16, length=length, **forms))


class Sizes(torch.nn.Module):
    """Calls the functions with sizes of its argument."""

    def forward(self, x: torch.Tensor) -> tuple[Any, ...]:
        batch, length = x.shape
        framed = x.unsqueeze(1).unsqueeze(-1)
        pairs = torch.combinations(x[0])
        return (
            x * torch.hann_window(length), x @ torch.fft.fftfreq(length), torch.repeat_interleave(x, batch, 1),
            functional.one_hot(torch.arange(batch), num_classes=batch), torch.gradient(x, dim=1)[0],
            torch.gradient(x, spacing=2.0, dim=1, edge_order=2)[0], pairs, x.diagonal(length // 2), x.diagonal(offset=1 - batch),
            torch.diag(x[0], batch), torch.diag_embed(x, -length), x.diagonal_scatter(x[:1, 0], 1 - batch),
            torch.conv_tbc(x.unsqueeze(-1), torch.ones(3, 1, 2), torch.zeros(2), 1),
            x.index_fill(0, torch.arange(1), batch), torch.block_diag(x, x[0], x.mT),
            functional.max_pool2d(framed.expand(batch, 1, length, 6), (length, 2)),
            functional.avg_pool2d(framed.expand(batch, 1, length, 6), (length, 3), stride=(1, 2)),
        )  # fmt: skip


class Scaled(torch.nn.Module):
    """Resizes a map by quotients of sizes, as vision transformers do with their positions."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        positions = torch.arange(32.0).reshape(1, 2, 4, 4)
        factors = x.shape[2] / 4.0, x.shape[3] / 4.0
        bicubic = functional.interpolate(positions, scale_factor=factors, mode="bicubic")
        recomputed = functional.interpolate(positions, scale_factor=factors, mode="bilinear", recompute_scale_factor=True)
        return x + bicubic, x + recomputed, functional.interpolate(positions, scale_factor=x.shape[2] / 4.0)


def test_scale_factors_stay_dynamic_at_mhlo() -> None:
    dims = {"x": {2: Dim("height", min=2, max=12), 3: Dim("width", min=2, max=12)}}
    lowered = shapeline.lower(Scaled(), (torch.randn(1, 2, 5, 6),), dynamic_shapes=dims)
    lowered.verify(4)
    assert set(lowered.signature.symbols) == {"height", "width"}


class Written(torch.nn.Module):
    """Writes to a diagonal whose offset is a size, and to windows of a dynamic size."""

    def __init__(self, windows: bool = False) -> None:
        super().__init__()
        self.windows = windows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        written = x.clone()
        (written.unfold(1, x.shape[0], 1) if self.windows else written.diagonal(x.shape[1] // 2)).fill_(7.0)
        return written


def test_writes_to_a_view_are_in_its_tensor() -> None:
    dims = {"x": {0: Dim("batch", min=2, max=8), 1: Dim("length", min=2, max=20)}}
    shapeline.lower(Written(), (torch.randn(3, 7),), dynamic_shapes=dims).verify(3)
    with pytest.raises(shapeline.Unsupported, match=r"fill_: writes to a part of a tensor .* which is a copy here"):
        shapeline.lower(Written(windows=True), (torch.randn(3, 7),), dynamic_shapes=dims)


def test_they_stay_dynamic_at_mhlo() -> None:
    dims = {"x": {0: Dim("batch", min=1, max=8), 1: Dim("length", min=3, max=20)}}
    lowered = shapeline.lower(Sizes(), (torch.randn(3, 7),), dynamic_shapes=dims)
    lowered.verify(4)
    assert {name: (bound.min, bound.max) for name, bound in lowered.signature.symbols.items()} == {"batch": (1, 8), "length": (3, 20)}
