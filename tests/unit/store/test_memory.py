"""What processes remember between runs: only what this user wrote, and only if it can be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowering.store import memory, provenance
from lowering.worker import client


@pytest.fixture(autouse=True)
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path / "state"))
    for name in ("_known", "_new"):
        monkeypatch.setattr(memory, name, {})
    return tmp_path / "state"


def test_a_fact_is_found_again_in_a_later_process(forgetful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.recall("kind", "key") is None
    assert memory.find("kind", "key", lambda: ["fact"]) == ["fact"]
    memory.save()
    monkeypatch.setattr(memory, "_known", {})
    memory.remember("kind", "other", 1)
    memory.save()
    monkeypatch.setattr(memory, "_known", {})
    assert memory.find("kind", "key", lambda: pytest.fail("computed again")) == ["fact"]
    assert memory.recall("kind", "other") == 1


@pytest.mark.parametrize("spoil", [lambda file: file.chmod(0o666), lambda file: file.write_text("{"), lambda file: file.write_text("[]")])
def test_what_others_could_have_written_is_not_believed(forgetful: Path, monkeypatch: pytest.MonkeyPatch, spoil: object) -> None:
    memory.remember("kind", "key", "fact")
    memory.save()
    spoil(forgetful / "known-kind.json")  # type: ignore[operator]
    monkeypatch.setattr(memory, "_known", {})
    assert memory.recall("kind", "key") is None


def test_a_state_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path / "file/state"))
    assert memory.find("kind", "key", lambda: "fact") == "fact"
    memory.save()


def test_imports_follow_the_content_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "remembered_module.py"
    file.write_text("import json\n")
    assert provenance._list_imports(file, "", 1, 1) == ("json",)
    memory.save()
    file.write_text("import abcd\n")  # of the same size
    assert provenance._list_imports(file, "", 2, 1) == ("abcd",)


def test_a_fork_server_finds_the_facts_of_the_process_that_starts_it(forgetful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []
    monkeypatch.setattr(client, "ForkServer", lambda python: found.append((forgetful / "known-kind.json").is_file()))
    memory.remember("kind", "key", "fact")
    client._start(Path("/usr/bin/python3"))
    assert found == [True]
