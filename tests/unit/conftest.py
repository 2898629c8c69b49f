"""What the unit tests share: a folder of configurations, and a stand-in for the flow."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.config.plan import Plan
from tests.unit.config.configurations import TINY, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of configurations with one model, `tiny`."""
    write(tmp_path / "model/tiny.yaml", TINY)
    return tmp_path


@dataclass
class Asked:
    """The plans that were executed, and whether their reports are as expected."""

    folder: Path
    plans: list[Plan] = field(default_factory=list)
    as_expected: bool = True

    def lower_suite(self, planned: Plan) -> Path:
        self.plans.append(planned)
        (self.folder / "report.json").write_text(json.dumps({"as_expected": self.as_expected}))
        return self.folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """Stands in for the execution of plans: nothing is lowered."""
    found = Asked(tmp_path)
    monkeypatch.setattr("flows.execution.lower_suite", found.lower_suite)
    return found
