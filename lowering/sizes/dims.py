"""Dimension expressions as a model declares them: an int, `null`, or one symbol scaled and shifted (`2*seq + 1`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lowering.sizes.parsing import Term, Unreadable, parse
from lowering.sizes.spelling import spell


@dataclass(frozen=True)
class Affine:
    """`scale * symbol + offset`: the form of dim that torch.export can derive from one symbol."""

    symbol: str
    scale: int = 1
    offset: int = 0

    def at(self, sizes: Mapping[str, int]) -> int:
        return self.scale * sizes[self.symbol] + self.offset

    def __str__(self) -> str:
        scaled = self.symbol if self.scale == 1 else f"{self.scale}*{self.symbol}"
        return scaled if not self.offset else f"{scaled} {'+' if self.offset > 0 else '-'} {abs(self.offset)}"


Dim = int | Affine | None


def parse_dim(declared: int | str | None) -> Dim:
    """Read a dim as a model's YAML declares it. Raises ValueError that says what is wrong with it."""
    if declared is None:
        return None
    if isinstance(declared, bool) or not isinstance(declared, int | str):
        raise ValueError(f"a dim is an int, a symbol, an expression of one symbol or null, not {declared!r}")
    if isinstance(declared, int):
        if declared < 0:
            raise ValueError(f"a static dim is 0 or more, not {declared}")
        return declared
    try:
        parsed = _read_affine(parse(declared))
    except Unreadable as error:
        raise ValueError(f"cannot read the dim expression {declared!r}: {error.cause}") from None
    if parsed.symbol == "":
        return parsed.offset
    if parsed.scale < 1:
        raise ValueError(f"the dim {declared!r} shrinks as '{parsed.symbol}' grows; torch.export takes only scales of 1 or more")
    return parsed


def name_flexible(argument: str, position: int) -> str:
    """Return the name of a flexible dim that stayed dynamic, an identifier: `features_0`, `state_hidden_1`."""
    return re.sub(r"\W", "_", f"{argument}_{position}")


def _read_affine(term: Term) -> Affine:
    match term.op, term.operands:
        case "number", () if isinstance(term.value, int):
            return Affine("", 0, term.value)
        case "symbol", ():
            return Affine(str(term.value))
        case "neg", (operand,):
            return _combine(Affine("", 0, 0), _read_affine(operand), -1)
        case "add", (left, right):
            return _combine(_read_affine(left), _read_affine(right), 1)
        case "sub", (left, right):
            return _combine(_read_affine(left), _read_affine(right), -1)
        case "mul", (left, right):
            one, other = _read_affine(left), _read_affine(right)
            if one.symbol and other.symbol:
                raise ValueError(f"'{one.symbol}*{other.symbol}' multiplies two symbols; torch.export derives a dim from one symbol only")
            factor, scaled = (one.offset, other) if not one.symbol else (other.offset, one)
            return Affine(scaled.symbol, scaled.scale * factor, scaled.offset * factor)
    raise ValueError(f"'{spell(term)}' is not +, - or * of ints and one symbol")


def _combine(left: Affine, right: Affine, sign: int) -> Affine:
    if left.symbol and right.symbol and left.symbol != right.symbol:
        raise ValueError(f"uses both '{left.symbol}' and '{right.symbol}'; torch.export derives a dim from one symbol only")
    scale = left.scale * bool(left.symbol) + sign * right.scale * bool(right.symbol)
    return Affine(left.symbol or right.symbol, scale, left.offset + sign * right.offset)
