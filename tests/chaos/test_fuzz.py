"""Broken configurations and damaged run folders end in a result or a clear refusal: a small sample; `make chaos` tries thousands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.chaos import broken_configurations, damaged_runs

QUICK = settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck),
                 phases=[Phase.generate])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def whole(home: Path) -> Path:
    return damaged_runs.make_output(home / "whole")


def test_configurations(home: Path) -> None:
    @QUICK
    @given(broken_configurations.configurations())
    def check(made: broken_configurations.Configuration) -> None:
        assert not broken_configurations.try_configuration(made, home / "configuration"), made

    check()


def test_run_folders(home: Path, whole: Path) -> None:
    @settings(QUICK, max_examples=20)
    @given(damaged_runs.damages())
    def check(made: damaged_runs.Damage) -> None:
        assert not (fault := damaged_runs.try_damage(whole, home / "damaged", made)), fault

    check()


@pytest.mark.chaos
@pytest.mark.parametrize("number", range(4))
def test_thousands_of_configurations(home: Path, number: int) -> None:
    @seed(number)
    @settings(QUICK, max_examples=500, derandomize=False)
    @given(broken_configurations.configurations())
    def check(made: broken_configurations.Configuration) -> None:
        assert not broken_configurations.try_configuration(made, home / "configuration"), made

    check()


@pytest.mark.chaos
def test_hundreds_of_run_folders(home: Path, whole: Path) -> None:
    @seed(1)
    @settings(QUICK, max_examples=1000, derandomize=False)
    @given(damaged_runs.damages())
    def check(made: damaged_runs.Damage) -> None:
        assert not (fault := damaged_runs.try_damage(whole, home / "damaged", made)), fault

    check()
