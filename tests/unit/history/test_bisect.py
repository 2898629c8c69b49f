"""Bisection over commits and releases: the right version in few trials, resumed after an interruption."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from flows.__main__ import main
from flows.history.bisection import Bisection, Judge, search
from flows.history.versions import Commits, Place, Releases
from lowering.errors import ConfigError

COMMITS, BROKEN = 31, 19


def row(outcome: str = "ok", stage: str = "verify", cause: str = "", seconds: float = 1.0, dims: Sequence[str] = ("dynamic",),
        error: float = 1e-6) -> dict[str, Any]:
    return {"outcome": outcome, "stage": stage, "seconds": seconds, "problems": [{"place": "", "cause": cause}] if cause else [],
            "signature": cause and f"{outcome} in {stage}: {cause}", "symbols": {"requested": [{"verdict": dim} for dim in dims]},
            "verify": {"max_rel": error}}  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of 31 commits whose model breaks at commit 19, and does not import at commits 14 and 15."""
    folder = tmp_path_factory.mktemp("models")
    script = "git init -q -b main . && git config user.email a@b && git config user.name a\n"
    for number in range(COMMITS):
        text = f"SCALE = {2 if number >= BROKEN else 1}  # {number}" if number not in (14, 15) else f"SCALE =  # {number}"
        script += f"echo '{text}' > model.py && git add -A && git commit -qm 'model: step {number}'\n"
    subprocess.run(["bash", "-ec", script], cwd=folder, check=True)
    return folder


def run_model(place: Place) -> dict[str, Any] | str:
    """Run the model of a place in a process of its own, as a job would."""
    code = "import model; raise SystemExit(model.SCALE != 1)"
    done = subprocess.run([sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(place.folder)!r}); {code}"], check=False,
                          capture_output=True)
    return row() if done.returncode == 0 else row("mismatch", cause="differs") if b"SyntaxError" not in done.stderr else "does not import"


def test_the_broken_commit_is_found_in_five_runs_with_an_interruption(repository: Path, tmp_path: Path) -> None:
    axis = Commits(repository, (), own=False)
    start = Bisection("m--default", tuple(axis.list_versions("main~30", "main")), Judge())
    ran: list[str] = []

    def trial(version: str) -> Mapping[str, Any] | str:
        ran.append(version)
        with axis.open(version) as place:
            if len(ran) == 3:
                raise KeyboardInterrupt
            return run_model(place)

    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        search(start, tmp_path / "s.json", trial, row(), row("mismatch", cause="differs"), lines.append)
    ended = search(start, tmp_path / "s.json", trial, row(), row("mismatch", cause="differs"), lines.append)
    assert "resumed: 2 versions tried before" in lines
    assert len(set(ran)) <= 5 + 2 and len(ran) == len(set(ran)) + 1  # two do not import; the interrupted one ran again
    (first_bad,) = ended.suspects
    assert axis.describe(first_bad, "").splitlines()[4].strip() == f"model: step {BROKEN}"
    assert "-SCALE = 1  # 18\n+SCALE = 2  # 19" in axis.describe(first_bad, "")
    listed = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True, text=True, check=True).stdout
    assert len(listed.splitlines()) == 1  # nothing is left behind
    again = search(start, tmp_path / "s.json", lambda version: pytest.fail("asked again"), row(), None, lines.append)
    assert again.suspects == ended.suspects


def test_every_place_of_a_regression_is_found_in_log_n_runs(tmp_path: Path) -> None:
    for broken in range(1, 32):
        start = Bisection("m", tuple(map(str, range(32))), Judge())
        ran: list[str] = []

        def trial(version: str, broken: int = broken, ran: list[str] = ran) -> Mapping[str, Any]:
            ran.append(version)
            return row("error", "torch", "no lowering") if int(version) >= broken else row()

        assert search(start, tmp_path / f"{broken}.json", trial, None, None, lambda text: None).suspects == (str(broken),)
        assert len(ran) <= 5


