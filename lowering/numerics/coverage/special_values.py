"""Further values for a point: equal elements, ends of ranges, zeros; NaN and infinities; others where a fill or weight never varies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Literal, get_args

import torch

from lowering.eager import inputs
from lowering.model import Model
from lowering.trees import Input

Change = Callable[[Input, torch.Tensor], bool]  # in place, of the rows along the last dim; whether there is anything to change

SetName = Literal["edges", "non-finite", "varied", "weights"]  # the last one is `weight_values.WORD`
SETS: tuple[SetName, ...] = get_args(SetName)
# For programs whose sizes data decide: masks and thresholds that select no, one, or every element (None).
DATA_SETS: Mapping[str, int | None] = {"none": 0, "one": 1, "all": None}


def list_sets(model: Model, made: Mapping[str, torch.Tensor],
              words: tuple[str, ...] = SETS) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Iterate over the kinds of `words` that change an input, with all inputs. Fills stay valid: indices in range, masks of 0 and 1.

    The set of weights changes no input, see `weight_values`.
    """
    changes: dict[str, Change] = {"edges": _put_edges, "non-finite": partial(_put_non_finite, itertools.count()), "varied": _vary,
                                  **{word: partial(_select, count) for word, count in DATA_SETS.items()}}
    for word in (word for word in words if word in changes):
        changed = {name: _change(model.leaves[name], value, changes[word]) for name, value in made.items() if name in model.leaves}
        if any(value is not None for value in changed.values()):
            yield word, {name: value if (new := changed.get(name)) is None else new for name, value in made.items()}


def distinct(model: Model, given: Mapping[str, torch.Tensor], attempt: int) -> dict[str, torch.Tensor]:
    """Draw inputs of the same shapes again. Integers of a range that is large enough are all different."""
    sizes = {name: int(given[name]) for name in model.ints}
    found: dict[str, torch.Tensor] = {}
    for name, value in given.items():
        kind, (low, high) = read_fill(model.leaves[name])
        generator = torch.Generator().manual_seed(7919 * (attempt + 1) + len(found))
        if name in sizes or kind not in ("randn", "uniform", "randint"):
            found[name] = value
        elif kind == "randint" and high - low >= value.numel():
            drawn = torch.randperm(int(high - low), generator=generator)[: value.numel()] + int(low)
            found[name] = drawn.reshape(value.shape).to(value.dtype)
        else:
            found[name] = inputs.fill(model.leaves[name], tuple(value.shape), generator)
    return found


def _change(declared: Input, value: torch.Tensor, change: Change) -> torch.Tensor | None:
    is_single_index = value.numel() == 1 and change is _put_edges and read_fill(declared)[0] == "randint"  # a position: the last one too
    if declared.is_number or (value.numel() < 2 and not is_single_index):
        return None
    rows = value.clone().reshape(-1, value.shape[-1] if value.dim() else 1)
    return rows.reshape(value.shape) if change(declared, rows) else None


def _vary(declared: Input, rows: torch.Tensor) -> bool:
    """Vary what a fill does not: masks get left padding, right padding and holes, positions another order, constants other numbers."""
    kind, _ = read_fill(declared)
    dtype, (count, length) = rows.dtype, rows.shape
    if kind in ("ones", "padding", "zeros") and not dtype.is_floating_point and not dtype.is_complex:
        places, row = torch.arange(length), torch.arange(count)
        lengths = 1 + row[:, None] % max(1, length - 1)
        ways = torch.stack([places >= length - lengths, places < lengths, (places % 2 == 0).expand(count, length)])
        rows.copy_(ways[row % len(ways), row])
        return length > 1
    if kind == "arange":
        rows.copy_(rows.flip(-1))
        return length > 1
    if kind in ("ones", "zeros", "constant") and dtype.is_floating_point and rows.element_size() > 1:
        drawn = torch.rand(rows.shape, generator=torch.Generator().manual_seed(7919))
        rows.copy_(drawn - 0.5 if kind == "zeros" else rows * (drawn + 0.5))
        return True
    return False


def select(model: Model, made: Mapping[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Return inputs whose masks and thresholds select the first `count` elements."""
    changed = {name: _change(model.leaves[name], value, partial(_select, count)) for name, value in made.items() if name in model.leaves}
    return {name: value if (new := changed.get(name)) is None else new for name, value in made.items()}


def _select(count: int | None, declared: Input, rows: torch.Tensor) -> bool:
    """Fill the first `count` elements, or all, with values at the end of what they are drawn from that selects them, and the others with
    those at the other end.
    """
    flat = rows.view(-1)
    chosen = torch.arange(flat.numel()) < (flat.numel() if count is None else count)
    kind, (low, high) = read_fill(declared)
    if rows.dtype is torch.bool or (kind in ("ones", "zeros", "padding") and not rows.dtype.is_floating_point):
        flat.copy_(chosen)
    elif kind == "randint":
        flat.copy_(torch.where(chosen, int(high) - 1, int(low)))
    elif rows.dtype.is_floating_point and kind == "randn":
        flat.copy_((flat.abs() + 1) * torch.where(chosen, 1.0, -1.0))
    elif rows.dtype.is_floating_point and kind == "uniform":
        span = (high - low) / 16
        flat.copy_(torch.where(chosen, high - span, low) + (flat - low) / 16)
    else:
        return False
    return True


def _put_edges(declared: Input, rows: torch.Tensor) -> bool:
    flat = rows.view(-1)
    kind, bounds = read_fill(declared)
    if kind not in ("randn", "uniform", "randint"):
        return False
    flat[1::3] = flat[0].clone()  # equal elements, side by side and along every dim
    if kind == "randn":
        places = flat[2::3]
        for offset, number in enumerate((0.0, -0.0, 1.0, -1.0)):
            places[offset::5] = number
        return True
    low, high = bounds
    if kind == "randint":
        flat[2::6], flat[-1] = int(low), int(high) - 1
    else:
        flat[2::6] = low
    return True


def _put_non_finite(places: Iterator[int], declared: Input, rows: torch.Tensor) -> bool:
    """Put NaN and infinities at elements that differ from one input to the next: an op may pass on those of one operand only."""
    flat = rows.view(-1)
    kind, _ = read_fill(declared)
    if kind != "randn" or flat.is_complex() or flat.element_size() == 1:  # no float of a byte holds all three
        return False
    count, place = flat.numel(), next(places)
    if count > 2:
        flat[(count // 2 + place) % count], flat[(place - 1) % count] = math.inf, -math.inf
    flat[place % count] = math.nan
    return True


def read_fill(declared: Input) -> tuple[str, tuple[float, float]]:
    """Return the kind of values that an input is filled with, and their bounds where the kind has some."""
    fill = declared.fill
    if fill is None:
        is_inexact = "float" in declared.dtype or "complex" in declared.dtype
        return "randn" if is_inexact else "ones" if declared.dtype == "bool" else "zeros", (0, 0)
    if isinstance(fill, str):
        return fill, (0, 0)
    kind, value = next(iter(fill.items()))
    return kind, tuple(value) if kind in ("randint", "uniform") else (0, 0)
