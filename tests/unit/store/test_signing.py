"""A store with a key gives only what was stored with the same key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.__main__ import main as shapeline
from flows.config.plan import Plan
from flows.config.run import Run
from flows.runs import begin
from lowering import files, pipeline
from lowering.errors import InfraError
from lowering.record.result import JobResult
from lowering.store import signing
from lowering.store.digests import compute_digest
from lowering.store.entries import ENTRY, Store
from tests import toys


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a key, which is used."""
    path = tmp_path / "key"
    path.write_text("0123456789abcdef" * 4 + "\n")
    path.chmod(0o600)
    monkeypatch.setenv(signing.KEY, str(path))
    return path


def lower(tmp_path: Path, name: str, *, store: str = "store") -> JobResult:
    (tmp_path / name).mkdir()
    return pipeline.run(toys.job(), tmp_path / name, store=tmp_path / store)


def caches(result: JobResult) -> list[str]:
    return [stage.cache for stage in result.stages]


def forge(store: Path) -> None:
    """Change a number in each entry of a store, as somebody does who can write there and knows the code."""
    for path in (store / "entries").rglob(ENTRY):
        held = files.read(path)
        held["data"]["maker"] = "forged"
        held["sha256"] = compute_digest([path.parent.name, held["data"], held["files"], held["ir"]])
        path.write_text(files.encode_json(held))


@pytest.mark.usefixtures("key")
def test_what_was_stored_with_the_key_is_taken(tmp_path: Path) -> None:
    lower(tmp_path, "first")
    assert caches(lower(tmp_path, "second")) == ["hit"] * 3
    assert all(signing.SIGNATURE in files.read(path) for path in (tmp_path / "store").rglob("*.json"))


def test_unsigned_results_are_made_again_with_a_warning_and_replaced(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(signing.KEY)
    lower(tmp_path, "first")
    monkeypatch.setenv(signing.KEY, str(key))
    again = lower(tmp_path, "second")
    assert (again.outcome, caches(again)) == ("ok", ["miss"] * 3)
    said = [remark.message for remark in again.warnings if remark.code == "untrusted"]
    assert len(said) == 3 and all("is not signed with the key" in message for message in said)
    third = lower(tmp_path, "third")
    assert caches(third) == ["hit"] * 3 and all(remark.code != "untrusted" for remark in third.warnings)
    monkeypatch.delenv(signing.KEY)
    assert caches(lower(tmp_path, "fourth")) == ["hit"] * 3


def test_forged_results_are_taken_only_without_a_key(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lower(tmp_path, "first")
    forge(tmp_path / "store")
    assert caches(lower(tmp_path, "second")) == ["miss"] * 3
    forge(tmp_path / "store")
    other = key.with_name("other")
    other.write_text("f" * 64)
    other.chmod(0o600)
    monkeypatch.setenv(signing.KEY, str(other))
    assert caches(lower(tmp_path, "third")) == ["miss"] * 3
    forge(tmp_path / "store")
    monkeypatch.delenv(signing.KEY)
    assert {stage.maker for stage in lower(tmp_path, "fourth").stages} == {"forged"}


def test_what_a_store_held_before_its_key_is_signed_after_it_was_listed(
        tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(signing.KEY)
    lower(tmp_path, "first")
    sign = ["cache", "sign", "--output", str(tmp_path)]
    assert shapeline(sign) == 2 and f"export {signing.KEY}=FILE" in capsys.readouterr().err
    monkeypatch.setenv(signing.KEY, str(key))
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.json")}
    assert shapeline(sign) == 2
    said = capsys.readouterr().err
    assert 'would be signed and used: the results of "toy--default"' in said and "export, script, torch" in said and "--trust" in said
    assert {path: path.read_bytes() for path in before} == before
    assert shapeline([*sign, "--trust"]) == 0
    done = capsys.readouterr()
    assert "3 results and" in done.out and 'signing the results of "toy--default"' in done.err
    again = lower(tmp_path, "second")
    assert caches(again) == ["hit"] * 3 and all(remark.code != "untrusted" for remark in again.warnings)
    forge(tmp_path / "store")
    assert shapeline(sign) == 2 and 'made by "forged"' in capsys.readouterr().err


@pytest.mark.usefixtures("key")
def test_a_note_that_is_moved_or_changed_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.notes.write("jobs", "a", ["x"])
    assert store.notes.read("jobs", "a") == ["x"]
    (path,) = (tmp_path / "store" / "notes" / "jobs").iterdir()
    store.notes.write("jobs", "b", ["y"])
    (moved,) = (other for other in path.parent.iterdir() if other != path)
    moved.write_bytes(path.read_bytes())
    assert store.notes.read("jobs", "b") is None
    held = files.read(path)
    path.write_text(files.encode_json({**held, "data": ["z"], "sha256": compute_digest(["z"])}))
    assert store.notes.read("jobs", "a") is None


@pytest.mark.parametrize(("content", "mode", "says"), [
    (None, 0o600, "cannot be read"), ("short", 0o600, "has 5 bytes"), ("a" * 64, 0o644, "others could read"),
    ("a" * 64, 0o660, "others could read"),
])  # fmt: skip
def test_a_key_that_is_none_ends_a_run_before_its_jobs(content: str | None, mode: int, says: str, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broken"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    monkeypatch.setenv(signing.KEY, str(path))
    with pytest.raises(InfraError, match=f"{signing.KEY}=.*{says}"):
        begin.begin(Run(Plan("toys", output=tmp_path / "out"), (toys.job(),)))
    assert lower(tmp_path, "job").outcome == "infra"
    assert not (tmp_path / "out").exists()


def test_a_key_of_a_group_is_taken_and_without_a_cache_none_is_asked_for(tmp_path: Path, key: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    key.chmod(0o640)
    assert signing.read_key() == b"0123456789abcdef" * 4
    monkeypatch.setenv(signing.KEY, os.devnull)
    begin.end(begin.begin(Run(Plan("toys", output=tmp_path / "out", config={"cache": False}), (toys.job(),))), 1.0)
