"""Arguments that are trees: built from their leaves, flattened by torch, and refused where the two do not agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree
from transformers import DynamicCache, StaticCache

from lowering.eager import inputs, pytrees
from lowering.eager.arguments import assemble
from lowering.eager.module import instantiate, run_eager
from lowering.errors import LoadError
from lowering.model import Input, Model
from tests.unit.models import cache_models, nested_models


def built(model: Model) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    return instantiate(model), inputs.make(model, model.examples())


def refused(model: Model) -> list[str]:
    with pytest.raises(LoadError) as caught:
        assemble(model, *built(model))
    return [str(problem) for problem in caught.value.problems]


def test_a_tree_holds_the_leaves_and_results_are_named_alike() -> None:
    module, leaves = built(nested_models.model())
    made = assemble(nested_models.model(), module, leaves)
    assert made["state"].hidden[1] is leaves["state.hidden.1"] and made["pair"].second is leaves["pair.second"]
    assert made["batch"] == {"x": {"left": leaves["batch.x.left"], "right": None}, "mode": "double"} and made["options"] is None
    results = run_eager(module, nested_models.model(), leaves).tensors
    assert list(results) == ["shifted", "state.hidden.0", "state.hidden.1", "state.scale", "pair.0", "pair.1.0"]
    assert torch.equal(results["state.scale"], leaves["state.scale"] + 1)


def test_a_cache_has_the_layers_of_the_config_and_its_tensors_are_named() -> None:
    model = cache_models.decode()
    module, leaves = built(model)
    cache = assemble(model, module, leaves)["past_key_values"]
    assert isinstance(cache, DynamicCache) and cache.get_seq_length() == model.examples()["past"]
    assert cache.layers[1].keys is leaves["past_key_values.layers.1.keys"]
    want = module(**assemble(model, module, leaves)).past_key_values.layers[1].values
    assert torch.equal(run_eager(module, model, leaves).tensors["past_key_values.layers.1.values"], want)


class Keyless(dict[str, Any]):
    """A mapping that flattens itself without keys, as the results of diffusers do."""


pytree.register_pytree_node(Keyless, lambda made: (list(made.values()), list(made)),
                            lambda values, keys: Keyless(zip(keys, values, strict=True)))  # fmt: skip


def test_results_of_a_class_that_gives_no_keys_are_named_by_what_holds_them() -> None:
    parts = torch.ones(1), torch.ones(2), torch.ones(3)
    found = pytrees.flatten({"a": Keyless(sample=parts[0], rest=(parts[1], [parts[2]]))})
    assert [name for name, _ in found] == ["a.sample", "a.rest.0", "a.rest.1.0"]
    assert all(leaf is part for (_, leaf), part in zip(found, parts, strict=True))


def test_a_static_cache_names_the_tensors_that_are_not_declared() -> None:
    model = cache_models.decode()
    layer: dict[str, Any] = {"repeat": 2, "keys": Input("float32", ("batch", 2, 32, 8)), "values": Input("float32", ("batch", 2, 32, 8))}
    static = {"_target_": "transformers.StaticCache", "layers": layer}
    lacking = Model("static", model.factory, {**model.inputs, "past_key_values": static}, model.symbols)
    assert refused(lacking)[0] == (
        "models.static.inputs.past_key_values: the object has a tensor 'past_key_values.layers.0.cumulative_length' (int64[]) that is not "
        "declared (declare it as a leaf of this name)")
    layer["cumulative_length"] = Input("int64", (), {"constant": 5})
    whole = replace(lacking)
    cache = assemble(whole, *built(whole))["past_key_values"]
    assert isinstance(cache, StaticCache) and cache.get_max_length() == 32 and int(cache.get_seq_length()) == 5


@pytest.mark.parametrize(("changes", "said"), [
    ({"pair": {"_target_": "tests.unit.models.nested_models.Unregistered", "x": nested_models.X}},
     "inputs.pair: tests.unit.models.nested_models.Unregistered is not registered with torch's pytree"),
    ({"pair": {"_target_": "tests.unit.models.nested_models.Pear", "x": nested_models.X}},
     "inputs.pair: tests.unit.models.nested_models has no 'Pear'"),
    ({"pair": {"_target_": "tests.unit.models.nested_models.Pair", "frist": nested_models.X}},
     "inputs.pair: tests.unit.models.nested_models.Pair raised"),
    ({"pair": {"_target_": "transformers.DynamicCache", "layers": [{"kyes": nested_models.X}]}},
     "inputs.pair.layers[0].kyes: DynamicLayer has no attribute 'kyes'"),
    ({"pear": nested_models.X}, "inputs.pear: Nested.forward has no argument 'pear' (did you mean 'pair'?)"),
])
def test_a_tree_that_does_not_fit_is_refused_with_its_key(changes: dict[str, Any], said: str) -> None:
    assert refused(nested_models.model(**changes))[0].startswith(f"models.nested.{said}")


@pytest.mark.parametrize(("changes", "said"), [
    ({"state": {**nested_models.INPUTS["state"], "hidden": [nested_models.X]}},
     r"inputs\.state\.hidden: item 1 is read in nested_models\.py:\d+, and there are 1"),
    ({"batch": {"x": {"lft": nested_models.X}, "mode": None}},
     r"inputs\.batch\.x: has no key 'left', which is read in nested_models\.py:\d+ \(did you mean 'lft'\?\)"),
    ({"batch": {"x": {"left": nested_models.X}}},
     r"inputs\.batch: has no key 'mode', .*\(declare it, or correct the line; the keys are x\)"),
])
def test_a_structure_that_lacks_an_item_is_refused_with_its_key_and_the_line_that_reads_it(changes: dict[str, Any], said: str) -> None:
    model = nested_models.model(**changes)
    module, leaves = built(model)
    with pytest.raises(LoadError, match=rf"^models\.nested\.{said}"):
        run_eager(module, model, leaves)


class Unpacking(torch.nn.Module):
    def forward(self, pair: list[torch.Tensor], table: dict[str, int]) -> torch.Tensor:
        left, right = pair
        words = {"sum": table}
        return left + right + words["sums"]["by"]


@pytest.mark.parametrize(("count", "said"), [
    (1, r"models\.unpacking\.inputs\.pair: 2 items are unpacked in test_arguments\.py:\d+, and there are 1"),
    (2, r"models\.unpacking: eager raised KeyError in test_arguments\.py:\d+ at pair"),  # of a dict of the module's own
])
def test_a_list_too_short_to_unpack_is_named_and_a_structure_of_the_module_is_not(count: int, said: str) -> None:
    model = Model("unpacking", {"_target_": f"{__name__}.Unpacking"}, {"pair": Input("float32", (2,), repeat=count)}, {},
                  constants={"table": {"by": 1}})
    module, leaves = built(model)
    with pytest.raises(LoadError, match=said):
        run_eager(module, model, leaves)


def test_an_argument_without_a_default_must_be_declared() -> None:
    without = {name: tree for name, tree in nested_models.INPUTS.items() if name != "pair"}
    model = Model("nested", nested_models.model().factory, without, nested_models.SYMBOLS)
    assert refused(model) == ["models.nested.inputs: Nested.forward needs 'pair' (declare inputs.pair)"]


def test_an_entry_runs_its_method_and_an_unknown_one_is_refused() -> None:
    with pytest.raises(LoadError, match=r"models.nested.entries.step.method: Nested has no method 'forwrad'"):
        instantiate(replace(nested_models.model(), method="forwrad", entry="step"))
    with pytest.raises(LoadError, match=r"models.nested.entries.step.inputs.state: Nested.scale has no argument 'state'"):
        instantiate(replace(nested_models.model(), method="scale", entry="step"))
    stepping = replace(nested_models.model(), method="scale", inputs={"x": nested_models.X},
                       symbols={"batch": nested_models.SYMBOLS["batch"]})
    module, leaves = built(stepping)
    assert torch.equal(run_eager(module, stepping, leaves).tensors["output"], leaves["x"] * 3)