def test_versions_that_cannot_be_judged_remain_suspects(tmp_path: Path) -> None:
    start = Bisection("m", tuple("abcdef"), Judge())
    ends = {"b": row(), "e": row("error", "torch", "other failure"), "c": "does not build", "d": row("infra", "start", "worker died")}
    ended = search(start, tmp_path / "s.json", ends.__getitem__, row(), row("crash", "mhlo", "died"), lambda text: None)
    assert ended.suspects == tuple("cdef")


@pytest.mark.parametrize(("judge", "good", "bad"), [
    (Judge("dims"), row(dims=("dynamic", "dynamic")), row(dims=("dynamic", "specialized"))),
    (Judge("numerics"), row(), row("mismatch", cause="differs")),
    (Judge("numerics", 1e-4), row(error=1e-6), row(error=1e-2)),
    (Judge("seconds", 3.0), row(seconds=2.0), row(seconds=4.0)),
    (Judge(), row("unsupported", "torch", "no lowering"), row("crash", "mhlo", "died")),
])  # fmt: skip
def test_a_result_is_judged_by_what_was_asked(judge: Judge, good: dict[str, Any], bad: dict[str, Any], tmp_path: Path) -> None:
    assert [judge.judge(one, good, bad) for one in (good, bad, row("infra", "start"))] == ["good", "bad", "skip"]
    with pytest.raises(ConfigError, match="--bad"):
        search(Bisection("m", ("a", "b"), judge), tmp_path / "s.json", lambda version: good, good, good, lambda text: None)


def test_releases_between_two_versions_are_listed_in_order() -> None:
    listed = Releases("packaging", ()).list_versions("24.0", "25.0")
    assert listed[0] == "24.0" and listed[-1] == "25.0" and {"24.1", "24.2"} < set(listed)
    assert Releases("packaging", ()).list_versions("25.0", "24.0") == listed[::-1]  # a regression may come with an older release


@pytest.mark.parametrize(("arguments", "problem"), [
    (["--good", "no-such-run", "--bad", "HEAD"], "no-such-run"), (["--good", "main", "--bad", "main~3"], "is no ancestor"),
    (["--good", "main", "--bad", "main"], "are the same version"),
    (["--good", "24.0", "--bad", "x", "--axis", "packaging"], "'x'\n      is neither a run nor a version"),
    (["--good", "24.0", "--bad", "24.0.99", "--axis", "packaging"], "of packaging that pip finds (name a run, or a version such as 2"),
    (["--good", "24.0", "--bad", "24.0", "--axis", "packaging"], "are the same version"),
    (["--good", "1", "--bad", "2", "--axis", ""], "'' is not the name of a package (name commit"),
    (["--good", "1", "--bad", "2", "--axis", "no-such"], "pip finds no versions: No matching distribution found for no-such ("),
    (["--good", "", "--bad", "HEAD"], "  ''\n      is neither a run nor a commit"),
])  # fmt: skip
def test_ends_that_are_none_are_refused(arguments: list[str], problem: str, repository: Path, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.nights import InventedJob, invent

    invent(tmp_path, [InventedJob("mlp")])
    monkeypatch.chdir(repository)
    axis = [] if "--axis" in arguments else ["--axis", "model"]
    assert main(["bisect", "mlp", *arguments, *axis, "--output", str(tmp_path)]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "cause"), [
    (["--limit", "0.5"], "--limit is of --by numerics and seconds, not of outcome"), (["--by", "seconds"], "--by seconds needs --limit"),
    (["--repository", "."], "--repository is of --axis model, not of commit"),
])  # fmt: skip
def test_options_that_would_do_nothing_are_refused(arguments: list[str], cause: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bisect", "mlp", "--good", "main~3", "--bad", "main", *arguments])
    assert cause in capsys.readouterr().err
