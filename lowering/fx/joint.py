"""The joint graph of a captured program in training: forward, and the gradients of its loss, by AOTAutograd."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch._functorch._aot_autograd.descriptors import GradAOTOutput, InputMutationAOTOutput, PlainAOTInput, PlainAOTOutput, TangentAOTInput
from torch._functorch.aot_autograd import aot_export_joint_with_descriptors
from torch._guards import TracingContext, tracing
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind, OutputKind, OutputSpec, TensorArgument
from torch.fx import Graph, GraphModule, Node
from torch.fx.graph import CodeGen
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from lowering.eager.pytrees import name_leaves
from lowering.errors import Problem, StageFailed
from lowering.fx import cleanup
from lowering.fx.rewriting import effects
from lowering.fx.tracing import autograd_definitions
from lowering.ir import source_lines
from lowering.ops.sequences import recurrent, recurrent_gradients

Table = Mapping[Any, Callable[..., Any]]

_MUTATIONS = {InputKind.BUFFER: OutputKind.BUFFER_MUTATION, InputKind.USER_INPUT: OutputKind.USER_INPUT_MUTATION}


def differentiate(captured: ExportedProgram, loss: str, table: Table) -> ExportedProgram:
    """Return `captured` with the gradients of its output `loss` as further results.

    The results are the mutated buffers, the outputs, then a gradient for each parameter that the loss depends on, each kind in the order of
    the arguments. The program is functional. `captured` must come from torch.export in train mode; its graph is modified. Raises
    StageFailed if an op has no gradient, or if the loss depends on no parameter.

    table: decompositions by op, including those of backward ops.
    """
    cleanup.inline_wrappers(captured.graph_module, detach=True)
    cleanup.drop_copies_to_self(captured.graph_module)
    _differentiate_layers(captured)
    _use_dense_gradients(captured)
    _detach_all_but(captured, loss)
    placeholders = [node for node in captured.graph.nodes if node.op == "placeholder"]
    values = tuple(node.meta["val"] for node in placeholders)
    try:
        with ExitStack() as stack:
            stack.enter_context(_trace_plain_attention(values))
            stack.enter_context(autograd_definitions.replace_gradients_of_sizes())
            stack.enter_context(_align_branches())
            traced = aot_export_joint_with_descriptors(stack, captured.graph_module, values, decompositions=dict(table)).graph_module
    except Exception as error:  # ops without a gradient raise many kinds
        raise StageFailed(Problem("AOTAutograd", f"{type(error).__name__}: {error}")) from error
    effects.remove_joint_tokens(traced)
    cleanup.fold_conjugates(traced)
    _flatten(traced, loss)
    _rename(traced.graph, placeholders)
    specs = _build_output_specs(captured, traced.graph, loss)
    traced.graph.eliminate_dead_code()
    traced.graph.lint()
    traced.recompile()
    return ExportedProgram(
        root=traced, graph=traced.graph, graph_signature=ExportGraphSignature(list(captured.graph_signature.input_specs), specs),
        state_dict=captured.state_dict, range_constraints=captured.range_constraints, module_call_graph=captured.module_call_graph,
        example_inputs=captured.example_inputs, constants=captured.constants, verifiers=captured.verifiers,
    )  # fmt: skip


def find_random_ops(captured: ExportedProgram) -> list[Problem]:
    """Report each op of a program that draws random numbers, with its module and user line. No two levels would draw the same numbers."""
    return [
        Problem(f"{node.target} at {source_lines.find_model_line(node) or 'an unknown line'}", "draws random numbers in training",
                "set its probability to 0 in the arguments of the factory")
        for body in cleanup.bodies(captured.graph_module) for node in cleanup.calls(body) if _is_random(node)
    ]  # fmt: skip


def find_loops(captured: ExportedProgram) -> list[Problem]:
    """Report each loop of a program, with its user line.

    Its gradient keeps a row for each iteration, and their number is only known at run time.
    """
    return [
        Problem(f"{node.target} at {source_lines.find_model_line(node) or 'an unknown line'}",
                "is a loop of dynamic length, which has no gradient",
                "make the dim static in training, so that the loop is unrolled")
        for body in cleanup.bodies(captured.graph_module) for node in cleanup.calls(body)
        if node.target is torch.ops.higher_order.while_loop
    ]  # fmt: skip


def _is_random(node: Node) -> bool:
    """Return whether an op draws random numbers. Dropout with a probability of 0, or outside of training, does not."""
    op = node.target
    if not isinstance(op, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded not in op.tags:
        return False
    given = {formal.name: node.args[place] if place < len(node.args) else node.kwargs.get(formal.name, formal.default_value)
             for place, formal in enumerate(op._schema.arguments)}  # fmt: skip
    silent = [given[name] == 0 for name in ("p", "dropout_p", "dropout") if name in given]
    silent += [given[name] is False for name in ("train", "training") if name in given]
    return not any(silent)


def _differentiate_layers(captured: ExportedProgram) -> None:
    """Let recurrent layers of dynamic length be loops with a gradient, a loop back."""
    for node in cleanup.calls(captured.graph_module):
        if recurrent.has_dynamic_length(node):
            node.target = recurrent_gradients.define(node.target)


def _use_dense_gradients(captured: ExportedProgram) -> None:
    """Let the gradients of tables be dense, also where `sparse=True` asks eager for sparse ones, which no level holds."""
    for node in cleanup.calls(captured.graph_module):
        if node.target is torch.ops.aten.embedding.default:
            node.args = node.args[:4]  # without `sparse`
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "sparse"}


@contextmanager
def _trace_plain_attention(values: tuple[Any, ...]) -> Iterator[None]:
    """Trace in the fake mode of the captured values, with attention in plain ops. The fused kernels of a device have no lowering."""
    mode = next(value.fake_mode for value in values if isinstance(value, torch._subclasses.FakeTensor))
    with tracing(TracingContext(mode)), sdpa_kernel(SDPBackend.MATH):
        yield


def _align_branches() -> AbstractContextManager[Any]:
    """Return a context in which the gradients of both branches of a `cond` have the same strides, which torch asserts.

    A branch that does not read a weight gives plain zeros, and one that sums it an expanded number.
    """
    module = importlib.import_module("torch._higher_order_ops.cond")  # an attribute of this name is the function

    def create(function: Callable[..., Any], args: tuple[Any, ...], original: Callable[..., Any] = module.create_bw_fn) -> Any:
        differentiate = original(function, args)

        def run(*given: Any) -> Any:
            return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.clone(memory_format=torch.contiguous_format),
                                        differentiate(*given))

        return run

    return mock.patch.object(module, "create_bw_fn", create)


def _detach_all_but(captured: ExportedProgram, loss: str) -> None:
    """Detach all outputs but the loss, and clone every output, so that no two values share memory."""
    output = captured.graph.output_node()
    results = []
    for result, name in zip(output.args[0], name_leaves(captured.call_spec.out_spec), strict=True):  # type: ignore[arg-type]
        if not isinstance(result, Node) or not isinstance(result.meta["val"], torch.Tensor):
            results.append(result)
            continue
        with captured.graph.inserting_before(output):
            kept = result if name == loss else _call(captured.graph, torch.ops.aten.detach.default, result)
            results.append(_call(captured.graph, torch.ops.aten.clone.default, kept))
    output.args = (tuple(results),)
    captured.graph_module.recompile()


def _call(graph: Graph, op: Any, argument: Node) -> Node:
    node = graph.call_function(op, (argument,))
    node.meta = dict(argument.meta)
    return node


def _flatten(traced: GraphModule, loss: str) -> None:
    """Pass arguments and results one by one, and replace the gradient of the loss by itself, which is one.

    Backward ops are assigned the modules of their forward ops.
    """
    graph = traced.graph
    graph.set_codegen(CodeGen())
    tangents = [node for node in graph.nodes if node.op == "placeholder" and isinstance(node.meta.get("desc"), TangentAOTInput)]
    if len(tangents) != 1:
        raise StageFailed(Problem(f"loss '{loss}'", "depends on no trainable parameter", "parameters need requires_grad=True"))
    value = tangents[0].meta["val"]
    with graph.inserting_before(next(node for node in graph.nodes if node.op != "placeholder")):
        one = graph.call_function(torch.ops.aten.full.default, (list(value.shape), 1.0), {"dtype": value.dtype, "device": value.device})
    one.meta = {"val": value}
    tangents[0].replace_all_uses_with(one)
    graph.erase_node(tangents[0])
    for node in graph.nodes:
        if "fwd_nn_module_stack" in node.meta:
            node.meta.setdefault("nn_module_stack", node.meta["fwd_nn_module_stack"])


def _rename(graph: Graph, arguments: Sequence[Node]) -> None:
    """Rename the graph's placeholders to the names of `arguments`, which the input specs refer to."""
    taken = {argument.name for argument in arguments}
    for node in graph.nodes:
        if node.op != "placeholder" and node.name in taken:
            node._rename(f"{node.name}_op")
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for node, argument in zip(placeholders, arguments, strict=True):
        node.name = node.target = argument.name
        node.meta = dict(argument.meta)


