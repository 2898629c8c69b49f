"""The published schemas of the records, checked by an independent validator: what runs write fits, and damage does not."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from benchmarks.nights import InventedJob, invent
from flows.__main__ import main
from flows.report.record_schemas import RECORDS, make_record_schemas
from lowering import files
from lowering.plain import to_plain
from lowering.signature import SCHEMA, Argument, Result, Signature
from lowering.sizes.ranges import Bound

JOBS = [InventedJob("mlp", warnings=("odd",)), InventedJob("bert", static=True)]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("records")
    broken = [JOBS[0], replace(JOBS[1], outcome="error", stage="torch", problem="no lowering")]
    for number, jobs in enumerate((JOBS, broken)):
        folder = invent(output, jobs, started=datetime(2026, 11, 1 + number, tzinfo=UTC))
    assert main(["note", "no lowering", "known", "--output", str(output)]) == 0
    folder = invent(output, broken, started=datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=3))
    signature = Signature((Argument("input", "x", "float32", ("batch", 16)),), (Result("output", "y", "float32", ("batch",)),),
                          {"batch": Bound(1, 8)})
    packaged = {"schema": SCHEMA, "program": {"file": "p", "sha256": "0", "format": "f", "entry": "main"}, "weights": None,
                "signature": to_plain(signature), "inputs": [], "outputs": None, "model": {}}  # fmt: skip
    symbols = next(folder.glob("jobs/*/symbols.json"))
    return {"report": files.read(folder / "report.json"), "changes": files.read(folder / "changes.json"), "symbols": files.read(symbols),
            "signature": json.loads(json.dumps(packaged))}  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_fits_its_schema_and_damage_does_not(name: str, records: dict[str, Any]) -> None:
    schema = make_record_schemas()[name]
    Draft202012Validator.check_schema(schema)
    fits = Draft202012Validator(schema)
    assert [f"{error.json_path}: {error.message}" for error in fits.iter_errors(records[name])] == []
    assert fits.is_valid({**records[name], "added_later": 1})
    for path, value in DAMAGE[name]:
        damaged = copy.deepcopy(records[name])
        node = damaged
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        assert not fits.is_valid(damaged), path


DAMAGE: dict[str, list[tuple[list[Any], Any]]] = {
    "report": [(["schema"], 2), (["jobs", 0, "outcome"], None), (["jobs", 0, "levels", 0, "size"], "big"), (["causes", 0, "notes"], "x"),
               (["environment"], {})],
    "changes": [(["previous", "regression"], "no"), (["previous", "kinds", 0, "rows"], {})],
    "symbols": [(["schema"], "shapeline/symbols/9"), (["requested", 0, "verdict"], "lost"), (["requested", 0, "promised"], 3)],
    "signature": [(["signature", "arguments", 0, "kind"], "weight"), (["signature", "results", 0, "dims"], "batch"), (["program"], None)],
}


def test_the_command_prints_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "report"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Shapeline: report.json"
    assert main(["schema", "--records", "--write", str(tmp_path)]) == 0
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == sorted(RECORDS)
