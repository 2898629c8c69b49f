"""Proposals for the file of a transformers model: a small config, and inputs by the main input that the architecture names."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from lowering.errors import LoadError, Problem
from lowering.recipe import TARGET
from lowering.sources import documented, huggingface, trials
from lowering.sources import huggingface_sizes as sizes
from lowering.sources.proposal import MISSING, SEQUENCE, Proposal, Tree, fit_ranges, make_leaf

FRAMES = "frames"  # the symbol of the length of a sequence that is not text
# Keys of configs that have the size of a dim, by the name of the dim in the docstrings of forward; and the symbols of dims without a key.
SIZES: Mapping[str, tuple[str, ...]] = {
    "num_frames": sizes.FRAMES, "num_channels": ("num_channels", "in_chans"),
    **dict.fromkeys(("image_size", "frame_size", "height", "width"), ("image_size", "crop_size")),
    **dict.fromkeys(("feature_dim", "feature_size"), ("num_mel_bins", "feature_size")),
    "num_input_channels": ("num_input_channels",), **dict.fromkeys(("sequence_length", "seq_length"), ("context_length",)),
}  # fmt: skip
SYMBOLS: Mapping[str, str] = {"batch_size": "batch", "bs": "batch", "sequence_length": FRAMES}

LARGEST = 2e9  # parameters of a model that is given values
FEW = 5e7  # parameters of a model that is small


def propose(architecture: str) -> Proposal:
    """Propose a small model of a transformers architecture. Raises LoadError if there is no such class."""
    import transformers  # imported here because it takes seconds

    with _silence_configs():
        found = _propose_small(architecture)
    rest = () if found.complete else documented.list_notes(getattr(transformers, architecture).forward, found.inputs)
    return replace(found, notes=(*found.notes, *rest))


@contextmanager
def _silence_configs() -> Iterator[None]:
    """Keep transformers from warning of token ids outside a small vocabulary, and of what else its default configs lack."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _propose_small(architecture: str) -> Proposal:
    """Propose the smallest model of an architecture that can be built and takes the inputs, or else one that refuses them."""
    config = huggingface.find_config_class(architecture)
    if config is None:
        raise LoadError(Problem("--from huggingface", f"'{architecture}' is not a model with a config of its own", "name a model class"))
    factory: Tree = {TARGET: "lowering.sources.huggingface.build", "config": config.__name__, "architecture": architecture}
    if sizes.has_experts(config):
        factory["experts"] = "batched_mm"
    found: Proposal | None = None
    least = math.inf
    for proposal, count in _try_all(factory, config):
        if not proposal.refusal and count <= FEW:
            return proposal
        if found is None or (proposal.complete, -count) > (found.complete, -least):
            found, least = proposal, count
    assert found is not None
    return found


def _try_all(factory: Tree, config: Any) -> Iterator[tuple[Proposal, float]]:
    """Iterate over proposals of small models, and at last of the default sizes, with the number of parameters of each.

    Where forward refuses the inputs at small sizes and gives the same reason at the default ones, sizes are not the reason.
    """
    small = "The sizes are small: remove kwargs for those of the architecture's default config."
    shallow = "The sizes are those of the default config, with two layers of each kind: remove kwargs for all layers."
    default = "The sizes are those of the architecture's default config."
    plain = {"use_cache": False}
    reason = ""
    for kwargs in sizes.propose_sizes(config):
        proposal, count = _try(factory, kwargs, small)
        yield proposal, count
        if (proposal.refusal or count == math.inf) and not reason:
            reason = _name_reason(proposal)
            usual, many = _try(factory, sizes.filter_known(config, plain), default, values=False)
            yield usual, many
            if count <= FEW and not usual.complete and _name_reason(usual) == reason:
                return
    yield _try(factory, sizes.filter_known(config, {**plain, **sizes.DEPTH}), shallow)
    yield _try(factory, sizes.filter_known(config, plain), default)


def _name_reason(proposal: Proposal) -> str:
    """Return why a model refuses its inputs, or cannot be built, without the sizes."""
    return re.sub(r"\d+", "", proposal.refusal or proposal.notes[0])


def _try(factory: Tree, kwargs: Tree, note: str, values: bool = True) -> tuple[Proposal, float]:
    """Return the proposal with these keys of the config, and how many parameters its model has. values: see `trials.find_refusal`."""
    given = {**factory, "kwargs": kwargs}
    make = partial(huggingface.build, **{key: value for key, value in given.items() if key != TARGET})
    try:
        module = trials.build(make)
    except Exception as error:  # noqa: BLE001 - constructors of models raise anything
        why = f"The model cannot be built: {trials.describe_failure(error)}"
        return Proposal(given, {"input": make_leaf("float32", [MISSING])}, {}, (why,)), math.inf
    count = sum(parameter.numel() for parameter in module.parameters())
    first = _read_inputs(given, module, (note,), other=False)
    other = _read_inputs(given, module, (note,), other=True)
    found = None
    for proposal in (first, other) if other.inputs != first.inputs else (first,):
        if not proposal.complete:
            return proposal, count
        if (refusal := trials.find_refusal(proposal.inputs, module, make, values=values)) is None:
            return fit_ranges(proposal, module, make), count
        found = found or proposal.refuse(refusal)
    assert found is not None
    return found, count


