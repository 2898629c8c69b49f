"""The store: results are found again whole or not at all, say who made them, and never stand for anything else than what was asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lowering import files, pipeline
from lowering.job import Job
from lowering.record.folder import prepare
from lowering.record.result import JobResult
from lowering.store import programs, reuse
from lowering.store.entries import Store
from lowering.worker import watch
from tests import toys


def run(job: Job, folder: Path, store: Path) -> JobResult:
    folder.mkdir(parents=True)
    return pipeline.run(job, folder, store=store)


def cache(result: JobResult) -> dict[str, str]:
    return {stage.name: stage.cache for stage in result.stages}


def changed(job: Job, **stages: toys.Toy) -> Job:
    return replace(job, stages={**job.stages, **stages})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that holds every stage of `toys.job()`, made by `first/toy--default`."""
    run(toys.job(), tmp_path / "first" / "jobs" / "toy--default", tmp_path / "store")
    return tmp_path / "store"


def test_a_finished_job_is_taken_from_the_store_with_its_maker(tmp_path: Path, store: Path) -> None:
    again = run(toys.job(), tmp_path / "again", store)
    assert again.outcome == "ok"
    assert cache(again) == {"export": "hit", "script": "hit", "torch": "hit"}
    assert {stage.maker for stage in again.stages} == {"first/toy--default"}
    assert [stage.ops for stage in again.stages] == [{"toy.op": 3}] * 3
    assert [remark.message for remark in again.warnings] == ["now: ok"], "what a stage said is said again"
    first = tmp_path / "first" / "jobs" / "toy--default"
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == (
        {path.name: path.read_bytes() for path in first.iterdir()})


def test_a_changed_option_runs_its_stage_and_is_named(tmp_path: Path, store: Path) -> None:
    result = run(changed(toys.job(), torch=toys.ToTorch(text="other")), tmp_path / "again", store)
    assert cache(result) == {"export": "hit", "script": "hit", "torch": "miss"}
    assert result.stages[-1].why == "option text: toy -> other"
    assert (tmp_path / "again" / str(result.stages[-1].artifact)).read_text() == "other from torchscript\n"


def test_an_earlier_stage_that_gives_something_else_runs_what_follows(tmp_path: Path, store: Path) -> None:
    result = run(changed(toys.job(), export=toys.Export(text="other")), tmp_path / "again", store)
    assert cache(result) == {"export": "miss", "script": "miss", "torch": "miss"}
    assert "the input changed" in result.stages[1].why


def test_a_model_changed_is_named_by_its_key(tmp_path: Path, store: Path) -> None:
    job = toys.job()
    symbols = {"batch": replace(job.model.symbols["batch"], max=4)}
    result = run(replace(job, model=replace(job.model, symbols=symbols)), tmp_path / "again", store)
    assert "symbols.batch.max: 8 -> 4" in result.stages[0].why


def test_a_failed_stage_is_not_stored_and_the_ones_before_it_are(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for name in ("first", "again"):
        result = run(toys.job("raise"), tmp_path / name, store)
    assert (result.outcome, cache(result)) == ("error", {"export": "hit", "script": "miss"})


def _flip(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("damage", [_flip, _truncate, Path.unlink])
@pytest.mark.parametrize("part", ["entry.json", "ir", "files/@.ts"])
def test_a_damaged_entry_is_rebuilt_and_not_used(tmp_path: Path, store: Path, damage: Callable[[Path], None], part: str) -> None:
    for path in store.glob(f"entries/*/*/{part}"):
        damage(path)
    result = run(toys.job(), tmp_path / "again", store)
    assert result.outcome == "ok"
    assert cache(result)["script"] == "miss"
    assert (tmp_path / "again" / "02-script.ts").read_text() == "toy from exported\n"
    assert cache(run(toys.job(), tmp_path / "third", store)) == {"export": "hit", "script": "hit",
                                                                 "torch": "hit"}, "the entry is whole again"


def test_writing_over_a_jobs_file_does_not_reach_other_jobs(tmp_path: Path, store: Path) -> None:
    run(toys.job(), tmp_path / "again", store)
    (tmp_path / "again" / "02-script.ts").unlink()
    (tmp_path / "again" / "02-script.ts").write_text("mine")
    pipeline.run(changed(toys.job(), script=toys.Behave(text="new")), tmp_path / "again", store=store)
    assert (tmp_path / "first" / "jobs" / "toy--default" / "02-script.ts").read_text() == "toy from exported\n"


def test_a_store_that_cannot_be_written_costs_a_warning_not_the_job(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file, where a folder should be")
    result = run(toys.job(), tmp_path / "job", tmp_path / "store")
    assert result.outcome == "ok"
    assert [remark.code for remark in result.warnings if remark.code == "store"] == ["store"]
    assert all((tmp_path / "job" / str(stage.artifact)).exists() for stage in result.stages)


def test_many_jobs_over_one_store_at_once(tmp_path: Path) -> None:
    results: list[JobResult] = []
    threads = [threading.Thread(target=lambda number=number: results.append(run(toys.job(), tmp_path / str(number), tmp_path / "store")))
               for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.outcome for result in results] == ["ok"] * 8
    assert len({(tmp_path / str(number) / "03-torch.torch.mlir").read_text() for number in range(8)}) == 1
    assert len(list(Store(tmp_path / "store").entries())) == 3


def test_a_job_that_is_all_there_needs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name / "jobs" / "toy--default" for name in ("first", "again")]
    for folder in folders:
        prepare(toys.job(), folder, store=tmp_path / "store")
    assert watch.lower(folders[0]).outcome == "ok"
    monkeypatch.setattr(watch.client, "get_server", lambda *_: pytest.fail("a process was started"))
    again = watch.lower(folders[1])
    assert cache(again) == {"export": "hit", "script": "hit", "torch": "hit"}
    assert JobResult.load(folders[1]) == again
    assert (folders[1] / "01-export.pt2").read_bytes() == (folders[0] / "01-export.pt2").read_bytes()
    events = [json.loads(line)["event"] for line in (folders[1] / "events.jsonl").read_text().splitlines()]
    assert events[0] == "begin"
    assert events[-1] == "committed"


def test_an_old_result_in_the_store_is_not_taken_by_other_code(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse.provenance, "digest_sources", lambda *names: {"lowering/new.py": "0" * 64})
    result = run(toys.job(), tmp_path / "again", store)
    assert set(cache(result).values()) == {"miss"}
    assert "changed" in result.stages[0].why


def test_an_edit_does_not_change_what_the_code_that_is_loaded_made(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from dataclasses import dataclass\nfrom tests import toys\n@dataclass(frozen=True)\nclass "
                                      "Mine(toys.Script):\n    pass\n")
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(tmp_path)!r})
import mine
from tests import toys
from tests.unit.store.test_entries import cache, changed, run
job = changed(toys.job(), script=mine.Mine())
print(cache(run(job, Path("first"), Path("store"))))
with open(mine.__file__, "a") as file:
    file.write("    text: str = 'edited'\\n")
