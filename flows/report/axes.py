"""The axes of a run and their values for each job: the swept keys, or else the keys in which the jobs of a model differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.runs.record import Record
from lowering import files
from lowering.record.folder import JOB

Values = dict[str, Any]


def read(run: Record) -> dict[str, Values]:
    """Return job id -> {dotted key: value}: the axes in the run's record, or else the keys that differ among the jobs of a model."""
    declared = {job["id"]: dict(job.get("axes") or {}) for job in run.data["jobs"]}
    if any(declared.values()):
        return declared
    families: dict[str, dict[str, Values]] = {}
    for job in run.data["jobs"]:
        try:
            content = files.read(run.job_folder(job["id"]) / JOB)
            flat = dict(_flatten({"stages": content["stages"], **content["model"]}))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the job was never prepared, or its record is damaged
        families.setdefault(job["model"], {})[job["id"]] = flat
    found: dict[str, Values] = {}
    for family in families.values():
        keys = dict.fromkeys(key for flat in family.values() for key in flat)
        differing = [key for key in keys if len({repr(flat.get(key)) for flat in family.values()}) > 1 and key != "name"]
        for job, flat in family.items():
            found[job] = {key: flat.get(key) for key in differing}
    return found


def _flatten(data: Any, prefix: str = "") -> Any:
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, data
