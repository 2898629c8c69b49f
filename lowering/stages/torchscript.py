"""EXPORTED -> TORCHSCRIPT: build the graph directly, with parameters as inputs, and a deployable `.pt` with named parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from lowering.errors import Problem
from lowering.fx.names import symbol_names
from lowering.fx.results import drop_repeated
from lowering.fx.rewriting.fixed_sizes import find_fixed_sizes
from lowering.ir import source_lines
from lowering.level import Level, Program
from lowering.stage import Note, Read, Stage
from lowering.store import weights
from lowering.symbols.allowed import narrow
from lowering.torchscript import custom_ops, deployable
from lowering.torchscript.annotation import Annotation
from lowering.torchscript.graph import build, find_problems
from lowering.torchscript.nodes import nodes


@dataclass(frozen=True)
class ToTorchScript(Stage):
    """Build a `torch._C.Graph` from the FX graph. Nothing is traced or scripted, so no size can be burned in.


    deployable: also write a `.pt` for `torch.jit.load` in Python or C++. It contains the weights; a model without weights has none.
    optimized: also write a frozen `.optimized.pt`. Weights are constants of the code, values that depend only on them are precomputed, and
    dead code is removed.
    """

    source: ClassVar[Level] = Level.EXPORTED
    target: ClassVar[Level] = Level.TORCHSCRIPT

    deployable: bool = True
    optimized: bool = False

    def requires(self, program: Program) -> Sequence[Problem]:
        kept = program.model.custom_calls if program.model else ()
        return [*find_problems(program.ir.graph_module), *custom_ops.find_problems(program.ir.graph_module, kept)]

    def apply(self, program: Program, note: Note) -> Program:
        model, signature = program.model, program.signature
        module = drop_repeated(program.ir, signature) if signature else program.ir.graph_module
        if model is None or signature is None:
            return program.replace_ir(Level.TORCHSCRIPT, build(module))
        names = symbol_names(program.ir, model)
        fixed = find_fixed_sizes(module, names, narrow(signature.symbols, signature.guards))
        return program.replace_ir(Level.TORCHSCRIPT, build(module, Annotation(names, model.custom_calls), fixed))

    def reads(self) -> frozenset[Read]:
        return frozenset({"interface", "weights"}) if self.deployable or self.optimized else frozenset({"interface"})

    def ensures(self, program: Program) -> Sequence[Problem]:
        """Check that every node has a schema or is of a structural kind, and that `lint` passes."""
        program.ir.lint()
        return [
            Problem(f"{node.kind()} at {source_lines.find_script_line(node)}", "TorchScript has no overload for these operand types",
                    str(node).strip())
            for node in nodes(program.ir)
            if node.schema() == "(no schema)" and node.kind() not in STRUCTURAL
        ]

    def save(self, program: Program, stem: Path) -> list[Path]:
        """Write the graph's text (`.ts`), and the deployable and optimized modules (`.pt`) if they are enabled."""
        text = stem.with_name(stem.name + Level.TORCHSCRIPT.suffix)
        text.write_text(str(program.ir), encoding="utf-8")
        saved = [text]
        if weights.list_fakes(program.weights) or not (self.deployable or self.optimized):
            return saved  # a module without weights cannot be deployed
        if program.model and program.model.weights == "lazy":
            return saved  # the file would be a copy of the checkpoint
        module = deployable.build_module(program)
        if self.deployable:
            saved.append(stem.with_name(stem.name + ".pt"))
            module.save(str(saved[-1]))
        if self.optimized:
            saved.append(stem.with_name(stem.name + ".optimized.pt"))
            torch.jit.freeze(module).save(str(saved[-1]))
        return saved

    def ops(self, program: Program) -> dict[str, int]:
        return dict(Counter(node.kind() for node in nodes(program.ir)))


# Kinds without a schema: their blocks, attributes or types define their meaning.
STRUCTURAL = frozenset({
    "prim::Constant", "prim::ListConstruct", "prim::ListUnpack", "prim::TupleConstruct", "prim::TupleUnpack", "prim::DictConstruct",
    "prim::If", "prim::Loop", "prim::GetAttr", "prim::CallMethod", "prim::CallFunction", "prim::unchecked_cast",
})  # fmt: skip
