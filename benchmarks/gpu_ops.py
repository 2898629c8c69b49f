"""Small models of many kinds of ops, for `benchmarks.gpu`: `python -m benchmarks.gpu_ops FOLDER` declares them as a suite, to be run by

    shapeline run suite=FOLDER/suite.yaml

All have dynamic sizes; the last few are trained.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.nn import functional

Ranges = Mapping[str, tuple[int, int]]


class Function(nn.Module):
    """One of `FUNCTIONS` by name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function: Callable[..., Any] = FUNCTIONS[name][0]

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


class Function2(Function):
    """One of `FUNCTIONS` of two tensors."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:  # type: ignore[override]
        return self.function(x, y)


class Layers(nn.Module):
    """One of `LAYERS` by name, in `dtype`. loss: the mean of the squares is the result."""

    def __init__(self, name: str, dtype: str = "float32", loss: bool = False) -> None:
        super().__init__()
        self.dtype, self.loss = getattr(torch, dtype), loss
        self.layers = LAYERS[name][0]().to(self.dtype)

    def forward(self, x: torch.Tensor) -> Any:
        for layer in self.layers:
            x = layer(x.to(self.dtype) if x.is_floating_point() else x)
            x = x[0] if isinstance(x, tuple) else x
        return x.square().mean() if self.loss else x


class Attended(nn.TransformerEncoderLayer):
    def __init__(self) -> None:
        super().__init__(32, 4, 64, dropout=0.0, batch_first=True)


class Classifier(nn.Module):
    """Batch norm that is trained, a pooling, and a cross entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(self.head(self.body(x).mean((2, 3))), y, label_smoothing=0.1)


