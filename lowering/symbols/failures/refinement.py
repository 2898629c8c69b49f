"""Turn the fixes that torch suggests for a failed export into changes of the model's YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lowering.fx.dynamic_shapes import PHANTOM
from lowering.model import Model
from lowering.sizes.dims import Affine, parse_dim
from lowering.sizes.ranges import round_down, round_up
from lowering.symbols.schema import Fix
from lowering.trees import iterate

_DIM = re.compile(r"^Dim\('\w+'(?:, min=(?P<min>\d+))?(?:, max=(?P<max>\w+))?\)$")


def refine(model: Model, fixes: tuple[Fix, ...]) -> dict[str, Any]:
    """Return the `symbols` and `inputs.*.shape` that the fixes change, or nothing if a fix cannot be read."""
    named = {fix.name: fix.spec for fix in fixes if fix.name}
    symbols: dict[str, dict[str, int | None]] = {}
    words: dict[str, int | str] = {}
    for name, spec in named.items():
        symbol = _find_symbol(model, name)
        if symbol is None:
            continue  # a root that torch invented; the fix that uses it is read below
        step = model.symbols[symbol].multiple_of if name.startswith(PHANTOM) and name not in model.symbols else 1
        match = _DIM.match(spec)
        if match:
            symbols[symbol] = _write_range(model, symbol, match, step)
            continue
        try:
            dim = parse_dim(spec)
        except ValueError:
            return {}
        if isinstance(dim, int):
            words[symbol] = dim * step
        elif isinstance(dim, Affine) and dim.symbol in model.symbols:
            words[symbol] = str(dim)
        elif isinstance(dim, Affine) and not dim.offset:
            symbols[symbol] = _round_range(model, symbol, dim, named.get(dim.symbol, ""))
        else:
            return {}
    return {key: value for key, value in (("symbols", symbols), ("inputs", _list_shapes(model, words))) if value}


def _find_symbol(model: Model, name: str) -> str | None:
    """Return the model's symbol for the name of a Dim, which may be the root of a `multiple_of`."""
    if name in model.symbols:
        return name
    root = name.removeprefix(PHANTOM)
    return root if root in model.symbols and model.symbols[root].multiple_of > 1 else None


def _write_range(model: Model, symbol: str, match: re.Match[str], step: int) -> dict[str, int | None]:
    now = model.symbols[symbol]
    lower = int(match["min"]) * step if match["min"] else now.min
    upper = int(match["max"]) * step if (match["max"] or "").isdigit() else now.max
    return {"min": lower, "max": upper, **({"multiple_of": now.multiple_of} if now.multiple_of > 1 else {})}


def _round_range(model: Model, symbol: str, dim: Affine, root: str) -> dict[str, int | None]:
    now, match = model.symbols[symbol], _DIM.match(root)
    step = dim.scale * now.multiple_of
    lowest = int(match["min"]) * dim.scale if match and match["min"] else now.min
    return {"min": max(lowest, round_up(now.min, step)), "max": None if now.max is None else round_down(now.max, step), "multiple_of": step}


def _list_shapes(model: Model, words: Mapping[str, int | str]) -> dict[str, Any]:
    """Return the shapes in which a symbol became an int or an expression of another symbol."""
    changed: dict[str, Any] = {}
    for leaf in iterate(model.trees):
        declared = leaf.declared
        shape = [_substitute(dim, words) if isinstance(parsed, Affine) and parsed.symbol in words else dim
                 for dim, parsed in zip(declared.shape, declared.dims(), strict=True)]
        if shape != list(declared.shape):
            *outer, last = leaf.place.split(".")[1:]
            inner = changed
            for key in outer:
                inner = inner.setdefault(key, {})
            inner[last] = {"shape": shape}
    return changed


def _substitute(dim: int | str | None, words: Mapping[str, int | str]) -> int | str:
    text = re.sub(r"[A-Za-z_]\w*", lambda match: f"({words[match[0]]})" if match[0] in words else match[0], str(dim))
    parsed = parse_dim(text)
    return parsed if isinstance(parsed, int) else str(parsed)
