"""Values that break configurations and records, and where in a tree they can be put."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 10**18, 10**30, -(2**63) - 1, 0.5, float("nan"), float("inf"), "", " ", "???", "${oops}", "${model}",
    "${oc.env:HOME}", "..", "/", "/dev/zero", "~", "a" * 5000, "\u202eabc", "\x1b[31mred", "größe", "=1+1", [], {}, [[[]]], {"a": {"b": 1}},
    ["batch", "batch"], "batch", "2*batch", "batch/0", "batch**9**9**9", "(" * 300, "1" * 5000, "1e400", "yes", "os.system",
    "no.such.module", "lowering", ".", "a.b.", "torch.nn.Linear", {"_target_": "os.system", "command": "true"}, {"_target_": 1}, {1: 2},
    {"": ""}, {"min": 5, "max": 2}, {"min": 10**18}, {"max": 10**40}, "bert", "*", "[", "*?",
    {"randint": [5, 1]}, {"randint": [0, 10**30]}, {"constant": []}, "randn", "complex64", "SymInt", "batch--x", ".hidden", "con",
    "x" * 121, "\t", "a\nb", "\0",
)  # fmt: skip


def list_paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from list_paths(value, (*path, key))
