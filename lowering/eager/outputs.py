"""The outputs of a module's forward: leaves by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from lowering.eager.pytrees import name_leaves


@dataclass(frozen=True)
class Outputs:
    """Outputs of forward: leaves by their path in the output pytree (tensors, or other values such as None), and the pytree spec.

    positional: the same leaves by their paths with named tuples read as plain ones (`0` for `logits`).
    """

    leaves: Mapping[str, Any]
    spec: pytree.TreeSpec
    positional: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        return {name: leaf for name, leaf in self.leaves.items() if isinstance(leaf, torch.Tensor)}


def flatten_outputs(returned: Any) -> Outputs:
    leaves, spec = pytree.tree_flatten(returned)
    plain = pytree.tree_structure(_drop_names(returned))
    return Outputs(dict(zip(name_leaves(spec), leaves, strict=True)), spec, dict(zip(name_leaves(plain), leaves, strict=True)))


def _drop_names(tree: Any) -> Any:
    """Return `tree` with plain tuples for named ones."""
    if type(tree) is tuple or (isinstance(tree, tuple) and hasattr(tree, "_fields")):
        return tuple(map(_drop_names, tree))
    if type(tree) is list:
        return list(map(_drop_names, tree))
    return {key: _drop_names(value) for key, value in tree.items()} if type(tree) is dict else tree
