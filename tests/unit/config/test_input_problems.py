"""What is wrong with the inputs of a model: trees of leaves, their classes, and overrides of their items."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.config.plan import plan
from tests.unit.config.configurations import TINY, not_said, refused, write


def test_a_leaf_has_no_parts(folder: Path) -> None:
    write(folder / "model/nested.yaml",
          TINY.replace("features: {dtype", "features: {part: {dtype: float32, shape: [batch]}, fil: {randint: [0, 3]}, dtype"))
    found = refused(f"hydra.searchpath=['{folder}']", "model=nested")
    assert not_said(["inputs.features.part: is not a known key (known: dtype, shape, fill",
                     "inputs.features.fil: is not a known key (did you mean 'fill'?)"], found) == ""


def test_a_tree_of_inputs_is_checked_leaf_by_leaf(folder: Path) -> None:
    write(folder / "model/tree.yaml", """
factory: {_target_: lowering.sources.mlp.MLP, width_in: 16, width_hidden: 4, width_out: 2}
inputs:
  features:
    _target_: tests.unit.models.nested_models.State
    hidden:
      - {dtype: float32, shape: [bacth]}
      - {dtype: float32, shap: [batch]}
    sacle: {dtype: float32, shape: [batch]}
  cache: {_target_: transformers.DynamicCach, layers: [{dtype: float32, shape: [batch]}]}
symbols: {batch: {min: 1, max: 64}}
""")
    found = refused(f"hydra.searchpath=['{folder}']", "model=tree")
    file = folder / "model/tree.yaml"
    assert not_said([f"{file}:7 inputs.features.hidden[0].shape[0]: symbol 'bacth' is not declared (did you mean 'batch'?)",
                     f"{file}:8 inputs.features.hidden[1].shap: is not a known key (did you mean 'shape'?)",
                     (f"{file}:9 inputs.features.sacle: tests.unit.models.nested_models.State has no argument 'sacle' "
                      "(did you mean 'scale'?)"),
                     f"{file}:4 inputs.features: tests.unit.models.nested_models.State needs 'scale'",
                     f"{file}:10 inputs.cache._target_: transformers.DynamicCach: "], found) == ""


def test_leaves_are_overridden_by_their_keys(folder: Path) -> None:
    model = TINY.replace("lowering.sources.mlp.MLP, width_in: 16, width_hidden: 32, width_out: 8",
                         "tests.unit.models.nested_models.Inheriting")
    cache = "  cache: {layers: {repeat: 2, keys: {dtype: float32, shape: [batch, 4]}}}\n"
    write(folder / "model/cached.yaml", model.replace("symbols:", f"{cache}symbols:"))
    path = f"hydra.searchpath=['{folder}']"
    job = plan([path, "model=cached", "model.inputs.cache.layers.repeat=5", "model.inputs.cache.layers.keys.fill=ones"]).jobs[0]
    assert job["model"]["inputs"]["cache"]["layers"]["repeat"] == 5 and job["model"]["inputs"]["cache"]["layers"]["keys"]["fill"] == "ones"
    assert not_said(["'inputs.cache.layers.keys' has no key 'fil' (did you mean 'fill'?)"],
                    refused(path, "model=cached", "model.inputs.cache.layers.keys.fil=ones")) == ""


NESTED = """
factory: {_target_: tests.unit.models.nested_models.Nested}
inputs:
  state: {_target_: tests.unit.models.nested_models.State,
          hidden: [{dtype: float32, shape: [batch, 4]}, {dtype: float32, shape: [batch, 4]}], scale: {dtype: float32, shape: []}}
  batch: {x: {left: {dtype: float32, shape: [batch, 4]}, right: null}, mode: double}
  pair: {tuple: [{dtype: float32, shape: [3], repeat: 2}, {dtype: float32, shape: [2]}]}
