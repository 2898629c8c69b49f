"""Clusters of failures with the same cause: the signature of a problem, independent of numbers, names and paths."""

from __future__ import annotations

import re

from lowering.record.result import JobResult

_RULES = (
    (re.compile(r"0x[0-9a-fA-F]+"), "0x…"),
    (re.compile(r"(?:[\w.~-]*/)+[\w.-]+(?::\d+)*"), "FILE"),
    (re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`"), "'…'"),
    (re.compile(r"%[\w$.-]+"), "%…"),
    (re.compile(r"tensor<[^>]*>+|vtensor<[^>]*>+"), "tensor<…>"),
    (re.compile(r"\b[su]\d+\b"), "symbol"),
    (re.compile(r"[-+]?\d[\d.,_]*(?:[eE][-+]?\d+)?"), "N"),
    (re.compile(r"\s+"), " "),
)


def make_signature(result: JobResult) -> str:
    """Return outcome, stage and the generalized first problem of a job; empty for a job that ended as expected."""
    if result.as_expected:
        return ""
    cause = result.problems[0].cause.strip().split("\n", 1)[0] if result.problems else "ended otherwise than expected"
    return f"{result.outcome} in {result.stage}: {generalize(cause)}"


def generalize(cause: str) -> str:
    """Return a message without the parts that vary between jobs."""
    for pattern, word in _RULES:
        cause = pattern.sub(word, cause)
    return cause.strip()[:200]
