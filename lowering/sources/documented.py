"""Arguments of a model's forward as its docstring describes them, for a proposal of inputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

# An entry of transformers' docstrings: bbox (`torch.LongTensor` of shape `(batch_size, sequence_length, 4)`, *optional*):
_ENTRY = re.compile(r"^ *(\w+) \([`']*([\w.]+)[`']* of shape [`']*(\([^)]*\))", re.MULTILINE)
_UNUSED = frozenset(("labels", "inputs_embeds", "decoder_inputs_embeds", "head_mask", "decoder_head_mask", "cross_attn_head_mask"))


def list_notes(forward: Callable[..., Any], declared: Collection[str]) -> tuple[str, ...]:
    """Return a note for each tensor that `forward` is documented to take and that is not declared, with its kind and shape.

    Labels, and embeddings in place of tokens, are left out.
    """
    entries = {name: (kind.removeprefix("torch."), shape) for name, kind, shape in _ENTRY.findall(forward.__doc__ or "")}
    return tuple(f"forward also takes {name}, a {kind} of shape {shape}." for name, (kind, shape) in entries.items()
                 if name not in declared and name not in _UNUSED)


def find_shape(forward: Callable[..., Any], name: str) -> str:
    """Return the shape that the docstring of `forward` gives an argument; empty if it gives none."""
    return next((shape for entry, _, shape in _ENTRY.findall(forward.__doc__ or "") if entry == name), "")
