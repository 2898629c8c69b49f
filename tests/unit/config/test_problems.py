"""What is wrong with a configuration: all of it at once, each with its file, line and near miss."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flows.config.expansion import job_id
from flows.config.plan import plan
from tests.unit.config.configurations import TINY, not_said, refused, write


def test_all_problems_are_reported_at_once_with_file_line_and_near_miss(folder: Path) -> None:
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
        "command line until: no stage produces the level 'mhol' (did you mean 'mhlo'?)",
        "command line model.rang.seed=1: the suite has no model 'rang' (did you mean 'range'?)",
        "command line model.range.factory.widht_in: lowering.sources.mlp.MLP has no option 'widht_in' (did you mean 'width_in'?)",
        "command line select: cannot parse '(a': a '(' is not closed",
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
        f"{model}/typo.yaml:6 symbols.batch: min 64 is above max 8",
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
    ("symbols: {batch: {min: 8, max: 2}}", "symbols.batch: min 8 is above max 2"),
    ("symbols: {batch: 3}", "symbols.batch: 3 is not a mapping with min, max, multiple_of, example"),
    ("factory: {_target_: lowering.sources.mpl.MLP}", "there is no module lowering.sources.mpl (did you mean 'mlp'?)"),
    ("factory: {_target_: lowering.sources.mlp.MPL}", "has no 'MPL' (did you mean 'MLP'?)"),
    ("factory: {_target_: lowering.sources.mlp.MLP, width_in: wide}", "factory.width_in: 'wide' is not an integer"),
    ("factory: {_target_: null}", "null is not a dotted path"),
    ("factory: {}", "factory: has no _target_"),
    ("constants: {features: 3}", "constants.features: is an input too (remove one of the two)"),
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
    assert not not_said(["expands to 4 jobs (at most 3", "'one' is not an integer", "min 1 is above max 0"], found)


def test_two_variants_of_one_name_are_refused(folder: Path) -> None:
    write(folder / "suite/twins.yaml", "models: {tiny: {variants: {a: {}, a-no: {}}, sweep: {stages.export.strict: [true, false]}}}")
    found = refused(f"hydra.searchpath=['{folder}']", "suite=twins")
    assert any("two variants would have the name 'a-no-strict'" in problem for problem in found), found
    assert any("lists 2 twice" in problem for problem in refused("model=mlp", "model.mlp.seed=2,2"))


def test_an_empty_suite_or_selection_is_refused(folder: Path) -> None:
    write(folder / "suite/empty.yaml", "models: []")
    assert any("is empty: the suite has no models" in problem for problem in refused(f"hydra.searchpath=['{folder}']", "suite=empty"))
    (problem,) = refused("model=mlp", "select=bert")
    assert "'bert' selects none of the 1 jobs (ids: mlp--default)" in problem


def test_a_wrong_setting_does_not_hide_what_else_is_wrong() -> None:
    found = refused("model=mlp", "explain=5", "model.mlp.symbols.batch.max=many")
    assert [problem.partition(":")[0] for problem in found] == ["command line explain", "command line model.mlp.symbols.batch.max"]


@pytest.mark.parametrize(("overrides", "said"), [
    (["model=mlp", "cluster.workers=-1"], "command line cluster.workers: -1 is not 1 or more"),
    (["model=mlp", "cluster.workers=0"], "command line cluster.workers: 0 is not 1 or more"),
    (["model=mlp", "limits.stage_seconds=0"], "command line limits.stage_seconds: 0 is not more than 0"),
    (["model=mlp", "limits.retries=-1"], "command line limits.retries: -1 is not 0 or more"),
    (["model=mlp", "cluster.memory_bytes=0"], "command line cluster.memory_bytes: 0 is not 1048576 or more"),
    (["model=mlp", f"model.mlp.seed={1 << 64}"], "command line model.mlp.seed: 18446744073709551616 does not fit into 64 bits"),
    (["model=mlp", f"model.mlp.seed={-(1 << 63) - 1}"], "does not fit into 64 bits"),
    (["suit=quickstart"], "command line suit=quickstart: there is no key 'suit' (did you mean 'suite'?)"),
    (["modle=mlp"], "command line modle=mlp: there is no key 'modle' (did you mean 'model'?)"),
    (["workers=1"], "command line workers=1: there is no key 'workers' (did you mean 'cluster.workers'?)"),
    (["model=mlp", "ouput=x"], "did you mean 'output'?"),
    (["model=./epoch=3-step=7.yaml"], "quote the value, for Hydra and the shell: \"model='./epoch=3-step=7.yaml'\""),
    (["model=./epoch=3-step=7.yaml"], "has characters with a special meaning in Hydra's grammar"),
    (["model=./x#1.yaml"], "quote the value, for Hydra and the shell: \"model='./x#1.yaml'\""),
    (["model=./it's $5.yaml"], r"""quote the value, for Hydra and the shell: 'model='"'"'./it\'"'"'s $5.yaml'"'"''"""),
    (["model=[mlp"], "write an override as key=value, +key=value or ~key"),
])
def test_a_value_that_cannot_be_is_refused_with_what_would_do(overrides: list[str], said: str) -> None:
    (problem,) = refused(*overrides)
    assert said in problem


