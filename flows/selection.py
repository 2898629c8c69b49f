"""`-k EXPR`: which jobs to run, by words in their ids joined with `and`, `or`, `not` and parentheses, as pytest does; `=ID` is one job."""

from __future__ import annotations

import re
from collections.abc import Callable

Predicate = Callable[[str], bool]
TOKEN = re.compile(r"\s*(?:([()])|([^\s()]+))")


def parse(expression: str) -> Predicate:
    """A test of job ids; ValueError says what cannot be read. A word holds when the id contains it, `=word` when it is it, letter case
    aside; '' takes all."""
    tokens = ["".join(pair) for pair in TOKEN.findall(expression)]
    if not tokens:
        return lambda job: True
    predicate, rest = _any_of(tokens)
    if rest:
        raise ValueError(f"unexpected '{rest[0]}'; join words with 'and' or 'or'")
    return predicate


def _any_of(tokens: list[str]) -> tuple[Predicate, list[str]]:
    left, rest = _all_of(tokens)
    if not rest or rest[0] != "or":
        return left, rest
    right, rest = _any_of(rest[1:])
    return lambda job: left(job) or right(job), rest


def _all_of(tokens: list[str]) -> tuple[Predicate, list[str]]:
    left, rest = _one(tokens)
    if not rest or rest[0] != "and":
        return left, rest
    right, rest = _all_of(rest[1:])
    return lambda job: left(job) and right(job), rest


def _one(tokens: list[str]) -> tuple[Predicate, list[str]]:
    if not tokens or tokens[0] in ("and", "or", ")"):
        raise ValueError(f"expected a word before {repr(tokens[0]) if tokens else 'the end'}")
    first, rest = tokens[0], tokens[1:]
    if first == "not":
        inner, rest = _one(rest)
        return lambda job: not inner(job), rest
    if first == "(":
        inner, rest = _any_of(rest)
        if not rest or rest[0] != ")":
            raise ValueError("a '(' is not closed")
        return inner, rest[1:]
    word = first.lower()
    if word.startswith("="):
        return lambda job: job.lower() == word[1:], rest
    return lambda job: word in job.lower(), rest
