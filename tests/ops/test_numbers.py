"""The numbers of eager at the limits of ops: sizes 0 and 1, NaN, infinities, zeros of both signs, and the ends of a dtype's range."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.export import Dim
from torch.nn import functional

import shapeline
from tests.ops.forms import differences
from tests.ops.values import BYTES, INF, INTS, NAN, VALUES, pairs

normal = partial(torch.randn, generator=torch.Generator().manual_seed(0))
DIVISIONS: dict[str, Callable[..., Any]] = {
    "x // y": lambda x, y: x // y,
    "floor_divide": torch.floor_divide,
    "div floor": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "div trunc": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
    "div_ floor": lambda x, y: x.float().div_(y, rounding_mode="floor"),
    "x // 0.1": lambda x, y: x // 0.1,
    "x // -3": lambda x, y: x // -3,
    "7 // y": lambda x, y: 7 // y,
    "div 0.1 floor": lambda x, y: torch.div(x, 0.1, rounding_mode="floor"),
    "div 0.1 trunc": lambda x, y: torch.div(x, 0.1, rounding_mode="trunc"),
    "x % y": lambda x, y: x % y,
    "7 % y": lambda x, y: 7 % y,
    "x % -3": lambda x, y: x % -3,
    "fmod": torch.fmod,
    "fmod -4": lambda x, y: torch.fmod(x, -4),
}
FLOATS: dict[str, Callable[..., Any]] = {
    "1.0 // y": lambda x, y: 1.0 // y,
    "floor_divide_": lambda x, y: x.floor_divide_(y),
    "x // 0.0": lambda x, y: x // 0.0,
    "x // inf": lambda x, y: x // INF,
    "x % 0.7": lambda x, y: x % 0.7,
    "x % inf": lambda x, y: x % INF,
    "fmod 0.7": lambda x, y: torch.fmod(x, 0.7),
    "remainder_": lambda x, y: x.remainder_(y),
    "fmod_": lambda x, y: x.fmod_(y),
}


def test_division_of_floats() -> None:
    x, y = pairs(VALUES, VALUES)
    points = [(x, y), (x[:1], y[:1]), (x[:0], y[:0]), (torch.tensor([1.0]), torch.tensor([0.1]))]
    assert differences({**DIVISIONS, **FLOATS}, (("n",), ("n",)), points) == []


def test_division_of_integers() -> None:
    x, y = pairs(INTS, INTS[INTS != 0])
    assert differences({**DIVISIONS, "x % 0.7": lambda x, y: x % 0.7}, (("n",), ("n",)), [(x, y), (x[:1], y[:1])]) == []


def test_sums_of_halves_round_the_number_first() -> None:
    x = torch.tensor([60000.0, -60000.0, 0.0, INF, NAN]).half()
    forms = {"x + 70000": lambda x: x + 70000, "x - 70000": lambda x: x - 70000, "70000 - x": lambda x: 70000 - x,
             "x + 1e-8": lambda x: x + 1e-8}
    assert differences(forms, (("n",),), [(x,), (x[:1],)], least=1) == []


def test_division_of_halves() -> None:
    values = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.1, 300.0, 65504.0, -65504.0, INF, NAN]).half()
    x, y = pairs(values, values)
    forms = {name: form for name, form in {**DIVISIONS, **FLOATS}.items() if name != "div_ floor"}
    assert differences(forms, (("n",), ("n",)), [(x, y)]) == []


def test_a_loss_of_halves_is_rounded_once() -> None:
    losses = (functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss, functional.huber_loss)
    forms = {f"{loss.__name__} {reduction}": partial(loss, reduction=reduction) for loss in losses for reduction in ("mean", "sum")}
    forms |= {"each": partial(functional.mse_loss, reduction="none"),
              "mean of parts": lambda x, y: functional.adaptive_avg_pool3d(x[None], 3)}
    x, y = (20 + normal(9, 7, 11)).half(), normal(9, 7, 11).half()
    assert differences(forms, (("a", "b", "c"),) * 2, [(x, y), (x[:4, :5, :6].contiguous(), y[:4, :5, :6].contiguous())], least=3) == []


STEPS: dict[str, Callable[..., torch.Tensor]] = {
    **{name: getattr(functional, name) for name in (
        "elu", "selu", "celu", "silu", "mish", "softplus", "hardswish", "hardsigmoid", "leaky_relu", "rrelu", "logsigmoid", "glu")},
    "elu with numbers": lambda x: functional.elu(x, 0.7), "addcmul": lambda x: torch.addcmul(x, x, x.flip(0), value=0.3),
    "addcdiv": lambda x: torch.addcdiv(x, x, 1 + x.flip(0).abs()), "hypot": lambda x: torch.hypot(x, x.flip(0)),
    "logaddexp": lambda x: torch.logaddexp(x, x.flip(0)), "layer_norm": lambda x: functional.layer_norm(x, (64,), x[0], x[1]),
    "layer_norm of dims": lambda x: functional.layer_norm(x[:, None], (1, 64)),
    "layer_norm of large numbers": lambda x: functional.layer_norm(9000 * x, (64,)),
    "avg_pool1d": lambda x: functional.avg_pool1d(x, 3),
    "avg_pool2d": lambda x: functional.avg_pool2d(20000 * x.reshape(1, -1, 8, 8), 3, padding=1),
    "avg_pool2d with ceil_mode": lambda x: functional.avg_pool2d(x.reshape(1, -1, 8, 8), 3, ceil_mode=True), "deg2rad": torch.deg2rad,
    "batch_norm": lambda x: functional.batch_norm(x, x[0], x[1].abs() + 0.1, x[2], x[3]),
}  # fmt: skip


class Steps(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [function(x) for function in STEPS.values()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_steps_in_halves_are_rounded_once(dtype: torch.dtype) -> None:
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    lowered = shapeline.lower(Steps(), (x,), dynamic_shapes=({0: Dim("n", min=4, max=200)},))
    found = zip(STEPS, lowered(x), Steps()(x), strict=True)
    assert [name for name, got, want in found if not torch.isclose(got, want, rtol=1e-5, atol=0).float().mean() > 0.98] == []


def test_small_numbers_keep_their_digits() -> None:
    x = torch.tensor([-1e-4, -3e-6, -1e-9, -1e-30, 0.0, 1e-7, NAN, -INF, INF, -3.0])
    forms = {"elu": lambda x: functional.elu(x) * 1e9, "selu": lambda x: functional.selu(x) * 1e9,
             "celu": lambda x: functional.celu(x, 2.0) * 1e9}
    assert differences(forms, (("n",),), [(x,), (x[:1],)], least=1) == []


def scaled(op: Callable[..., torch.Tensor], beta: float, alpha: float, dropped: int) -> Callable[..., torch.Tensor]:
    """`op` with NaN in the operand that a factor of 0 drops: the tensor (0), or the first of the product (1)."""
    shapes = {torch.addmm: (2, 2), torch.addmv: (1, 2), torch.addr: (2, 1), torch.addbmm: (2, 3), torch.baddbmm: (3, 3)}[op]
    last = {torch.addmm: 2, torch.addmv: 1, torch.addr: 1, torch.addbmm: 3, torch.baddbmm: 3}[op]

    def apply(x: torch.Tensor) -> torch.Tensor:
        of = {1: x[0, 0], 2: x[0], 3: x}
        operands = [of[shapes[0]], of[shapes[1]], of[last]]
        operands[dropped] = torch.full_like(operands[dropped], NAN)
        return op(*operands, beta=beta, alpha=alpha)

    return apply


def test_a_factor_of_0_drops_its_operand() -> None:
    ops = (torch.addmm, torch.addmv, torch.addr, torch.addbmm, torch.baddbmm)
    forms = {f"{op.__name__} beta={beta} alpha={alpha} NaN in {dropped}": scaled(op, beta, alpha, dropped)
             for op in ops for beta, alpha, dropped in ((0, 1, 0), (0, 2, 0), (0, 0, 0), (1, 0, 1), (2, 0, 1), (0, 0, 1), (2, 3, 0))}
    x = normal(3, 4, 4)
    assert differences(forms, (("b", "n", "n"),), [(x,), (x[:1, :1, :1],), (x[:2, :3, :3],)], least=1) == []


def test_constants_are_not_merged_beyond_the_range() -> None:
    halves = torch.tensor([0.0, 1.0, -2.0, 1e-3, 1e-4, 0.5, 3.3, 200.0, INF, NAN]).half()
    floats = torch.tensor([0.0, 0.01, 1e-30, 1.0, 3e5, -7e37, 1e38, INF, NAN, -5.0])
    forms: dict[str, Callable[..., Any]] = {
        "h * 300 * 300": lambda h, x: h * 300 * 300,
        "300 * (300 * h)": lambda h, x: 300 * (300 * h),
        "h / 300 / 300 * 90000": lambda h, x: h / 300 / 300 * 90000,
        "h * 1e5": lambda h, x: h * 1e5,
        "h / 1e5": lambda h, x: h / 1e5,
        "h + 1e5": lambda h, x: h + 1e5,
        "h * 1e-8": lambda h, x: h * 1e-8,
        "h + 2048 - 2048": lambda h, x: h + 2048 - 2048,
        "x * 1e30 * 1e10": lambda h, x: x * 1e30 * 1e10,
        "x * 1e30 / 1e30": lambda h, x: x * 1e30 / 1e30,
        "x / 1e30 / 1e30": lambda h, x: x / 1e30 / 1e30,
        "x * 1e20 * 1e10 * 1e10": lambda h, x: x * 1e20 * 1e10 * 1e10,
        "x + 1e30 - 1e30": lambda h, x: x + 1e30 - 1e30,
        "rounded by an offset": lambda h, x: x + 12582912.0 - 12582912.0,
        "x * 3 / 3": lambda h, x: x * 3 / 3,
    }
    assert differences(forms, (("n",), ("n",)), [(halves, floats), (halves[:1], floats[:1])]) == []


class Factors(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x * 0.1, 3.3 * x, x / 0.7, x * 10000, x * x.shape[0] ** -0.5, x + 0.1, x - 3.3, x * 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_factors_of_halves_are_not_rounded_and_terms_are(dtype: torch.dtype) -> None:
    x = torch.randn(100, generator=torch.Generator().manual_seed(0)).to(dtype)
    lowered = shapeline.lower(Factors(), (x,), dynamic_shapes=({0: Dim("n", min=1, max=200)},))
    assert all(map(torch.equal, lowered(x), Factors()(x)))


def product(equation: str, count: int) -> Callable[..., torch.Tensor]:
    return lambda q, m: torch.einsum(equation, *[q] * count)


def test_einsum() -> None:
    one = "bhid->bd bhid->b bhid-> bhid->dbih bhid ...id->...d b...->b bhid->hi"
    two = "bhid,bhjd->bhd bhid,bhjd->bhij bhid,bhid-> bhid,bhid->bh bhid,chid->bc bhid,bhid->bhid ...id,...jd->...ij bhid,ahjd->d"
    three = "bhid,bhjd,bhkd->bhijk bhid,bhid,bhid->b bhid,bhjd,bhjd->bhi"
    forms = {equation: product(equation, count) for count, text in enumerate((one, two, three), 1) for equation in text.split()}
    square = "ii ii->i ij->j ij,kl-> ii,ij->ij ij,jk,kl->il ii,jj->ij i...->..."
    for equation in square.split():
        forms[equation] = lambda q, m, e=equation: torch.einsum(e, *[m] * (e.count(",") + 1))
    for equation in ("bii->b", "bii->bi", "bii->ib", "bii->", "...ii->...i", "bij->j"):
        forms[equation] = lambda q, m, e=equation: torch.einsum(e, m[None])
    forms |= {"ij,jk": lambda q, m: torch.einsum("ij,jk", m, m), "i,i": lambda q, m: torch.einsum("i,i", m[0], m[-1]),
              "ij,j": lambda q, m: torch.einsum("ij,j", m, m[0]),
              "i,j->ij": lambda q, m: torch.einsum("i,j->ij", m[0], m[-1]), "size 1": lambda q, m: torch.einsum("ij,jk->ik", m[:, :1], m),
              "path": lambda q, m: torch.ops.aten.einsum("ij,jk,kl->il", [m, m, m], path=[1, 2, 0, 1])}
    q, m = normal(2, 3, 5, 4), normal(6, 6)
    points = [(q, m), (q[:1, :1, :1, :2], m[:1, :1]), (q[:, :, :, :3], m[:2, :2]), (q[:, :, :3], m[:3, :3])]
    assert differences(forms, (("b", "h", "s", "d"), ("n", "n")), points, least=1) == []


SCALARS: dict[str, Callable[..., Any]] = {
    "x * True": lambda x, y: x * True, "x + True": lambda x, y: x + True, "x == True": lambda x, y: x == True,  # noqa: E712
    "x << 2": lambda x, y: x << 2, "x >> 2": lambda x, y: x >> 2, "x << y": lambda x, y: x << y % 3, "x >> y": lambda x, y: x >> y % 3,
    "1 << y": lambda x, y: 1 << y % 5, "64 >> y": lambda x, y: 64 >> y % 5, "<<=": lambda x, y: x.__ilshift__(2),
    ">>=": lambda x, y: x.__irshift__(2), "bitwise_left_shift": lambda x, y: torch.bitwise_left_shift(x, 2),
    "bitwise_right_shift": lambda x, y: torch.bitwise_right_shift(x, y % 5), "x ^ 5": lambda x, y: x ^ 5, "5 ^ x": lambda x, y: 5 ^ x,
    "x & 6": lambda x, y: x & 6, "x | 9": lambda x, y: x | 9, "^=": lambda x, y: x.__ixor__(5),
    "clamp by floats": lambda x, y: x.clamp(-1.5, 2.5), "clamp_min": lambda x, y: torch.clamp_min(x, 1.5),
    "clamp_max": lambda x, y: torch.clamp_max(x, 1.5), "fmod 0.7": lambda x, y: torch.fmod(x, 0.7), "x % 0.7": lambda x, y: x % 0.7,
    "7.5 % y": lambda x, y: 7.5 % y, "7 % y": lambda x, y: 7 % y, "7.5 // y": lambda x, y: 7.5 // y,
    "prims.prod": lambda x, y: torch.ops.prims.prod(x % 2 + 1, [0]), "copysign": lambda x, y: torch.copysign(x, -1.0),
    "xlogy": lambda x, y: torch.xlogy(x, 2), "xlog1py": lambda x, y: torch.special.xlog1py(0, y),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8])
def test_numbers_with_integers(dtype: torch.dtype) -> None:
    values = BYTES if dtype is torch.uint8 else INTS[:-1].to(dtype)
    x, y = pairs(values, values[values != 0])
    assert differences(SCALARS, (("n",), ("n",)), [(x, y), (x[:1], y[:1])], least=1) == []


def test_logarithms_of_nothing_and_other_functions() -> None:
    x, y = pairs(VALUES, VALUES)
    forms: dict[str, Callable[..., Any]] = {
        "kl_div": partial(functional.kl_div, reduction="none"), "kl_div log": partial(functional.kl_div, reduction="none", log_target=True),
        "xlogy": torch.xlogy, "xlogy_": lambda x, y: x.xlogy_(y), "0 log y": lambda x, y: torch.xlogy(0, y),
        "x log 0": lambda x, y: torch.xlogy(x, 0), "xlog1py": torch.special.xlog1py,
        "x log1p -1": lambda x, y: torch.special.xlog1py(x, -1.0), "entr": lambda x, y: torch.special.entr(x),
        "softshrink": lambda x, y: functional.softshrink(x), "hardshrink": lambda x, y: functional.hardshrink(x),
        "threshold": lambda x, y: functional.threshold(x, 0.3, 0.2), "x ** 0.5": lambda x, y: x**0.5, "x ** -0.5": lambda x, y: x**-0.5,
        "addcmul": lambda x, y: torch.addcmul(x, y, y, value=0), "addcdiv": lambda x, y: torch.addcdiv(x, y, y, value=1e-10),
        "logsigmoid": lambda x, y: functional.logsigmoid(x * 50), "i0": lambda x, y: torch.special.i0(x.clamp(-3e38, 3e38)),
        "lerp to the end": lambda x, y: torch.lerp(x, y, 1.0), "lerp by a tensor": lambda x, y: torch.lerp(x, y, x.isnan().float()),
    }  # fmt: skip
    assert differences(forms, (("n",), ("n",)), [(x, y), (x[:1], y[:1]), (x[:0], y[:0])]) == []


@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])
def test_divergence_from_a_target_that_is_0(reduction: str) -> None:
    target = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    forms = {"kl_div": partial(functional.kl_div, reduction=reduction), "bce": lambda x, y: functional.binary_cross_entropy(y, y.flip(1))}
    assert differences(forms, (("n", 3), ("n", 3)), [(normal(3, 3), target), (normal(1, 3), target[:1])], least=1) == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_angles_have_the_digits_and_dtype_of_the_tensor(dtype: torch.dtype) -> None:
    values = torch.tensor([0.0, -0.0, 3.0, -2.0, *(() if dtype is torch.int64 else (INF, -INF, NAN))]).to(dtype)
    forms = {"angle": torch.angle, "rad2deg": torch.rad2deg, "deg2rad": torch.deg2rad}
    assert differences(forms, (("n",),), [(values,), (values[:1],), (values[:0],)]) == []
