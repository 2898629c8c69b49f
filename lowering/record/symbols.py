"""The symbol log of a job, assembled from its stages' reports: the record of the export, and the state of the inputs at each level."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from lowering.errors import Problem
from lowering.plain import from_plain
from lowering.record.result import Remark
from lowering.symbols import levels
from lowering.symbols.levels import LevelInputs
from lowering.symbols.schema import SCHEMA, Requested, SymbolRecord


def add_levels(symbols: Any, inputs: Mapping[str, Mapping[str, Any]]) -> tuple[Any, list[Remark]]:
    """Add the places of dims at all levels to `symbols` (a SymbolRecord as JSON). Return it with the new warnings.

    inputs: a LevelInputs as JSON for each stage, which describes the level that the stage gave.
    Returns `symbols` unchanged if it is not a record of this schema.
    """
    record = parse_record(symbols)
    if record is None or not inputs:
        return symbols, []
    stages = {level_inputs["level"]: stage for stage, level_inputs in inputs.items()}
    try:
        found = levels.add_levels(record, [from_plain(LevelInputs, level_inputs) for level_inputs in inputs.values()])
    except Exception:  # noqa: BLE001 - an error in the log must not fail the job
        return symbols, [Remark("log_failed", traceback.format_exc(), "the symbol log", list(inputs)[-1])]
    lost = {dim.id: stages[dim.lost_at] for dim in found.requested if dim.lost_at}
    lowest = list(inputs)[-1]
    new = [warned for warned in found.warnings if warned not in record.warnings]
    return found.to_json(), [Remark(warned.code, warned.text, warned.place, lost.get(warned.place, lowest)) for warned in new]


def list_refusals(symbols: Any, inputs: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Return a problem for each dim that is lost so far, with its value and code line, as `strict_dims` requires."""
    record = parse_record(add_levels(symbols, inputs)[0])
    return [_describe_refusal(dim) for dim in record.lost] if record else []


def parse_record(symbols: Any) -> SymbolRecord | None:
    """Parse `symbols` as a record. Return None if it is not one: a stage may report anything."""
    return SymbolRecord.from_json(symbols) if isinstance(symbols, Mapping) and symbols.get("schema") == SCHEMA else None


def _describe_refusal(dim: Requested) -> Problem:
    place = next((place for place in dim.levels if place.level == dim.lost_at), None)
    became = f"became {dim.value} at level {place.level}" if place else f"became {dim.value}"
    why = "; ".join(part for part in (dim.why if place is None else "", f"at {dim.line}" if dim.line else "") if part)
    cause = f"requested as {dim.asked}, {became}" + (f": {why}" if why else "")
    return Problem(dim.id, cause, f"change that line, or write {dim.value} into the shape; strict_dims=false makes it a warning"
                   if place is None else "strict_dims=false makes it a warning")
