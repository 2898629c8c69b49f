"""The installed environments of a machine: listed with their sizes, removed by name, and bounded after an installation."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.__main__ import main
from lowering import environment_cache, environments
from lowering.environment_cache import IDLE, MARK
from lowering.environments import Environment

DAYS = 86400


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four environments of some 1,000 bytes, used 0, 2, 3 and 4 days ago, of which the last was never completed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = environment_cache.get_root()
    for days, name in ((0, "new"), (2, "mid"), (3, "old"), (4, "")):
        folder = root / f"folder{days}"
        (folder / "lib").mkdir(parents=True)
        (folder / "lib/package.py").write_text("#" * 1000)
        (folder / "lib64").symlink_to("lib")
        if name:
            (folder / MARK).write_text(json.dumps({"name": name, "requirements": [f"torch=={days}"]}))
        os.utime(folder / MARK if name else folder, (time.time() - days * DAYS,) * 2)
    return root


def list_folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*/"))


def test_they_are_listed_with_their_sizes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["environments"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["new", "mid", "old", "(not"]
    assert "torch==2" in lines[2] and "2 d ago" in lines[2]
    assert lines[-1].startswith("4 environments, ")
    assert main(["environments", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in rows] == ["new", "mid", "old", ""]
    assert rows[3]["bytes"] == 1000


def test_one_is_removed_by_its_name_or_folder(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["environments", "--remove", "new", "folder4"]) == 0
    assert list_folders(root) == ["folder2", "folder3"]
    assert main(["environments", "--remove", "new"]) == 2
    assert "has no such environment" in capsys.readouterr().err


def test_what_was_removed_is_json_if_asked(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (root / "folder3.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["environments", "--remove", "old", "mid", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert ([one["name"] for one in said["removed"]], [one["name"] for one in said["busy"]]) == (["mid"], ["old"])
    assert main(["environments", "--max-bytes", "0", "--json"]) == 0
    assert [one["bytes"] for one in json.loads(capsys.readouterr().out)["removed"]] == [1000, pytest.approx(1050, abs=50)]


def test_the_least_recently_used_are_removed_but_none_of_today(root: Path) -> None:
    assert main(["environments", "--max-bytes", "2500"]) == 0
    assert list_folders(root) == ["folder0", "folder2"]
    assert main(["environments", "--max-bytes", "0"]) == 0
    assert list_folders(root) == ["folder0"]


def test_one_that_is_being_installed_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (root / "folder3.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["environments", "--remove", "old"]) == 1
    assert "folder3 is being installed or used, and stays" in capsys.readouterr().out
    assert "folder3" in list_folders(root)


def test_one_in_use_stays_whatever_the_clock_says(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold = f"environment_cache.hold(Path({str(root / 'folder2')!r})); print('held', flush=True); input()"
    script = f"from pathlib import Path; from lowering import environment_cache; {hold}"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None and job.stdout.readline() == "held\n"
        os.utime(root / "folder2" / MARK, (time.time() - 365 * DAYS,) * 2)
        os.utime(root / "folder3" / MARK, (time.time() + 365 * DAYS,) * 2)
        assert main(["environments", "--remove", "mid"]) == 1
        assert "folder2 is being installed or used, and stays" in capsys.readouterr().out
        assert main(["environments", "--max-bytes", "0"]) == 0
        assert list_folders(root) == ["folder0", "folder2", "folder3"]
        assert (root / "folder3" / MARK).stat().st_mtime <= time.time(), "it is idle from now on"
        job.communicate("\n")
    assert main(["environments", "--max-bytes", "0"]) == 0
    assert list_folders(root) == ["folder0", "folder3"]


def test_an_installation_removes_what_is_beyond_the_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_cache.evict, "__defaults__", (1500, IDLE, None))
    monkeypatch.setattr(environments, "run_pip", lambda *_: "")
    python = environments.build(Environment("fresh", ("torch==9",)))
    assert list_folders(root) == sorted(["folder0", python.parents[1].name])
    mark = python.parents[1] / MARK
    os.utime(mark, (time.time() - 9 * DAYS,) * 2)
    environments.build(Environment("fresh", ("torch==9",)))
    assert time.time() - mark.stat().st_mtime < DAYS
