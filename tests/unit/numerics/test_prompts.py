"""Prompts with padding on either side, and the masks and positions of their tokens."""

from __future__ import annotations

import torch

from lowering.model import Input, Model, Symbol
from lowering.numerics.delivery.generation import find_obstacle
from lowering.numerics.delivery.prompts import Names, Prompt, find_logits, find_tokens


def test_rows_are_padded_by_different_numbers_on_the_side_that_is_asked() -> None:
    left, right = Prompt.make(3, 5, "left"), Prompt.make(3, 5, "right")
    assert left.kept.int().tolist() == [[0, 0, 1, 1, 1], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]]
    assert torch.equal(right.kept, left.kept.flip(-1)) and Prompt.make(3, 5, "none").kept.all()
    assert Prompt.make(1, 1, "left").kept.all(), "a row has at least one token"


def test_masks_and_positions_follow_the_tokens() -> None:
    prompt = Prompt.make(2, 4, "left")
    made = {"attention_mask": torch.zeros(2, 4, dtype=torch.int64), "position_ids": torch.zeros(2, 4, dtype=torch.int64)}
    assert {name: value.tolist() for name, value in prompt.write(made, Names()).items()} == {
        "attention_mask": [[0, 0, 1, 1], [1, 1, 1, 1]], "position_ids": [[0, 0, 0, 1], [0, 1, 2, 3]]}
    prompt.add()
    step = {"attention_mask": torch.zeros(2, 8), "position_ids": torch.zeros(2, 1, dtype=torch.int64)}  # of a cache of fixed length
    written = prompt.write(step, Names())
    assert written["attention_mask"].tolist() == [[0, 0, 1, 1, 1, 1, 1, 1], [1] * 8] and written["position_ids"].tolist() == [[2], [4]]


def test_the_decoder_of_an_encoder_has_masks_with_its_prefix() -> None:
    names = Names(find_tokens(["input_ids", "attention_mask", "decoder_input_ids"]))
    assert (names.tokens, names.mask, names.positions) == ("decoder_input_ids", "decoder_attention_mask", "decoder_position_ids")
    assert find_tokens(["input_ids"]) == "input_ids"


def test_tokens_and_logits_are_found_in_structures_unless_two_could_be_meant() -> None:
    names = Names(find_tokens(["batch.input_ids", "batch.attention_mask"]), find_logits(["out.logits", "state.0"]))
    assert (names.tokens, names.mask, names.logits) == ("batch.input_ids", "batch.attention_mask", "out.logits")
    assert find_logits(["first.logits", "second.logits"]) == "logits"


def test_a_step_whose_tokens_have_another_name_is_said_to_be_unverified() -> None:
    def step(name: str) -> Model:
        return Model("step", {}, {"batch": {name: Input("int64", ("batch", 1))}}, {"batch": Symbol(1, 8)})

    assert find_obstacle(step("input_ids")) is None
    assert "no input is called input_ids" in (find_obstacle(step("words")) or "")
