"""Functional collectives of torch.distributed (`_c10d_functional`) as StableHLO's, with the groups of devices as `replica_groups`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch_mlir import ir

from lowering import meshes
from lowering.custom.operators import HELD
from lowering.errors import Problem
from lowering.ir import builtin
from lowering.legalize.rewriter import Rewrite

NAMESPACE = "_c10d_functional"
GROUPS = "replica_groups"  # attribute of a stand-in: the groups of device ids
CHANNEL = "channel"  # attribute of a stand-in: a number that no other collective of the program has
OPS = frozenset(f"{NAMESPACE}::{name}" for name in (
    "all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "all_to_all_single", "wait_tensor"))  # fmt: skip

KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")  # StableHLO's and MHLO's ops
_REDUCERS = {"sum": "add", "avg": "add", "product": "multiply", "max": "maximum", "min": "minimum"}


def find_groups(held: Any) -> list[list[int]]:
    """Return the groups of a stand-in."""
    return [list(map(int, row.split())) for row in held[GROUPS].value.split(",")]


def assign(module: Any, mesh: meshes.Axes, groups: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Write the devices of its group, and a channel of its own, into the stand-in of each collective. Return what is not declared.

    groups: the axes of the mesh that the devices of a process group differ along, by the name of the group.
    """
    problems: list[Problem] = []
    for channel, function in enumerate([op.operation for op in module.body.operations if HELD in op.operation.attributes], start=1):
        held = function.attributes[HELD]
        name, arguments = held["config"]["op"].value, held["config"]["arguments"]
        if not name.startswith(f"{NAMESPACE}::"):
            continue
        if name not in OPS:
            problems.append(Problem(name, "is a collective that has no lowering", f"use one of {', '.join(sorted(OPS))}"))
        elif "group_name" in arguments:
            group = arguments["group_name"]["value"].value
            if group not in groups:
                problems.append(Problem(f"stages.stablehlo.groups.{group}", f"is not declared, and {name} uses this process group",
                                        "give the axes of stages.stablehlo.mesh that its devices differ along"))
                continue
            found = meshes.find_groups(mesh, groups[group])
            count = arguments["group_size"]["value"].value if "group_size" in arguments else len(found[0])
            if count != len(found[0]):
                problems.append(Problem(f"stages.stablehlo.groups.{group}", f"has {len(found[0])} devices, and {name} expects {count}"))
            with module.context:
                text = ",".join(" ".join(map(str, row)) for row in found)
                added = {GROUPS: ir.StringAttr.get(text), CHANNEL: builtin.make_integer(channel)}
                function.attributes[HELD] = ir.DictAttr.get({**{entry.name: entry.attr for entry in held}, **added})
    return problems


def replace(call: Any, held: Any, rewrite: Rewrite, learn: Callable[[Any], None]) -> None:
    """Replace a call by the collective. `wait_tensor` is nothing here: each StableHLO op ends before its result is used.

    learn: records the dims of the result.
    """
    name = held["config"]["op"].value.partition("::")[2]
    operand = rewrite.data(call.operands[0])
    if name == "wait_tensor":
        rewrite.replace(call.results[0], operand)
        return
    arguments = held["config"]["arguments"]
    groups = find_groups(held)
    attributes = {
        GROUPS: ir.Attribute.parse(f"dense<{groups}> : tensor<{len(groups)}x{len(groups[0])}xi64>"),
        "channel_handle": ir.Attribute.parse(f"#stablehlo.channel_handle<handle = {held[CHANNEL].value}, type = 1>"),
    }
    reducer = arguments["reduce_op"]["value"].value if "reduce_op" in arguments else ""
    if reducer and reducer not in _REDUCERS:
        rewrite.problems.append(Problem(f"{name} at {call.location}", f"reduces by '{reducer}'", f"use one of {', '.join(_REDUCERS)}"))
        return
    if reducer == "avg" and not isinstance(ir.RankedTensorType(operand.type).element_type, ir.FloatType):
        rewrite.problems.append(Problem(f"{name} at {call.location}", "takes the mean of integers", "reduce by 'sum', and divide"))
        return
    if name == "all_to_all_single" and not _has_equal_splits(arguments, call, rewrite):
        rewrite.problems.append(Problem(f"{name} at {call.location}", "has splits of different sizes", "split evenly"))
        return
    result = _BUILDERS[name](call, operand, attributes, reducer, len(groups[0]))
    learn(result)
    rewrite.replace(call.results[0], _mean(result, len(groups[0]), rewrite) if reducer == "avg" else result)


