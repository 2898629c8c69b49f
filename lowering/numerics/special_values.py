"""A second set of inputs for a point: equal elements, ends of ranges, zeros of both signs; and NaN and infinities."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch

from lowering.eager import inputs
from lowering.model import Model
from lowering.trees import Input

SETS = ("edges", "non-finite")


def sets(model: Model, made: Mapping[str, torch.Tensor], words: tuple[str, ...] = SETS) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Each kind of `words` that changes any input, with all inputs. What a fill promises holds: indices stay valid, masks stay masks."""
    for word in words:
        change = _edges if word == "edges" else _non_finite
        changed = {name: _changed(model.leaves[name], value, change) for name, value in made.items() if name in model.leaves}
        if any(value is not None for value in changed.values()):
            yield word, {name: value if (new := changed.get(name)) is None else new for name, value in made.items()}


def distinct(model: Model, given: Mapping[str, torch.Tensor], attempt: int) -> dict[str, torch.Tensor]:
    """Inputs of the same shapes, drawn again; integers of a range that is large enough are all different."""
    sizes = {name: int(given[name]) for name in model.ints}
    found: dict[str, torch.Tensor] = {}
    for name, value in given.items():
        kind, (low, high) = _fill(model.leaves[name])
        generator = torch.Generator().manual_seed(7919 * (attempt + 1) + len(found))
        if name in sizes or kind not in ("randn", "uniform", "randint"):
            found[name] = value
        elif kind == "randint" and high - low >= value.numel():
            drawn = torch.randperm(int(high - low), generator=generator)[: value.numel()] + int(low)
            found[name] = drawn.reshape(value.shape).to(value.dtype)
        else:
            found[name] = inputs.filled(model.leaves[name], tuple(value.shape), generator)
    return found


def _changed(declared: Input, value: torch.Tensor, change: object) -> torch.Tensor | None:
    if declared.is_number or value.numel() < 2:
        return None
    copied = value.clone().reshape(-1)
    return copied.reshape(value.shape) if change(declared, copied) else None  # type: ignore[operator]


def _edges(declared: Input, flat: torch.Tensor) -> bool:
    kind, bounds = _fill(declared)
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


def _non_finite(declared: Input, flat: torch.Tensor) -> bool:
    kind, _ = _fill(declared)
    if kind != "randn" or flat.is_complex() or flat.element_size() == 1:  # no float of a byte holds all three
        return False
    flat[0] = math.nan
    if flat.numel() > 2:
        flat[flat.numel() // 2], flat[-1] = math.inf, -math.inf
    return True


def _fill(declared: Input) -> tuple[str, tuple[float, float]]:
    fill = declared.fill
    if fill is None:
        return ("randn" if "float" in declared.dtype or "complex" in declared.dtype else ""), (0, 0)
    if isinstance(fill, str):
        return fill, (0, 0)
    kind, value = next(iter(fill.items()))
    return kind, tuple(value) if kind in ("randint", "uniform") else (0, 0)
