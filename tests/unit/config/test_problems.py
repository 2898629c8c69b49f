"""What is wrong with a configuration: all of it at once, each with its file, line and near miss."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.config.configurations import TINY, not_said, refused, write


def test_everything_that_is_wrong_is_said_at_once_with_file_line_and_near_miss(folder: Path) -> None:
    write(folder / "model/typo.yaml", """
factory: {_target_: lowering.sources.mlp.MPL, width_in: 16}
inputs:
  features: {dtype: flaot32, shape: [bacth, 16, a*b], fil: ones}
symbols:
  batch: {min: 64, max: 8}
sead: 3
""")
    write(folder / "model/range.yaml", TINY.replace("min: 1, max: 64", "min: 4, max: 64, example: 3").replace("width_out", "width_uot"))
    write(folder / "model/later.yaml", TINY + "seed: ???\ntolerances: {float32: {atol: tight, rtol: 0.1}}\n")
    write(folder / "model/syntax.yaml", "factory: {\ninputs: [\n")
    write(folder / "suite/broken.yaml", """
models:
  tpyo:
  typo:
  range:
    variants:
      odd name!: {}
      sized: {seed: one}
  later: {sweep: {symbols.batch.mxa: [1, 2], seed: []}}
  syntax:
  nothing*:
""")
    found = refused(f"hydra.searchpath=['{folder}']", "suite=broken", "cluster=locla", "stages.export.decomose=core", "until=mhol",
                    "limits.stage_seconds=soon", "model.rang.seed=1", "model.range.factory.widht_in=3", "x=1", "x=2", "select='(a'")
    model, suite = folder / "model", folder / "suite/broken.yaml"
    expected = [
        "command line x=2: 'x=1' already sets this key",
        "command line cluster=locla: there is no cluster 'locla' (did you mean 'local'?)",
        "command line x=1: there is no key 'x'",
        "command line limits.stage_seconds: 'soon' is not a number",
        "command line stages.export.decomose: lowering.stages.export.Export has no option 'decomose' (did you mean 'decompose'?)",
        "command line until: no stage gives the level 'mhol' (did you mean 'mhlo'?)",
        "command line model.rang.seed=1: the suite has no model 'rang' (did you mean 'range'?)",
        "command line model.range.factory.widht_in: lowering.sources.mlp.MLP has no option 'widht_in' (did you mean 'width_in'?)",
        "command line select: cannot read '(a': a '(' is not closed",
        f"{suite}:3 models.tpyo: there is no model 'tpyo' (did you mean 'typo'?)",
        f"{suite}:7 models.range.variants.odd name!: 'odd name!' cannot be a folder's name",
        f"{suite}:8 models.range.variants.sized.seed: 'one' is not an integer",
        f"{suite}:9 models.later.sweep.symbols.batch.mxa: 'symbols.batch' has no key 'mxa' (did you mean 'max'?)",
        f"{suite}:9 models.later.sweep.seed: has no values",
        f"{suite}:11 models.nothing*: no model matches 'nothing*'",
        f"{model}/typo.yaml:4 inputs.features.fil: is not a known key (did you mean 'fill'?)",
        f"{model}/typo.yaml:2 factory._target_: lowering.sources.mlp.MPL: lowering.sources.mlp has no 'MPL' (did you mean 'MLP'?)",
        f"{model}/typo.yaml:4 inputs.features.dtype: 'flaot32' is not a dtype (did you mean 'float32'?)",
        f"{model}/typo.yaml:4 inputs.features.shape[0]: symbol 'bacth' is not declared (did you mean 'batch'?)",
        f"{model}/typo.yaml:4 inputs.features.shape[2]: 'a*b' multiplies two symbols",
        f"{model}/typo.yaml:6 symbols.batch: min 64 is not below max 8",
        f"{model}/typo.yaml:7 sead: is not a known key (did you mean 'seed'?)",
        f"{model}/range.yaml:6 symbols.batch.example: 3 is not an allowed size of 2 or more ([4, 64])",
        f"{model}/range.yaml:2 factory.width_uot: lowering.sources.mlp.MLP has no option 'width_uot' (did you mean 'width_out'?)",
        f"{model}/later.yaml:7 seed: is mandatory and has no value",
        f"{model}/later.yaml:8 tolerances.float32.atol: 'tight' is not a number",
        f"{model}/syntax.yaml:",
    ]
    assert not not_said(expected, found), not_said(expected, found)


@pytest.mark.parametrize(("text", "said"), [
    ("inputs: {features: {dtype: flaot32, shape: [batch, 16]}}", "features.dtype: 'flaot32' is not a dtype (did you mean 'float32'?)"),
    ("inputs: {features: {dtype: float32, shape: [bacth, 16]}}", "shape[0]: symbol 'bacth' is not declared (did you mean 'batch'?)"),
    ("inputs: {features: {dtype: float32, shape: [batch, a*b]}}", "shape[1]: 'a*b' multiplies two symbols"),
    ("inputs: {features: {dtype: float32, shape: [batch, 16], fill: rnadn}}", "'rnadn' is not one of randn, ones, zeros, arange"),
    ("symbols: {batch: {min: 8, max: 2}}", "symbols.batch: min 8 is not below max 2"),
    ("symbols: {batch: 3}", "symbols.batch: 3 is not a mapping with min, max, multiple_of, example"),
    ("factory: {_target_: lowering.sources.mpl.MLP}", "there is no module lowering.sources.mpl (did you mean 'mlp'?)"),
    ("factory: {_target_: lowering.sources.mlp.MPL}", "has no 'MPL' (did you mean 'MLP'?)"),
    ("factory: {_target_: lowering.sources.mlp.MLP, width_in: wide}", "factory.width_in: 'wide' is not an integer"),
    ("factory: {_target_: null}", "null is not a dotted path"),
    ("factory: {}", "factory: has no _target_"),
    ("seed: ${nowhere}", "'nowhere' not found"),
])
def test_a_fault_in_a_model_names_its_file(folder: Path, text: str, said: str) -> None:
    key = text.split(":")[0]
    tree = {name: value for name, value in yaml.safe_load(TINY).items() if name != key}
    file = write(folder / "model/faulty.yaml", f"{yaml.safe_dump(tree)}{text}\n")
    found = refused(f"model={file}")
    assert any(said in problem and problem.startswith(str(file)) for problem in found), found


def test_a_sweep_too_large_is_refused_before_it_is_expanded(folder: Path) -> None:
    values = ", ".join(map(str, range(2, 202)))
    write(folder / "suite/large.yaml", f"models: {{tiny: {{sweep: {{seed: [{values}], symbols.batch.max: [{values}]}}}}}}")
    (problem,) = refused(f"hydra.searchpath=['{folder}']", "suite=large")
    assert "expands to 40000 jobs" in problem
    write(folder / "suite/small.yaml", "max_jobs: 3\nmodels: {tiny: {sweep: {seed: [1, one], symbols.batch.max: [8, 0]}}}")
    found = refused(f"hydra.searchpath=['{folder}']", "suite=small")
    assert not not_said(["expands to 4 jobs (at most 3", "'one' is not an integer", "min 1 is not below max 0"], found)


def test_two_variants_of_one_name_are_refused(folder: Path) -> None:
    write(folder / "suite/twins.yaml", "models: {tiny: {variants: {a: {}, a-no: {}}, sweep: {stages.export.strict: [true, false]}}}")
    found = refused(f"hydra.searchpath=['{folder}']", "suite=twins")
    assert any("two variants would be called 'a-no-strict'" in problem for problem in found), found
    assert any("lists 2 twice" in problem for problem in refused("model=mlp", "model.mlp.seed=2,2"))


def test_an_empty_suite_or_selection_is_refused(folder: Path) -> None:
    write(folder / "suite/empty.yaml", "models: []")
    assert any("names no model" in problem for problem in refused(f"hydra.searchpath=['{folder}']", "suite=empty"))
    (problem,) = refused("model=mlp", "select=bert")
    assert "'bert' selects none of the 1 jobs (ids: mlp--default)" in problem


def test_a_wrong_setting_does_not_hide_what_else_is_wrong() -> None:
    found = refused("model=mlp", "explain=5", "model.mlp.symbols.batch.max=many")
    assert [problem.partition(":")[0] for problem in found] == ["command line explain", "command line model.mlp.symbols.batch.max"]