def _has_equal_splits(arguments: Any, call: Any, rewrite: Rewrite) -> bool:
    """Return whether every device sends and receives parts of one size."""
    for name in ("output_split_sizes", "input_split_sizes"):
        entry = arguments[name]
        if "operands" in entry:
            sizes = [rewrite.known.numbers(call.operands[position]) for position in entry["operands"]]
        else:
            sizes = list(entry["value"])
        if any(size is None or size != sizes[0] for size in sizes):
            return False
    return True


def _all_reduce(call: Any, operand: Any, attributes: Mapping[str, Any], reducer: str, _: int) -> Any:
    return _reduce("stablehlo.all_reduce", call, operand, {**attributes, "use_global_device_ids": ir.UnitAttr.get()}, reducer)


def _reduce_scatter(call: Any, operand: Any, attributes: Mapping[str, Any], reducer: str, _: int) -> Any:
    dimension = {"scatter_dimension": builtin.make_integer(0), "use_global_device_ids": ir.UnitAttr.get()}
    return _reduce("stablehlo.reduce_scatter", call, operand, {**attributes, **dimension}, reducer)


def _all_gather(call: Any, operand: Any, attributes: Mapping[str, Any], _: str, __: int) -> Any:
    dimension = {"all_gather_dim": builtin.make_integer(0), "use_global_device_ids": ir.UnitAttr.get()}
    return _create("stablehlo.all_gather", call, operand, {**attributes, **dimension})


def _all_to_all(call: Any, operand: Any, attributes: Mapping[str, Any], _: str, count: int) -> Any:
    dimensions = {"split_dimension": builtin.make_integer(0), "concat_dimension": builtin.make_integer(0),
                  "split_count": builtin.make_integer(count)}
    return _create("stablehlo.all_to_all", call, operand, {**attributes, **dimensions})


_BUILDERS: Mapping[str, Callable[[Any, Any, Mapping[str, Any], str, int], Any]] = {
    "all_reduce": _all_reduce, "reduce_scatter_tensor": _reduce_scatter, "all_gather_into_tensor": _all_gather,
    "all_to_all_single": _all_to_all,
}  # fmt: skip


def _create(name: str, call: Any, operand: Any, attributes: Mapping[str, Any], regions: int = 0) -> Any:
    with ir.InsertionPoint(call), call.location:
        created = ir.Operation.create(name, results=[call.results[0].type], operands=[operand], attributes=dict(attributes),
                                      regions=regions)
    return created if regions else created.results[0]


def _reduce(name: str, call: Any, operand: Any, attributes: Mapping[str, Any], reducer: str) -> Any:
    """Create a collective with a region that combines two elements."""
    created = _create(name, call, operand, attributes, regions=1)
    element = ir.RankedTensorType.get([], ir.RankedTensorType(operand.type).element_type)
    block = created.regions[0].blocks.append(element, element)
    with ir.InsertionPoint(block), call.location:
        combined = ir.Operation.create(f"stablehlo.{_REDUCERS[reducer]}", results=[element], operands=list(block.arguments))
        ir.Operation.create("stablehlo.return", operands=[combined.result])
    return created.results[0]


def _mean(total: Any, count: int, rewrite: Rewrite) -> Any:
    """Divide a sum by the number of devices."""
    type_ = ir.RankedTensorType(total.type)
    scalar = f"tensor<{type_.element_type}>"
    shape = rewrite.emitter.vector(rewrite.known.dims(total))
    with ir.InsertionPoint.after(total.owner), total.owner.location:
        number = rewrite.emitter.op("stablehlo.constant", [], scalar, value=f"dense<{count}.0> : {scalar}")
        spread = rewrite.emitter.op("stablehlo.dynamic_broadcast_in_dim", [number, shape], str(type_), broadcast_dimensions="array<i64>")
        return rewrite.emitter.op("stablehlo.divide", [total, spread], str(type_))
