"""Selection of jobs with `-k EXPR`: words of their ids joined with `and`, `or`, `not` and parentheses, as in pytest; `=ID` is one job."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Predicate = Callable[[str], bool]
Parser = Callable[[list[str]], tuple[Predicate, list[str]]]
TOKEN = re.compile(r"\s*(?:([()])|([^\s()]+))")


def parse(expression: str) -> Predicate:
    """Return a predicate on job ids. Raises ValueError if the expression is malformed.

    A word matches ids that contain it, `=word` the id equal to it, ignoring case. The empty expression matches all ids.
    """
    tokens = ["".join(pair) for pair in TOKEN.findall(expression)]
    if not tokens:
        return lambda job: True
    predicate, rest = _parse_or(tokens)
    if rest:
        raise ValueError(f"unexpected '{rest[0]}'; join words with 'and' or 'or'")
    return predicate


def _parse_or(tokens: list[str]) -> tuple[Predicate, list[str]]:
    return _parse_chain(tokens, "or", _parse_and, any)


def _parse_and(tokens: list[str]) -> tuple[Predicate, list[str]]:
    return _parse_chain(tokens, "and", _parse_operand, all)


def _parse_chain(tokens: list[str], word: str, part: Parser, holds: Callable[[Iterable[bool]], bool]) -> tuple[Predicate, list[str]]:
    """Parse operands with `part`, joined by `word`; return their predicate and the remaining tokens."""
    first, rest = part(tokens)
    parts = [first]
    while rest and rest[0] == word:
        further, rest = part(rest[1:])
        parts.append(further)
    return lambda job: holds(one(job) for one in parts), rest


def _parse_operand(tokens: list[str]) -> tuple[Predicate, list[str]]:
    if not tokens or tokens[0] in ("and", "or", ")"):
        raise ValueError(f"expected a word before {repr(tokens[0]) if tokens else 'the end'}")
    first, rest = tokens[0], tokens[1:]
    if first == "not":
        inner, rest = _parse_operand(rest)
        return lambda job: not inner(job), rest
    if first == "(":
        inner, rest = _parse_or(rest)
        if not rest or rest[0] != ")":
            raise ValueError("a '(' is not closed")
        return inner, rest[1:]
    word = first.lower()
    if word.startswith("="):
        return lambda job: job.lower() == word[1:], rest
    return lambda job: word in job.lower(), rest
