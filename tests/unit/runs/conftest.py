"""A run of somebody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.config.plan import Plan
from flows.config.run import Run
from flows.history import publish
from flows.runs import begin, record
from flows.runs.record import Record
from lowering import pipeline, trust
from tests import toys
from tests.unit.runs.foreign import JOB_ID


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Become another user, who has another key."""
    return lambda name: monkeypatch.setenv(trust.STATE, str(tmp_path / "state" / name))


@pytest.fixture
def run(tmp_path: Path, become: Callable[[str], None]) -> Record:
    """A finished run of one job with a store, made by somebody else; from now on the test is this user."""
    become("somebody")
    home = tmp_path / "theirs"
    made = Plan("toys", output=home, overrides=("suite=toys",), expectations=tmp_path / "expected.yaml")
    begun = begin.begin(Run(made, (toys.job(),)))
    folder = begun.job_folder(JOB_ID)
    pipeline.run(toys.job(), folder, store=home / "store").save(folder)
    publish.write(begun, 1.0)
    begin.end(begun, 1.0)
    become("me")
    return record.load(begun.folder)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of the run, which must be neither read nor changed."""
    path = tmp_path / "home" / "secret.txt"
    path.parent.mkdir()
    path.write_text("PRIVATE KEY")
    return path
