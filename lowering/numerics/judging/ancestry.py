"""The computation of each result of an exported program: the narrowest float on its way, and whether it descends from random numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from lowering.fx import cleanup
from lowering.numerics import comparison
from lowering.signature import Signature

# They give elements or constants as they are: their dtype says nothing about rounding.
MOVING = frozenset((
    "embedding", "index_select", "gather", "index", "clone", "contiguous", "slice", "cat", "stack", "expand", "repeat", "where", "copy",
    "lift_fresh_copy", "constant_pad_nd", "flip", "roll", "detach", "alias", "full", "zeros", "ones", "full_like", "zeros_like",
    "ones_like", "scalar_tensor", "empty", "empty_like", "slice_scatter", "select_scatter", "unfold", "masked_fill",
))  # fmt: skip
_RATES = ("p", "dropout_p", "dropout")  # arguments that say how much an op draws
_TRAINS = ("train", "training")


@dataclass(frozen=True)
class Making:
    """The origin of a result. narrowest: the float dtype with the largest rounding step to which an op rounds; None without any."""

    narrowest: torch.dtype | None = None
    is_random: bool = False

    def join(self, other: Making) -> Making:
        dtypes = [dtype for dtype in (self.narrowest, other.narrowest) if dtype is not None]
        return Making(max(dtypes, key=comparison.precision, default=None), self.is_random or other.is_random)


def trace_results(program: ExportedProgram, signature: Signature) -> tuple[Making, ...]:
    """Return how each result of `signature` that is no constant is computed, in their order."""
    module = program.graph_module
    found = _list_nodes(module)
    returned = next(node for node in module.graph.nodes if node.op == "output").args[0]
    return tuple(found[output] if isinstance(output, Node) else Making()
                 for output, result in zip(returned, signature.results, strict=True) if result in signature.returned)


def converts(program: ExportedProgram) -> bool:
    """Return whether an op, in branches and loops too, converts floats to integers."""
    return any(_converts(node) for body in cleanup.bodies(program.graph_module) for node in cleanup.calls(body))


def _converts(node: Node) -> bool:
    made, source = node.meta.get("val"), next((argument.meta.get("val") for argument in node.all_input_nodes), None)
    casts = getattr(getattr(node.target, "overloadpacket", None), "__name__", "") in ("_to_copy", "to", "type_as", "convert_element_type")
    return (casts and isinstance(made, torch.Tensor) and isinstance(source, torch.Tensor) and source.dtype.is_floating_point
            and not made.dtype.is_floating_point and not made.dtype.is_complex and made.dtype is not torch.bool)


def _list_nodes(module: GraphModule) -> dict[Node, Making]:
    found: dict[Node, Making] = {}
    for node in module.graph.nodes:
        own = Making()
        if node.op == "call_function":
            own = Making(_rounds_to(node), _draws(node))
        elif node.op == "get_attr" and isinstance(body := getattr(module, str(node.target), None), GraphModule):
            own = _join(_list_nodes(body).values())  # of a branch or a loop: whatever happens there may reach the results
        found[node] = _join([own, *(found[source] for source in node.all_input_nodes)])
    return found


def _join(makings: Iterable[Making]) -> Making:
    whole = Making()
    for making in makings:
        whole = whole.join(making)
    return whole


def _rounds_to(node: Node) -> torch.dtype | None:
    schema, name = getattr(node.target, "_schema", None), getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
    if schema is None or name in MOVING or any(result.alias_info is not None for result in schema.returns):
        return None
    values = [value for value in tree_leaves(node.meta.get("val")) if isinstance(value, torch.Tensor)]
    dtypes = [value.dtype for value in values if value.dtype.is_floating_point or value.dtype.is_complex]
    if name == "_to_copy":  # a wider dtype holds what it is given
        source = next((value for value in tree_leaves([argument.meta.get("val") for argument in node.all_input_nodes])
                       if isinstance(value, torch.Tensor)), None)
        if source is not None and source.dtype.is_floating_point:
            dtypes = [dtype for dtype in dtypes if comparison.precision(dtype) > comparison.precision(source.dtype)]
    return max(dtypes, key=comparison.precision, default=None)


def _draws(node: Node) -> bool:
    """Return whether an op draws random numbers. One that can, and whose arguments say otherwise, does not."""
    target: Any = node.target
    if torch.Tag.nondeterministic_seeded not in getattr(target, "tags", ()):
        return False
    given = {argument.name: argument.default_value for argument in target._schema.arguments if argument.has_default_value()}
    given |= dict(zip((argument.name for argument in target._schema.arguments), node.args, strict=False)) | node.kwargs
    if any(given.get(name) is False for name in _TRAINS):
        return False
    return not any(name in given and given[name] == 0 for name in _RATES)