def _build_output_specs(captured: ExportedProgram, graph: Graph, loss: str) -> list[OutputSpec]:
    """Remove the empty results from the graph, and return the specs of the others."""
    output = graph.output_node()
    given, names = captured.graph_signature, name_leaves(captured.call_spec.out_spec)
    specs, results = [], []
    for result, described in zip(output.args[0], output.meta["desc"], strict=True):  # type: ignore[arg-type]
        match described:
            case None | GradAOTOutput() if result is None:
                continue  # the argument is not trained, or the loss does not depend on it
            case InputMutationAOTOutput(PlainAOTInput(number)):
                spec = given.input_specs[number]
                specs.append(OutputSpec(_MUTATIONS[spec.kind], TensorArgument(result.name), spec.target or spec.arg.name))
            case PlainAOTOutput(number):
                spec = given.output_specs[number]
                kind = OutputKind.LOSS_OUTPUT if names[number] == loss else OutputKind.USER_OUTPUT
                specs.append(OutputSpec(kind, type(spec.arg)(result.name) if isinstance(result, Node) else spec.arg, None))
            case GradAOTOutput(PlainAOTInput(number)) if given.input_specs[number].kind is InputKind.PARAMETER:
                specs.append(OutputSpec(OutputKind.GRADIENT_TO_PARAMETER, TensorArgument(result.name), given.input_specs[number].target))
            case _:
                raise StageFailed(Problem("joint graph", f"AOTAutograd returned a result that a signature cannot describe: {described}"))
        results.append(result)
    output.args = (tuple(results),)
    return specs
