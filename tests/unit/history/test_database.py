"""The database over runs is only a copy: made from the runs, kept up to date, made anew; and what retention leaves of old runs."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.nights import InventedJob, invent
from flows.__main__ import main
from flows.history import database, publish, retention
from flows.history import nights as nights_of
from flows.history.database import open_database
from flows.runs import calendars, record
from lowering import files

FIRST = datetime(2026, 11, 1, 2, tzinfo=UTC)
GREEN = [InventedJob("mlp"), InventedJob("bert", seconds=8.0)]
RED = [InventedJob("mlp"), InventedJob("bert", outcome="error", stage="torch", problem="no lowering of layer 7")]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five nights: green, red, green, green, red."""
    output = tmp_path_factory.mktemp("nights")
    for number, jobs in enumerate((GREEN, RED, GREEN, GREEN, RED)):
        invent(output, jobs, started=FIRST + timedelta(days=number))
    return output / "runs"


@pytest.fixture
def runs(nights: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nights, tmp_path / "runs", symlinks=True))


def names(runs: Path) -> list[str]:
    return sorted(path.name for path in runs.iterdir() if path.is_dir() and not path.is_symlink())


def test_the_trend_has_every_run_newest_first(runs: Path) -> None:
    with open_database(runs) as known:
        trend = database.read_trend(known, "zoo")
    assert [run["run"] for run in trend] == names(runs)[::-1]
    assert [run["unexpected"] for run in trend] == [1, 0, 0, 1, 0]
    assert trend[0]["stage_seconds"] == pytest.approx(4.0 + 0.65 * 4.0)  # one job stopped at torch
    assert all(run["ir_bytes"] > 1000 for run in trend)


def test_a_failure_knows_the_run_that_had_it_first(runs: Path) -> None:
    with open_database(runs) as known:
        seen = database.find_first_seen(known, "zoo")
    assert {signature: night["run"] for signature, night in seen.items()} == {"error in torch: no lowering of layer N": names(runs)[1]}


def test_a_stage_from_the_store_costs_what_it_did_when_it_last_ran(tmp_path: Path) -> None:
    hit = [InventedJob("mlp", seconds=0.0, peak=1 << 20, cache="hit"), InventedJob("bert", seconds=2.0)]
    for number, jobs in enumerate((GREEN, hit, GREEN[1:])):
        invent(tmp_path, jobs, started=FIRST + timedelta(days=number))
    with open_database(tmp_path / "runs") as known:
        trend = database.read_trend(known, "zoo")[::-1]
        models = {model["model"]: [dict(zip(nights_of.COLUMNS, point, strict=True)) for point in model["points"]]
                  for model in nights_of.read_models(known)}
    assert [(run["stage_seconds"], run["cached"]) for run in trend] == [(pytest.approx(12.0), 0), (pytest.approx(6.0), 1),
                                                                        (pytest.approx(8.0), 0)]
    assert [(point["seconds"], point["cached"]) for point in models["mlp"]] == [(4.0, 0), (4.0, 1)]
    assert models["mlp"][0]["peak"] == models["mlp"][1]["peak"]
    assert models["bert"][1]["changes"] == ["bert--default: 0.2 times the time"]


def test_the_nights_of_a_suite_count_new_recurring_and_fixed_failures(runs: Path) -> None:
    lost = [InventedJob("mlp"), InventedJob("bert", outcome="infra", stage="start", problem="died")]
    for number, jobs in enumerate((RED, lost, GREEN), 5):
        invent(runs.parent, jobs, started=FIRST + timedelta(days=number))
    with open_database(runs) as known:
        nights = nights_of.read_nights(known, 7)
        course = {model["model"]: model["points"] for model in nights_of.read_models(known)}["bert"]
    assert [(night["new"], night["recurring"], night["fixed"], night["unjudged"]) for night in nights[::-1]] == [
        (1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0)]  # fmt: skip
    points = [dict(zip(nights_of.COLUMNS, point, strict=True)) for point in course]
    assert [point["level"] for point in points] == ["mhlo", "torchscript", "mhlo", "mhlo", "torchscript", "torchscript", "mhlo"]
    assert points[1]["changes"] == ["bert--default: fails: error in torch: no lowering of layer N"]
    assert "bert--default: fixed" in points[-1]["changes"]


def test_a_lost_or_broken_database_is_rebuilt(runs: Path) -> None:
    with open_database(runs) as known:
        before = database.read_trend(known), nights_of.read_models(known)
    for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(b"not a database" * 1000)):
        damage(runs / database.DATABASE)
        with open_database(runs) as known:
            assert (database.read_trend(known), nights_of.read_models(known)) == before


