"""Files of a group as plain data: read directly where Hydra has nothing to compose."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from flows.config import compose, yaml_files
from flows.config.compose import CONFIGS, Folders
from flows.config.plan import plan
from lowering.errors import ConfigError


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


SCALARS = "{a: 1e5, b: 2020-01-01, c: 0x10, d: 1_000, e: yes, f: 1.5e-3, g: .5, h: 12:30, i: null, j: 1., k: .inf, l: '1', m: 0o7}"


def test_a_file_means_the_same_with_and_without_hydra(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SCALARS)
    assert yaml_files.read(file) == OmegaConf.to_container(OmegaConf.load(file))
    file.write_text("one: 1\ntwo: 2\none: 3\n")
    with pytest.raises(yaml_files.Unreadable, match="duplicate key one") as caught:
        yaml_files.read(file)
    assert caught.value.line == 3


def test_a_long_row_is_broken_after_commas_and_reads_the_same() -> None:
    sections = {"factory": {"kwargs": {f"a_long_name_{index}": [index, "a, b", "c d"] for index in range(12)}, "text": "one, two " * 30}}
    text = yaml_files.render_sections(sections)
    assert max(map(len, text.splitlines())) <= 140 and yaml_files.load(text) == sections


def test_what_is_remembered_is_what_would_be_composed_again() -> None:
    choices = (["suite=mlp"], ["model=[bert,bert_training]"], ["model=bert_training"], ["suite=mlp", "until=torch"])
    apart = [plan(texts) for texts in choices]
    with compose.remember_choices():
        assert [plan(texts) for texts in choices] == apart
    with pytest.raises(ConfigError), compose.remember_choices():
        plan(["cluster=none"])
