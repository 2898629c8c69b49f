"""Updates of parts of tensors: by a mask, whose number of selected elements decides no size of the program, by slices, and of diagonals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lowering.errors import Unsupported
from tests.ops.forms import differences

RANDOM = torch.Generator().manual_seed(0)


def scale(x: torch.Tensor, i: torch.Tensor) -> None:
    x[x > 0] *= 2


def add_a_row(x: torch.Tensor, i: torch.Tensor) -> None:
    x[x[:, 0] > 0] += x[0]


def scale_columns(x: torch.Tensor, i: torch.Tensor) -> None:
    x[:, x[0].abs() > 0.5] *= 3


def write_elements_of_others(x: torch.Tensor, i: torch.Tensor) -> None:
    mask = i > 1
    x[mask] = x.flip(0)[mask] * 2 - i[mask].float()


def compute_in_another_dtype(x: torch.Tensor, i: torch.Tensor) -> None:
    mask = x[:, 0] > 0
    x[mask] = (x[mask].exp() + 1).to(torch.float64).sqrt().to(torch.float32)


def update_nothing(x: torch.Tensor, i: torch.Tensor) -> None:
    x[i == 99] -= 1


def update_twice(x: torch.Tensor, i: torch.Tensor) -> None:
    mask = i > 1
    x[mask] = x[mask].clamp(-1, 1)
    x[mask] *= x.nan_to_num(0, 0, 0).sum()


def divide_integers(x: torch.Tensor, i: torch.Tensor) -> None:
    i[i > 1] //= 2
    x += i


def choose(x: torch.Tensor, i: torch.Tensor) -> None:
    mask = i > 1
    x[mask] = torch.where(x[mask] > 0, x[mask], 0.1)


def compute_the_mask_again(x: torch.Tensor, i: torch.Tensor) -> None:
    x[(i > 1) & (x < 1)] = x[(i > 1) & (x < 1)] * 2 + 1
    x[x > 3] = x[x > 3] - i[x > 3]


def write_the_mask_in_between(x: torch.Tensor, i: torch.Tensor) -> None:
    x[i > 1] = x[i > 1] * 2
    i -= 1
    x[i > 1] = x[i > 1] - 5


def shift(x: torch.Tensor, i: torch.Tensor) -> None:
    x[:, 1:] = i[:, :-1]


def write_every_second(x: torch.Tensor, i: torch.Tensor) -> None:
    x[::2] = i[1::2].sum()
    x[:, ::2].copy_(i[:, ::2])


def fill_diagonals(x: torch.Tensor, i: torch.Tensor) -> None:
    x.fill_diagonal_(3)
    i.fill_diagonal_(-1, wrap=True)
    x -= i


PLACES = (shift, write_every_second, fill_diagonals)
UPDATES = (scale, add_a_row, scale_columns, write_elements_of_others, compute_in_another_dtype, update_nothing, update_twice,
           divide_integers, choose, compute_the_mask_again, write_the_mask_in_between)


def write(update: Callable[[torch.Tensor, torch.Tensor], None]) -> Callable[..., torch.Tensor]:
    def apply(x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        update(x, i)
        return x

    return apply


def tensors(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(rows, columns, generator=RANDOM)
    x.flatten()[::7] = float("nan")
    return x, torch.randint(0, 4, (rows, columns), generator=RANDOM)


def test_updates_select_between_new_and_old_elements() -> None:
    forms = {update.__name__: write(update) for update in UPDATES}
    assert differences(forms, (("n", "m"), ("n", "m")), [tensors(4, 5), tensors(3, 6), tensors(2, 2)], least=2) == []


def test_parts_are_written_at_all_sizes() -> None:
    forms = {update.__name__: write(update) for update in PLACES}
    assert differences(forms, (("n", "m"), ("n", "m")), [tensors(4, 5), tensors(7, 2), tensors(1, 1), tensors(2, 3)], least=1) == []


def test_what_reads_the_number_of_selected_elements_is_refused() -> None:
    def center(x: torch.Tensor) -> torch.Tensor:
        x[x > 0] -= x[x > 0].sum() / 2
        return x

    with pytest.raises(Unsupported, match="depends on the values"):
        differences({"center": center}, (("n", "m"),), [tensors(4, 5)[:1]], least=2)


def test_a_read_by_another_mask_is_refused() -> None:
    def swap(x: torch.Tensor) -> torch.Tensor:
        x[x > 0] = x[x < 0]
        return x

    with pytest.raises(Unsupported, match="depends on the values"):
        differences({"swap": swap}, (("n", "m"),), [tensors(4, 5)[:1]], least=2)
