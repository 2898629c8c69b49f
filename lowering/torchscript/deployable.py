"""Build a TorchScript module with named parameters around a lowered graph, for libtorch without Python."""

from __future__ import annotations

import re

import torch

from lowering import types
from lowering.custom import marks
from lowering.level import Program
from lowering.torchscript.nodes import nodes


def build_module(program: Program) -> torch.jit.ScriptModule:
    """Return a module whose parameters and buffers have their FQNs.

    Its `forward` takes the inputs in the order of the signature.
    """
    assert program.signature is not None
    root = torch.nn.Module()
    for argument in program.signature.weights:
        _register(root, argument.name.split("."), argument.kind, program.weights[argument.name])
    graph = marks.strip_script(program.ir.copy())
    _compute_negative_zeros(graph)
    lowered = torch._C._create_function_from_graph("__torch__.lowered", graph)
    # not shared: modules of equal attributes would share one type, which can hold only one forward
    scripted = torch.jit._recursive.create_script_module(root, lambda module: [], share_types=False)
    scripted._c._define(scripted._concrete_type, _forward_source(program), {"lowered": lowered}.get)
    torch._C._jit_pass_inline(scripted.graph)  # the module does not own the function it calls
    return scripted.eval()


def _compute_negative_zeros(graph: torch._C.Graph) -> None:
    """Compute each constant -0.0. TorchScript merges equal constants, and -0.0 equals 0.0.

    The negation is in place because TorchScript folds any other.
    """
    for node in list(nodes(graph)):
        if node.kind() != "prim::Constant" or node.output().type().kind() != "FloatType" or str(node.output().toIValue()) != "-0.0":
            continue
        with graph.insert_point_guard(node):
            shape = graph.insertNode(graph.create("prim::ListConstruct", [], 1)).output()
            shape.setType(torch._C.ListType.ofInts())
            settings = [graph.insertConstant(setting) for setting in (types.find_row(torch.float64).code, None, None, None)]
            zero = graph.insertNode(graph.create("aten::full", [shape, graph.insertConstant(0.0), *settings], 1)).output()
            negated = graph.insertNode(graph.create("aten::neg_", [zero], 1)).output()
            number = graph.insertNode(graph.create("aten::Float", [negated], 1)).output()
            number.setType(torch._C.FloatType.get())
        node.output().replaceAllUsesWith(number)
        node.destroy()


def _register(module: torch.nn.Module, path: list[str], kind: str, tensor: torch.Tensor) -> None:
    """Register a weight at its path, and create the modules that lead to it."""
    for name in path[:-1]:
        if name not in module._modules:
            module.add_module(name, torch.nn.Module())
        module = module._modules[name]  # type: ignore[assignment]
    if kind == "parameter":
        module.register_parameter(path[-1], torch.nn.Parameter(tensor, requires_grad=False))
    else:
        module.register_buffer(path[-1], tensor)


def _forward_source(program: Program) -> str:
    """Return the source of `forward`: it takes the inputs by name, and calls the lowered graph with the weights read from the module."""
    assert program.signature is not None
    inputs = [(argument, value) for argument, value in zip(program.signature.arguments, program.ir.inputs(), strict=True)
              if argument.kind == "input"]  # fmt: skip
    declared = ", ".join(f"{_spell_name(argument.name)}: {_spell_type(value.type())}" for argument, value in inputs)
    read = [_read_expression(argument.name.split(".")) if argument.kind != "input" else _spell_name(argument.name)
            for argument in program.signature.arguments]
    return f"def forward(self, {declared}):\n    return lowered({', '.join(read)})\n"


def _spell_name(path: str) -> str:
    """Return the name of an input as an identifier: `past_key_values_layers_0_keys`."""
    return re.sub(r"\W", "_", path)


def _spell_type(type_: torch._C.Type) -> str:
    return "Tensor" if type_.kind() == "TensorType" else type_.annotation_str


def _read_expression(path: list[str]) -> str:
    """Return the expression `self.a.0.b`, in which names that are not identifiers (a ModuleList's) are read by getattr."""
    code = "self"
    for name in path:
        code = f"{code}.{name}" if name.isidentifier() else f'getattr({code}, "{name}")'
    return code
