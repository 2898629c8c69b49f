"""Two runs compared: planted nights with every kind of change, of which the comparison names each, and nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.nights import InventedJob, invent
from flows.__main__ import main
from flows.history import changes, publish
from flows.history.database import Past
from flows.history.noise import MEMORY, TIME, judge
from flows.report import levels

FIRST = datetime(2026, 11, 1, 2, tzinfo=UTC)
BROKEN = {"outcome": "error", "stage": "torch", "problem": "no lowering"}
ZOO = {
    **{name: InventedJob(name, seconds=10.0)
       for name in ("same", "breaks", "static", "reworked", "slower", "faster", "larger", "smaller", "leaves", "worker",
                    "wobbly", "noisy", "cached")},
    "heals": InventedJob("heals", **BROKEN), "still": InventedJob("still", **BROKEN), "otherwise": InventedJob("otherwise", **BROKEN),
    "earlier": InventedJob("earlier", outcome="mismatch", stage="verify", problem="differs"),
    "known": InventedJob("known", expected="error", **BROKEN),
}  # fmt: skip
CHANGED = {
    "breaks": replace(ZOO["breaks"], **BROKEN), "static": replace(ZOO["static"], static=True),
    "reworked": replace(ZOO["reworked"], changed="stablehlo"), "slower": replace(ZOO["slower"], seconds=20.0),
    "faster": replace(ZOO["faster"], seconds=4.0), "larger": replace(ZOO["larger"], peak=1200 << 20),
    "smaller": replace(ZOO["smaller"], peak=300 << 20), "worker": replace(ZOO["worker"], outcome="infra", stage="start", problem="died"),
    "heals": replace(ZOO["heals"], outcome="ok", stage="verify", problem=""),
    "otherwise": replace(ZOO["otherwise"], outcome="crash", stage="mhlo"),
    "earlier": replace(ZOO["earlier"], outcome="error", stage="export"), "wobbly": replace(ZOO["wobbly"], **BROKEN),
    "arrives": InventedJob("arrives"),
    "noisy": replace(ZOO["noisy"], seconds=17.0), "cached": replace(ZOO["cached"], seconds=0.1, cache="hit"),
}  # fmt: skip


def nights(output: Path, *zoos: dict[str, InventedJob]) -> list[Path]:
    return [invent(output, list(zoo.values()), started=FIRST + timedelta(days=number)) for number, zoo in enumerate(zoos)]


def ordinary(number: int) -> dict[str, InventedJob]:
    """A night in which nothing happens but noise, and what is flaky or noisy by nature."""
    draw = random.Random(number)
    jobs = {name: replace(job, seconds=job.seconds * draw.uniform(0.97, 1.03)) for name, job in ZOO.items()}
    jobs["noisy"] = replace(jobs["noisy"], seconds=(8.0, 16.0)[number % 2])
    return jobs | ({"wobbly": replace(ZOO["wobbly"], **BROKEN)} if number % 2 else {})


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six ordinary nights, one after the other, and one with every kind of change."""
    last = {name: job for name, job in {**ordinary(6), **CHANGED}.items() if name != "leaves"}
    return nights(tmp_path_factory.mktemp("planted"),
                  *(ordinary(number) | {"wobbly": ZOO["wobbly"]} if number == 4 else ordinary(number) for number in range(6)),
                  {**last, "wobbly": ZOO["wobbly"]})[-1]  # fmt: skip


def read_changes(folder: Path, which: str = "previous") -> dict[str, dict[str, dict[str, str]]]:
    kinds = json.loads((folder / publish.CHANGES).read_text())[which]["kinds"]
    return {kind["kind"]: {row["job"].removesuffix("--default"): row for row in kind["rows"]} for kind in kinds if kind["rows"]}


def test_every_planted_change_is_named_and_nothing_else(planted: Path) -> None:
    assert {kind: set(rows) for kind, rows in read_changes(planted).items()} == {
        "new_failures": {"breaks"}, "earlier_stage": {"earlier"}, "dims_lost": {"static"}, "slower": {"slower"}, "larger": {"larger"},
        "flaky": {"wobbly"}, "infra": {"worker"}, "other_failure": {"otherwise"}, "still_failing": {"still"}, "missing": {"leaves"},
        "new": {"arrives"}, "fixed": {"heals"}, "ir": {"reworked", "static"}, "faster": {"faster"}, "smaller": {"smaller"},
    }  # fmt: skip


def test_the_first_level_that_differs_is_named(planted: Path) -> None:
    rows = read_changes(planted)["ir"]
    assert (rows["reworked"]["what"], rows["reworked"]["note"]) == ("04-stablehlo", "and so 05-mhlo")
    assert rows["static"]["what"] == "01-export"