class Aligned(nn.Module):
    """A CTC loss."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 9)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        lengths = [torch.full((x.shape[1],), size) for size in (x.shape[0], y.shape[1])]
        return functional.ctc_loss(self.head(x).log_softmax(-1), y, *lengths)


def make_definite(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT + 3 * torch.eye(x.shape[-1], dtype=x.dtype)


def restore(x: torch.Tensor) -> torch.Tensor:
    vectors, values, rows = torch.linalg.svd(x, full_matrices=False)
    return (vectors * values[..., None, :]) @ rows


def compute_specials(x: torch.Tensor) -> list[torch.Tensor]:
    size = x.abs()
    return [torch.special.i0e(x), torch.special.erfcx(x), torch.lgamma(size + 0.5), torch.digamma(size + 0.5),
            torch.special.ndtri(x.sigmoid()), torch.special.zeta(size + 1.5, torch.ones_like(x)), torch.special.bessel_j0(x),
            torch.special.log_ndtr(x), torch.igamma(size + 0.3, size + 0.7)]  # fmt: skip


def compute_functions(x: torch.Tensor) -> list[torch.Tensor]:
    size, other = x.abs(), x.flip(0)
    return [x.sin(), x.cos(), x.tan(), x.atan(), x.sinh(), x.asinh(), (size + 1).acosh(), x.tanh().atanh(), x.exp2(), x.expm1(),
            size.log1p(), x.erf(), x.sigmoid(), size.rsqrt(), torch.atan2(x, other), torch.hypot(x, other), size.pow(2.3),
            torch.fmod(x, 0.7), torch.remainder(x, 0.7)]  # fmt: skip


SQUARES, ROWS, TABLE = ("n", 6, 6), ("n", 7, 5), ("n", "m")
IMAGE: tuple[str | int, ...] = ("b", 8, "h", "w")
FUNCTIONS: Mapping[str, tuple[Any, ...]] = {  # the function, and the shape, dtype and largest integer of each operand
    "inv": (lambda x: torch.linalg.inv(make_definite(x)), (SQUARES,)),
    "slogdet": (lambda x: torch.linalg.slogdet(make_definite(x)), (SQUARES,)),
    "lu": (lambda x: torch.linalg.lu(make_definite(x)), (SQUARES,)),
    "cholesky": (lambda x: torch.linalg.cholesky(make_definite(x)), (SQUARES,)),
    "solve": (lambda x: torch.linalg.solve(make_definite(x), x), (SQUARES,)),
    "eigvalsh": (lambda x: torch.linalg.eigvalsh(make_definite(x)), (SQUARES,)),
    "matrix_exp": (lambda x: torch.linalg.matrix_exp(x * 0.1), (SQUARES,)),
    "qr": (lambda x: [factor.abs() for factor in torch.linalg.qr(x)], (ROWS,)),
    "svdvals": (torch.linalg.svdvals, (ROWS,)),
    "svd": (restore, (ROWS,)),
    "pinv": (torch.linalg.pinv, (ROWS,)),
    "lstsq": (lambda x, y: torch.linalg.lstsq(x, y).solution, (("n", 7, 4),), (("n", 7, 2),)),
    "rfft": (torch.fft.rfft, (TABLE,)),
    "irfft": (lambda x: torch.fft.irfft(torch.fft.rfft(x), n=x.shape[-1]), (TABLE,)),
    "fft2": (lambda x: torch.view_as_real(torch.fft.fft2(x)), (("n", 12, 10),)),
    "stft": (lambda x: torch.stft(x, 16, 4, window=torch.hann_window(16), return_complex=True).abs(), (("n", 96),)),
    "sort": (lambda x: torch.sort(x, dim=-1, stable=True), (TABLE,)),
    "topk": (lambda x: torch.topk(x, 3, dim=-1), (TABLE,)),
    "cumulative": (lambda x: (x.cumsum(-1), x.cumprod(-1), x.cummax(-1)[0], x.logcumsumexp(-1)), (TABLE,)),
    "order": (lambda x: (x.median(-1)[0], x.quantile(0.3, dim=-1), x.mode(-1)[0]), (TABLE,)),
    "functions": (compute_functions, (TABLE,)),
    "specials": (compute_specials, (TABLE,)),
    "complex": (lambda x: torch.view_as_real(torch.complex(x, x.flip(0)).exp() * torch.complex(x, x).sqrt()), (TABLE,)),
    "double": (lambda x: [x.softmax(-1), x @ x.mT, x.std(-1, keepdim=True), x.lgamma()], (("n", 12), "float64")),
    "bits": (lambda x: [x ^ (x << 2), x & 7, x >> 1, ~x, x // 3, x % 5, (x * 3).to(torch.uint8), x.to(torch.int16)],
             (TABLE, "int32", 200)),
    "scatter": (lambda x, y: (x.scatter_add(1, y, x), x.gather(1, y), x.scatter_reduce(1, y, x, "amax")),
                (("n", 12),), (("n", 12), "int64", 11)),
    "index_put": (lambda x, y: x.index_put((y,), x[0].expand(y.shape[0], -1), accumulate=True), ((16, 8),), (("n",), "int64", 15)),
    "cdist": (lambda x, y: [torch.cdist(x, y), torch.cdist(x, y, p=1.0)], (("n", "m", 8),), (("n", "m", 8),)),
    "grid_sample": (lambda x, y: [functional.grid_sample(x, y.tanh(), mode, "reflection", False) for mode in ("bilinear", "bicubic")],
                    (("b", 4, "h", "w"),), (("b", 5, 7, 2),)),
    "causal": (lambda x, y: functional.scaled_dot_product_attention(x, y, y, is_causal=True), (("b", 4, "t", 16),), (("b", 4, "t", 16),)),
    "pooling": (lambda x: [functional.max_pool2d(x, 3, 2, 1, ceil_mode=True), functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
                           functional.adaptive_avg_pool2d(x, (5, 3)), functional.lp_pool2d(x.abs() + 0.1, 2, 2)], (IMAGE,)),
    "resizing": (lambda x: [functional.interpolate(x, scale_factor=1.7, mode="bicubic"),
                            functional.interpolate(x, size=(x.shape[-1], x.shape[-2] + 3), mode="bilinear", antialias=True)], (IMAGE,)),
}  # fmt: skip
LAYERS: Mapping[str, tuple[Any, ...]] = {  # the layers, and the shape, dtype and largest integer of the operand
    "convolutions": (lambda: nn.ModuleList([nn.Conv2d(8, 16, 3, groups=4, dilation=2, padding=2), nn.GELU(),
                                            nn.Conv2d(16, 16, 5, groups=16, padding=2),
                                            nn.ConvTranspose2d(16, 8, 4, 2, 1, groups=2)]), IMAGE),
    "convolutions_3d": (lambda: nn.ModuleList([nn.Conv3d(4, 6, 3, padding=1), nn.ConvTranspose3d(6, 2, 3, 2, 1, (1, 0, 1))]),
                        ("b", 4, "d", 8, 6)),
    "norms": (lambda: nn.ModuleList([nn.GroupNorm(4, 8), nn.InstanceNorm2d(8, affine=True), nn.BatchNorm2d(8), nn.LocalResponseNorm(3)]),
              IMAGE),
    "recurrent": (lambda: nn.ModuleList([nn.LSTM(8, 16, 2, bidirectional=True, batch_first=True), nn.GRU(32, 8, batch_first=True)]),
                  ("b", "t", 8)),
    "attention": (lambda: nn.ModuleList([Attended()]), ("b", "t", 32)),
    "mlp": (lambda: nn.ModuleList([nn.Linear(64, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 32), nn.Softmax(-1)]), ("n", 64)),
    "bag": (lambda: nn.ModuleList([nn.EmbeddingBag(50, 16, mode="mean")]), ("n", "m"), "int64", 49),
}  # fmt: skip
RANGES: Ranges = {"n": (3, 32), "m": (4, 40), "b": (2, 8), "t": (2, 48), "d": (4, 12), "h": (8, 48), "w": (8, 48)}


def declare(target: str, operands: Mapping[str, tuple[Any, ...]], factory: Mapping[str, Any] | None = None, loss: bool = False) -> Any:
    """Return the declaration of a model. operands: shape, dtype and largest integer of each."""
    inputs = {}
    for name, (shape, *rest) in operands.items():
        dtype, *largest = rest or ("float32",)
        inputs[name] = {"dtype": dtype, "shape": list(shape)} | ({"fill": {"randint": [1, largest[0]]}} if largest else {})
    used = {dim for shape, *_ in operands.values() for dim in shape if isinstance(dim, str)}
    symbols = {name: dict(zip(("min", "max"), RANGES[name], strict=True)) for name in RANGES if name in used}
    made = {"factory": {"_target_": f"benchmarks.gpu_ops.{target}"} | dict(factory or {}), "inputs": inputs, "symbols": symbols}
    return made | ({"mode": "training", "loss": "output"} if loss else {})


def list_models() -> dict[str, Any]:
    """Return the declarations of all models, by name."""
    made = {}
    for name, (_, *operands) in FUNCTIONS.items():
        target = "Function" if len(operands) == 1 else "Function2"
        made[name] = declare(target, dict(zip(("x", "y"), operands, strict=False)), {"name": name})
    for name, (_, *operand) in LAYERS.items():
        made[name] = declare("Layers", {"x": tuple(operand)}, {"name": name})
    for dtype in ("float16", "bfloat16"):
        made[f"mlp_{dtype}"] = declare("Layers", {"x": (("n", 64),)}, {"name": "mlp", "dtype": dtype})
    for name in ("recurrent", "attention"):
        made[f"{name}_training"] = declare("Layers", {"x": tuple(LAYERS[name][1:])}, {"name": name, "loss": True}, loss=True)
    made["classifier_training"] = declare("Classifier", {"x": (("b", 3, "h", "w"),), "y": (("b",), "int64", 4)}, loss=True)
    made["ctc_training"] = declare("Aligned", {"x": (("t", "b", 6),), "y": (("b", 3), "int64", 8)}, loss=True)
    return made


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    models = list_models()
    for name, model in models.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(model, sort_keys=False), encoding="utf-8")
    suite = {"models": {name: {"model": str((folder / f"{name}.yaml").resolve())} for name in models}}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")
    print(f"{len(models)} models in {folder / 'suite.yaml'}")


if __name__ == "__main__":
    main()