if len(sys.argv) > 1:
    import importlib; importlib.reload(mine); job = changed(toys.job(), script=mine.Mine())
from lowering.store import provenance
provenance.stamps.look()  # as it does every few seconds
print(cache(run(job, Path("second"), Path("store"))))
"""
    for again, expected in (([], "hit"), (["reloaded"], "miss")):
        home = tmp_path / expected
        home.mkdir()
        done = subprocess.run([sys.executable, "-c", script, *again], cwd=home, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
                              capture_output=True, text=True, check=True)
        assert f"'script': '{expected}'" in done.stdout.splitlines()[1]


def test_a_forked_process_describes_the_code_that_was_loaded_before_and_after_the_fork(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / f"{name}.py").write_text(f"import json  # {name}\n")
    script = """
import os, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
import first
from lowering.store import provenance
provenance.freeze_for_forks("first", "third.Class")
before = provenance.digest_sources("first", "second", "third.Class")
Path("first.py").write_text("edited")
if not (child := os.fork()):
    provenance.freeze_loaded()
    import second
    provenance.freeze_loaded()
    for name in ("second", "third"):
        Path(f"{name}.py").write_text("edited")
    provenance.stamps.look()  # as it does every few seconds
    after = provenance.digest_sources("third.Class", "second", "first")
    print([Path(name).stem for name in after if after[name] != before[name]], len(after), flush=True)
    print(sorted(provenance.list_versions("first")), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
                          capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['third'] 3", "['machine', 'python']"], "code that is not loaded yet is read again"


def test_a_store_can_be_moved(tmp_path: Path, store: Path) -> None:
    shutil.move(store, tmp_path / "elsewhere")
    assert set(cache(run(toys.job(), tmp_path / "again", tmp_path / "elsewhere")).values()) == {"hit"}


def test_text_is_saved_as_it_is() -> None:
    program = programs.Program(programs.Level.TORCH, "größer \udc80")
    assert programs.load(programs.Level.TORCH, programs.dump(program) or b"", {}) == "größer \udc80"


def test_a_damaged_note_is_no_note(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.notes.write("stages", "a/b", {"x": 1})
    assert store.notes.read("stages", "a/b") == {"x": 1}
    (path,) = tmp_path.glob("notes/stages/*.json")
    files.write(path, {**files.read(path), "data": {"x": 2}})
    assert store.notes.read("stages", "a/b") is None


def test_an_entry_moved_to_another_key_is_damaged_and_not_a_hit(tmp_path: Path, store: Path) -> None:
    other = changed(toys.job(), torch=toys.ToTorch(text="other"))
    run(other, tmp_path / "other", store)
    held = Store(store)
    last, moved = (reuse.read_keys(held, job.to_json(), {})[-1][1] for job in (toys.job(), other))
    shutil.rmtree(held._locate(last))
    shutil.copytree(held._locate(moved), held._locate(last))
    assert cache(run(toys.job(), tmp_path / "again", store)) == {"export": "hit", "script": "hit", "torch": "miss"}
    assert (tmp_path / "again" / "03-torch.torch.mlir").read_text().startswith("toy from")
