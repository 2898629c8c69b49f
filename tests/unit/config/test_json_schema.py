"""The JSON Schemas of configuration files, by an independent validator: shipped files fit, and broken ones fail as in `validate`."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from flows.__main__ import main
from flows.config.compose import CONFIGS
from flows.config.document import ModelConfig
from flows.config.json_schema import FOLDER, KINDS, make_schemas, name_schema
from flows.config.suite import Suite
from lowering.fitting import find_misfits

SCHEMAS = make_schemas()
GROUPS = ("model", "suite", "cluster", "stages", "expect")
FACTORY = {"_target_": "lowering.sources.mlp.MLP", "width_in": 16}
X = {"dtype": "float32", "shape": ["batch", 16]}
GOOD = {"factory": FACTORY, "inputs": {"x": X}, "symbols": {"batch": {"min": 1, "max": 8}}}


@cache
def validator(kind: str) -> Draft202012Validator:
    Draft202012Validator.check_schema(SCHEMAS[kind])
    return Draft202012Validator(SCHEMAS[kind])


def change(*changes: tuple[str, Any]) -> dict[str, Any]:
    """A good model with values set (or, for None, removed) at dotted keys."""
    found = copy.deepcopy(GOOD)
    for dotted, value in changes:
        *keys, last = dotted.split(".")
        node: Any = found
        for key in keys:
            node = node.setdefault(key, {})
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return found


@pytest.mark.parametrize("kind", GROUPS)
def test_every_shipped_file_fits_and_names_its_schema(kind: str) -> None:
    fits = validator(kind)
    for file in sorted((CONFIGS / kind).rglob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        assert [error.message for error in fits.iter_errors(yaml.safe_load(text))] == [], file
        line = text.split("\n", 1)[0]
        assert line == name_schema(file.relative_to(CONFIGS).as_posix())
        assert (file.parent / line.split("=")[1]).resolve() == (CONFIGS / FOLDER / f"{kind}.json").resolve()


def test_the_pipeline_fits_and_names_its_schema() -> None:
    file = CONFIGS.parent / "pipeline.yaml"
    assert list(validator("pipeline").iter_errors(yaml.safe_load(file.read_text()))) == []
    assert (file.parent / file.read_text().split("\n")[0].split("=")[1]).samefile(CONFIGS / FOLDER / "pipeline.json")


def test_the_written_files_are_those_of_the_types() -> None:
    written = {file.stem: json.loads(file.read_text()) for file in (CONFIGS / FOLDER).glob("*.json")}
    assert tuple(SCHEMAS) == KINDS
    assert written == json.loads(json.dumps(SCHEMAS)), "run: shapeline schema --write configs/schema"


@pytest.mark.parametrize("model", [
    GOOD,
    change(("inputs.x.shape", ["2*batch", None]), ("inputs.x.fill", {"uniform": [0, 1]})),
    change(("inputs.cache", {"_target_": "transformers.DynamicCache", "layers": {"repeat": 2, "keys": X, "values": X}})),
    change(("inputs.pair", {"tuple": [X, {"inner": X, "flag": True, "none": None}]})),
    change(("symbols.batch.max", "${oc.env:MOST}"), ("seed", 3), ("weights", "none")),
    change(("stages", {"export": {"decompose": "core"}, "verify": None, "torch": {"_target_": "my.Stage", "free": 1}})),
    {"defaults": ["bert", "_self_"], "symbols": {"seq": {"max": 8}}},
])  # fmt: skip
def test_good_models_fit(model: dict[str, Any]) -> None:
    assert list(validator("model").iter_errors(model)) == []
    assert "defaults" in model or "${" in str(model) or list(find_misfits(ModelConfig, model)) == []


BROKEN = [
    change(("factroy", {})), change(("factory", ...)), change(("factory", "MLP")), change(("inputs", [X])),
    change(("inputs.x.dtpye", "float32")), change(("inputs.x.shape", "batch")), change(("inputs.x.shape", [1.5])),
    change(("inputs.x.shape", [[2]])), change(("inputs.x.fill", 3)), change(("inputs.x.repeat", "two")), change(("inputs.x.dtype", 32)),
    change(("symbols.batch.min", "one")), change(("symbols.batch.max", 1.5)), change(("symbols.batch.mx", 3)),
    change(("symbols", ["batch"])), change(("symbols.batch", 8)), change(("symbols.batch.multiple_of", True)),
    change(("symbols.batch.example", "3")), change(("tolerances", {"float32": {"atol": 1e-3}})), change(("tolerances", {"float32": 1e-3})),
    change(("tolerances.float32.rtol", "small")), change(("seed", 1.5)), change(("seed", None)), change(("weights", "some")),
    change(("mode", "eval")), change(("checkpoint", 3)), change(("libraries", "ops.so")), change(("libraries", [3])),
    change(("libraries", [{"source": ["a.cpp"]}])), change(("custom_calls", ["aten.add"])),
    change(("custom_calls.aten_add", {"targt": "x"})), change(("constants", [1])),
    change(("stages", ["verify"])), change(("stages.verify", True)),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_model_fails_in_both(number: int) -> None:
    assert list(validator("model").iter_errors(BROKEN[number])), BROKEN[number]
    assert list(find_misfits(ModelConfig, BROKEN[number])), BROKEN[number]


@pytest.mark.parametrize("suite", [
    {}, {"models": 3}, {"models": {"bert": {"variant": {}}}}, {"models": ["bert"], "max_jobs": 0},
    {"models": {"bert": None}, "sweep": {"seed": 3}},
    {"models": {"bert": {"exclude": {"seed": 1}}}}, {"models": ["bert"], "strict_dims": "yes"},
])  # fmt: skip
def test_a_broken_suite_fails_in_both(suite: dict[str, Any]) -> None:
    assert list(validator("suite").iter_errors(suite))
    assert list(find_misfits(Suite, suite))


def test_an_option_of_a_shipped_stage_is_checked() -> None:
    assert list(validator("stages").iter_errors({"export": {"decompos": "core"}}))
    assert list(validator("stages").iter_errors({"verify": {"points": "many"}}))


def test_the_command_prints_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "suite"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Shapeline: suite"
    assert main(["schema", "--write", str(tmp_path)]) == 0
    assert sorted(file.stem for file in tmp_path.iterdir()) == sorted(SCHEMAS)
