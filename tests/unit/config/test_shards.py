"""Shards of a suite: a partition that every machine finds by itself, balanced by known durations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.config import shards
from flows.config.expansion import job_id
from flows.config.plan import plan
from lowering.errors import ConfigError

JOBS = st.lists(st.text("abcdef", min_size=1, max_size=4), unique=True, min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(JOBS, st.integers(1, 6), st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.floats(0.1, 1000)), st.randoms())
def test_shards_are_a_partition_that_no_order_changes(jobs: list[str], count: int, known: dict[str, float], random: object) -> None:
    parts = shards.split(jobs, count, known)
    assert sorted(job for part in parts for job in part) == sorted(jobs)
    assert [set(part) for part in shards.split(jobs[::-1], count, known)] == [set(part) for part in parts]


def test_known_durations_balance_the_shards() -> None:
    known = {"long": 60.0, "a": 20.0, "b": 20.0, "c": 19.0}
    assert shards.split(["a", "long", "b", "c"], 2, known) == [["long"], ["a", "b", "c"]]


def test_an_unknown_job_takes_as_long_as_the_median() -> None:
    assert shards.split(["new", "a", "b", "c", "d"], 2, {"a": 35.0, "b": 10.0, "c": 10.0, "d": 10.0}) == [["a"], ["new", "b", "c", "d"]]


def test_the_shards_of_a_suite_are_all_of_it_once(tmp_path: Path) -> None:
    seconds = tmp_path / "seconds.json"
    seconds.write_text(json.dumps({"bert--default": 1000, "llama--default": 1, "gpt2--default": 1}))
    parts = [[job_id(job) for job in plan([f"shard='{number}/3'", f"durations='{seconds}'"]).jobs] for number in (1, 2, 3)]
    assert sorted(job for part in parts for job in part) == sorted(job_id(job) for job in plan().jobs)
    assert any(part == ["bert--default"] for part in parts)


@pytest.mark.parametrize(("overrides", "said"), [
    (["shard='0/3'"], "'0/3' is not one of 1/3 to 3/3"),
    (["shard='4/3'"], "'4/3' is not one of 1/3 to 3/3"),
    (["shard=third"], "'third' is not i/n (the first of four shards is 1/4)"),
    (["model=mlp", "shard='1/2'"], "2 shards of 1 jobs leave some empty"),
    (["durations=nowhere.json"], "nowhere.json cannot be read"),
])
def test_a_shard_that_is_none_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(overrides)
    assert any(said in str(problem) for problem in caught.value.problems), caught.value


def test_jobs_from_the_store_do_not_count_for_times(tmp_path: Path) -> None:
    jobs = [{"id": "ran", "seconds": 5.0, "stages": [{"cache": "hit"}, {"cache": "miss"}]},
            {"id": "hit", "seconds": 0.1, "stages": [{"cache": "hit"}]}]
    (tmp_path / "report.json").write_text(json.dumps({"jobs": jobs}))
    assert shards.read_durations(tmp_path) == {"ran": 5.0}
