"""Refusals of torch.export in the words of the author: the condition, its line, and what to change."""

from __future__ import annotations

import re

import pytest

from lowering.level import Level, Program
from lowering.model import Model, Symbol
from lowering.stages.export import Export
from tests.unit.models import policy_models as models
from tests.unit.stages.exports import failure

N8 = Symbol(1, 8)


def test_a_refused_range_is_reported_once_with_its_fix() -> None:
    model = models.model(models.Quadratic, {"n": Symbol(1, 64, example=50)}, x=("n",))
    text = failure(model, Export(policy=("declared", "deferred", "oblivious"), explain=False))
    assert "the code needs n * n > 1000 + 4 * n, which torch cannot solve for a range" in text


def test_two_symbols_that_must_be_equal_are_named() -> None:
    symbols = {"n": Symbol(1, 16), "k": Symbol(1, 16)}
    text = failure(models.model(models.Sum, symbols, x=("n", 4), y=("k", 4)))
    assert "n and k must be equal at dim 0 (tests/unit/models/policy_models.py:" in text
    assert "in the model's YAML: inputs: {y: {shape: [n, 4]}}" in text
    product = failure(models.model(models.Product, symbols, x=(3, "n"), y=("k", 4)))
    assert "k and n must be equal" in product and "same reduction dim, but got [3, n] X [k, 4]" in product
    for message in (text, product):
        assert not any(word in message for word in ("s77", "s17", "TORCH_LOGS", "draft_export", "at None"))


def test_a_guard_that_torch_cannot_prove_is_reported_as_unproved() -> None:
    model = models.model(models.Halved, {"n": N8, "h": Symbol(8, 40)}, x=("n", 3, "h"))
    text = failure(model, Export(policy=("declared",), explain=False))
    assert "the code needs 2 * (h // 2) < 1 + h, which torch.export cannot prove for 8 <= h <= 40" in text
    assert "in the model's YAML" not in text and "_h" not in text  # torch suggests `h = 2*_h - 1`, which leaves out half of the sizes


@pytest.mark.parametrize("how", ["f-string", "a part of one", "percent", "a key", "a form"])
def test_a_number_made_of_the_text_of_a_size_is_refused(how: str) -> None:
    text = failure(models.model(models.Texts, {"n": N8}, {"how": how}, x=("n", 3)), Export(policy=("declared",), explain=False))
    assert re.search(r"the code takes n = \d+ only \(tests/unit/models/policy_models.py:\d+ in forward\)", text)


def test_a_trace_that_takes_too_long_ends_with_its_line() -> None:
    text = failure(models.model(models.Slow, {"n": N8}, x=("n",)), Export(trace_seconds=0.3, explain=False))
    assert "gave up after 0.3 s of CPU at tests/unit/models/policy_models.py:" in text and "in forward" in text
    assert "stages.export.trace_seconds" in text


def test_a_branch_on_a_tensor_is_said_by_its_line() -> None:
    text = failure(models.model(models.BranchOnData, {"n": N8}, x=("n",)))
    assert "the code branches on the data of a tensor, `if x.sum() > 0:` (tests/unit/models/policy_models.py:" in text
    assert "(keep the value in tensors, with torch.where, torch.cond or a mask)" in text and "u0" not in text


def test_a_check_on_data_names_the_line_that_made_the_number() -> None:
    text = failure(models.model(models.OnData, {"n": N8}, x=("n",)))
    assert "the code needs to know u0 == 1, which depends on data" in text
    assert "torch._check(u0 == 1) or torch._check(u0 != 1), where u0 is the result of `count = x.to(torch.int64).sum().item()" in text


@pytest.mark.parametrize(("model", "needs", "change"), [
    (models.model(models.Rows, {"n": N8}, x=("n", 3)), "the code takes n = 5 only: a loop over a size is traced as often",
     "in the model's YAML: inputs: {x: {shape: [5, 3]}}"),
    (models.model(models.Jagged, {"n": N8}, x=("n", 3)), "torch.export traces no NestedTensor",
     "pass its values and its offsets or lengths"),
    (models.model(models.LoopOnData, {"n": N8}, x=("n",)), "a Python loop runs as often as data say, `for place in x.nonzero():`",
     "keep the value in tensors"),
    (models.model(models.Halves, {"n": N8, "k": N8}, x=("n", 3), y=("k", 3)), "n and k must be equal at dim 0",
     "in the model's YAML: inputs: {y: {shape: [n, 3]}}"),
    (models.model(models.Raises, {"n": N8}, x=("n", 3)), "the model raised ValueError at the traced sizes n = 5", "an `example` inside it"),
    (models.model(models.Looked, {"n": N8}, x=("n", 3)), "the code uses a size as a key of a dict or set", "compare the size instead"),
    (models.model(models.Converts, {"n": N8}, x=("n", 3)), "forward converts Linear", "convert the module before it is lowered"),
    (models.model(models.Counted, {"n": N8}, x=("n",)), "the code uses a value of a tensor as a Python number", "torch.where, torch.cond"),
], ids=lambda value: value.name if isinstance(value, Model) else "")
def test_a_refusal_names_the_condition_and_the_fix(model: Model, needs: str, change: str) -> None:
    text = failure(model)
    assert needs in text and change in text and "(tests/unit/models/policy_models.py:" in text
    assert not any(word in text for word in ("mark_dynamic", "zuf0", "u0", "VR[", "inconsistencies", "deferred:"))


def test_a_size_that_auto_finds_fixed_is_said_in_the_models_words() -> None:
    text = failure(models.model(models.Rows, {"n": N8}, x=("n", 3)), Export(policy=("auto",), explain=False))
    assert re.search(r"the code takes n = 5 only: a loop .* \(tests/unit/models/policy_models.py:\d+ in forward\)", text), text
    assert "in the model's YAML: inputs: {x: {shape: [5, 3]}}" in text and "user-specified" not in text


def test_an_empty_policy_is_refused_before_the_export() -> None:
    (problem,) = Export(policy=()).requires(Program(Level.MODEL, None))
    assert (problem.place, problem.cause) == ("stages.export.policy", "is empty")
