"""What plain data is said to be wrong with, by type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from flows.config.schema import get_field_names, get_inner_type, remove_keys, split_keys
from lowering.fitting import find_misfits


@dataclass(frozen=True)
class Inner:
    count: int
    rate: float = 1.0


@dataclass(frozen=True)
class Outer:
    inner: Inner
    mode: Literal["lazy", "core"] = "lazy"
    many: Mapping[str, Inner | None] = field(default_factory=dict)
    sizes: tuple[int | str | None, ...] = ()
    fill: Literal["ones", "zeros"] | Mapping[str, Any] | None = None
    on: bool = False


def said(data: Any) -> list[str]:
    return [f"{'.'.join(map(str, keys))}: {cause}{f' ({fix})' if fix else ''}" for keys, cause, fix in find_misfits(Outer, data)]


@pytest.mark.parametrize("data", [
    {"inner": {"count": 1}},
    {"inner": {"count": 1, "rate": 2}, "mode": "core", "many": {"a": None, "b": {"count": 2}}, "sizes": [1, "seq", None], "on": True},
    {"inner": {"count": 1}, "fill": {"randint": [0, 4]}, "sizes": ()},
])
def test_data_that_fits(data: Any) -> None:
    assert said(data) == []


@pytest.mark.parametrize(("data", "expected"), [
    ({}, ["inner: is missing (a mapping with count, rate)"]),
    ([1], ["[1] is not a mapping with inner, mode, many, sizes, fill, on"]),
    ({"inner": {"count": True}}, ["inner.count: true is not an integer"]),
    ({"inner": {"count": 1.0}}, ["inner.count: 1.0 is not an integer"]),
    ({"inner": {"count": 1, "rate": "fast"}}, ["inner.rate: 'fast' is not a number"]),
    ({"inner": {"cuont": 1}}, ["inner.cuont: is not a known key (did you mean 'count'?)", "inner.count: is missing (an integer)"]),
    ({"inner": {"count": 1}, "mode": "croe"}, ["mode: 'croe' is not one of lazy, core (did you mean 'core'?)"]),
    ({"inner": {"count": 1}, "on": 1}, ["on: 1 is not true or false"]),
    ({"inner": {"count": 1}, "many": {"a": {"count": "x"}}}, ["many.a.count: 'x' is not an integer"]),
    ({"inner": {"count": 1}, "many": {"a": 3}}, ["many.a: 3 is not a mapping with count, rate or null"]),
    ({"inner": {"count": 1}, "sizes": [1, 2.5]}, ["sizes.1: 2.5 is not an integer or a string or null"]),
    ({"inner": {"count": 1}, "sizes": "seq"}, ["sizes: 'seq' is not a list"]),
    ({"inner": {"count": "???"}}, ["inner.count: is mandatory and has no value (set it: an integer)"]),
    ({"inner": {"count": 1}, "fill": {"randint": ["???", 1]}},
     ["fill.randint.0: is mandatory and has no value (set it in the file or on the command line)"]),
])
def test_data_that_does_not_fit(data: Any, expected: list[str]) -> None:
    found = said(data)
    assert [text.removeprefix(": ") for text in found] == expected


def test_a_type_lists_its_keys() -> None:
    assert get_field_names(Inner | None) == ("count", "rate")
    assert get_field_names(Mapping[str, int]) == ()
    assert get_inner_type(Outer, "mode") == Literal["lazy", "core"]
    assert get_field_names(get_inner_type(get_inner_type(Outer, "many"), "any")) == ("count", "rate")


def test_keys_from_text_and_back_out_of_data() -> None:
    assert split_keys("inputs.x.shape[0]") == ("inputs", "x", "shape", 0)
    data = {"a": {"b": 1, "c": 2}}
    assert remove_keys(data, ("a", "b")) == {"a": {"c": 2}}
    assert remove_keys(data, ("a", "z", "b")) == data
    assert data == {"a": {"b": 1, "c": 2}}
