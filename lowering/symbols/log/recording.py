"""Construction of the SymbolRecord of a captured export, successful or failed."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from torch.export import ExportedProgram

from lowering.model import Model
from lowering.symbols.conditions.relations import list_relations, read_assumption
from lowering.symbols.failures.failure import classify_failure
from lowering.symbols.log.requests import list_requested
from lowering.symbols.log.table import build_symbol_table
from lowering.symbols.log.warned import list_warnings
from lowering.symbols.schema import Happening, SymbolRecord, Warned
from lowering.symbols.tracing.capture import Log
from lowering.symbols.tracing.events import Event, decides_nothing
from lowering.symbols.tracing.exporting import Export, list_versions
from lowering.symbols.tracing.frames import convert_spot


def record(
    log: Log, model: Model, program: ExportedProgram | None, error: BaseException | None, sources: Mapping[str, str] | None = None
) -> SymbolRecord:
    """Build the record of one export. program: result of torch.export before any decomposition; error: the error it raised. Never raises.

    sources: see `Export`.

    An error in this function becomes the warning `log_failed` of a record with the information that could be read.
    """
    try:
        return _build_record(Export(log, model, program, error, sources or {}))
    except Exception:  # noqa: BLE001 - an error in the log must not fail the export
        return SymbolRecord(model.name, warnings=(Warned("log_failed", traceback.format_exc(), "the symbol log"),),
                            versions=list_versions())


def _build_record(export: Export) -> SymbolRecord:
    failure = classify_failure(export)
    found = list_relations(export)
    dims = list_requested(export, found, failure)
    table = build_symbol_table(export)
    return SymbolRecord(
        model=export.model.name,
        requested=dims,
        symbols=table,
        relations=found,
        events=tuple(happening for event in export.log.events if (happening := _describe_event(export, event)) is not None),
        error=failure,
        warnings=list_warnings(export, dims, table, found),
        versions=list_versions(),
    )


def _describe_event(export: Export, event: Event) -> Happening | None:
    data = event.data
    symbol = export.rename_retraced(str(data["symbol"])) if "symbol" in data else None
    match event.kind:
        case "symbol":
            text = f"{symbol} = {data['value']} for {data['source']} {data['range']}"
        case "unbacked":
            text = f"{symbol} [{data['lower']}, {data['upper']}] by {data['made_by']}"
        case "shared":
            text = f"{symbol} for {data['source']} too"
        case "range":
            text = f"{symbol} in {data['range']}"
        case "replacement":
            text = f"{data['symbol']} = {data['target']} ({data['reason']})"
        case "guard":
            text = f"{data['prefix']}: {export.translate(str(data['expr']))}"
        case "assumption" | "ignored" | "real_value":
            text = f"{export.translate(read_assumption(event))}, " + ("of no effect" if decides_nothing(event) else "unchecked")
        case "discarded":
            text = f"{symbol} of a retrace is {data['value']}"
        case "env":
            text = "tracing begins"
        case "guards_produced":
            text = "tracing is done; the constraints are checked"
        case "missing_fake_kernel" | "mismatched_fake_kernel":
            text = f"{data.get('op', '')} {data.get('reason', '')}".strip()
        case _:  # specializations repeat a replacement
            return None
    return Happening(event.kind, text, symbol, convert_spot(event.stack[-1]) if event.stack else None, round(event.seconds, 6))
