"""EXPORTED -> TORCH with torch-mlir's own FX importer: the baseline for TorchScript and our importer (`route: fx`)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch.fx import GraphModule, Node

from lowering.custom import marks
from lowering.errors import Problem, ShapelineError, StageFailed
from lowering.fx.results import drop_repeated
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.torch_dialect.backend_contract import ToBackendContract


@dataclass(frozen=True)
class FromFX(ToBackendContract):
    """Import the exported graph with `torch_mlir.extras.fx_importer`, and simplify it as `torch_mlir.fx.export_and_import` does.

    Weights stay arguments, because the importer gets the graph in which they are placeholders. export_and_import copies them into the IR.
    The graph should be decomposed by torch-mlir's own table (`stages.export.decompose: torch_mlir`).
    """

    source: ClassVar[Level] = Level.EXPORTED

    def requires(self, program: Program) -> Sequence[Problem]:
        if any(node.target in (marks.operand, marks.result) for node in program.ir.graph_module.graph.nodes):
            return [Problem("stages.export.composites", "need the dims of tensors, which torch-mlir's importer does not keep",
                            "use route=torchscript, or remove the composites")]
        return []

    def import_module(self, program: Program) -> Any:
        graph = drop_repeated(program.ir, program.signature) if program.signature else program.ir.graph_module
        module = _import_module(_drop_constants(graph), mlir.create_torch_context())
        mlir.run(module, "builtin.module(func.func(torch-match-quantized-custom-ops))", "torch")
        return module


_CONSTANTS = (type(None), bool, int, float, str)


def _drop_constants(module: GraphModule) -> GraphModule:
    """Return a copy of the graph with the arguments and results of the signature, without constants among them.

    The importer modifies its graph.
    """
    graph = copy.deepcopy(module.graph)
    for node in list(graph.nodes):
        if node.op == "placeholder" and not node.users and isinstance(node.meta["val"], _CONSTANTS):
            graph.erase_node(node)
        elif node.op == "output":
            node.args = (tuple(result for result in node.args[0] if isinstance(result, Node)),)
    return GraphModule(module, graph)


def _import_module(module: GraphModule, context: Any) -> Any:
    """Return the MLIR module that the importer builds. Raises StageFailed for all of its errors."""
    from torch_mlir.extras.fx_importer import FxImporter
    from torch_mlir.ir import UnitAttr

    importer = FxImporter(context=context)
    try:
        with mlir.collect_diagnostics(context, "torch_mlir.extras.fx_importer"):
            function = importer.import_graph_module(module)
            function.attributes["torch.assume_strict_symbolic_shapes"] = UnitAttr.get(context)  # as the importer's import_program does
            importer.module.operation.verify()
    except ShapelineError:
        raise
    except Exception as error:
        raise StageFailed(Problem("torch_mlir.extras.fx_importer", f"{type(error).__name__}: {error}")) from error
    return importer.module
