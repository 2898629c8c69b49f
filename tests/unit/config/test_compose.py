"""Files of a group as plain data: read directly where Hydra has nothing to compose."""

from __future__ import annotations

from pathlib import Path

from flows.config import compose
from flows.config.compose import CONFIGS, Folders


def test_a_file_is_what_hydra_composes_whether_it_is_asked_or_not() -> None:
    files = sorted((CONFIGS / "model").glob("*.yaml"))
    found, problems = compose.read_trees("model", files, Folders())
    assert problems == []
    assert found == compose._compose_together("model", {file: file.stem for file in files}, Folders())


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    for text, tree in (("seed: 1\n", {"seed": 1}), ("seed: 2e1\nname: x\n", {"seed": 20.0, "name": "x"})):
        file.write_text(text)
        assert compose.read_trees("model", [file], Folders((CONFIGS,))) == ({file: tree}, [])
