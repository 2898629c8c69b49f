"""The zoo's files say what its table says, and its page what a run found."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import zoo, zoo_page
from lowering.errors import ConfigError, Problem
from lowering.record.result import JobResult, StageResult

TABLE: dict[str, Any] = yaml.safe_load(zoo.TABLE.read_text(encoding="utf-8"))

SMALL = {
    "listed": ["bert"],
    "families": {
        "text": {
            "kwargs": {"vocab_size": 64, "num_hidden_layers": 2, "no_config_has_this": 1},
            "inputs": {"input_ids": {"dtype": "int64", "shape": ["batch", "seq"], "fill": {"randint": [0, 64]}},
                       "attention_mask": {"dtype": "int64"}},
            "symbols": {"batch": {"min": 1, "max": 4}, "seq": {"min": 1, "max": 8}},
            "architectures": {
                "roberta": "RobertaModel",
                "clip": {"architecture": "CLIPModel", "kwargs": {"vision_config": {"num_hidden_layers": 1}}, "note": "Two towers."},
                "fnet": {"architecture": "FNetModel", "inputs": {"attention_mask": None, "input_ids": {"fill": "ones"}},
                         "symbols": {"seq": {"max": 9}}},
            },
        }
    },
}


def models() -> dict[str, Any]:
    texts = zoo.files(SMALL)
    return {path.stem: yaml.safe_load(text) for path, text in texts.items() if path.parent == zoo.MODELS}


def test_the_files_in_configs_match_the_table() -> None:
    assert zoo.find_stale(zoo.ROOT, zoo.files(TABLE)) == [], "run: python -m benchmarks.zoo"


def test_the_table_has_sixty_architectures_of_every_family() -> None:
    named = zoo.families(TABLE)
    classes = {row if isinstance(row, str) else row["architecture"] for family in TABLE["families"].values()
               for row in family["architectures"].values()}
    assert len(classes) == len(named) >= 60
    assert {"text encoder", "decoder", "mixture of experts", "state space", "encoder-decoder", "vision", "audio", "multimodal"} <= (
        set(named.values()))


def test_a_config_gets_the_keys_that_it_knows_and_so_do_the_configs_inside_it() -> None:
    assert models()["roberta"]["factory"] == {
        "_target_": "lowering.sources.huggingface.build", "config": "RobertaConfig", "architecture": "RobertaModel",
        "kwargs": {"vocab_size": 64, "num_hidden_layers": 2},
    }  # fmt: skip
    assert models()["clip"]["factory"]["kwargs"] == {"text_config": {"vocab_size": 64, "num_hidden_layers": 2},
                                                     "vision_config": {"num_hidden_layers": 1}}


def test_a_row_is_laid_over_its_family() -> None:
    fnet = models()["fnet"]
    assert fnet["inputs"] == {"input_ids": {"dtype": "int64", "shape": ["batch", "seq"], "fill": "ones"}}
    assert fnet["symbols"] == {"batch": {"min": 1, "max": 4}, "seq": {"min": 1, "max": 9}}


def test_the_suite_names_the_made_and_the_listed_models() -> None:
    suite = yaml.safe_load(zoo.files(SMALL)[zoo.SUITE])
    assert suite["models"] == {"bert": None, "clip": {"model": "zoo/clip"}, "fnet": {"model": "zoo/fnet"},
                               "roberta": {"model": "zoo/roberta"}}
    assert "# Two towers.\n" in zoo.files(SMALL)[zoo.MODELS / "clip.yaml"]


@pytest.mark.parametrize(("row", "message"), [
    ({"architecture": "BertModel", "kwarg": {}}, "unknown keys ['kwarg']"),
    ({"kwargs": {}}, "names no architecture"),
])  # fmt: skip
def test_a_wrong_row_is_named(row: dict[str, Any], message: str) -> None:
    table = copy.deepcopy(SMALL)
    table["families"]["text"]["architectures"]["wrong"] = row
    with pytest.raises(ConfigError, match=r"text\.wrong") as raised:
        zoo.files(table)
    assert message in str(raised.value)


def test_a_duplicate_name_is_refused() -> None:
    table = copy.deepcopy(SMALL)
    table["families"]["other"] = {"architectures": {"fnet": "FNetModel"}}
    with pytest.raises(ConfigError, match=r"other\.fnet: stands twice"):
        zoo.files(table)


def test_writing_changes_only_what_differs_and_removes_what_the_table_has_no_longer(tmp_path: Path) -> None:
    wanted = zoo.files(SMALL)
    assert set(zoo.write(tmp_path, wanted)) == set(wanted)
    (tmp_path / zoo.MODELS / "gone.yaml").write_text("")
    (tmp_path / zoo.SUITE).write_text("models: [bert]\n")
    assert set(zoo.write(tmp_path, wanted)) == {zoo.MODELS / "gone.yaml", zoo.SUITE}
    assert zoo.find_stale(tmp_path, wanted) == []


def row(name: str, outcome: str, stages: tuple[str, ...], points: int = 0, symbols: Any = None) -> zoo_page.Row:
    problems = () if outcome == "ok" else (Problem("aten.foo", "no lowering"),)
    ended = tuple(StageResult(stage, "ok") for stage in stages)
    verify = {"points": [{}] * points, "max_rel": 1e-6} if points else {}
    return zoo_page.Row(JobResult(f"{name}--default", name, "default", outcome, "mhlo", stages=ended, problems=problems, verify=verify,
                                  symbols=symbols or {}),
                        "text", "Model", ("batch 1..4",))


def test_only_what_agreed_at_three_points_counts_as_verified() -> None:
    found = [row("a", "ok", ("export", "mhlo"), 4), row("b", "ok", ("export", "mhlo"), 2), row("c", "mismatch", ("export", "mhlo"), 4),
             row("d", "unsupported", ("export",))]  # fmt: skip
    figures = zoo_page.count_results(found)
    assert (figures["architectures"], figures["reached_mhlo"], figures["verified"], figures["verified_percent"]) == (4, 3, 1, 25.0)
    assert found[3].cause == "aten.foo: no lowering"
