"""Example inputs, seeded modules, and eager results by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch.utils import _pytree as pytree

from lowering.eager import inputs, outputs
from lowering.eager.module import instantiate, run_eager
from lowering.errors import LoadError
from lowering.model import EXAMPLES, Input, Model, Symbol
from lowering.model_checks import find_problems
from lowering.trees import FILLS, Fill

LINEAR = {"_target_": "torch.nn.Linear", "in_features": 16, "out_features": 4}
MODEL = Model("linear", LINEAR, {"input": Input("float32", ("batch", 16))}, {"batch": Symbol(1, 64)})


def one(dtype: str, fill: Fill | None, *shape: int, seed: int = 0) -> torch.Tensor:
    model = Model("one", LINEAR, {"x": Input(dtype, shape, fill)}, seed=seed)
    assert find_problems(model) == []
    return inputs.make(model, {})["x"]


def test_equal_seed_name_and_shape_give_equal_inputs() -> None:
    assert torch.equal(inputs.make(MODEL, {"batch": 7})["input"], inputs.make(MODEL, {"batch": 7})["input"])
    assert not torch.equal(inputs.make(MODEL, {"batch": 7})["input"], inputs.make(MODEL, {"batch": 7}, seed=1)["input"])
    assert not torch.equal(inputs.make(MODEL, {"batch": 7})["input"], inputs.make(replace(MODEL, seed=1), {"batch": 7})["input"])


def test_inputs_of_the_same_shape_differ_by_name_and_do_not_depend_on_their_order() -> None:
    first, second = Input("float32", (3, 16)), Input("float32", (3, 16))
    made = inputs.make(replace(MODEL, inputs={"a": first, "b": second}, symbols={}), {})
    swapped = inputs.make(replace(MODEL, inputs={"b": second, "a": first}, symbols={}), {})
    assert not torch.equal(made["a"], made["b"])
    assert torch.equal(made["a"], swapped["a"]) and torch.equal(made["b"], swapped["b"])


def test_making_inputs_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    instantiate(MODEL)
    inputs.make(MODEL, {"batch": 3})
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float32", None), ("bfloat16", None), ("complex64", None), ("bool", 1), ("int64", 0), ("uint8", 0)]
)
def test_a_dtype_has_its_default_fill(dtype: str, expected: int | None) -> None:
    made = one(dtype, None, 4, 5)
    assert str(made.dtype) == f"torch.{dtype}"
    assert bool((made == expected).all()) if expected is not None else bool(made.to(torch.complex64).std() > 0.3)


@pytest.mark.parametrize(
    ("fill", "low", "high"), [({"randint": [3, 6]}, 3, 5), ({"constant": 4}, 4, 4), ("ones", 1, 1), ("zeros", 0, 0), ("arange", 0, 49)]
)
def test_int_fills_stay_in_their_range(fill: Fill, low: int, high: int) -> None:
    made = one("int32", fill, 20, 50)
    assert made.dtype == torch.int32
    assert (int(made.min()), int(made.max())) == (low, high)


def test_float_fills() -> None:
    made = one("float64", {"uniform": [-2, 3]}, 400)
    assert -2 <= float(made.min()) < -1.5 and 2.5 < float(made.max()) < 3
    assert float(one("float64", {"constant": 0.1}, 1)) == 0.1
    assert one("float8_e4m3fn", "ones", 2).dtype == torch.float8_e4m3fn


def test_padding_is_a_mask_of_leading_ones_of_several_lengths() -> None:
    made = one("int64", "padding", 16, 24)
    lengths = made.sum(-1)
    assert torch.equal(made, (torch.arange(24) < lengths[:, None]).long())
    assert int(lengths.min()) >= 1 and len(lengths.unique()) > 3
    assert one("bool", "padding", 3, 1).all()
    assert one("bool", "padding", 3, 0).shape == (3, 0)


def test_every_fill_that_a_model_may_name_can_be_made() -> None:
    values: dict[str, Any] = {"randint": [0, 2], "uniform": [0, 1], "constant": 2}
    for name in FILLS:
        fill: Any = {name: values[name]} if name in values else name
        assert one("float32", fill, 3, 4).shape == (3, 4)


def test_shapes_follow_symbols_expressions_and_flexible_dims() -> None:
    declared = {"x": Input("float32", ("batch", "2*seq + 1", 3, None)), "y": Input("float32", (None,))}
    model = Model("shapes", LINEAR, declared, {"batch": Symbol(), "seq": Symbol()})
    flexible = inputs.choose_flexible_sizes(model)
    assert list(flexible) == ["x[3]", "y[0]"]
    assert len(set(flexible.values())) == 2 and not set(flexible.values()) & set(EXAMPLES)
    assert inputs.compute_shapes(model, {"batch": 2, "seq": 4}) == {"x": (2, 9, 3, flexible["x[3]"]), "y": (flexible["y[0]"],)}
    assert inputs.compute_shapes(model, {"batch": 2, "seq": 4, "x[3]": 6})["x"] == (2, 9, 3, 6)


def test_sizes_that_do_not_fit_the_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"missing \['batch'\], unknown \['bacth'\]"):
        inputs.make(MODEL, {"bacth": 3})


def test_a_module_is_seeded_and_in_eval_mode() -> None:
    first, again, other = (cast("torch.nn.Linear", instantiate(replace(MODEL, seed=seed))) for seed in (0, 0, 1))
    assert not first.training
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize(
    ("factory", "cause"),
    [
        ({"_target_": "torch.nn.Linear", "in_features": 16}, "raised TypeError"),
        ({"_target_": "torch.nn.Linaer"}, "has no 'Linaer'"),
        ({"_target_": "torch.nn.functional.relu", "input": 3}, "raised TypeError"),
        ({"_target_": "builtins.dict"}, "returned a dict"),
        ({}, "returned a dict"),
    ],
)
def test_a_factory_that_gives_no_module_is_a_load_error_that_names_it(factory: dict[str, Any], cause: str) -> None:
    with pytest.raises(LoadError) as raised:
        instantiate(replace(MODEL, factory=factory))
    assert cause in str(raised.value)
    assert f"models.linear.factory ({factory.get('_target_', 'no _target_')})" in str(raised.value)


def test_eager_that_fails_names_the_shapes_and_the_cause() -> None:
    model = replace(MODEL, inputs={"input": Input("float32", ("batch", 8))})
    with pytest.raises(LoadError, match=r"(?s)models.linear.*input: \(3, 8\).*shapes cannot be multiplied"):
        run_eager(instantiate(model), model, inputs.make(model, {"batch": 3}))


class Nested(torch.nn.Module):
    """Returns a nest of tensors and None; `twice` is a constant."""

    def forward(self, x: torch.Tensor, twice: bool = False) -> dict[str, Any]:
        return {"scaled": x * 2 if twice else x, "none": None, "pair": (x, [x + 1])}


def test_outputs_are_named_by_their_path_and_constants_reach_forward() -> None:
    model = Model("nested", {"_target_": f"{__name__}.Nested"}, {"x": Input("float32", (2,))}, constants={"twice": True})
    made = inputs.make(model, {})
    got = run_eager(instantiate(model), model, made)
    assert list(got.leaves) == ["scaled", "none", "pair.0", "pair.1.0"]
    assert list(got.tensors) == ["scaled", "pair.0", "pair.1.0"]
    assert torch.equal(got.leaves["scaled"], 2 * made["x"])
    assert pytree.tree_unflatten(list(got.leaves.values()), got.spec)["none"] is None


@pytest.mark.parametrize(("returned", "names"), [(1, ["output"]), ((1, 2), ["0", "1"]), ([{"a": 1}], ["0.a"])])
def test_leaf_names(returned: Any, names: list[str]) -> None:
    assert outputs.name_leaves(pytree.tree_structure(returned)) == names


def test_a_lone_output_is_called_output() -> None:
    got = run_eager(torch.nn.Identity(), MODEL, inputs.make(MODEL, {"batch": 2}))
    assert list(got.leaves) == ["output"]


@pytest.mark.parametrize(
    ("symbols", "sizes"),
    [
        ({"a": Symbol(1, 64), "b": Symbol(1, 64)}, [5, 7]),
        ({"a": Symbol(32, 256), "b": Symbol(32, 256), "c": Symbol(32, 256)}, [37, 41, 43]),
        ({"a": Symbol(64, 256, multiple_of=32), "b": Symbol(64, 256, multiple_of=32)}, [160, 224]),
        ({"a": Symbol(0, 3), "b": Symbol(0, 2)}, [3, 2]),
        ({"a": Symbol(8, 9), "b": Symbol(8, 9), "c": Symbol(8, 9)}, [8, 9, 8]),
        ({"a": Symbol(1, 64, example=6), "b": Symbol(1, 64)}, [6, 5]),
    ],
)
def test_traced_sizes_are_distinct_primes_where_the_ranges_have_them(symbols: dict[str, Symbol], sizes: list[int]) -> None:
    model = Model("sizes", LINEAR, {"x": Input("float32", tuple(symbols))}, symbols)
    assert find_problems(model) == []
    assert list(model.examples().values()) == sizes


def test_a_derived_dim_that_cannot_be_traced_is_a_problem() -> None:
    def problems(dim: str, symbol: Symbol) -> str:
        return "\n".join(map(str, find_problems(Model("sizes", LINEAR, {"x": Input("float32", (dim,))}, {"n": symbol}), "m")))

    assert problems("n - 1", Symbol(1, 64)) == ""
    assert "m.inputs.x.shape[0]: 'n - 2' is below 0 at n = 1" in problems("n - 2", Symbol(1, 64))
    assert "'n - 1' is below 2 at the traced size n = 2" in problems("n - 1", Symbol(1, 64, example=2))


@pytest.mark.parametrize(
    ("dtype", "fill", "cause"),
    [
        ("int64", "randn", "randn needs a floating dtype"),
        ("bool", {"uniform": [0, 1]}, "uniform needs a floating dtype"),
        ("int64", "constant", "constant takes a single number"),
        ("int64", {"ones": 3}, "ones takes no value"),
        ("int64", {"randint": [5, 5]}, "randint takes [low, high]"),
        ("int64", "pading", "'pading' is not a fill"),
    ],
)
def test_a_fill_that_cannot_be_made_is_a_problem(dtype: str, fill: Any, cause: str) -> None:
    problems = find_problems(Model("fills", LINEAR, {"x": Input(dtype, (3,), fill)}), "m")
    assert [problem.place for problem in problems] == ["m.inputs.x.fill"] and cause in str(problems[0])
