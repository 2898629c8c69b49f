"""Plants faults: edits of MHLO text, patched rules of the lowering, and corrupted files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from unittest import mock

import torch

from lowering.ops.tables import decompositions

Context = Callable[[], AbstractContextManager[Any]]

# A condition on sizes: `input.dim OP number`, where input counts from the last argument (-1), and number may be such a dim too.
_CONDITION = re.compile(r"(-?\d+)\.(\d+) (EQ|NE|LT|LE|GT|GE) (?:(-\d+)\.(\d+)|(\d+))")
_MAIN = re.compile(r"func\.func (?:public )?@main\((.*?)\) -> ", re.DOTALL)
_ARGUMENT = re.compile(r"(%\w+): (tensor<[^>]*(?:<[^>]*>)?[^>]*>)")
_RETURN = re.compile(r"^( *)(?:func\.)?return (.*?) : (.*)$", re.MULTILINE)
_TYPE = re.compile(r"tensor<((?:[\d?]+x)*)(\w+)>")


@dataclass(frozen=True)
class Fault:
    """A wrong lowering.

    kind: the group that it is counted in. model: the name of one in `planted_models`. edit: of the MHLO text. patch: active while the model
    is lowered, packaged and verified. classes: classes of sizes (lowering.numerics.coverage.corners) of which the record may say that no
    point has one, and codes of warnings that may name what is not compared exactly.
    """

    name: str
    kind: str
    model: str
    edit: Callable[[str], str] | None = None
    patch: Context = nullcontext
    classes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)  # of the stage verify


def row(op: Any, decomposition: Callable[..., Any]) -> Context:
    """Put a decomposition in the place of another."""
    held = decompositions.TABLE.get(op) or decompositions.Row(decomposition, "planted")
    return lambda: mock.patch.dict(decompositions.TABLE, {op: replace(held, decomposition=decomposition, when=lambda node: True)})


def rule(module: Any, name: str, wrong: Callable[..., Any]) -> Context:
    """Put a function in the place of another. Raises RuntimeError if nothing called it there, so that no fault was planted."""

    @contextmanager
    def plant() -> Iterator[None]:
        calls = 0

        def count(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            return wrong(*args, **kwargs)

        with mock.patch.object(module, name, count):
            yield
        if calls == 0:
            raise RuntimeError(f"nothing called {module.__name__}.{name}: the fault was not planted")

    return plant


class Planter:
    """Adds ops before the `return` of @main."""

    def __init__(self, text: str) -> None:
        main, returned = _MAIN.search(text), list(_RETURN.finditer(text))
        assert main is not None
        self.text, self.lines, self.found = text, [], returned[-1]
        self.arguments = _ARGUMENT.findall(main[1])
        self.values = self.found[2].split(", ")
        self.types = re.findall(r"tensor<[^>]*>", self.found[3])

    def add(self, op: str) -> str:
        name = f"%planted{len(self.lines)}"
        self.lines.append(f"    {name} = {op}")
        return name

    def size(self, value: str, type_: str, dim: int) -> str:
        return self.add(f'"mhlo.get_dimension_size"({value}) <{{dimension = {dim} : i64}}> : ({type_}) -> tensor<i32>')

    def number(self, number: float | int, element: str) -> str:
        written = f"{number:e}" if element[0] in "bf" else str(int(number))
        return self.add(f"mhlo.constant dense<{written}> : tensor<{element}>")

    def when(self, condition: str, by_arithmetic: bool) -> str:
        """Build a condition as a `tensor<i1>`, or for EQ by arithmetic alone 0 or 1 as a `tensor<i32>`."""
        match = _CONDITION.fullmatch(condition)
        assert match is not None, condition
        left = self.size(*self.arguments[int(match[1])], int(match[2]))
        right = self.number(int(match[6]), "i32") if match[6] else self.size(*self.arguments[int(match[4])], int(match[5]))
        if not by_arithmetic:
            return self.add(
                f"mhlo.convert {self.add(f'mhlo.compare {match[3]}, {left}, {right} : (tensor<i32>, tensor<i32>) -> tensor<i1>')}"
                            " : (tensor<i1>) -> tensor<i32>")
        assert match[3] == "EQ"
        off = self.add(f"mhlo.abs {self.add(f'mhlo.subtract {left}, {right} : tensor<i32>')} : tensor<i32>")
        one = self.number(1, "i32")
        return self.add(f"mhlo.subtract {one}, {self.add(f'mhlo.minimum {off}, {one} : tensor<i32>')} : tensor<i32>")

    def wide(self, scalar: str, element: str, value: str, type_: str) -> str:
        """Broadcast a scalar to the shape of `value`."""
        rank = type_.count("x")
        if rank == 0:
            return scalar
        parts = [self.add(f"mhlo.reshape {self.size(value, type_, dim)} : (tensor<i32>) -> tensor<1xi32>") for dim in range(rank)]
        operands = ", ".join(["tensor<1xi32>"] * rank)
        shape = self.add(f'"mhlo.concatenate"({", ".join(parts)}) <{{dimension = 0 : i64}}> : ({operands}) -> tensor<{rank}xi32>')
        return self.add(f'"mhlo.dynamic_broadcast_in_dim"({scalar}, {shape}) <{{broadcast_dimensions = dense<> : tensor<0xi64>}}> '
                        f": (tensor<{element}>, tensor<{rank}xi32>) -> {type_}")

    def done(self) -> str:
        start, stop = self.found.span()
        returned = f"{self.found[1]}return {', '.join(self.values)} : {self.found[3]}"
        return self.text[:start] + "\n".join([*self.lines, returned]) + self.text[stop:]


def off(result: int, by: float = 0.0, times: float = 1.0, only: Literal["all", "small", "first", "tiny"] = "all", when: Sequence[str] = (),
        by_arithmetic: bool = False, limit: float = 1e3) -> Callable[[str], str]:
    """Add `by` to result `result` and multiply it by `times`: all elements, those below `limit` or 1e-3, or the first along the last dim.

    when: conditions on sizes that all have to hold, computed by comparisons, or by arithmetic alone.
    """

    def edit(text: str) -> str:
        planter = Planter(text)
        value, type_ = planter.values[result], planter.types[result]
        element = _TYPE.fullmatch(type_)[2]  # type: ignore[index]
        share = planter.number(1, "i32")
        for condition in when:
            share = planter.add(f"mhlo.multiply {share}, {planter.when(condition, by_arithmetic)} : tensor<i32>")
        weight = planter.add(f"mhlo.convert {share} : (tensor<i32>) -> tensor<{element}>")
        change = planter.wide(planter.add(f"mhlo.multiply {weight}, {planter.number(by, element)} : tensor<{element}>"), element, value,
                              type_)
        if times != 1:
            factor = planter.add(f"mhlo.multiply {weight}, {planter.number(times - 1, element)} : tensor<{element}>")
            scaled = planter.add(f"mhlo.multiply {value}, {planter.wide(factor, element, value, type_)} : {type_}")
            change = planter.add(f"mhlo.add {change}, {scaled} : {type_}")
        if only != "all":
            change = _restrict(planter, change, only, limit, value, type_, element)
        planter.values[result] = planter.add(f"mhlo.add {value}, {change} : {type_}")
        return planter.done()

    return edit


def _restrict(planter: Planter, change: str, only: str, limit: float, value: str, type_: str, element: str) -> str:
    bools = type_.replace(f"x{element}>", "xi1>")
    if only == "first":
        rank = type_.count("x")
        parts = [planter.add(f"mhlo.reshape {planter.size(value, type_, dim)} : (tensor<i32>) -> tensor<1xi32>") for dim in range(rank)]
        shape = planter.add(f'"mhlo.concatenate"({", ".join(parts)}) <{{dimension = 0 : i64}}> : '
                            f"({', '.join(['tensor<1xi32>'] * rank)}) -> tensor<{rank}xi32>")
        counted = type_.replace(f"x{element}>", "xi32>")
        place = planter.add(f'"mhlo.dynamic_iota"({shape}) <{{iota_dimension = {rank - 1} : i64}}> : (tensor<{rank}xi32>) -> {counted}')
        chosen = planter.add(f"mhlo.compare EQ, {place}, {planter.wide(planter.number(0, 'i32'), 'i32', place, counted)} : "
                             f"({counted}, {counted}) -> {bools}")
    else:
        bound = planter.wide(planter.number(limit if only == "small" else 1e-3, element), element, value, type_)
        size = planter.add(f"mhlo.abs {value} : {type_}")
        chosen = planter.add(f"mhlo.compare LT, {size}, {bound} : ({type_}, {type_}) -> {bools}")
    zero = planter.wide(planter.number(0, element), element, value, type_)
    return planter.add(f"mhlo.select {chosen}, {change}, {zero} : {bools}, {type_}")


def clean(result: int, word: Literal["nan", "inf", "zero"]) -> Callable[[str], str]:
    """Replace NaN by 0, infinity by the largest float, or 0 by 1 in result `result`."""

    def edit(text: str) -> str:
        planter = Planter(text)
        value, type_ = planter.values[result], planter.types[result]
        bools = type_.replace("xf32>", "xi1>")
        constant = planter.wide(planter.number({"nan": 0.0, "inf": 3.4e38, "zero": 0.0}[word], "f32"), "f32", value, type_)
        if word == "inf":
            planter.values[result] = planter.add(f"mhlo.minimum {value}, {constant} : {type_}")
        elif word == "nan":
            usual = planter.add(f"mhlo.compare EQ, {value}, {value} : ({type_}, {type_}) -> {bools}")
            planter.values[result] = planter.add(f"mhlo.select {usual}, {value}, {constant} : {bools}, {type_}")
        else:
            zero = planter.add(f"mhlo.compare EQ, {value}, {constant} : ({type_}, {type_}) -> {bools}")
            one = planter.wide(planter.number(1.0, "f32"), "f32", value, type_)
            planter.values[result] = planter.add(f"mhlo.select {zero}, {one}, {value} : {bools}, {type_}")
        return planter.done()

    return edit


def without(*words: str) -> Callable[[str], str]:
    """Remove the assertions whose message has one of `words`."""

    def edit(text: str) -> str:
        kept = [line for line in text.splitlines() if "@shape_assertion" not in line or not any(word in line for word in words)]
        assert len(kept) < len(text.splitlines()), f"no assertion says {words}"
        return "\n".join(kept)

    return edit


def swap(old: str, new: str, count: int = 1) -> Callable[[str], str]:
    """Replace `old`, a regular expression, in the text."""

    def edit(text: str) -> str:
        edited, times = re.subn(old, new, text, count=count)
        assert times, f"nothing matches {old}"
        return edited

    return edit


def both(*edits: Callable[[str], str]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        for one in edits:
            text = one(text)
        return text

    return edit


def gelu_by_tanh(x: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:  # noqa: ARG001 - the signature of the rule that it replaces
    """Approximate a GELU by tanh, whatever is asked for."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