@pytest.mark.parametrize("override", ["cluster.workers=1", "limits.retries=0", "limits.memory_bytes=null", "limits.compress_bytes=0",
                                      f"model.mlp.seed={(1 << 64) - 1}", f"model.mlp.seed={-(1 << 63)}"])
def test_the_least_and_the_last_value_are_accepted(override: str) -> None:
    assert plan(["model=mlp", override]).jobs


def test_a_name_that_is_too_long_is_refused_with_the_limit(folder: Path) -> None:
    write(folder / f"model/{'a' * 121}.yaml", TINY)
    write(folder / f"model/{'b' * 120}.yaml", TINY)
    write(folder / "suite/mine.yaml", f"models:\n  {'a' * 121}:\n  {'b' * 120}:\n")
    found = refused(f"hydra.searchpath=['{folder}']", "suite=mine")
    assert [problem.split(": ", 1)[1] for problem in found] == [
        f"'{'a' * 20}…{'a' * 10}' has 121 characters (shorten it to 120: it is a folder's name)",
    ]


def test_keys_of_a_model_whose_name_has_dots(folder: Path) -> None:
    write(folder / "model/tiny.v1.2.yaml", TINY)
    choice = [f"hydra.searchpath=['{folder}']", "model=tiny,tiny.v1.2"]
    found = plan([*choice, "model.tiny.v1.2.symbols.batch.max=4,8", "model.tiny.symbols.batch.max=16"])
    assert [(job_id(job), job["model"]["symbols"]["batch"]["max"]) for job in found.jobs] == [
        ("tiny--default", 16), ("tiny.v1.2--batch4", 4), ("tiny.v1.2--batch8", 8)]
    assert plan(found.overrides).jobs == found.jobs
    assert "'v1'" in refused(*choice, "model.v1.2.symbols.batch.max=4")[0]


def test_a_source_is_read_by_its_coding_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    text = "NAME = 'größe'\nfrom lowering.sources.mlp import MLP\ndef build(width: int) -> MLP:\n    return MLP(width, 8, 8)\n"
    (folder / "latin.py").write_bytes(f"# -*- coding: latin-1 -*-\n{text}".encode("latin-1"))
    (folder / "broken.py").write_bytes(text.encode("latin-1"))
    for name, target in (("good", "latin.build"), ("bad", "broken.build")):
        write(folder / f"model/{name}.yaml", "\n".join(["", f"factory: {{_target_: {target}, width: 16}}", *TINY.splitlines()[2:]]))
    assert plan([f"hydra.searchpath=['{folder}']", "model=good"]).jobs
    (problem,) = refused(f"hydra.searchpath=['{folder}']", "model=bad")
    assert "broken.build: broken has a syntax error" in problem


def test_annotations_are_read_and_never_evaluated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    (folder / "noted.py").write_text("""
from collections.abc import Mapping
from typing import Literal, Optional
def build(width: "int | None", kind: Literal["a", 2], sizes: tuple[int, ...], names: Mapping[str, Optional[bool]], *,
          mark: open("made", "w")):
    raise AssertionError("only planned")
""")
    inputs = "\n".join(TINY.splitlines()[2:])
    write(folder / "model/good.yaml",
          f"factory: {{_target_: noted.build, width: null, kind: 2, sizes: [1, 2], names: {{x: null}}, mark: 1}}\n{inputs}")
    write(folder / "model/bad.yaml",
          f"factory: {{_target_: noted.build, width: x, kind: b, sizes: [1, x], names: {{x: 3}}, mark: [1]}}\n{inputs}")
    assert plan([f"hydra.searchpath=['{folder}']", "model=good"]).jobs
    found = refused(f"hydra.searchpath=['{folder}']", "model=bad")
    assert not_said(["factory.width: 'x' is not an integer or null", "factory.kind: 'b' is not one of a, 2",
                     "factory.sizes[1]: 'x' is not an integer", "factory.names.x: 3 is not true or false or null"], found) == ""
    assert len(found) == 4
    assert not (folder / "made").exists()
