"""Conditions on nodes: the forms of an op that its row decomposes."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols


def find_argument(node: Node, name: str) -> Any:
    """Return an argument of a node by its name in the schema, defaults included."""
    for position, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if argument.name == name:
            return node.args[position] if position < len(node.args) else node.kwargs.get(name, argument.default_value)
    raise KeyError(f"{node.target} has no argument '{name}'")


def has_ceil_mode(node: Node) -> bool:
    return bool(find_argument(node, "ceil_mode"))


def counts_unusually(node: Node) -> bool:
    """Return whether an average pooling counts elements in a way that torch-mlir does not lower at dynamic sizes."""
    return has_ceil_mode(node) or not find_argument(node, "count_include_pad") or "divisor_override" in str(node.target._schema) and \
        find_argument(node, "divisor_override") is not None


def is_upper_or_reports(node: Node) -> bool:
    """Return whether a factorization gives the upper factor, or its info is used otherwise than to raise."""
    asked = [user for getitem in node.users if getitem.args[1:] == (1,) for user in getitem.users]
    return bool(find_argument(node, "upper")) or any(user.target is not torch.ops.aten._linalg_check_errors.default for user in asked)


def has_dynamic_sizes(node: Node) -> bool:
    """Return whether one of the sizes in a list is not a constant."""
    return any(isinstance(size, Node) for argument in node.args if isinstance(argument, list | tuple) for size in argument)


def is_data_dependent(number: Any) -> bool:
    """Return whether an argument is a number that depends on tensor values or on the iteration of a loop."""
    return isinstance(number, Node) and bool(free_unbacked_symbols(number.meta["val"]))


def has_data_dependent_index(node: Node) -> bool:
    return is_data_dependent(find_argument(node, "index"))


def starts_by_data(node: Node) -> bool:
    """Return whether the start of a slice is data-dependent, but its length is not."""
    return is_data_dependent(find_argument(node, "start")) and not free_unbacked_symbols(list(node.meta["val"].shape))
