"""JSON Schemas of the records that other programs read: report.json, changes.json, symbols.json, signature.json and causes.json.

A reader should ignore keys that it does not know. The version of a record changes only if a key is removed or changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flows.config.json_schema import DRAFT, Schema, make_record_schema
from flows.report import report
from flows.report.blockers import Blocker
from flows.report.clusters import ReportedCause
from flows.report.levels import LevelFile
from flows.runs.shapes import Environment
from lowering import signature
from lowering.record.joining import Joining
from lowering.record.result import JobResult
from lowering.signature import Signature
from lowering.symbols import schema as symbols
from lowering.symbols.schema import SymbolRecord

RECORDS = ("report", "changes", "symbols", "signature")


@dataclass(frozen=True)
class _Environment:
    """An environment of the suite. installed: the versions of its own packages (None: it is not on the machine that wrote the report)."""

    requirements: tuple[str, ...]
    installed: Mapping[str, str] | None


@dataclass(frozen=True)
class _Report:
    """The results of a run. seconds: wall time; outcomes: number of jobs by outcome; by_axis: medians of a sweep by axis and value."""

    schema: int
    run: str
    suite: str
    started: str
    seconds: float | None
    overrides: tuple[str, ...]
    environment: Environment
    outcomes: Mapping[str, int]
    as_expected: bool
    flaky: Mapping[str, Any]
    by_axis: Mapping[str, Any]
    blockers: tuple[Blocker, ...]
    causes: tuple[ReportedCause, ...]
    programs: tuple[Joining, ...]
    jobs: tuple[Any, ...]
    environments: Mapping[str, _Environment] = field(default_factory=dict)


@dataclass(frozen=True)
class _Row:
    """One change of a job. what: the dim, level or measure; was, now: before and after."""

    job: str
    what: str
    was: str
    now: str
    note: str


@dataclass(frozen=True)
class _Kind:
    """The changes of one kind. bad: whether it is a regression."""

    kind: str
    title: str
    bad: bool
    rows: tuple[_Row, ...]


@dataclass(frozen=True)
class _Named:
    run: str
    suite: str
    started: str


@dataclass(frozen=True)
class _Changes:
    """The differences between two runs."""

    old: _Named
    new: _Named
    regression: bool
    summary: str
    kinds: tuple[_Kind, ...]


@dataclass(frozen=True)
class _Program:
    file: str
    sha256: str
    format: str
    entry: str


@dataclass(frozen=True)
class _Weights:
    """The file of the weights. store: the folder that has it, relative to the job's."""

    sha256: str
    store: str


@dataclass(frozen=True)
class _Packaged:
    """A lowered program. inputs: the arguments in the order of the program; outputs: the tree of results, with their names as leaves."""

    schema: str
    program: _Program
    weights: _Weights | None
    signature: Signature
    inputs: Any
    outputs: Any
    model: Mapping[str, Any]


def make_record_schemas() -> dict[str, Schema]:
    """Return the schema of each of RECORDS, whose `schema` key has the version."""
    job = make_record_schema(JobResult)
    text = {"type": "string"}
    more = {"expected": text, "as_expected": {"type": "boolean"}, "unverified": text, "verified_on": text, "axes": {"type": "object"},
            "folder": text, "signature": text, "levels": {"type": "array", "items": make_record_schema(LevelFile)}}  # fmt: skip
    job["properties"] |= more
    whole = make_record_schema(_Report)
    whole["properties"]["jobs"] = {"type": "array", "items": job | {"required": [*job.get("required", ()), *more]}}
    compared = make_record_schema(_Changes)
    found = {
        "report": _fix_version(whole, report.SCHEMA),
        "changes": {"type": "object", "properties": {"previous": compared, "baseline": compared}},
        "symbols": _fix_version(make_record_schema(SymbolRecord), symbols.SCHEMA),
        "signature": _fix_version(make_record_schema(_Packaged), signature.SCHEMA),
    }
    return {name: {"$schema": DRAFT, "title": f"Shapeline: {name}.json", **schema} for name, schema in found.items()}


def _fix_version(record: Schema, version: int | str) -> Schema:
    record["properties"]["schema"] = {"const": version}
    return record | {"required": sorted({*record.get("required", ()), "schema"})}
