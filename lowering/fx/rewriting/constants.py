"""Convert the tensor constants of an exported program to attributes, for graph transformations, and back to lifted arguments."""

from __future__ import annotations

import copy

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind, InputSpec, OutputKind, TensorArgument
from torch.fx import GraphModule, Node

_ARGUMENTS = {InputKind.PARAMETER: "parameter", InputKind.BUFFER: "buffer"}


def unlift(program: ExportedProgram) -> GraphModule:
    """Return a copy of the program's graph that reads tensor constants as attributes.

    `meta["argument"]` of each placeholder names its kind.
    """
    module = copy.deepcopy(program.graph_module)
    written = {spec.target for spec in program.graph_signature.output_specs if spec.kind is OutputKind.BUFFER_MUTATION}
    placeholders = {node.name: node for node in module.graph.nodes if node.op == "placeholder"}
    for spec in program.graph_signature.input_specs:
        node = placeholders[spec.arg.name]
        node.meta["argument"] = "written buffer" if spec.target in written else _ARGUMENTS.get(spec.kind, "input")
        if spec.kind is InputKind.CONSTANT_TENSOR and spec.target is not None:
            _replace_by_attribute(module, node, program.constants[spec.target])
    module.recompile()
    return module


def _replace_by_attribute(module: GraphModule, node: Node, tensor: torch.Tensor) -> None:
    """Replace a constant's placeholder by an attribute."""
    module.register_buffer(f"held_{node.name}", tensor)
    last = [other for other in module.graph.nodes if other.op == "placeholder"][-1]
    with module.graph.inserting_after(last):
        read = module.graph.get_attr(f"held_{node.name}")
    read.meta = dict(node.meta)
    node.replace_all_uses_with(read)
    module.graph.erase_node(node)


def lift(module: GraphModule, program: ExportedProgram) -> ExportedProgram:
    """Return `module` as an exported program with the types and ranges of `program`.

    Attributes become constant arguments. Weights without a placeholder are dropped.
    """
    placeholders = {node.name for node in module.graph.nodes if node.op == "placeholder"}
    kept = [spec for spec in program.graph_signature.input_specs if spec.arg.name in placeholders]
    constants = {name: value for name, value in program.constants.items() if name in {spec.target for spec in kept}}
    names: dict[str, Node] = {}
    attributes = [node for node in module.graph.nodes if node.op == "get_attr"]
    for node in [node for node in attributes if isinstance(getattr(module, str(node.target)), torch.Tensor)]:
        name = str(node.target).removeprefix("held_").removeprefix("c_")
        if name not in names:
            names[name] = _add_argument(module, node, name)
            kept.insert(len(names) - 1, InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(names[name].name), name))
            constants[name] = getattr(module, str(node.target))
        node.replace_all_uses_with(names[name])
        module.graph.erase_node(node)
    module.graph.lint()
    module.recompile()
    state = {name: value for name, value in program.state_dict.items() if name in {spec.target for spec in kept}}
    result = ExportedProgram(
        root=module, graph=module.graph, graph_signature=ExportGraphSignature(kept, _update_output_specs(module, program)),
        state_dict=state,
        range_constraints=program.range_constraints, module_call_graph=program.module_call_graph, example_inputs=program.example_inputs,
        constants=constants, verifiers=program.verifiers,
    )  # fmt: skip
    result._guards_code = program._guards_code
    return result


def _add_argument(module: GraphModule, node: Node, name: str) -> Node:
    """Add a placeholder after those of the constants that were added before."""
    places = [other for other in module.graph.nodes if other.op == "placeholder"]
    done = [other for other in places if other.meta.get("argument") == "constant"]
    first = places[0] if places else next(iter(module.graph.nodes))
    with module.graph.inserting_after(done[-1]) if done else module.graph.inserting_before(first):
        placeholder = module.graph.placeholder(f"c_{name}")
    placeholder.meta = {**node.meta, "argument": "constant"}
    return placeholder


def _update_output_specs(module: GraphModule, program: ExportedProgram) -> list[object]:
    """Return the specs of the results, with the current names of their nodes."""
    results = next(node for node in module.graph.nodes if node.op == "output").args[0]
    specs = []
    for spec, result in zip(copy.deepcopy(program.graph_signature.output_specs), results, strict=True):
        if isinstance(result, Node):
            spec.arg = type(spec.arg)(result.name)
        specs.append(spec)
    return specs
