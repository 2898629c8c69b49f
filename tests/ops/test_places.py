"""Reads and writes at indices, slices and positions: eager's numbers at sizes from 0 on, for every kind of element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.ops.forms import differences

NAN = float("nan")
RANDOM = torch.Generator().manual_seed(0)


def assigned(place: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """`cache[place] = rows` in place."""

    def assign(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return place(cache, rows, at) or cache

    return assign


def put(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
    cache[:, :, at] = rows


def put_before(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
    cache[:, :, at - 9] = rows


def put_number(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
    cache[:, at % 2] = 1


def put_steps(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
    cache[:, :, 1::4] = rows[:, :, :1]


def put_head(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
    cache[:, -1, at] = rows[:, 0]


def put_last(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
    cache[:, :, -1] = rows[:, :, 0]


def put_pairs(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
    cache[torch.arange(cache.shape[0])[:, None], :, at] = rows.transpose(1, 2)


def put_pairs_of_one(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
    cache[torch.arange(cache.shape[0]), :, at.sum()[None] % 9] = rows[:, :, 0]


def put_apart(cache: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
    cache[0:1, :, at, 0] = rows[0:1, :, :, 0]


def index_of(at: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return at[None, None, :, None].expand(like.shape)


WRITES: dict[str, Callable[..., torch.Tensor]] = {
    **{form.__name__: assigned(form) for form in (put, put_before, put_number, put_steps, put_head, put_last, put_pairs,
                                                  put_pairs_of_one, put_apart)},
    "index_copy": lambda cache, rows, at: cache.index_copy(2, at, rows),
    "index_copy from a start": lambda cache, rows, at: cache.index_copy(2, torch.arange(rows.shape[2]) + at.sum() % 3, rows),
    "index_copy from a size": lambda cache, rows, at: cache.index_copy(-2, torch.arange(rows.shape[2]) + rows.shape[0], rows),
    "index_copy of a row": lambda cache, rows, at: cache.index_copy(0, torch.zeros(1, dtype=torch.int64),
                                                                    rows[:1, :, :1].expand(-1, -1, 9, -1)),
    "scatter": lambda cache, rows, at: cache.scatter(2, index_of(at, rows), rows),
    "scatter a number": lambda cache, rows, at: cache.scatter(2, index_of(at, rows), 1),
    "scatter elements": lambda cache, rows, at: cache.scatter(2, (index_of(at, rows) + torch.arange(2)[:, None, None]) % 9, rows),
    "scatter into a part": lambda cache, rows, at: cache.scatter(2, index_of(at, rows)[:, :1], rows[:, :1]),
    "index_put": lambda cache, rows, at: cache.index_put((torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)),
                                                         rows[0, 0, 0]),
    "index_put accumulated": lambda cache, rows, at: torch.ops.aten.index_put(cache, [None, None, at % 2], rows, True),
    "index_put by a mask": lambda cache, rows, at: cache.index_put((cache == cache,), torch.ones((), dtype=cache.dtype)),
    "index_add": lambda cache, rows, at: cache.index_add(2, at % 3, rows),
    "index_fill": lambda cache, rows, at: cache.index_fill(2, at - 9, 1),
    "select_scatter": lambda cache, rows, at: torch.select_scatter(cache, rows[:, :, 0], 2, -3),
    "slice_scatter": lambda cache, rows, at: torch.slice_scatter(cache, rows, 2, -8, rows.shape[2] - 8),
    "slice_scatter in steps": lambda cache, rows, at: torch.slice_scatter(cache, cache[:, :, 1:8:3].flip(0), 2, 1, 8, 3),
    "slice_scatter of nothing": lambda cache, rows, at: torch.slice_scatter(cache, rows[:, :, :0], 2, 5, 5),
    "slice_scatter of all": lambda cache, rows, at: torch.slice_scatter(cache, cache.flip(2), 2),
}  # fmt: skip
READS: dict[str, Callable[..., torch.Tensor]] = {
    "index_select": lambda cache, rows, at: cache.index_select(2, at),
    "cache[:, :, at]": lambda cache, rows, at: cache[:, :, at],
    "cache[:, :, at - 9]": lambda cache, rows, at: cache[:, :, at - 9],
    "cache[at % b, :, at]": lambda cache, rows, at: cache[at % cache.shape[0], :, at],
    "cache[at, at]": lambda cache, rows, at: cache.transpose(0, 2)[at, at % 2],
    "cache[:, 1, at, 0]": lambda cache, rows, at: cache[:, torch.tensor(1), at, 0],
    "cache[every, :, last]": lambda cache, rows, at: cache[torch.arange(cache.shape[0]), :, at.sum()[None] % 9],
    "cache[table]": lambda cache, rows, at: cache[:, :, (at[:, None] + torch.arange(3)) % 9],
    "gather": lambda cache, rows, at: cache.gather(2, index_of(at, rows)),
    "gather elements": lambda cache, rows, at: cache.gather(2, (index_of(at, rows) + torch.arange(2)[:, None, None]) % 9),
    "gather of a part": lambda cache, rows, at: cache.gather(2, index_of(at, rows)[:, :1]),
    "gather of a turned part": lambda cache, rows, at: cache.gather(2, index_of(at, rows)).transpose(0, 3),
    "positions": lambda cache, rows, at: torch.nn.functional.embedding(torch.arange(rows.shape[2])[None] + 1, cache.flatten(0, 2)[:9]),
    "embedding": lambda cache, rows, at: torch.nn.functional.embedding(at[None], cache[0, 0]),
    "cache[at[0]]": lambda cache, rows, at: cache[:, :, at.sum() % 9],
}  # fmt: skip
MASKED: dict[str, Callable[..., torch.Tensor]] = {
    "masked_scatter": lambda cache, rows, at: cache.masked_scatter(cache > 0, cache.flip(2) * 2),
    "masked_scatter of rows": lambda cache, rows, at: cache.masked_scatter(cache[:, :, :, :1] > 0, cache[0].expand(cache.shape)),
    "masked_scatter_": lambda cache, rows, at: cache.masked_scatter_(cache.isnan(), cache.flatten() * 2),
    "add to one place": lambda cache, rows, at: cache.scatter(2, index_of(at % 2, rows), rows, reduce="add"),
    "multiply one place": lambda cache, rows, at: cache.scatter(2, index_of(at % 2, rows), rows, reduce="multiply"),
    "multiply by a number": lambda cache, rows, at: cache.scatter(2, index_of(at % 2, rows), 2.5, reduce="multiply"),
    "product with a mask": lambda cache, rows, at: cache * (cache > 0),
    "product with a mask of rows": lambda cache, rows, at: (cache[..., :1] > 0).to(cache.dtype) * (cache / 0),
}  # fmt: skip
DIMS = (("b", 2, 9, "d"), ("b", 2, "n", "d"), ("n",))
EVERY_DTYPE = ("put_before", "put_pairs", "put_apart", "index_copy from a start", "scatter", "index_put accumulated", "slice_scatter",
               "cache[:, :, at - 9]", "cache[at % b, :, at]", "gather")  # fmt: skip


def tensors(b: int, n: int, d: int) -> tuple[torch.Tensor, ...]:
    """A cache and rows, with NaN in both, and distinct positions, in no order."""
    cache, rows = (torch.randn(b, 2, size, d, generator=RANDOM) * 3 for size in (9, n))
    cache.flatten()[::7], rows.flatten()[::5] = NAN, NAN
    return cache, rows, torch.randperm(9, generator=RANDOM)[:n]


def cast(form: Callable[..., torch.Tensor], dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    """`form` of a cache and rows of another dtype; of bools, what is positive."""

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        if dtype.is_complex:
            return torch.complex(tensor, tensor.flip(0)).to(dtype)
        return (tensor > 0).to(dtype) if not dtype.is_floating_point else tensor.to(dtype)

    return lambda cache, rows, at: form(convert(cache), convert(rows), at)


def test_reads_and_writes_have_the_numbers_of_eager() -> None:
    points = [tensors(*sizes) for sizes in ((3, 4, 5), (1, 1, 1))]
    assert differences({**WRITES, **READS, **MASKED}, DIMS, points, least=1) == []


def test_nothing_is_read_and_written() -> None:
    forms = {name: {**WRITES, **READS}[name]
             for name in ("put", "index_copy from a start", "scatter", "slice_scatter", "cache[:, :, at]", "gather")}
    assert differences(forms, DIMS, [tensors(3, 4, 5), tensors(2, 0, 3), tensors(2, 3, 0), tensors(0, 3, 2)]) == []


def test_every_dtype_is_read_and_written() -> None:
    forms = {f"{name} of {dtype}": cast({**WRITES, **READS}[name], dtype) for name in EVERY_DTYPE
             for dtype in (torch.float64, torch.bool, torch.complex64)}
    assert differences(forms, DIMS, [tensors(3, 4, 5)], least=1) == []


def test_bits_as_another_dtype() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "same width": lambda x: x.view(torch.int32), "and back": lambda x: ((x.view(torch.int32) & 0x7FFFFFFF) >> 1).view(torch.float32),
        "bytes": lambda x: x.view(torch.uint8), "halves": lambda x: x.view(torch.int16), "wider": lambda x: x.view(torch.int64),
        "complex": lambda x: torch.view_as_real(x.view(torch.complex64)).flip(-1), "mask": lambda x: (x > 0).view(torch.uint8),
        "of halves": lambda x: x.half().view(torch.int32), "first places": lambda x: torch.nonzero_static(x > 0, size=5, fill_value=-2),
    }  # fmt: skip
    x = torch.randn(3, 8, generator=RANDOM)
    x[0, :4] = torch.tensor([NAN, float("inf"), -0.0, -float("inf")])
    assert differences(forms, (("n", 8),), [(x,), (x[:1],), (x[:0],)]) == []
    whole = {name: forms[name] for name in ("same width", "bytes", "halves")}
    assert differences(whole, (("n", "m"),), [(x,), (x[:2, :5].contiguous(),)]) == []
