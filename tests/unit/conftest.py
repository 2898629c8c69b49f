"""What the unit tests share: a folder of configurations, and a stand-in for the flow."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flows.config.run import Run
from tests.unit.config.configurations import TINY, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of configurations with one model, `tiny`."""
    write(tmp_path / "model/tiny.yaml", TINY)
    return tmp_path


@dataclass
class Asked:
    """The runs that a flow was asked for, and whether it reports them as expected."""

    folder: Path
    runs: list[Run] = field(default_factory=list)
    as_expected: bool = True

    def lower_suite(self, run: Run) -> Path:
        self.runs.append(run)
        (self.folder / "report.json").write_text(json.dumps({"as_expected": self.as_expected}))
        return self.folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """Stands in for `flows.lower`, which loads Prefect: nothing is lowered."""
    found = Asked(tmp_path)
    flow: Any = ModuleType("flows.lower")
    flow.lower_suite = found.lower_suite
    monkeypatch.setitem(sys.modules, "flows.lower", flow)
    monkeypatch.setattr("flows.lower", flow, raising=False)
    return found
