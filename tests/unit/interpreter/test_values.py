"""Tuples of TorchScript keep the names of their fields."""

from __future__ import annotations

from lowering.interpreter.values import make_tuple


def test_a_named_tuple_has_its_fields_and_a_plain_one_none() -> None:
    named = make_tuple("NamedTuple(logits : Tensor, pair : NamedTuple(a : Tensor, b : int), score : Dict(str, Tensor))", [1, 2, 3])
    assert named._fields == ("logits", "pair", "score")  # type: ignore[attr-defined]
    assert make_tuple("(Tensor, int)", [1, 2]) == (1, 2)
