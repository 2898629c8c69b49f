"""The search for the widest range, with planted limits: by a rule, and in models that are lowered and verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.command.probe import render_finding
from lowering.model import Symbol
from lowering.numerics.delivery.probe import Attempt, Finding, probe


def bounded(low: int, high: int, multiple: int, hints: bool = False) -> Callable[[Symbol], Attempt]:
    """A model that takes the multiples of `multiple` from `low` to `high`, and says so if `hints`."""
    def attempt(symbol: Symbol) -> Attempt:
        assert symbol.max is not None
        assert symbol.problems("") == []
        least, most = -(-symbol.min // symbol.multiple_of) * symbol.multiple_of, symbol.largest(symbol.max)
        if symbol.multiple_of % multiple == 0 and least >= low and most <= high:
            return Attempt(symbol, "ok", verified=most)
        return Attempt(symbol, "error", "export", hint=Symbol(low, high, multiple) if hints else None)

    return attempt


def ends(found: Finding) -> tuple[int, int, int]:
    assert found.range is not None
    assert found.range.max is not None
    step = found.range.multiple_of
    return -(-found.range.min // step) * step, found.range.largest(found.range.max), step


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 40), st.integers(80, 3000), st.sampled_from([1, 2, 3, 4, 8, 10]), st.booleans())
def test_the_planted_range_is_found_exactly(low: int, high: int, multiple: int, hints: bool) -> None:
    low = min(low, 2)  # without a hint the search begins at the smallest sizes
    found = probe(bounded(low, high, multiple, hints), Symbol(0, 4000), 4000)
    step = multiple
    assert ends(found) == (-(-low // step) * step, high // step * step, step)
    assert len(found.attempts) <= 60
    assert "max" in found.edges
    assert ("min" in found.edges) == (low > 0)


def test_what_holds_as_declared_takes_one_attempt() -> None:
    found = probe(bounded(0, 10_000, 1), Symbol(1, 512), 512)
    assert (ends(found), len(found.attempts), found.narrower, found.edges) == ((1, 512, 1), 1, False, {})


def test_a_limit_beyond_the_declared_range_is_looked_at_too() -> None:
    found = probe(bounded(0, 700, 1), Symbol(1, 512), 4096)
    assert ends(found) == (1, 700, 1)
    assert found.edges["max"].symbol.max == 701
    assert not found.narrower


@pytest.mark.parametrize(("declared", "accepted", "edges", "comparison"), [
    (Symbol(1, 64), Symbol(1, 64), {}, ", as declared"),
    (Symbol(1, 64), Symbol(1, 128), {}, ", wider than declared"),
    (Symbol(1), Symbol(1, 128), {}, ", as declared"),
    (Symbol(1, 64), Symbol(1, 32), {"max": Attempt(Symbol(33, 33), "error")}, ""),
])  # fmt: skip
def test_the_text_compares_the_range_with_the_declared_one(declared: Symbol, accepted: Symbol, edges: dict[str, Attempt],
                                                           comparison: str) -> None:
    found = Finding(declared, accepted, edges, ())
    assert render_finding("n", found, Path("probes"))[0] == f"n: accepted in {accepted}{comparison}"


def test_an_exact_hint_is_confirmed_by_the_next_size_alone() -> None:
    found = probe(bounded(1, 512, 1, hints=True), Symbol(1, 2048), 2048)
    assert ends(found) == (1, 512, 1)
    assert [attempt.symbol.max for attempt in found.attempts] == [2048, 512, 513]
    assert found.narrower


def test_a_coarse_hint_is_made_finer() -> None:
    def attempt(symbol: Symbol) -> Attempt:
        holds = symbol.multiple_of % 4 == 0
        return Attempt(symbol, "ok" if holds else "error", "" if holds else "export", hint=Symbol(16, 2048, 16))

    found = probe(attempt, Symbol(1, 2048), 2048)
    assert ends(found) == (4, 2048, 4)
    assert found.edges["multiple_of"].symbol.multiple_of == 2


def test_a_model_that_fails_at_all_sizes_has_no_range() -> None:
    found = probe(lambda symbol: Attempt(symbol, "crash", "torch", "SIGSEGV"), Symbol(1, 64), 64)
    assert found.range is None
    assert found.edges["max"].cause == "SIGSEGV"


def test_a_failure_further_up_that_suggests_the_edge_is_followed() -> None:
    found = probe(bounded(1, 700, 1, hints=True), Symbol(1, 512), 4096)
    assert ends(found) == (1, 700, 1)
    assert [attempt.symbol.max for attempt in found.attempts] == [512, 4096, 700, 701]
