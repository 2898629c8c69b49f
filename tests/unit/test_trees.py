"""Inputs declared as trees: the names of their leaves, their plain form, and what is wrong with one."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from lowering import trees
from lowering.fitting import find_misfits
from lowering.model import Model
from lowering.model_checks import find_problems
from lowering.plain import from_plain, to_plain
from lowering.trees import Input, Tree

TREE = """
ids: {dtype: int64, shape: [batch]}
many: {dtype: float32, shape: [batch, 3], repeat: 2}
mask: null
pair: {tuple: [{dtype: float32, shape: [batch, 2]}, null, 3]}
state:
  _target_: package.State
  hidden: [{dtype: float32, shape: [batch]}]
  layers: {repeat: 2, keys: {dtype: float32, shape: [batch, null]}, values: {dtype: float32}}
turns: {tuple: {repeat: 2, tuple: [{dtype: float32, shape: [batch]}]}}
shape: {dtype: {dtype: float32, shape: [batch]}}
"""


def declared(inputs: Any) -> Model:
    return from_plain(Model,
                      {"name": "nested", "factory": {"_target_": "a.b"}, "inputs": inputs, "symbols": {"batch": {"min": 1, "max": 4}}})


def test_leaves_are_named_by_their_paths() -> None:
    model = declared(yaml.safe_load(TREE))
    assert find_problems(model) == []
    assert list(model.leaves) == [
        "ids", "many.0", "many.1", "pair.0", "state.hidden.0", "state.layers.0.keys", "state.layers.0.values", "state.layers.1.keys",
        "state.layers.1.values", "turns.0.0", "turns.1.0", "shape.dtype",
    ]
    assert model.leaves["many.1"] == Input("float32", ("batch", 3))
    assert isinstance(model.trees["turns"], tuple) and isinstance(model.trees["turns"][0], tuple) and model.trees["pair"][1:] == (None, 3)


def test_a_tree_survives_its_plain_form() -> None:
    model = declared(yaml.safe_load(TREE))
    assert from_plain(Model, to_plain(model)) == model
    assert not list(find_misfits(Tree, to_plain(model)["inputs"]))


def test_a_problem_is_at_the_key_of_its_leaf_once_for_all_repetitions() -> None:
    layer = {"repeat": 3, "keys": {"dtype": "flaot32", "shape": ["bacth"]}}
    model = declared({"x": {"dtype": "float32", "shape": ["batch"]}, "cache": {"layers": layer}, "empty": {"list": [[]]},
                      "n": [{"dtype": "SymInt"}], "a": {"b.c": X, "b": {"c": X}}, "made": {"_target_": "State", "x": X}})
    assert [(problem.place, problem.cause) for problem in find_problems(model)] == [
        ("model.inputs.empty", "has no leaf"),
        ("model.inputs.a.b.c", "another leaf has the same name, 'a.b.c'"),
        ("model.inputs.made._target_", "'State' is not a dotted path"),
        ("model.inputs.cache.layers.keys.shape[0]", "symbol 'bacth' is not declared"),
        ("model.inputs.cache.layers.keys.dtype", "'flaot32' is not a dtype"),
        ("model.inputs.n[0].dtype", "a SymInt is a Python number, and only an argument of forward can be one"),
    ]


X = {"dtype": "float32", "shape": ["batch"]}


def test_what_is_no_tree_is_said_with_its_key() -> None:
    bad = yaml.safe_load("""
a: {dtpe: float32, shape: [2]}
b: [{dtype: float32, shap: [2]}]
c: 3
d: {x: {dtype: 3}}
e: {tuple: 3}
f: {repeat: 0, x: {dtype: float32}}
g: {}
h: {_target_: 3, x: {dtype: float32}}
i: {dtype: float32, repeat: -1}
""")
    found = [(".".join(map(str, misfit.keys)), misfit.cause, misfit.fix) for name in bad
             for misfit in find_misfits(Tree, bad[name], (name,))]
    assert found == [
        ("a.dtpe", "is not a known key", "did you mean 'dtype'?"), ("a.dtype", "is missing", "a string"),
        ("b.0.shap", "is not a known key", "did you mean 'shape'?"),
        ("c", "3 is neither a tensor nor a structure", "a leaf has a dtype and a shape; constants go under constants"),
        ("d.x.dtype", "3 is not a string", ""),
        ("e", "is neither a tuple nor a mapping", "a tuple is {tuple: [first, second]}"),
        ("f.repeat", "0 is not a count", "write how many times, 1 to 10000"),
        ("g", "is empty", "a leaf has a dtype and a shape; for no value, write null"),
        ("h._target_", "3 is not a dotted path", "write package.module.Class"),
        ("i.repeat", "-1 is not a count", "write how many times, 1 to 10000"),
    ]


def test_a_repetition_that_a_record_has_is_bounded() -> None:
    with pytest.raises(ValueError, match="1000000000 is not a count"):
        trees.expand(Input("float32", (1,), repeat=10**9), "x", "inputs.x")
