"""Integers of every width: exact at the ends of their range, and unsigned in control flow and constants."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch._higher_order_ops.while_loop import while_loop

from tests.ops.forms import differences

LARGE = torch.tensor([2**53 + 1, -(2**53) - 1, 2**62 + 3, -(2**62) - 5, 7, -7, 0, 3, -(2**63)])
INT8 = torch.tensor([-128, 127, 6, -9, 0], dtype=torch.int8)
UINT8 = torch.tensor([0, 1, 5, 177, 200, 255], dtype=torch.uint8)


def test_quotients_of_int64_are_exact() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "x // 3": lambda x: x // 3, "x // -3": lambda x: x // -3, "7 // x": lambda x: 7 // (x | 1),
        "x // y": lambda x: x // (x.flip(0) | 5), "div floor": lambda x: torch.div(x, 10, rounding_mode="floor"),
        "floor_divide_": lambda x: x.floor_divide_(7), "x // int32": lambda x: x // torch.tensor(3, dtype=torch.int32),
        "x // True": lambda x: x // True, "div trunc": lambda x: torch.div(x, 3, rounding_mode="trunc"),
    }  # fmt: skip
    assert differences(forms, (("n",),), [(LARGE,), (LARGE[4:7],)], least=1) == []


def test_the_least_int8_has_an_absolute_value_in_wider_types() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "copysign": lambda x: torch.copysign(x, x.flip(0)), "copysign of floats": lambda x: torch.copysign(x, -x.float()),
        "gcd": lambda x: torch.gcd(x, 7 * torch.ones_like(x)), "mean": lambda x: x.mean(0, dtype=torch.float64), "isinf": torch.isinf,
    }  # fmt: skip
    assert differences(forms, (("n",),), [(INT8,), (INT8[:1],)], least=1) == []


@pytest.mark.parametrize("values",
                         [INT8, UINT8, LARGE[:8], torch.tensor([-(2**31), 2**31 - 1, 0, 1, -1, 2, -7, 2**24 + 1], dtype=torch.int32)],
                         ids=lambda values: str(values.dtype))
def test_powers_wrap_for_every_exponent(values: torch.Tensor) -> None:
    forms: dict[str, Callable[..., Any]] = {
        **{f"x ** {exponent}": partial(torch.pow, exponent=exponent) for exponent in (0, 3, 63, 64, 100, 127)},
        **{f"{base} ** x": partial(torch.pow, base) for base in (0, 1, 2, 3, 6)},
        "x ** True": lambda x: x**True, "(x * 1).pow_(2)": lambda x: (x * 1).pow_(2), "x ** y": lambda x: x ** x.flip(0),
    }  # fmt: skip
    if values.dtype.is_signed:
        forms |= {"-1 ** x": partial(torch.pow, -1), "-3 ** x": partial(torch.pow, -3)}
    assert differences(forms, (("n",),), [(values,), (values[:1],)], least=1) == []


def test_numbers_beyond_the_range_of_bytes_wrap() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "x % 300": lambda x: x % 300, "fmod": lambda x: torch.fmod(x, 300), "|": lambda x: x | 300, "x // 300": lambda x: x // 300,
        "x // 3": lambda x: x // 3, "x == 300": lambda x: x == 300,
    }  # fmt: skip
    for values in (INT8, UINT8):
        signed = {"x // -1": lambda x: x // -1, "x // -3": lambda x: x // -3} if values.dtype.is_signed else {}
        assert differences({**forms, **signed}, (("n",),), [(values,), (values[:1],)], least=1) == []


def test_bools_beside_numbers() -> None:
    comparisons = {f"{name} {number}": partial(getattr(torch, name), other=number)
                   for name in ("eq", "ne", "lt", "le", "gt", "ge") for number in (2, -1, 1, 0.5)}  # fmt: skip
    forms: dict[str, Callable[..., Any]] = {
        **comparisons, "x < size": lambda x: x < x.shape[0], "x ** True": lambda x: x**True, "x ** False": lambda x: x**False,
        "3 ** x": lambda x: 3**x,
        **{f"masked_fill {number}": lambda x, number=number: x.masked_fill(x.flip(0), number) for number in (2, 0, 0.5)},
    }  # fmt: skip
    bools = torch.tensor([True, False, True])
    assert differences(forms, (("n",),), [(bools,), (bools[:1],), (bools[1:2],)], least=1) == []


def repeat_in_a_loop(x: torch.Tensor) -> Any:
    def body(count: torch.Tensor, total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return count + 100, total * 3 + x

    return while_loop(lambda count, total: count < 250, body, (torch.zeros((), dtype=torch.uint8), x.clone()))


def choose_a_branch(x: torch.Tensor) -> Any:
    return torch.cond(x.sum() > 300, lambda x: x * 3, lambda x: x + 250, (x,))


def test_bytes_are_unsigned_in_control_flow_and_constants() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "loop": repeat_in_a_loop, "branch": choose_a_branch, "gcd": lambda x: torch.gcd(x, x.flip(0)),
        "lcm": lambda x: torch.lcm(x.clamp(max=9), x.flip(0).clamp(max=9)), "mean": lambda x: x.mean(0, dtype=torch.float64),
        "constant": lambda x: x.new_zeros(3), "constant beside data": lambda x: torch.cat([x, x.new_full((2,), 200)]), "isinf": torch.isinf,
        "copysign": lambda x: torch.copysign(x, x.flip(0)),
    }  # fmt: skip
    assert differences(forms, (("n",),), [(UINT8,), (UINT8[1:3],)], least=1) == []
