"""What a store removes to fit its budget: what was used longest ago, whatever the clock says."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest

from flows.__main__ import main
from flows.runs import calendars
from lowering import files, pipeline
from lowering.store import eviction
from lowering.store.entries import Store
from tests import toys

YEAR = 365 * 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that holds every stage of `toys.job()`."""
    folder = tmp_path / "first"
    folder.mkdir()
    pipeline.run(toys.job(), folder, store=tmp_path / "store")
    return tmp_path / "store"


def test_eviction_removes_what_was_used_longest_ago_and_keeps_what_is_named(store: Path) -> None:
    found = [entry for entry, _ in Store(store).entries()]
    kept = found[0].key
    done = eviction.evict(eviction.Here(Store(store)), 0, {kept}, idle=0)
    assert {entry.key for entry, _ in Store(store).entries()} == {kept}
    assert len(done.entries) == 2
    assert done.after == found[0].bytes < done.before
    assert eviction.evict(eviction.Here(Store(store)), 1 << 30, idle=0).entries == ()


def test_what_was_used_just_now_is_not_evicted(store: Path) -> None:
    assert eviction.evict(eviction.Here(Store(store)), 0).entries == ()


def _date(store: Path, seconds: float) -> None:
    """Let all entries of a store be dated that many seconds from now."""
    for entry, _ in Store(store).entries():
        os.utime(entry.folder / "entry.json", (time.time() + seconds,) * 2)


def test_a_clock_that_was_set_forward_does_not_make_what_a_run_uses_old(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _date(store, -YEAR - 60)
    begun = store.parent / "runs" / "begun" / ".lock"
    begun.parent.mkdir(parents=True)
    lock = files.open_lock(begun)
    calendars.note(lock)
    os.close(lock)
    begun.write_text(json.dumps({**files.read(begun), "time": time.time() - YEAR}))  # as if the clock had been set a year forward since
    collect = ["cache", "gc", "--max-bytes", "0", "--output", str(store.parent), "--json"]
    assert main(collect) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == []
    assert main([*collect, "--idle", "30"]) == 0
    assert len(json.loads(capsys.readouterr().out)["removed"]) == 3


def test_a_clock_that_was_set_back_keeps_nothing_for_longer_than_it_is_idle(store: Path) -> None:
    _date(store, YEAR)
    draft = store / "drafts" / f"{socket.gethostname()}-1-1-half"
    draft.mkdir(parents=True)
    os.utime(draft, (time.time() + YEAR,) * 2)
    assert eviction.evict(eviction.Here(Store(store)), 0).entries == (), "they may have been used just now"
    assert all(used <= time.time() for _, used in Store(store).entries())
    assert draft.stat().st_mtime <= time.time()
    assert len(eviction.evict(eviction.Here(Store(store)), 0, idle=0).entries) == 3


def test_a_draft_is_swept_after_a_day_unless_its_process_lives(store: Path) -> None:
    drafts = [f"{socket.gethostname()}-{os.getpid()}-1-ab", f"trash-{1 << 30}-2", "other-7-8-cd"]
    own, dead, foreign = (store / "drafts" / name for name in drafts)
    for draft in (own, dead, foreign):
        draft.mkdir(parents=True)
        os.utime(draft, (time.time() - 2 * eviction.DAY,) * 2)
    eviction.evict(eviction.Here(Store(store)), 1 << 30)
    assert [draft.exists() for draft in (own, dead, foreign)] == [True, False, False]
