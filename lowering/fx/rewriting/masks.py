"""Fold constant masks that index tensors: the mask becomes indices, and sizes that depend only on it become ints."""

from __future__ import annotations

import math
from typing import Any

import sympy
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node
from torch.utils import _pytree as pytree

from lowering.fx import cleanup

_MASKS = (torch.bool, torch.uint8)
_INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default}
_KEPT = {torch.ops.aten.detach_.default}  # in place, but writes no element
_LARGEST = 1 << 20  # the most elements of a folded constant


def fold(program: ExportedProgram) -> int:
    """Replace the constant masks that index tensors in a program fresh from torch.export, and return how many were replaced.

    A mask is constant if it is a tensor created in forward, or computed from such tensors, or from nothing. Buffers are weights, not
    constants.
    """
    count = 0
    for node in list(cleanup.calls(program.graph_module)):
        if node.target in _INDEXING:
            count += _fold_node(program, node)
    if count:
        program.graph_module.graph.lint()
        program.graph_module.recompile()
    return count


def _fold_node(program: ExportedProgram, node: Node) -> int:
    """Replace the constant masks of one indexing op, and return how many were replaced."""
    indices: list[Any] = []
    masks: list[torch.Tensor] = []
    for index in node.args[1]:  # type: ignore[union-attr]
        mask = _evaluate(program, index) if index is not None and index.meta["val"].dtype in _MASKS else None
        if mask is None:
            indices.append(index)
            continue
        masks.append(mask)
        indices += [_add_constant(program, places) for places in mask.to(torch.bool).nonzero(as_tuple=True)]
    if masks:
        node.args = (node.args[0], indices, *node.args[2:])
        _replace_symbols(program, node, masks)
    return len(masks)


def _evaluate(program: ExportedProgram, node: Node) -> torch.Tensor | None:
    """Return the value of a node if it is the same for all inputs, else None."""
    if any(_writes(user, node) for user in node.users):
        return None
    if node.op == "placeholder":
        spec = next(spec for spec in program.graph_signature.input_specs if spec.arg.name == node.name)
        held = program.constants.get(str(spec.target)) if spec.kind is InputKind.CONSTANT_TENSOR else None
        return held if isinstance(held, torch.Tensor) and not isinstance(held, FakeTensor) else None
    if not _is_computable(node):
        return None
    leaves, spec = pytree.tree_flatten((node.args, dict(node.kwargs)))
    known = [_evaluate(program, leaf) if isinstance(leaf, Node) else leaf for leaf in leaves]
    if any(value is None for value, leaf in zip(known, leaves, strict=True) if isinstance(leaf, Node)):
        return None
    args, kwargs = pytree.tree_unflatten(known, spec)
    op = torch.ops.aten.detach.default if node.target in _KEPT else node.target
    return op(*args, **kwargs)  # type: ignore[no-any-return, operator]


def _writes(user: Node, node: Node) -> bool:
    schema = getattr(user.target, "_schema", None)
    return schema is not None and schema.is_mutable and user.args[0] is node and user.target not in _KEPT


def _is_computable(node: Node) -> bool:
    """Return whether a call creates one small tensor of constant size from its arguments alone."""
    op, value = node.target, node.meta.get("val")
    if not isinstance(op, torch._ops.OpOverload) or op.namespace != "aten" or not isinstance(value, torch.Tensor):
        return False
    if torch.Tag.nondeterministic_seeded in op.tags or (op._schema.is_mutable and op not in _KEPT):
        return False
    return all(isinstance(size, int) for size in value.shape) and math.prod(value.shape) <= _LARGEST


def _add_constant(program: ExportedProgram, tensor: torch.Tensor) -> Node:
    """Add a constant argument to the program, after all other arguments that are not inputs."""
    specs = program.graph_signature.input_specs
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    place = next((number for number, spec in enumerate(specs) if spec.kind is InputKind.USER_INPUT), len(specs))
    taken = {node.name for node in program.graph.nodes} | {f"c_{name}" for name in program.constants}
    target = next(name for number in range(len(taken) + 1) if f"c_{(name := f'mask_indices_{number}')}" not in taken)
    mode = next(node.meta["val"].fake_mode for node in program.graph.nodes if isinstance(node.meta.get("val"), FakeTensor))
    before = placeholders[place] if place < len(placeholders) else next(node for node in program.graph.nodes if node.op != "placeholder")
    with program.graph.inserting_before(before):
        node = program.graph.placeholder(f"c_{target}")
    node.meta = {"val": mode.from_tensor(tensor)}
    specs.insert(place, InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(node.name), target))
    program.constants[target] = tensor
    return node


def _replace_symbols(program: ExportedProgram, node: Node, masks: list[torch.Tensor]) -> None:
    """Replace the symbols of data-dependent sizes by the number of elements that the masks select."""
    bindings = node.meta.pop("unbacked_bindings", {})
    count = max(int(mask.to(torch.bool).sum()) for mask in masks)
    for symbol in bindings:
        env = node.meta["val"].fake_mode.shape_env
        env._set_replacement(symbol, sympy.Integer(count), "constant mask")
        program.range_constraints.pop(symbol, None)
