"""Tables of the rules by which ops carry counts, each with the bound of the size that its op decides, if it decides one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.capacity.values import Rule

Bound: TypeAlias = Callable[[Node, Callable[[Node], list[Any]]], Any]


@dataclass(frozen=True)
class Row:
    """The rule of an op. bound: for an op that decides a size, its largest value from the call and the padded shapes of its arguments."""

    rule: Rule
    bound: Bound | None = None


class Rows(dict[Any, Row]):
    """The rules of a module, by op."""

    def register(self, *names: str, bound: Bound | None = None) -> Callable[[Rule], Rule]:
        """Return a decorator that registers the rule of these aten ops: `sum.dim_IntList`; without an overload, all of the op's."""

        def register(rule: Rule) -> Rule:
            for op in (op for name in names for op in overloads(name)):
                if op in self:
                    raise KeyError(f"{op} has two rules")
                self[op] = Row(rule, bound)
            return rule

        return register


def overloads(name: str) -> Iterable[Any]:
    """Return the overloads of an aten op that write to nothing; one if the name gives it. None for an op that this torch lacks."""
    packet, _, overload = name.partition(".")
    found = getattr(torch.ops.aten, packet, None)
    if found is None:
        return ()
    names = [overload] if overload else found.overloads()
    return [op for each in names if each in found.overloads() and not (op := getattr(found, each))._schema.is_mutable]


def join(*tables: Rows) -> Rows:
    """Join tables into one. Raises KeyError if two of them have a rule for one op."""
    found = Rows()
    for table in tables:
        if twice := found.keys() & table.keys():
            raise KeyError(f"{twice} have two rules")
        found.update(table)
    return found


def argument(node: Node, name: str) -> Any:
    """Return an argument of an op's call by its name in the schema."""
    for position, formal in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if formal.name == name:
            return node.args[position] if position < len(node.args) else node.kwargs.get(name, formal.default_value)
    raise KeyError(name)
