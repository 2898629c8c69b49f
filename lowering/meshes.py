"""Devices as a mesh with named axes: the groups of devices along axes, and the shardings of tensors over them.

A mesh maps axis names to sizes. Device ids are row-major: the last axis varies fastest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

from lowering.errors import Problem, suggest

FRONTEND = "mhlo.frontend_attributes"
SHARDY_RESULT = "xla.sdy.FuncResultSharding"  # target of the custom call that gives a result its sharding
Axes = Mapping[str, int]
Sharding = Sequence[str | None]  # for each dim of a tensor the axis that splits it; further dims are whole


def count_devices(mesh: Axes) -> int:
    return math.prod(mesh.values())


def find_problems(mesh: Axes, place: str) -> list[Problem]:
    """Report each axis without devices."""
    return [Problem(f"{place}.{axis}", f"has {size} devices", "1 or more") for axis, size in mesh.items() if size < 1]


def find_unknown_axes(mesh: Axes, axes: Sequence[str | None], place: str) -> list[Problem]:
    """Report each axis that the mesh does not have, and each that is named twice."""
    named = [axis for axis in axes if axis is not None]
    found = [Problem(place, f"names the axis '{axis}', which the mesh does not have", suggest(axis, mesh) or f"one of {', '.join(mesh)}")
             for axis in named if axis not in mesh]
    twice = dict.fromkeys(axis for axis in named if named.count(axis) > 1)
    return found + [Problem(place, f"names the axis '{axis}' twice", "an axis splits one dim") for axis in twice]


def find_groups(mesh: Axes, axes: Sequence[str]) -> list[list[int]]:
    """Return the groups of device ids that differ only along `axes`."""
    others = [axis for axis in mesh if axis not in axes]
    return [[_find_device(mesh, {**dict(zip(others, rest, strict=True)), **dict(zip(axes, inner, strict=True))})
             for inner in product(*(range(mesh[axis]) for axis in axes))]
            for rest in product(*(range(mesh[axis]) for axis in others))]


def format_sharding(mesh: Axes, dims: Sharding, rank: int) -> str:
    """Format a sharding as `mhlo.sharding` writes it: tiles and the devices that hold them, replicated over the other axes."""
    split = [*dims, *[None] * (rank - len(dims))]
    used = [axis for axis in split if axis is not None]
    if not used:
        return "{replicated}"
    tiles = [mesh[axis] if axis is not None else 1 for axis in split]
    others = [axis for axis in mesh if axis not in used]
    copies = math.prod(mesh[axis] for axis in others)
    devices = [_find_device(mesh, {**dict(zip(used, tile, strict=True)), **dict(zip(others, copy, strict=True))})
               for tile in product(*(range(mesh[axis]) for axis in used)) for copy in product(*(range(mesh[axis]) for axis in others))]
    shape = [*tiles, copies] if copies > 1 else tiles
    last = " last_tile_dim_replicate" if copies > 1 else ""
    return f"{{devices=[{','.join(map(str, shape))}]{','.join(map(str, devices))}{last}}}"


def format_shardy_mesh(mesh: Axes) -> str:
    """Format a mesh of the name `mesh` as XLA's frontend attributes hold it."""
    axes = ", ".join(f'"{axis}"={size}' for axis, size in mesh.items())
    return f"{{mesh = #sdy.mesh<[{axes}]>}}"


def format_shardy(dims: Sharding, rank: int) -> str:
    """Format a sharding over `mesh` as Shardy writes it: the axis that splits each dim, in braces that allow no other."""
    split = [*dims, *[None] * (rank - len(dims))]
    parts = ", ".join("{}" if axis is None else f'{{"{axis}"}}' for axis in split)
    return f"@mesh, [{parts}]"


def _find_device(mesh: Axes, position: Mapping[str, int]) -> int:
    """Return the id of the device at a position."""
    number = 0
    for axis, size in mesh.items():
        number = number * size + position[axis]
    return number
