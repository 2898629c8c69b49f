"""Recurrent layers on packed sequences, of which an export fails: found in its traceback, and told with the model's line."""

from __future__ import annotations

import traceback

from torch.nn.utils.rnn import PackedSequence

from lowering.errors import Problem
from lowering.symbols import frames


def explain(failure: BaseException) -> list[Problem]:
    """The layer that a failed export gave a packed sequence; empty when it failed for another reason."""
    stack = list(traceback.walk_tb(failure.__traceback__))
    if not any(isinstance(frame.f_locals.get("orig_input"), PackedSequence) for frame, _ in stack):
        return []
    spots = [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in stack if frames.is_model_code(frame.f_code.co_filename)]
    place = next((f"{line.file}:{line.line}" for line in reversed(frames.lines_of(spots))), "an unknown line")
    cause = "runs a recurrent layer on a packed sequence, whose number of rows only the lengths tell"
    fix = "give a layer of one direction the padded tensor, and mask its output beyond each length"
    return [Problem(place, cause, fix)]
