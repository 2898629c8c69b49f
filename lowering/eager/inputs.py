"""Example inputs of a model for any sizes, seeded and filled as declared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from lowering.model import Model
from lowering.sizes.dims import Affine
from lowering.trees import Input
from lowering.types import DTYPES, NUMBERS

# Sizes of `null` dims: other primes, so that no flexible dim is traced at the size of a symbol (model.EXAMPLES) or of another flexible dim.
FLEXIBLE = (41, 43, 47, 53, 59, 61, 67, 71)


def choose_flexible_sizes(model: Model) -> dict[str, int]:
    """Return the example size of every `null` dim, keyed `input[position]`: the model's own, or a prime that no other dim is traced at."""
    dims = {f"{name}[{position}]": dim for name, declared in model.leaves.items() for position, dim in enumerate(declared.dims())}
    places = [place for place, dim in dims.items() if dim is None]
    if not places:
        return {}
    taken = {*model.examples().values(), *model.traced.values()}
    free = [prime for prime in FLEXIBLE if prime not in taken]
    return {place: model.traced.get(place, free[index % len(free)]) for index, place in enumerate(places)}


def compute_shapes(model: Model, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every input at `sizes`, which gives each symbol's size, and optionally `input[position]` for a `null` dim.

    `null` dims default to their example size. Raises ValueError for missing symbols, unknown keys, and negative dims.
    """
    given = {**choose_flexible_sizes(model), **sizes}
    missing = [symbol for symbol in model.symbols if symbol not in given]
    unknown = [key for key in sizes if key not in model.symbols and key not in choose_flexible_sizes(model)]
    if missing or unknown:
        raise ValueError(f"sizes of model '{model.name}': missing {missing or 'none'}, unknown {unknown or 'none'}")
    found = {}
    for name, declared in model.leaves.items():
        found[name] = tuple(
            given[f"{name}[{position}]"] if dim is None else dim.at(given) if isinstance(dim, Affine) else dim
            for position, dim in enumerate(declared.dims())
        )
        if min(found[name], default=0) < 0:
            raise ValueError(f"input '{name}' of model '{model.name}' has shape {found[name]} at {dict(sizes)}")
    return found


def make(model: Model, sizes: Mapping[str, int], seed: int | None = None) -> dict[str, torch.Tensor]:
    """Create the leaves of the inputs by name at `sizes` (see `compute_shapes`), filled as declared.

    Equal seed (None: the model's), input name and shape give equal values.

    A Python number is a 0-d tensor here. For a SymInt it holds the size of its symbol.
    """
    seed = model.seed if seed is None else seed
    made = {name: fill(model.leaves[name], shape, _create_generator(seed, name)) for name, shape in compute_shapes(model, sizes).items()}
    return made | {name: torch.tensor(sizes[name]) for name in model.ints}


def _create_generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def fill(declared: Input, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Create a tensor of the declared dtype. Default fills: randn for floats and complex, ones for bool, zeros for ints.

    randint and uniform draw from [low, high). arange counts along the last dim. padding is a mask over the last dim: each row holds a
    random number of ones, at least one, followed by zeros.
    """
    dtype = DTYPES[NUMBERS.get(declared.dtype, declared.dtype)].torch
    floating = dtype.is_floating_point or dtype.is_complex
    fill = declared.fill if declared.fill is not None else "randn" if floating else "ones" if dtype is torch.bool else "zeros"
    kind: str
    value: Any
    kind, value = (fill, None) if isinstance(fill, str) else next(iter(fill.items()))
    match kind:
        case "randn":
            drawn = torch.randn(shape, generator=generator, dtype=dtype if dtype.is_complex else torch.float32)
        case "randint":
            drawn = torch.randint(int(value[0]), int(value[1]), shape, generator=generator)
        case "uniform":
            drawn = torch.rand(shape, generator=generator) * (value[1] - value[0]) + value[0]
        case "arange":
            drawn = torch.arange(shape[-1] if shape else 1).expand(shape).clone()
        case "padding":
            lengths = torch.randint(1, max(2, shape[-1] + 1), (*shape[:-1], 1), generator=generator)
            drawn = torch.arange(shape[-1]) < lengths
        case "ones" | "zeros" | "constant":
            drawn = torch.full(shape, {"ones": 1, "zeros": 0}.get(kind, value), dtype=torch.float64 if isinstance(value, float) else None)
        case _:
            raise ValueError(f"'{kind}' is not a fill; check the model by lowering.model_checks.find_problems first")
    return drawn.to(dtype)
