"""In-place writes that torch cannot make functional, refused by name and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from lowering.errors import Problem, Unsupported
from lowering.fx import cleanup
from lowering.fx.rewriting import functional
from lowering.ir import source_lines


@contextmanager
def explain_failures(program: ExportedProgram) -> Iterator[None]:
    """Replace an error of a retrace by the writes of `program` that cause it.

    These are writes to tensors that are no parameters, buffers or inputs, and the call with `out=` at which the retrace stopped.
    """
    refused, resized = list(_list_writes_to_constants(program)), dict(_list_writes_to_results(program))  # a retrace changes the graph
    try:
        yield
    except Exception as error:
        stopped = _STOPPED.search(str(error))
        if stopped and stopped["node"] in resized:
            refused.append(resized[stopped["node"]])
        if refused:
            raise Unsupported(refused) from error
        raise


_STOPPED = re.compile(r"While executing %(?P<node>\w+) : ")


def _list_writes_to_constants(program: ExportedProgram) -> Iterator[Problem]:
    constants = {spec.arg.name: str(spec.target) for spec in program.graph_signature.input_specs if spec.kind is InputKind.CONSTANT_TENSOR}
    for node in cleanup.calls(program.graph_module):
        root = _find_written(node)
        if root is not None and root.op == "placeholder" and root.name in constants:
            cause = f"writes in place to '{constants[root.name]}', a tensor that is no buffer of the module"
            yield Problem(str(source_lines.find_model_line(node) or node.target), cause,
                          "register_buffer it, and read it from the module in forward; or pass it as an input and return it")


def _list_writes_to_results(program: ExportedProgram) -> Iterator[tuple[str, Problem]]:
    """Yield the name of each node that writes its result to an argument `out`, with the problem if the retrace fails there."""
    for node in cleanup.calls(program.graph_module):
        schema = getattr(node.target, "_schema", None)
        if schema is not None and any(argument.is_out for argument in schema.arguments):
            place = f"{node.target} at {source_lines.find_model_line(node) or 'an unknown line'}"
            yield node.name, Problem(place, "torch cannot make this write to `out` functional",
                                     "use the result that the op returns, or give `out` the shape and dtype of the result")


def _find_written(node: Node) -> Node | None:
    """Return the tensor whose memory an op writes to, seen through views, or None for an op that writes to none."""
    if not functional.writes(node.target) or not node.args:
        return None
    root = node.args[0]
    while isinstance(root, Node) and root.op == "call_function" and functional.views(root.target) and root.args:
        root = root.args[0]
    return root if isinstance(root, Node) else None
