"""TORCH -> STABLEHLO: run torch-mlir's conversion, then our legalization.

The result has only func and stablehlo ops, and computes each size once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from lowering import meshes, torch_to_stablehlo
from lowering.custom import operators
from lowering.errors import Problem, Unsupported
from lowering.ir import chlo, mlir
from lowering.legalize import aliases, chlo_ops, composites, driver, preparation, quantized_types, scaling, shardings
from lowering.legalize.patterns import collectives, control, custom_calls
from lowering.level import Level, Program
from lowering.signature import Signature
from lowering.stage import Note, Read, Stage
from lowering.torch_dialect import inventory

# torch-mlir's torch-backend-to-stablehlo-backend-pipeline in parts. CHLO ops that MHLO has too are set aside first. The
# passes that refine shapes are left out, since the legalization knows more. Two steps run between the parts because canonicalize and the
# conversion of types take quadratic time for them: opening the regions that guard broadcasts, and converting the arguments that are
# weights. 96 layers take a quarter of the time.
CONVERT = "builtin.module(func.func(convert-torch-to-stablehlo{{allow-non-finites={allow}}}))"
SIMPLIFY = "builtin.module(func.func(convert-torch-to-arith,cse,canonicalize,cse))"
VERIFY = "torch-verify-stablehlo-backend-contract,"
INTERFACE = "builtin.module(torch-func-backend-type-conversion-for-stablehlo,func.func(canonicalize))"
TYPES = (
    "builtin.module(func.func(torch-finalizing-backend-type-conversion-for-stablehlo),"
    f"{VERIFY}func.func(stablehlo-legalize-deprecated-ops{{fail-on-unused=false}},canonicalize,cse))"
)
FINISH = mlir.join_pipelines(chlo_ops.EXPAND, SIMPLIFY, INTERFACE, TYPES)


@dataclass(frozen=True)
class ToStableHLO(Stage):
    """Convert the torch dialect to StableHLO, and legalize it.


    allow_non_finites: keep infinities in constants (masks use them).
    assertions: let the program reject shapes outside of the declared ranges and of the exported program's guards.
    chlo: `keep` leaves the CHLO ops that MHLO has too (erf) whole, and XLA has its own code for them; `expand` writes them as StableHLO's
        arithmetic, at this level and in MHLO. Other CHLO ops are always expanded, and the packaged program has none.
    aliases: the attribute of arguments that are states (buffers that forward writes to, inputs with `state`), here and in MHLO:
        `tf.aliasing_output` with the result that is the new value, or `jax.buffer_donor`; `none` leaves it out.
    mesh: the devices that run the program, as axes with their sizes; ids are row-major. groups: of collectives, the axes of a process group
        by its name. shardings, result_shardings: by the name of an argument or result, which may have `*`, the axis that splits each dim
        (null: none). partitioner: of XLA's, the one whose form of shardings is written: `gspmd` (`mhlo.sharding`) or `shardy`
        (docs/consumers.md).
    quantization: of composites that quantize and dequantize, `keep` them, or write `types`, as StableHLO has them (`!quant.uniform`), for
        consumers that compute with these (docs/quantization.md).
    """

    source: ClassVar[Level] = Level.TORCH
    target: ClassVar[Level] = Level.STABLEHLO

    allow_non_finites: bool = True
    assertions: bool = True
    chlo: Literal["keep", "expand"] = "keep"
    aliases: aliases.Aliases = "tf.aliasing_output"
    mesh: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shardings: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    result_shardings: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    partitioner: Literal["gspmd", "shardy"] = "gspmd"
    quantization: Literal["keep", "types"] = "keep"

    def requires(self, program: Program) -> Sequence[Problem]:
        found = meshes.find_problems(self.mesh, "stages.stablehlo.mesh")
        for name, axes in self.groups.items():
            found += meshes.find_unknown_axes(self.mesh, axes, f"stages.stablehlo.groups.{name}")
        if program.signature is not None:
            for key, patterns, (names, ranks) in self._list_shardings(program.signature):
                found += shardings.find_problems(patterns, names, ranks, self.mesh, f"stages.stablehlo.{key}")
        return found

    def _list_shardings(self, signature: Signature) -> list[tuple[str, Mapping[str, Sequence[str | None]], tuple[list[str], list[int]]]]:
        """Return the options of shardings, each with the names and ranks of the values that it shards."""
        arguments, results = signature.arguments, signature.computed
        return [("shardings", self.shardings, ([each.name for each in arguments], [len(each.dims) for each in arguments])),
                ("result_shardings", self.result_shardings, ([each.name for each in results], [len(each.dims) for each in results]))]

    def apply(self, program: Program, note: Note) -> Program:
        with mlir.collect_diagnostics(program.ir.context, "stablehlo"):
            return self._convert(program, note)

    def _convert(self, program: Program, note: Note) -> Program:
        module = mlir.copy(program.ir)
        torch_to_stablehlo.lower(module)
        if problems := operators.outline(module, program.model):
            raise Unsupported(problems, mlir.text(module))
        if problems := collectives.assign(module, self.mesh, self.groups):
            raise Unsupported(problems, mlir.text(module))
        for row in operators.list_unused(module, program.model):
            note("custom_call_unused", "the program has no such op when it is lowered to StableHLO", f"custom_calls.{row}")
        branches = any(operation.name in control.OPS for operation in mlir.walk_operations(module))
        if branches:
            control.keep_conditions(module)
            mlir.run(module, control.PASS, "stablehlo")
            preparation.keep_unsigned(module)
        convert = CONVERT.format(allow=str(self.allow_non_finites).lower())
        if inventory.has_mask_index(module):
            raise Unsupported(inventory.find_rejected(module, mlir.join_pipelines(convert, FINISH)), mlir.text(module))
        with inventory.report_all(module, mlir.join_pipelines(convert, FINISH)):
            mlir.run(module, convert, "stablehlo")
            if self.chlo == "keep":
                chlo.to_calls(module)
            mlir.run(module, chlo_ops.EXPAND, "stablehlo")
            chlo.from_calls(module)
            preparation.open_assumptions(module)
            preparation.convert_literals(module)
            mlir.run(module, SIMPLIFY, "stablehlo")
            preparation.convert_arguments(module)
            mlir.run(module, INTERFACE, "stablehlo")
            preparation.convert_literals(module)
            # torch-mlir's verifier rejects calls and regions; all else that it rejects, the legalization rejects too
            mlir.run(module, TYPES.replace(VERIFY, "") if branches or operators.is_outlined(module) else TYPES, "stablehlo")
        assert program.signature is not None
        problems = driver.legalize(module, program.signature, self.assertions)
        if problems:
            raise Unsupported(problems, mlir.text(module))
        mlir.run(module, "builtin.module(func.func(canonicalize,cse))", "stablehlo")
        for unformed in composites.outline(module, program.signature):
            note("composite_not_formed", f"{unformed.name} stays plain ops: {unformed.cause}", unformed.line)
        if self.quantization == "types":
            self._write_types(module, program, note)
        scaling.separate(module.body)  # not earlier, because only now every constant is one op
        aliases.write(module, program.signature, self.aliases)
        if self.shardings or self.result_shardings:
            self._write_shardings(module, program.signature)
        for op, line in custom_calls.list_sized_by_data(module):
            message = f"the size of the result of {op} does not follow from the sizes of the inputs; XLA runs the program in segments"
            note("size_from_data", message, line)
        return program.replace_ir(Level.STABLEHLO, module)

    def _write_shardings(self, module: Any, signature: Signature) -> None:
        """Write the shardings of all arguments and results in the partitioner's form."""
        (_, patterns, arguments), (_, result_patterns, results) = self._list_shardings(signature)
        if self.partitioner == "shardy":
            shardings.write_shardy_arguments(module, *arguments, patterns, self.mesh)
            shardings.write_shardy_results(module, *results, result_patterns)
        else:
            shardings.write(module, "arg_attrs", *arguments, patterns, self.mesh)
            shardings.write(module, "res_attrs", *results, result_patterns, self.mesh)

    def _write_types(self, module: Any, program: Program, note: Note) -> None:
        """Write quantized types, and note each quantization that has none."""
        assert program.signature is not None
        if not quantized_types.is_quantization(module):
            note("quantization_not_typed", f"the program has no composite {' or '.join(quantized_types.NAMES)} to write a type for "
                 "(see stages.export.composites)")
        for untyped in quantized_types.write(module, program.signature, program.weights):
            note("quantization_not_typed", f"{untyped.name} becomes plain arithmetic: {untyped.cause}", untyped.line)

    def reads(self) -> frozenset[Read]:
        return frozenset({"interface", "weights"} if self.quantization == "types" else {"interface"})

    def ensures(self, program: Program) -> Sequence[Problem]:
        mlir.verify(program.ir, "stablehlo")
        return mlir.list_impurities(program.ir, ("func", "stablehlo", "chlo", "builtin"))

    def save(self, program: Program, stem: Path) -> list[Path]:
        return [mlir.save(program.ir, stem, Level.STABLEHLO.suffix)]

    def ops(self, program: Program) -> dict[str, int]:
        return mlir.count_ops(program.ir)