def test_a_lost_dim_has_its_cause_and_line(planted: Path) -> None:
    row = read_changes(planted)["dims_lost"]["static"]
    assert (row["what"], row["was"], row["now"]) == ("x[0]", "dynamic", "specialized 64")
    assert row["note"] == "x.view(4, -1); zoo/model.py:18"


def test_identical_runs_give_an_empty_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, second = nights(tmp_path, ZOO, ZOO)
    assert set(read_changes(second)) == {"still_failing"}
    assert main(["diff", "previous", "--output", str(tmp_path)]) == 0
    assert "nothing changed" in capsys.readouterr().out


def test_a_night_with_dead_workers_is_no_regression_and_hides_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = {name: replace(job, outcome="infra", stage="start", problem="worker gone") for name, job in ZOO.items()}
    _, night, after = nights(tmp_path, ZOO, dead, {**ZOO, "breaks": CHANGED["breaks"]})
    assert {kind: len(rows) for kind, rows in read_changes(night).items()} == {"infra": len(ZOO)}
    assert main(["diff", "previous", night.name, "--output", str(tmp_path)]) == 0
    assert set(read_changes(after)["new_failures"]) == {"breaks"}
    capsys.readouterr()


@pytest.mark.parametrize(("form", "sign"), [([], "New failures (1) [regression]"), (["--markdown"], "## New failures (1) — regression"),
                                            (["--json"], '"kind": "new_failures"')])  # fmt: skip
def test_the_command_prints_and_exits_with_1_on_a_regression(
    planted: Path, capsys: pytest.CaptureFixture[str], form: Sequence[str], sign: str
) -> None:
    assert main(["diff", "previous", planted.name, *form, "--output", str(planted.parents[1])]) == 1
    assert sign in capsys.readouterr().out


def test_a_page_of_the_comparison_is_written(planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["diff", "previous", planted.name, "--html", str(tmp_path / "diff.html"), "--output", str(planted.parents[1])])
    assert '"kind": "diff"' in (tmp_path / "diff.html").read_text()
    capsys.readouterr()


def test_shards_are_compared_as_one_run_however_the_jobs_are_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = ([InventedJob(name) for name in "abcd"],
                     [InventedJob(name) for name in ("a", "aa", "b", "c")] + [InventedJob("d", **BROKEN)])
    for night, jobs in (("old", before), ("new", after)):
        for number in range(2):  # the job `aa` moves all that follow to the other shard
            run = invent(tmp_path / "runs", jobs[number::2])
            (tmp_path / night / f"run-{number}").mkdir(parents=True)
            run.rename(tmp_path / night / f"run-{number}" / run.name)
    assert main(["diff", str(tmp_path / "old"), str(tmp_path / "new"), "--json", "--output", str(tmp_path)]) == 1
    found = json.loads(capsys.readouterr().out)
    kinds = {kind["kind"]: [row["job"] for row in kind["rows"]] for kind in found["kinds"] if kind["rows"]}
    assert kinds == {"new_failures": ["d--default"], "new": ["aa--default"]} and found["old"]["run"].count(", ") == 1
    nights(tmp_path / "nights", {"a": InventedJob("a")}, {"a": InventedJob("a")})
    assert main(["diff", str(tmp_path / "old"), str(tmp_path / "nights/runs"), "--output", str(tmp_path)]) == 2
    assert "another of these runs" in capsys.readouterr().err
    assert main(["diff", "previous", str(tmp_path / "new"), "--output", str(tmp_path)]) == 2
    assert "NEW has several" in capsys.readouterr().err


def test_a_pinned_run_is_compared_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = nights(tmp_path, ZOO, {**ZOO, "breaks": CHANGED["breaks"]})
    assert main(["pin", first.name, "--output", str(tmp_path)]) == 0
    third = invent(tmp_path, [*{**ZOO, "breaks": CHANGED["breaks"]}.values()], started=FIRST + timedelta(days=5))
    assert "new_failures" not in read_changes(third, "previous")
    assert set(read_changes(third, "baseline")["new_failures"]) == {"breaks"}
    capsys.readouterr()


