"""Runs of a suite of three jobs with and without a cause of failure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.nights import InventedJob

FIRST = datetime(2026, 11, 1, 2, tzinfo=UTC)
GREEN = [InventedJob("mlp"), InventedJob("bert"), InventedJob("gpt2")]
BROKEN = {"outcome": "error", "stage": "torch", "problem": "no lowering of `@team` <b>"}
RED = [GREEN[0], replace(GREEN[1], **BROKEN), GREEN[2]]
REDDER = [GREEN[0], *(replace(job, **BROKEN) for job in GREEN[1:])]
LOST = [GREEN[0], *(replace(job, outcome="infra", stage="start", problem="the worker died") for job in GREEN[1:])]
