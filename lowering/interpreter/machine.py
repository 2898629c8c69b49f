"""The interface of the interpreter that a loop needs. Interpreter and loop call each other."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch


class Machine(Protocol):
    """Runs blocks of a graph whose first input is a module. Attributes of the module are given by their full names."""

    iterations: dict[Any, tuple[Any, Any, Any]]  # of loops that are not unrolled, by the symbol of the iteration: (index, first, last)

    def block(self, block: torch._C.Block, values: dict[int, Any]) -> tuple[Any, ...]:
        """Run a block whose inputs and captured values are among `values`; return its results."""

    def attributes(self, block: torch._C.Block, values: dict[int, Any]) -> dict[str, Any]:
        """Return the module's attributes that a block reads or assigns."""

    def reading(self, attributes: dict[str, Any]) -> AbstractContextManager[dict[str, Any]]:
        """Use these values for attributes inside the block, and assign to them."""

    def assign(self, name: str, value: Any) -> None:
        """Assign an attribute."""