symbols: {batch: {min: 1, max: 8}}
"""


@pytest.mark.parametrize(("old", "new", "said"), [
    ("  pair:", "  pear:",
     "nested.yaml:7 inputs.pear: tests.unit.models.nested_models.Nested.forward has no argument 'pear' (did you mean 'pair'?)"),
    ("  pair:", "  pear:", "nested.yaml:3 inputs: tests.unit.models.nested_models.Nested.forward needs 'pair' (declare inputs.pair)"),
    ("models.State", "models.Stat", "nested_models has no 'Stat' (did you mean 'State'?)"),
    ("tests.unit.models.nested_models.State", "transformers.DynamicCach",
     "transformers has no 'DynamicCach' (did you mean 'DynamicCache'?)"),
    ("tests.unit.models.nested_models.State", "transfomers.DynamicCache", "can be imported (did you mean 'transformers'?)"),
    ("tests.unit.models.nested_models.State", "zyzzyva.Cache", "add the folder of zyzzyva.py to PYTHONPATH"),
    ("tests.unit.models.nested_models.State", "json.Zyzzyva",
     "json has no 'Zyzzyva' (is it in the version of json that is installed here?)"),
])
def test_a_structure_that_does_not_fit_the_code_is_refused_with_its_line_and_a_fix(folder: Path, old: str, new: str, said: str) -> None:
    found = refused(f"model={write(folder / 'model/nested.yaml', NESTED.replace(old, new, 1))}")
    assert any(said in problem for problem in found), found


def test_arguments_are_checked_before_a_run_only_where_the_class_shows_them(folder: Path) -> None:
    """A decorator, a base class or an assignment may change what a call takes: the module is checked once it is built."""
    file = write(folder / "model/nested.yaml", NESTED.replace("nested_models.Nested", "nested_models.Inheriting"))
    assert len(plan([f"model={file}"]).jobs) == 1


@pytest.mark.parametrize(("override", "said"), [
    ("inputs.state.hidden[1].fill=ones", "an index is a key: model.nested.inputs.state.hidden.1.fill=ones"),
    ("inputs.state.hidden.2.fill=ones", "'inputs.state.hidden' is a list of 2 items and has no '2' (write an index from 0 to 1)"),
    ("inputs.state.hidden.first.fill=ones", "has no 'first' (write an index from 0 to 1)"),
    ("inputs.state.hidden.1.fil=ones", "'inputs.state.hidden[1]' has no key 'fil' (did you mean 'fill'?)"),
    ("inputs.state.hidden.1.shape.0=bacth", "inputs.state.hidden[1].shape[0]: symbol 'bacth' is not declared (did you mean 'batch'?)"),
    ("inputs.pair.tuple.0.0.fill=ones", "'inputs.pair.tuple[0]' is repeated, and its items are alike (leave out the index 0"),
    ("symbols.batch.max.x=3", "'symbols.batch.max' is 8, not a mapping (set all of it: model.nested.symbols.batch.max=…)"),
])
def test_an_override_of_an_item_that_is_not_there_is_refused_with_a_fix(folder: Path, override: str, said: str) -> None:
    (problem,) = refused(f"model={write(folder / 'model/nested.yaml', NESTED)}", f"model.nested.{override}")
    assert said in problem


def test_an_override_sets_or_drops_keys_of_an_item_of_a_list_and_leaves_the_others(folder: Path) -> None:
    file = write(folder / "model/nested.yaml", NESTED)
    first, second = "model.nested.inputs.state.hidden.0", "model.nested.inputs.state.hidden.1"
    (job,) = plan([f"model={file}", f"{second}.fill=ones", f"+{first}.shape.1=4", f"~{first}.shape"]).jobs
    hidden = job["model"]["inputs"]["state"]["hidden"]
    assert (hidden[0]["fill"], hidden[1]["fill"], hidden[0]["shape"], hidden[1]["shape"]) == (None, "ones", [], ["batch", 4])
    assert [job["model"]["inputs"]["state"]["hidden"][1]["fill"] for job in plan([f"model={file}", f"{second}.fill=ones,zeros"]).jobs] == [
        "ones", "zeros"]
    (problem,) = refused(f"model={file}", f"~{second}")
    assert problem.endswith(
        f"an item of the list 'inputs.state.hidden' cannot be removed (write the others: {second.removesuffix('.1')}=[…])")
