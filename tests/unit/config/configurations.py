"""Configurations for tests: a folder with one model, suites written into it, and what a plan makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.config.expansion import compute_digest, job_id
from flows.config.plan import Plan, plan
from lowering.errors import ConfigError

TINY = """
factory: {_target_: lowering.sources.mlp.MLP, width_in: 16, width_hidden: 32, width_out: 8}
inputs:
  features: {dtype: float32, shape: [batch, 16]}
symbols:
  batch: {min: 1, max: 64}
"""


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def chosen(folder: Path, suite: str) -> list[str]:
    """The overrides that choose `suite`, written into `folder` as `mine`."""
    write(folder / "suite/mine.yaml", suite)
    return [f"hydra.searchpath=['{folder}']", "suite=mine"]


def planned(folder: Path, suite: str, *overrides: str) -> Plan:
    return plan([*chosen(folder, suite), *overrides])


def refused(*overrides: str) -> list[str]:
    """The problems for which a plan is refused."""
    with pytest.raises(ConfigError) as caught:
        plan(overrides)
    return [str(problem) for problem in caught.value.problems]


def digests(found: Plan) -> dict[str, str]:
    """Digest by job id."""
    return {job_id(job): compute_digest(job) for job in found.jobs}


def not_said(expected: list[str], found: list[str]) -> str:
    """What no problem says of that which is expected, beside all that they say; empty when nothing is missing."""
    missed = [text for text in expected if not any(text in problem for problem in found)]
    return "\n".join(["not said:", *missed, "said:", *found]) if missed else ""
