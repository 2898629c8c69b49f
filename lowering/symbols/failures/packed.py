"""Diagnosis of exports that fail on recurrent layers with packed sequences: reports the layer in the traceback, with the model's line."""

from __future__ import annotations

import traceback

from torch.nn.utils.rnn import PackedSequence

from lowering.errors import Problem
from lowering.symbols.tracing import frames


def explain(failure: BaseException) -> list[Problem]:
    """Return the problem of the layer that a failed export gave a packed sequence. Empty if it failed for another reason."""
    stack = list(traceback.walk_tb(failure.__traceback__))
    if not any(isinstance(frame.f_locals.get("orig_input"), PackedSequence) for frame, _ in stack):
        return []
    spots = [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in stack
             if frames.is_model_code(frame.f_code.co_filename)]
    place = next((f"{line.file}:{line.line}" for line in reversed(frames.convert_spots(spots))), "an unknown line")
    cause = "runs a recurrent layer on a packed sequence, whose number of rows depends on the lengths"
    fix = "pass the padded tensor to a unidirectional layer, and mask its output beyond each length"
    return [Problem(place, cause, fix)]
