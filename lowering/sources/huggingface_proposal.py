"""Proposals for the file of a transformers model: a small config, and inputs by the main input that the architecture names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from lowering.errors import LoadError, Problem
from lowering.recipe import TARGET
from lowering.sources import documented, huggingface, trials
from lowering.sources.proposal import MISSING, SEQUENCE, Proposal, Tree, make_leaf, raise_minimums

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
FRAMES = "frames"  # the symbol of the length of a sequence that is not text
# Keys of configs that have the size of a dim, by the name of the dim in the docstrings of forward; and the symbols of dims without a key.
SIZES: Mapping[str, tuple[str, ...]] = {
    "num_frames": ("num_frames", "frames_per_clip"), "num_channels": ("num_channels", "in_chans"),
    **dict.fromkeys(("image_size", "frame_size", "height", "width"), ("image_size", "crop_size")),
    **dict.fromkeys(("feature_dim", "feature_size"), ("num_mel_bins", "feature_size")),
    "num_input_channels": ("num_input_channels",), **dict.fromkeys(("sequence_length", "seq_length"), ("context_length",)),
}  # fmt: skip
SYMBOLS: Mapping[str, str] = {"batch_size": "batch", "bs": "batch", "sequence_length": FRAMES}

# Sizes of a small model. Each config, and each config inside it, gets those that it knows. Equal sizes have equal values, as a key may be
# an alias of another.
DEPTH: Mapping[str, Any] = dict.fromkeys(
    ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers", "encoder_layers", "decoder_layers"), 2
)
SMALL: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "embedding_size", "d_model", "n_embd", "dim", "word_embed_proj_dim"), 128),
    **DEPTH,
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "ffn_dim", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim"), 256),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 512),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "vocab_size": 1024, "num_key_value_heads": 2, "head_dim": 32, "d_kv": 32, "moe_intermediate_size": 64, "num_experts_per_tok": 2,
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 32),
    "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
    "default_language": "en_XX",
    **dict.fromkeys(("image_size", "crop_size"), 64), **dict.fromkeys(SIZES["num_frames"], 8),
    "patch_size": 16, "use_cache": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LARGEST = 2e9  # parameters of a model that is given values


def filter_known(config: Any, wanted: Mapping[str, Any]) -> Tree:
    """Return the part of `wanted` whose keys a transformers config class has. Nested configs are filtered the same way."""
    keys = huggingface.list_known_keys(config)
    inner = {name: filter_known(part, wanted) for name, part in config.sub_configs.items()
             if name in keys and part.__name__ != "AutoConfig"}  # fmt: skip
    return {key: value for key, value in wanted.items() if key in keys} | {name: part for name, part in inner.items() if part}


def propose(architecture: str) -> Proposal:
    """Propose a small model of a transformers architecture. Raises LoadError if there is no such class."""
    import transformers  # imported here because it takes seconds

    found = _propose_small(architecture)
    rest = () if found.complete else documented.list_notes(getattr(transformers, architecture).forward, found.inputs)
    return replace(found, notes=(*found.notes, *rest))


def _propose_small(architecture: str) -> Proposal:
    """Propose the smallest model of an architecture that can be built and takes the inputs, or else one that refuses them."""
    config = huggingface.find_config_class(architecture)
    if config is None:
        raise LoadError(Problem("--from huggingface", f"'{architecture}' is not a model with a config of its own", "name a model class"))
    factory: Tree = {TARGET: "lowering.sources.huggingface.build", "config": config.__name__, "architecture": architecture}
    if any(name in filter_known(config, SMALL) for name in EXPERTS):
        factory["experts"] = "batched_mm"
    small = "The sizes are small: remove kwargs for those of the architecture's default config."
    shallow = "The sizes are those of the default config, with two layers of each kind: remove kwargs for all layers."
    default = "The sizes are those of the architecture's default config."
    cache = {"use_cache": False}
    wanted = ((SMALL, small), ({**SMALL, "num_key_value_heads": SMALL["num_attention_heads"]}, small), ({**cache, **DEPTH}, shallow),
              (cache, default))  # fmt: skip
    found = None
    for sizes, note in wanted:
        given = {**factory, "kwargs": filter_known(config, sizes)}
        try:
            make = partial(huggingface.build, **{key: value for key, value in given.items() if key != TARGET})
            module = trials.build(make)
        except Exception as error:  # noqa: BLE001 - constructors of models raise anything
            why = f"The model cannot be built: {trials.describe_failure(error)}"
            found = found or Proposal(given, {"input": make_leaf("float32", [MISSING])}, {}, (why,))
            continue
        first = _read_inputs(given, module, (note,), other=False)
        other = _read_inputs(given, module, (note,), other=True)
        for proposal in (first, other) if other.inputs != first.inputs else (first,):
            if not proposal.complete:
                return proposal
            if (refusal := trials.find_refusal(proposal.inputs, module, make)) is None:
                return raise_minimums(proposal, module, make)
            if found is None or found.refusal != refusal:  # of equal refusals, the one of the smallest sizes
                found = proposal.refuse(refusal)
    assert found is not None
    return found


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
