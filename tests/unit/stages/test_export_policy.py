"""`stages.export.policy`: what torch refuses as declared is deferred and proved, or asserted; branches at sizes of 0 and 1 too."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import shapeline
from lowering.level import Level, Program
from lowering.model import Model, Symbol
from lowering.numerics.verification import Verification
from lowering.numerics.verifier import Settings, verify
from lowering.stages.export import Export
from lowering.symbols.levels import list_assertions
from tests.unit.models import cache_models, rounding_nets
from tests.unit.models import policy_models as models
from tests.unit.stages.exports import exported, failure, guards, lowered

N8, M16 = Symbol(1, 8), Symbol(2, 16)


def verified(program: Program) -> Verification:
    """The comparison with eager, which must agree at four sizes or more, and refuse what is outside."""
    found, _ = verify(program, Settings(levels=(Level.EXPORTED, Level.MHLO)))
    assert len(found.points) >= 4 and not (found.mismatches or found.failures or found.answers.accepted)
    return found


def scalar_assertions(program: Program) -> list[Any]:
    above = program.at(Level.EXPORTED)
    assert above is not None
    return [node for node in above.ir.graph.nodes if node.target is torch.ops.aten._assert_scalar.default]


@pytest.mark.parametrize(("model", "attempt"), [
    (models.model(models.Halved, {"n": N8, "h": Symbol(8, 40)}, x=("n", 3, "h")), "deferred"),
    (models.model(models.Slices, {"n": N8, "m": M16}, x=("n", "m")), "oblivious"),
    (models.model(models.TopOfSize, {"n": N8, "m": Symbol(5, 64)}, x=("n", "m")), "deferred"),
    (models.model(models.Windows, {"n": Symbol(1, 64)}, x=("n",)), "deferred"),
], ids=lambda value: value if isinstance(value, str) else value.name)
def test_what_holds_for_all_sizes_is_proved_and_not_asserted(model: Model, attempt: str) -> None:
    program, notes = lowered(model)
    assert notes.policy.startswith(f"exported as {attempt} in ") and "declared refused: the code needs " in notes.policy
    assert "guard_within_range" not in notes.said
    assert guards(program) == () and not scalar_assertions(program)
    verified(program)


def test_what_is_too_much_to_try_is_proved_by_its_normal_form() -> None:
    wide = {"b": Symbol(1, 4096), "h": Symbol(8, 4096), "w": Symbol(8, 4096)}
    program, notes = exported(models.model(models.ImageWindows, wide, x=("b", 3, "h", "w")), Export(policy=("deferred",), archive=False))
    products = [guard for guard in guards(program) if "==" in guard or ">=" in guard]
    assert products == [] and "guard_within_range" not in notes.said
    assert sum(one["proved"] for one in notes.symbols["attempts"]) > 3


def test_slices_that_are_longer_than_the_least_size() -> None:
    program, notes = lowered(models.model(models.Heads, {"n": N8}, x=("n", 3)))
    assert notes.policy.startswith("exported as oblivious") and "declared takes only n >= 2" in notes.policy
    assert guards(program) == () and not verified(program).declined
    program, notes = exported(models.model(models.First, {"n": Symbol(0, 8)}, x=("n", 3)))  # torch takes size 0 for 1
    assert guards(program) == ("n >= 1",) and "guard_within_range" in notes.said


@pytest.mark.parametrize("kind", rounding_nets.NETS)
def test_nets_whose_sizes_round_up(kind: type[torch.nn.Module]) -> None:
    program, notes = lowered(rounding_nets.net(kind))
    assert "guard_within_range" not in notes.said
    verified(program)


def test_a_decode_step_takes_a_cache_of_any_length() -> None:
    program, notes = lowered(cache_models.decode())
    assert "guard_within_range" not in notes.said and not scalar_assertions(program)
    assert program.signature is not None
    grown = {result.name: result.dims for result in program.signature.results}
    assert grown["past_key_values.layers.1.values"] == ("batch", 2, "past + 1", 8)
    verified(program)


def test_guards_on_derived_dims_refuse_no_size_that_the_code_takes() -> None:
    model = models.model(models.Patches, {"n": Symbol(4, 64, multiple_of=4)}, x=(2, "n", 3))
    program, notes = lowered(model)
    assert notes.policy.startswith("exported as oblivious") and "declared takes only n // 4 != 1" in notes.policy
    assert guards(program) == () and "guard_within_range" not in notes.said
    assert not verified(program).declined
    _, notes = exported(model, Export(policy=("declared",)))
    assert any("symbols: {n: {min: 8, max: 64, multiple_of: 4}}" in message for message in notes.said["part_of_ranges"])


def test_a_guard_of_a_module_with_weights_is_compared() -> None:
    dims = {"input": {2: "h", 3: "w", 4: "d"}}
    program = shapeline.lower(torch.nn.Conv3d(1, 1, 2), (torch.randn(1, 1, 5, 6, 7),), dynamic_shapes=dims,
                              symbols=dict.fromkeys("hwd", (2, 9)), until="exported")  # fmt: skip
    assert not program.signature.guards


def test_the_first_attempt_that_succeeds_is_the_last() -> None:
    _, notes = exported(models.model(models.Sum, {"n": N8}, x=("n",), y=("n",)))
    assert notes.policy == ""


@pytest.mark.parametrize("weights", ["random", "none"])
def test_a_trace_caches_no_results_of_ops(weights: Literal["random", "none"]) -> None:
    before = FakeTensorMode.cache_info().size
    exported(models.model(models.Sum, {"n": N8}, weights=weights, x=("n",), y=("n",)))
    assert FakeTensorMode.cache_info().size == before


def test_one_attempt_can_be_fixed() -> None:
    model = models.model(models.Slices, {"n": N8, "m": M16}, x=("n", "m"))
    assert "3 <= m" in failure(model, Export(policy=("declared",), explain=False))
    assert "3 <= m" in failure(model, Export(policy=("deferred",), explain=False))
    _, notes = exported(model, Export(policy=("oblivious",)))
    assert notes.policy == ""


def test_what_holds_for_some_sizes_is_asserted_in_the_authors_words() -> None:
    program, notes = lowered(models.model(models.Pairs, {"n": Symbol(2, 65, example=6)}, x=("n",)))
    assert "n % 2 == 0" in guards(program)
    assert "the exported program needs n % 2 == 0" in list_assertions(program.ir)
    assert any(message.startswith("n % 2 == 0 does not hold at n=3 (") for message in notes.said["guard_within_range"])
    assert scalar_assertions(program)
    found = verified(program)
    assert any("n % 2 == 0" in refused for refused in (*found.answers.refused, *found.declined))


def test_a_branch_that_some_sizes_take_narrows_the_range() -> None:
    model = models.model(models.LongerThanThree, {"n": Symbol(1, 24)}, x=("n", 3))
    program, notes = lowered(model)
    assert notes.policy.startswith("exported as auto") and set(guards(program)) == {"n <= 20", "n > 3"}
    assert "symbols: {n: {min: 4, max: 20}}" in notes.said["part_of_ranges"][0]
    place = "tests/unit/models/policy_models.py:"
    assert any(message.startswith(f"n > 3 does not hold at n=1 ({place}") for message in notes.said["guard_within_range"])
    assert {refused for _, refused in verified(program).declined} == {"n <= 20", "n > 3"}
    assert {"the exported program needs n <= 20", "the exported program needs n > 3"} <= set(list_assertions(program.ir))


def test_a_loop_over_a_size_takes_its_range_and_warns_of_no_weaker_condition() -> None:
    program, notes = lowered(models.model(models.Doubles, {"n": Symbol(2, 64, example=7)}, x=("n", 3)))
    assert guards(program) == ("n > 4", "n <= 8")
    assert "symbols: {n: {min: 5, max: 8}}" in notes.said["part_of_ranges"][0]
    assert [message.partition(" does")[0] for message in notes.said["guard_within_range"]] == ["n > 4", "n <= 8"]
    assert {one["text"]: one["holds"] for one in notes.symbols["relations"]}["n > 2"] == "implied"


@pytest.mark.parametrize(("model", "asks"), [
    (models.model(models.Groups, {"n": Symbol(4, 24, multiple_of=4)}, x=("n", 3)), True),
    (models.model(models.Written, {"n": N8}, cache=(2, 8, 3), rows=(2, "n", 3)), False),
], ids=lambda value: value.name if isinstance(value, Model) else "")
def test_a_condition_on_which_no_number_depends_refuses_nothing(model: Model, asks: bool) -> None:
    program, notes = exported(model, Export(policy=("oblivious",), archive=False))
    assert guards(program) == () and not scalar_assertions(program)
    assert not notes.said.keys() & {"guard_within_range", "part_of_ranges"}
    assert any(one["holds"] == "compared" for one in notes.symbols["relations"]) == asks
    found, _ = verify(program, Settings(levels=(Level.EXPORTED,)))
    assert not (found.mismatches or found.failures or found.declined)


def test_a_branch_that_is_wrong_at_one_is_asserted() -> None:
    program, notes = lowered(models.model(models.BranchOnOne, {"n": Symbol(1, 16)}, x=("n", 4)))
    assert guards(program) == ("n != 1",)
    assert "the exported program needs n != 1" in list_assertions(program.ir)
    (message,) = notes.said["guard_within_range"]
    assert "takes another branch at n=1 (tests/unit/models/policy_models.py:" in message
    verified(program)


@pytest.mark.parametrize("kind", [models.HarmlessBranch, models.LastSqueeze])
def test_a_branch_that_is_right_at_one_is_not(kind: type[torch.nn.Module]) -> None:
    program, notes = lowered(models.model(kind, {"n": N8}, x=("n", 3)))
    assert guards(program) == () and "guard_within_range" not in notes.said
    verified(program)


def test_random_numbers_are_no_difference() -> None:
    program, notes = exported(models.model(models.DrawnBranch, {"n": N8}, x=("n", 3)))
    assert guards(program) == () and "guard_within_range" not in notes.said


@pytest.mark.parametrize(("kind", "needs"), [(models.BranchOnOne, ("n != 1",)), (models.HarmlessBranch, ("n > 1",)), (models.Causal, ())])
def test_a_branch_without_values_is_asserted_unless_it_has_the_same_ops(kind: type[torch.nn.Module], needs: tuple[str, ...]) -> None:
    program, notes = exported(models.model(kind, {"n": Symbol(1, 16)}, weights="none", x=("n", 4)))
    assert guards(program) == needs
    assert ("guard_within_range" in notes.said) == bool(needs)


def test_a_squeeze_keeps_the_dims_that_may_differ_from_one() -> None:
    program, notes = lowered(models.model(models.Squeezes, {"n": N8}, x=("n", 1, 3)))
    assert guards(program) == ("n != 1",)
    verified(program)
    weightless, notes = exported(models.model(models.Squeezes, {"n": N8}, weights="none", x=("n", 1, 3)))
    assert guards(weightless) == ("n != 1",)
    wide, notes = lowered(models.model(models.Squeezes, {"n": Symbol(2, 8)}, x=("n", 1, 3)))
    assert guards(wide) == () and "guard_within_range" not in notes.said


def test_the_accepted_part_of_the_ranges_is_suggested_as_yaml() -> None:
    program, notes = lowered(models.model(models.Folds, {"n": Symbol(1, 64)}, x=("n", 3)))
    assert notes.policy.startswith("exported as round")
    (message,) = notes.said["part_of_ranges"]
    assert "symbols: {n: {min: 4, max: 64, multiple_of: 4}}" in message
    assert guards(program) == ("n % 4 == 0",)
    assert verified(program).declined
    multiples = models.model(models.Folds, {"n": Symbol(4, 64, multiple_of=4)}, x=("n", 3))
    exact, notes = lowered(multiples, Export(policy=("oblivious",), archive=False))
    assert guards(exact) == () and not notes.said.keys() & {"part_of_ranges", "guard_within_range", "export_policy"}
    assert not verified(exact).declined


def test_the_record_has_every_attempt_with_its_cost() -> None:
    _, notes = exported(models.model(models.Slices, {"n": N8, "m": M16}, x=("n", "m")))
    tried = notes.symbols["attempts"]
    assert [(one["attempt"], one["outcome"]) for one in tried] == [("declared", "refused"), ("deferred", "refused"), ("oblivious", "taken")]
    assert all(one["seconds"] > 0 for one in tried) and "3 <= m" in tried[0]["why"]
    _, notes = exported(models.model(models.Sum, {"n": N8}, x=("n",), y=("n",)))
    assert [(one["attempt"], one["outcome"], one["why"]) for one in notes.symbols["attempts"]] == [("declared", "taken", "")]


def test_the_text_of_a_size_in_a_message_keeps_it_dynamic() -> None:
    program, _ = exported(models.model(models.Messages, {"n": N8}, x=("n", 3)), Export(policy=("declared",), explain=False))
    assert program.signature is not None and program.signature.results[0].dims == ("n", 3)


def test_a_layer_may_be_converted_to_the_dtype_that_it_has() -> None:
    program, _ = exported(models.model(models.ConvertsToItsOwn, {"n": N8}, x=("n", 3)), Export(policy=("declared",), explain=False))
    assert program.signature is not None and program.signature.results[0].dims == ("n", 3)


def test_strict_guards_are_read_like_others() -> None:
    model = models.model(models.Strict, {}, {"scale": 2}, x=(None,), y=(None,))
    strict, _ = exported(model, Export(policy=("strict",)))
    assert guards(strict) == guards(exported(model)[0])
    assert "(y_0 % 43) == 0" in guards(strict)
