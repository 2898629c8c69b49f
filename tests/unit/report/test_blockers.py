"""Blockers: which missing constructs block which jobs, and the order of fixes that unlocks the most jobs first."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from benchmarks.nights import InventedJob, invent
from flows.__main__ import main
from flows.report import blockers
from flows.report.blockers import find_blockers
from lowering.errors import Problem
from lowering.record.result import Expectation, JobResult

NONZERO, UNIQUE, SORT = (f"aten.{name}" for name in ("nonzero", "unique", "sort"))


def make_result(job: str, *ops: str, outcome: str = "unsupported", model: str = "", expected: str = "ok") -> JobResult:
    problems = tuple(Problem(f"{op} at /home/me/{job}.py:{line}", f"the size of %{line} depends on data")
                     for line, op in enumerate(ops, 10))
    return JobResult(job, model or job, "default", outcome, "torch", expect=Expectation(expected), problems=problems)


def test_each_problem_of_a_job_blocks_it() -> None:
    nonzero, unique = find_blockers([make_result("a", NONZERO), make_result("b", NONZERO, UNIQUE, UNIQUE), make_result("c", outcome="ok")])
    assert (nonzero.construct, nonzero.blocks, nonzero.alone, nonzero.unlocks, nonzero.occurrences) == (
        (NONZERO, ("a", "b"), ("a",), ("a",), 2))
    assert (unique.construct, unique.blocks, unique.alone, unique.unlocks, unique.occurrences) == (UNIQUE, ("b",), (), ("b",), 2)
    assert nonzero.cause == unique.cause == "the size of %… depends on data"


def test_an_op_with_two_causes_is_two_blockers() -> None:
    results = [JobResult(name, name, "default", "unsupported", "torch", problems=(Problem("aten.sort", cause),))
               for name, cause in (("a", "is not stable"), ("b", "takes complex numbers"))]
    assert len(find_blockers(results)) == 2


@pytest.mark.parametrize(("place", "construct"), [
    ("aten.nonzero.default at model.py:3", "aten.nonzero.default"), ("aten::lstm", "aten::lstm"),
    ("op 'mine::norm' (mine.so)", "mine::norm"), ("flex_attention at model.py:4", "flex_attention"), ("/home/me/model.py:3", ""),
    ("models.bert", ""), ("guard n < 3", ""), ("", ""),
])  # fmt: skip
def test_a_place_that_names_no_op_is_dropped(place: str, construct: str) -> None:
    [found] = find_blockers([JobResult("a", "a", "default", "unsupported", "torch", problems=(Problem(place, "why"),))])
    assert found.construct == construct


def test_expected_failures_count_and_infrastructure_does_not() -> None:
    expected = make_result("a", SORT, expected="unsupported")
    assert [blocker.blocks for blocker in find_blockers([expected, make_result("b", SORT, outcome="infra")])] == [("a",)]


def test_models_are_counted_once() -> None:
    [found] = find_blockers([make_result("a--1", SORT, model="a"), make_result("a--2", SORT, model="a")])
    assert (found.models, len(found.blocks)) == (1, 2)


def test_the_order_unlocks_as_many_jobs_as_any_order_does() -> None:
    """Five constructs planted in 40 jobs, most of them together with others; every prefix of the order is compared with all subsets."""
    ops = [f"aten.op{number}" for number in range(5)]
    planted = [*[(ops[0],)] * 9, *[(ops[0], ops[1])] * 11, *[(ops[2],)] * 6, *[(ops[0], ops[1], ops[3])] * 5, *[(ops[3], ops[4])] * 2,
               *[(ops[2], ops[0])] * 7]
    found = find_blockers([make_result(f"job{number}", *needs) for number, needs in enumerate(planted)])
    assert [blocker.construct for blocker in found] == [ops[0], ops[2], ops[1], ops[3], ops[4]]
    total = 0
    for size, blocker in enumerate(found, 1):
        total += len(blocker.unlocks)
        assert total == max(sum(set(needs) <= set(fixed) for needs in planted) for fixed in itertools.combinations(ops, size))


def test_constructs_that_only_help_together_are_one_row() -> None:
    found = find_blockers([*(make_result(f"pair{number}", NONZERO, UNIQUE) for number in range(6)), make_result("a", SORT),
                           make_result("b", SORT)])
    assert [(blocker.construct, len(blocker.unlocks)) for blocker in found] == [(NONZERO, 0), (UNIQUE, 6), (SORT, 2)]


def test_many_jobs_with_many_problems_are_ordered_quickly() -> None:
    results = [make_result(f"job{number}", *(f"aten.op{number % divisor}x{divisor}" for divisor in (3, 7, 11, 13)))
               for number in range(400)]
    found = find_blockers(results)
    assert len(found) == 3 + 7 + 11 + 13
    assert sum(len(blocker.unlocks) for blocker in found) == 400


def test_the_command_and_the_report_list_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [InventedJob("fam", f"v{number}", outcome="unsupported", stage="torch", problem="has no lowering") for number in range(3)]
    folder = invent(tmp_path, jobs)
    assert "## What to fix first" in (folder / "report.md").read_text()
    assert [len(one["unlocks"]) for one in json.loads((folder / "report.json").read_text())["blockers"]] == [3]
    assert main(["blockers", "--output", str(tmp_path)]) == 0
    assert "1 blocker, 3 jobs blocked" in capsys.readouterr().out
    assert main(["blockers", "--output", str(tmp_path), "--json"]) == 0
    assert [one["blocks"] for one in json.loads(capsys.readouterr().out)] == [["fam--v0", "fam--v1", "fam--v2"]]


def test_a_single_failed_job_needs_no_order() -> None:
    assert list(blockers.render_lines(find_blockers([make_result("a", SORT)]))) == []