def _count_skipped_positions(module: torch.nn.Module) -> int:
    """Return how many rows of a table of positions no token has: in the family of RoBERTa, those up to the row of padding."""
    tables = [part for name, part in module.named_modules()
              if isinstance(part, torch.nn.Embedding) and "position" in name.rpartition(".")[2] and part.padding_idx is not None]
    return max((table.padding_idx + 1 for table in tables if table.padding_idx is not None), default=0)


def _read_shape(shape: str, config: Any) -> list[Any] | None:
    """Return the sizes and symbols of a documented shape, such as `(batch_size, num_frames, num_channels)`.

    None if the config lacks a size, or for matrices, of which the docstrings do not name the second dim by its meaning.
    """
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    sizes = [_find_size(name, parts) or SYMBOLS.get(name) for name in shape.strip("()").replace(" ", "").split(",")]
    return sizes if len(sizes) > 2 and None not in sizes else None


def _find_size(name: str, configs: list[Any]) -> int | None:
    """Return the size of the dim `name` that a config has; None if none has it."""
    sizes = (getattr(config, key, None) for config in configs for key in SIZES.get(name, ()))
    return next((size for size in sizes if isinstance(size, int)), None)


def _read_inputs(factory: Tree, module: Any, notes: tuple[str, ...], other: bool) -> Proposal:
    """Return the inputs of a model by its main input.

    other: in the other form that some models take: text with images, a video or a text with its images, audio with a dim of channels.
    """
    config = module.config
    taken = inspect.signature(module.forward).parameters
    text = config.get_text_config()
    longest = getattr(text, "max_position_embeddings", None)
    longest = min(longest - _count_skipped_positions(module), SEQUENCE) if isinstance(longest, int) and longest > 1 else SEQUENCE
    words = {"randint": [3, getattr(text, "vocab_size", None) or 1024]}
    symbols: Tree = {"batch": {"min": 1, "max": 8}}
    inputs: Tree = {}
    named = module.main_input_name
    main, *more = [named] if isinstance(named, str) else named
    if main == "input_ids" or (other and main == "pixel_values" and "input_ids" in taken):
        inputs["input_ids"] = make_leaf("int64", ["batch", "seq"], words)
        if "attention_mask" in taken:
            inputs["attention_mask"] = make_leaf("int64", ["batch", "seq"], "padding")
        symbols["seq"] = {"min": 1, "max": longest}
        if "pixel_values" in taken and not other:
            notes = (*notes, "The architecture also takes images: declare pixel_values, and their places among input_ids.")
    if main == "pixel_values" or (other and "pixel_values" in taken):
        vision = getattr(config, "vision_config", None) or config
        size = getattr(vision, "image_size", None)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        frames = getattr(vision, "num_frames", None) if other else None
        image = [getattr(vision, "num_channels", 3), height or "height", width or "width"]
        inputs["pixel_values"] = make_leaf("float32", ["batch", *([frames] if frames else []), *image])
        symbols |= {} if size else {name: {"min": 32, "max": 256, "multiple_of": 32} for name in ("height", "width")}
    elif main == "input_values":
        channels = [getattr(config, "audio_channels", 1)] if other else []
        inputs["input_values"] = make_leaf("float32", ["batch", *channels, "samples"])
        symbols["samples"] = {"min": 1000, "max": 16000}
    elif main == "input_features" and hasattr(config, "num_mel_bins") and hasattr(config, "max_source_positions"):
        inputs["input_features"] = make_leaf("float32", ["batch", config.num_mel_bins, 2 * config.max_source_positions])
    for name in [each for each in (main, *more) if each not in inputs]:
        shape = documented.find_shape(module.forward, name)
        dims = _read_shape(shape, config)
        inputs[name] = make_leaf("float32", dims or ["batch", MISSING])
        if dims is None:
            notes = (*notes, f"Give the shape of {name}{f', {shape}' if shape else ''}.")
        elif FRAMES in dims:
            symbols[FRAMES] = {"min": 16, "max": SEQUENCE}
    count = sum(parameter.numel() for parameter in module.parameters())
    weights = "none" if count > LARGEST else None
    if weights:
        notes = (*notes, f"It has {count / 1e9:.1f} billion parameters, and is lowered without values, and not run.")
    if config.is_encoder_decoder and "decoder_input_ids" in taken:
        inputs["decoder_input_ids"] = make_leaf("int64", ["batch", "target"], words)
        symbols["target"] = {"min": 1, "max": min(longest, 64)}
    return Proposal(factory, inputs, symbols, notes, weights)
