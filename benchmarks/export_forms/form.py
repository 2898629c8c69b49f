"""A form: a small model made of a function of tensors with dynamic dims, and the table of all forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lowering.model import Input, Model, Symbol

Shapes = dict[str, tuple[int | str | None, ...]]


@dataclass(frozen=True)
class Form:
    """A function of tensors. kind: the group that it is counted in. shapes: of its arguments, by name; symbols: their ranges."""

    name: str
    kind: str
    code: Callable[..., Any]
    shapes: Shapes
    symbols: dict[str, Symbol]

    @property
    def model(self) -> Model:
        inputs = {name: Input("float32", shape) for name, shape in self.shapes.items()}
        return Model(self.name, {"_target_": f"{__name__}.{Module.__name__}", "name": self.name}, inputs, self.symbols)


class Module(nn.Module):
    """Calls the function of a form."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.code = FORMS[name].code

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.code(x) if y is None else self.code(x, y)


FORMS: dict[str, Form] = {}


def add(
    kind: str, shape: tuple[int | str | None, ...], second: tuple[int | str | None, ...] | None = None, **ranges: Symbol
) -> Callable[[Any], Any]:
    """Register a function under its name. A symbol without a range has sizes from 1 to 24."""

    def register(code: Any) -> Any:
        name = code.__name__.strip("_")
        assert name not in FORMS, name
        shapes: Shapes = {"x": shape, **({"y": second} if second is not None else {})}
        used = sorted({dim for dims in shapes.values() for dim in dims if isinstance(dim, str) and dim.isidentifier()} | ranges.keys())
        FORMS[name] = Form(name, kind, code, shapes, {symbol: ranges.get(symbol, Symbol(1, 24)) for symbol in used})
        return code

    return register


def image(least: int = 8) -> dict[str, Symbol]:
    """Return the ranges of the height and width of PICTURE."""
    return {"h": Symbol(least, 40), "w": Symbol(least, 40)}


PICTURE = ("n", 4, "h", "w")
