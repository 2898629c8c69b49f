"""The proposed range of a sequence ends where the model's table of positions does."""

from __future__ import annotations

import pytest
import torch

from lowering.recipe import TARGET
from lowering.sources import huggingface, huggingface_proposal


@pytest.mark.parametrize(("architecture", "longest"), [("RobertaModel", 511), ("BertModel", 512)])
def test_positions_up_to_that_of_padding_are_not_proposed(architecture: str, longest: int) -> None:
    found = huggingface_proposal.propose(architecture)
    assert found.symbols["seq"] == {"min": 1, "max": longest}
    module = huggingface.build(**{key: value for key, value in found.factory.items() if key != TARGET}).eval()
    with torch.no_grad():
        module(input_ids=torch.full((1, longest), 5))
        with pytest.raises((RuntimeError, IndexError)):
            module(input_ids=torch.full((1, longest + 1), 5))
