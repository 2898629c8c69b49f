"""Squeezes of dims that may be 1: torch traces such a dim as different from 1, and keeps it; the op would drop it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.export import ExportedProgram
from torch.fx import Node

_SQUEEZES = tuple(getattr(op, form) for op in (torch.ops.aten.squeeze, torch.ops.aten.squeeze_copy, torch.ops.aten.squeeze_)
                  for form in ("default", "dim", "dims"))


def list_dynamic(program: ExportedProgram) -> Iterator[tuple[Node, list[int]]]:
    """Iterate over the squeezes that name dims of unknown size, each with these dims."""
    for node in program.graph.nodes:
        if node.target in _SQUEEZES and (unknown := [dim for dim in _read_dims(node) if isinstance(_read_sizes(node)[dim], torch.SymInt)]):
            yield node, unknown


def settle(node: Node) -> None:
    """Let a squeeze name only the dims that tracing found to be 1."""
    known = [dim for dim in _read_dims(node) if _read_sizes(node)[dim] == 1 and isinstance(_read_sizes(node)[dim], int)]
    if known:
        node.target, node.args = torch.ops.aten.squeeze.dims, (node.args[0], known)
        return
    node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
    node.graph.erase_node(node)


def _read_sizes(node: Node) -> torch.Size:
    return node.args[0].meta["val"].shape  # type: ignore[no-any-return, union-attr]


def _read_dims(node: Node) -> list[int]:
    rank = len(_read_sizes(node))
    named = node.args[1] if len(node.args) > 1 else list(range(rank))
    return [dim % rank for dim in ([named] if isinstance(named, int) else named)] if rank else []  # type: ignore[union-attr, operator]
