"""A table of rules by op name, filled by the modules that define the rules when they are imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

R = TypeVar("R")


class Rules(dict[str, R]):
    """One rule per op. owner: dotted module name of the table, used in errors."""

    def __init__(self, owner: str) -> None:
        super().__init__()
        self._owner = owner

    @staticmethod
    def join(owner: str, *tables: Mapping[str, R]) -> Rules[R]:
        """Join tables into one. Raises KeyError if two of them have a rule for the same op."""
        found: Rules[R] = Rules(owner)
        for table in tables:
            for name, rule in table.items():
                found.register(name)(rule)
        return found

    def register(self, *names: str) -> Callable[[R], R]:
        """Return a decorator that registers the rule of these ops. Raises KeyError if one of them has a rule already."""

        def register(rule: R) -> R:
            for name in names:
                if name in self:
                    raise KeyError(f"{self._owner} has two rules for {name}")
                self[name] = rule
            return rule

        return register
