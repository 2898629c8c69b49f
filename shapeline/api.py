"""`lower`: from a module and example arguments to MHLO, in this process, without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from lowering import in_memory
from lowering.eager.arguments import check_fit
from lowering.eager.module import in_eval_mode
from lowering.errors import ConfigError, Problem, suggest
from lowering.level import Level, Program
from lowering.model import Built
from lowering.record.events import History
from lowering.record.recorder import UnfiledRecorder
from lowering.sources import exported
from lowering.stage import Stage
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.symbols.schema import SymbolRecord
from lowering.trees import Fill
from shapeline import checks, declaration
from shapeline.lowered import Lowered, Symbols

STAGES: Mapping[str, type[Stage]] = {
    "export": Export, "torchscript": ToTorchScript, "torch": ToTorchDialect, "stablehlo": ToStableHLO, "mhlo": ToMHLO,
}  # fmt: skip


def lower(
    module: torch.nn.Module | ExportedProgram,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    *,
    symbols: Mapping[str, Any] | None = None,
    fills: Mapping[str, Fill] | None = None,
    stages: Mapping[str, Mapping[str, Any]] | None = None,
    until: str = "mhlo",
    name: str = "",
) -> Lowered:
    """Lower `module`, in eval mode, to MHLO with dynamic dims.

    module: an nn.Module; or an ExportedProgram, whose example arguments and dims are then the default.
    args, kwargs: an example of the arguments; its sizes and dtypes count, and the values of its ints as the range of later inputs.
    dynamic_shapes: as for `torch.export.export` (Dims, hints, ShapesCollection, AdditionalInputs). A dim may also be a text (`"seq"`,
        `"2*seq"`) of a symbol in `symbols`. A Dim without a `min` begins at 1.
    symbols: ranges by name: `(min, max)`, or a mapping with `min`, `max`, `multiple_of`, `example`.
    fills: how to fill an argument for verification, by the path of its leaf, as in a model's file: `{"mask": "padding"}`.
    stages: options by stage: `{"export": {"policy": ["declared"]}}`.
    until: the last level wanted: `exported`, `torchscript`, `torch`, `stablehlo` or `mhlo`.
    name: for messages; the name of the module's class if empty.

    Raises ConfigError (arguments or dims that do not fit), LoadError (eager fails), Unsupported (all constructs that a stage cannot lower),
    StageFailed.
    """
    module = checks.unwrap(module)
    checks.check_arguments(args, kwargs)
    checks.check_mapping("symbols", symbols, "give ranges by name: {'n': (1, 64)}")
    checks.check_mapping("fills", fills, "give fills by argument: {'mask': 'padding'}")
    checks.check_mapping("stages", stages, "give options by stage: {'export': {'policy': ['declared']}}")
    if isinstance(module, ExportedProgram):
        module, held_args, held_kwargs, held_shapes, held_symbols = exported.take_apart(module)
        if not args and not kwargs:
            args, kwargs = held_args, held_kwargs
        if dynamic_shapes is None:
            dynamic_shapes, symbols = held_shapes, {**held_symbols, **(symbols or {})}
    name = name or type(module).__name__
    model = declaration.declare(name, module, args, kwargs or {}, dynamic_shapes, symbols or {}, fills or {})
    check_fit(model, module)
    ladder = _build_stages(stages or {}, until)
    log = UnfiledRecorder(Path(), History(name, "default"), lambda event: None)
    with in_eval_mode(module):
        program = in_memory.lower(Program(Level.MODEL, Built(model, module)), ladder, log)
    result = log.history.result("ok")
    constants = declaration.list_constants(module, declaration.bind(module, args, kwargs or {}))
    return Lowered(program, Symbols(SymbolRecord.from_json(result.symbols)), result.warnings, constants)


def _build_stages(options: Mapping[str, Mapping[str, Any]], until: str) -> dict[str, Stage]:
    words = [stage.target.word for stage in STAGES.values()]
    if until not in words:
        raise ConfigError(Problem("until", f"'{until}' is not a level", suggest(until, words) or f"one of {', '.join(words)}"))
    if unknown := [name for name in options if name not in STAGES]:
        raise ConfigError([Problem(f"stages['{name}']", "is not a stage", suggest(name, STAGES) or f"one of {', '.join(STAGES)}")
                           for name in unknown])  # fmt: skip
    chosen = list(STAGES)[: words.index(until) + 1]
    return {name: checks.build_stage(STAGES[name], name, options.get(name, {})) for name in chosen}