def test_runs_that_are_gone_or_new_or_unreadable_are_followed(runs: Path) -> None:
    gone, broken = names(runs)[:2]
    shutil.rmtree(runs / gone)
    (runs / broken / "report.json").write_text("{")
    invent(runs.parent, GREEN, suite="other", started=FIRST)
    with open_database(runs) as known:
        found = {run["run"] for run in database.read_trend(known)}
    assert gone not in found
    assert len(found) == 4  # two of five are left out, one of another suite is new
    (runs / broken / "report.json").write_text("[]")
    with open_database(runs) as known:
        assert {run["run"] for run in database.read_trend(known)} == found - {broken}


def test_the_run_before_is_of_the_same_suite(runs: Path) -> None:
    invent(runs.parent, GREEN, suite="other", started=FIRST + timedelta(days=3, hours=1))
    with open_database(runs) as known:
        assert database.find_previous(known, names(runs)[-1]) == [name for name in names(runs) if "zoo" in name][-2]


def test_the_page_of_a_copied_run_works_alone(runs: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(runs / names(runs)[0], tmp_path / "elsewhere" / "run")
    publish.write(record.load(copied), 1.0)
    assert sorted(path.name for path in copied.parent.iterdir()) == ["run"]


def test_ir_of_old_green_runs_goes_first_and_what_is_known_of_it_stays(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "--ir-runs", "1", "--output", str(runs.parent)]) == 0
    with_ir = {name: any((runs / name / "jobs").glob("*/0*.mlir")) for name in names(runs)}
    assert list(with_ir.values()) == [False, True, False, False, True]  # the red ones keep theirs
    publish.write(record.load(runs / names(runs)[2]), 1.0)
    row = json.loads((runs / names(runs)[2] / "report.json").read_text())["jobs"][0]
    assert [level["stem"] for level in row["levels"]] == ["01-export", "02-torchscript", "03-torch", "04-stablehlo", "05-mhlo"]
    capsys.readouterr()


@pytest.mark.parametrize(("keep", "left"),
                         [(retention.Keep(runs=2), [3, 4]), (retention.Keep(days=2.5), [2, 3, 4]), (retention.Keep(bytes=0), [4])])
def test_runs_go_by_count_age_and_size_but_never_the_newest(runs: Path, keep: retention.Keep, left: list[int]) -> None:
    before = names(runs)
    retention.apply(retention.plan(runs, keep, now=FIRST + timedelta(days=4)))
    assert names(runs) == [before[number] for number in left]


def test_a_run_dated_in_the_future_is_older_than_what_came_after_the_clock_was_set_back(runs: Path) -> None:
    before = names(runs)
    now = FIRST + timedelta(days=3.5)  # the last run is dated half a day later
    assert {removal.folder.name for removal in retention.plan(runs, retention.Keep(runs=3), now=now)} == {before[0], before[4]}
    assert not retention.plan(runs, retention.Keep(days=9), now=now)


def test_a_clock_that_was_set_forward_makes_no_run_older_than_it_is(runs: Path) -> None:
    before, noted = names(runs), runs / names(runs)[4] / record.LOCK
    lock = files.open_lock(noted)
    calendars.note(lock)
    os.close(lock)
    first = time.time() - (FIRST + timedelta(days=4)).timestamp()  # as if the last run had begun just now
    noted.write_text(json.dumps({**json.loads(noted.read_text()), "time": time.time() - first}))
    assert [removal.folder.name for removal in retention.plan(runs, retention.Keep(days=2.5))] == before[:2]
    noted.write_text(json.dumps({**json.loads(noted.read_text()), "boot": "another"}))
    assert calendars.read_all(runs) == [pytest.approx(time.time(), abs=5)]
    noted.write_text("[")
    assert len(calendars.read_all(runs)) == 1


def test_a_size_takes_ir_before_runs(runs: Path) -> None:
    whole = sum(path.stat().st_size for path in runs.rglob("*") if path.is_file() and path.parent != runs)
    removals = retention.plan(runs, retention.Keep(bytes=whole - 1))
    assert [(removal.folder.name, removal.whole) for removal in removals] == [(names(runs)[0], False)]


def test_pinned_and_unfinished_runs_stay(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pinned, unfinished = names(runs)[:2]
    publish.pin(runs / pinned)
    (runs / unfinished / "report.json").unlink()
    assert main(["prune", "--runs", "1", "--output", str(runs.parent)]) == 0
    assert names(runs)[:2] == [pinned, unfinished]
    assert len(names(runs)) == 3
    capsys.readouterr()


def test_a_dry_run_removes_nothing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(runs)
    assert main(["prune", "--runs", "1", "--dry-run", "--output", str(runs.parent)]) == 0
    assert names(runs) == before
    assert capsys.readouterr().out.count("the run") == 4


def test_prune_wants_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in ((["--bytes", "many"], "'many' is not a size"), ([], "give a limit")):
        with pytest.raises(SystemExit) as stopped:
            main(["prune", *arguments])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