def test_a_first_run_is_reported_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, ZOO)
    assert main(["diff", "previous", "--output", str(tmp_path)]) == 2
    assert "has no previous run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("new", "before", "regressed"),
    [
        (10.4, [10.0, 10.1, 9.9, 10.0], False),
        (14.0, [10.0, 10.1, 9.9, 10.0], True),
        (17.0, [8.0, 16.0, 8.0, 16.0, 8.0, 16.0], False),  # as noisy as ever
        (0.4, [0.1, 0.1, 0.1, 0.1], False),  # four times as much of next to nothing
        (14.0, [10.0], False),  # the noise is not known yet
        (21.0, [10.0], True),
    ],
)
def test_a_time_is_judged_by_its_noise(new: float, before: list[float], regressed: bool) -> None:
    assert (judge(new, before, TIME).change > 0) is regressed


def test_memory_varies_less() -> None:
    before = [float(size << 20) for size in (600, 602, 599, 601)]
    assert judge(float(640 << 20), before, MEMORY).change == 0
    assert judge(float(700 << 20), before, MEMORY).change > 0


def test_a_slow_night_is_reported_once(tmp_path: Path) -> None:
    *_, slow, after = nights(tmp_path, *(ordinary(number) for number in range(4)), {**ordinary(4), "slower": CHANGED["slower"]},
                             {**ordinary(5), "slower": CHANGED["slower"]})  # fmt: skip
    assert set(read_changes(slow)["slower"]) == {"slower"}
    assert "slower" not in read_changes(after)


def test_flaky_needs_a_past(tmp_path: Path) -> None:
    job = report([InventedJob("one", **BROKEN)], tmp_path / "a")
    good = report([InventedJob("one")], tmp_path / "b")
    steady = [Past(str(number), "ok", True, 1.0, 1, False) for number in range(5)]
    flipping = [Past(str(number), "ok" if number % 2 else "error", bool(number % 2), 1.0, 1, False) for number in range(6)]
    assert changes.compare(good, job, {"one--default": steady}).kinds["new_failures"]
    assert changes.compare(good, job, {"one--default": flipping}).kinds["flaky"]


def report(jobs: list[InventedJob], output: Path) -> dict[str, Any]:
    return dict(json.loads((invent(output, jobs) / "report.json").read_text()))


@pytest.mark.parametrize(
    ("suffix", "one", "other"),
    [
        (".mlir", "%0 = a.b %arg0 : i32 loc(#loc1)\n#loc1 = loc(\"f\":1:2)\n", "%7 = a.b %x : i32\n"),
        (".ts", "%a.1 : int = aten::add(%x, %x) # f.py:3:0\n", "%b : int = aten::add(%y, %y) # g.py:9:1\n"),
        (".py", ('def forward(self, x: "f32[s0]"):\n    # File: a.py:1 in f\n    add = torch.ops.aten.add(x, x);  x = None\n'
                 '    return (add,)\n'),
         'def forward(self, y: "f32[s0]"):\n\n    add_1 = torch.ops.aten.add(y, y);  y = None\n    return (add_1,)\n'),
    ],
)  # fmt: skip
def test_names_and_locations_do_not_count_as_changes(suffix: str, one: str, other: str) -> None:
    assert levels.normalize(one, suffix) == levels.normalize(other, suffix)


@pytest.mark.parametrize(
    ("suffix", "one", "other"),
    [
        (".mlir", "%0 = a.b %x, %y : i32\n", "%0 = a.b %y, %y : i32\n"),
        (".mlir", "%0 = a.b %x : tensor<?xf32>\n", "%0 = a.b %x : tensor<4xf32>\n"),
        (".ts", "%a : int = aten::add(%x, %y)\n", "%a : int = aten::sub(%x, %y)\n"),
        (".py", 'def forward(self, x: "f32[s0]"):\n    a = torch.ops.aten.add(x, 1)\n',
         'def forward(self, x: "f32[s0]"):\n    a = torch.ops.aten.add(x, 2)\n'),
    ],
)  # fmt: skip
def test_another_program_counts_as_changed(suffix: str, one: str, other: str) -> None:
    assert levels.normalize(one, suffix) != levels.normalize(other, suffix)


def test_dims_are_listed_in_the_order_of_the_record() -> None:
    def run(verdict: str) -> dict[str, Any]:
        dims = [{"id": f"{name}[{dim}]", "verdict": verdict, "value": 4} for name in ("tokens", "mask", "image", "audio") for dim in (1, 0)]
        job = {"id": "a--b", "outcome": "ok", "expected": "ok", "stage": "mhlo", "stages": [], "problems": [], "seconds": 1.0,
               "peak_rss_bytes": None, "symbols": {"requested": dims}}
        return {"run": verdict, "suite": "zoo", "started": "", "jobs": [job]}

    found = changes.compare(run("dynamic"), run("specialized"))
    assert [row["what"] for row in found.kinds["dims_lost"]] == [dim["id"] for dim in run("")["jobs"][0]["symbols"]["requested"]]
