"""The names of the weights of several entries: equal ones are one, and no entry gets the weight of another."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lowering.numerics.delivery import joined
from lowering.numerics.delivery.joined import Part
from lowering.signature import Argument, Result, Signature


def part(weights: Mapping[str, list[float]], method: str = "forward", written: tuple[str, ...] = ()) -> Part:
    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    arguments = tuple(Argument("buffer" if name in written else "parameter", name, "float32", tuple(tensor.shape))
                      for name, tensor in tensors.items())
    results = tuple(Result("buffer_mutation", name, "float32", (2,), state=name) for name in written)
    return Part(b"", "1.0.0", Signature(arguments, results), tensors, {"model": {"method": method}})


def unite(**parts: Part) -> dict[str, dict[str, str]]:
    """Return the names, after checking that each entry gets its own weights under them."""
    names = joined.unify(parts)
    united = {names[entry][name]: tensor for entry, one in parts.items() for name, tensor in (one.weights or {}).items()}
    for entry, one in parts.items():
        assert all(torch.equal(united[names[entry][name]], tensor) for name, tensor in (one.weights or {}).items())
    return names


def test_the_weights_of_a_part_get_the_names_that_they_have_in_the_module() -> None:
    whole = part({"model.encoder.up": [1.0, 2.0], "model.encoder.down": [1.0, 2.0], "head": [3.0, 4.0]})
    names = unite(encoder=part({"down": [1.0, 2.0], "shared": [3.0, 4.0]}, "model.encoder"), prefill=whole)
    assert names == {"prefill": {name: name for name in whole.weights or {}}, "encoder": {"down": "model.encoder.down", "shared": "head"}}


def test_weights_of_equal_elements_are_not_taken_for_one_another() -> None:
    names = unite(prefill=part({"norm": [1.0, 1.0]}), decode=part({"scale": [1.0, 1.0]}))
    assert names["decode"] == {"scale": "scale"}


def test_a_name_with_two_values_is_two_names_even_where_the_prefix_is_taken() -> None:
    names = unite(prefill=part({"table": [1.0, 2.0], "decode.table": [5.0, 6.0]}), decode=part({"table": [3.0, 4.0]}))
    assert names["decode"] == {"table": "decode.table_1"}


def test_a_buffer_that_an_entry_writes_is_shared_under_its_own_name_only() -> None:
    names = unite(prefill=part({"steps": [0.5, 1.0], "other": [0.5, 1.0]}, written=("steps",)), decode=part({"steps": [0.5, 1.0]}),
                  score=part({"count": [0.5, 1.0]}, written=("count",)))
    assert names["decode"] == {"steps": "steps"} and names["score"] == {"count": "count"}
