"""Runs of `generate`, from which the entries of a generative model follow: the arguments that each of its programs is called with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from lowering.sources import huggingface

# The sizes of one run of `generate`, and a run for each of them with another value: a dim that differs between two runs is dynamic.
SIZES = {"batch": 3, "seq": 7, "source": 11, "images": 5}
OTHERS = {"batch": 4, "seq": 10, "source": 15, "images": 6}
LARGE = 1 << 28  # parameters of a model that is not run whole
# Entries of a model of images and text: the caller puts the projected images among the embeddings of the tokens.
ENCODER, EMBEDDING = "image_encoder", "embedding"
PROJECTORS = {"multi_modal_projector": (), "connector": (1,)}  # with the dims before those of the images that their models take

Calls = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Run:
    """One run of `generate`: the sizes of its inputs, and the arguments that each entry was called with."""

    sizes: Mapping[str, int]
    calls: Calls


def shrink(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
    """Return the arguments of a model that takes the same arguments, and the number of layers of the model itself if that differs.

    A large decoder whose layers are all alike is run with one of them, few words and narrow MLPs: its caches have the same shapes.
    """
    with torch.device("meta"):
        module: Any = huggingface.build(**{key: value for key, value in arguments.items() if key not in ("cache", "max_length")})
    config = module.config
    kwargs = dict(arguments.get("kwargs") or {})
    alike = not config.is_encoder_decoder and len(set(getattr(config, "layer_types", None) or [None])) == 1 and "layer_types" not in kwargs
    if sum(parameter.numel() for parameter in module.parameters()) < LARGE or not alike or config.get_text_config() is not config:
        return dict(arguments), None
    few = {"num_hidden_layers": 1, "vocab_size": 512, "intermediate_size": 64}
    return {**arguments, "kwargs": {**kwargs, **few}}, int(config.num_hidden_layers)


def list_image_parts(module: Any) -> dict[str, torch.nn.Module]:
    """Return the parts that make embeddings of images and tokens, by entry; none for models of text.

    Only parts that take images of a fixed size, [images, channels, height, width], are among them: of others, only the embedding.
    """
    from transformers.exporters.utils import _find_multimodal_submodules

    vision = getattr(module.config, "vision_config", None)
    if vision is None:
        return {}
    parts, embedding = _find_multimodal_submodules(module), {EMBEDDING: module.get_input_embeddings()}
    projectors = {name: parts[name] for name in PROJECTORS if name in parts}
    if not isinstance(getattr(vision, "image_size", None), int) or ENCODER not in parts or not projectors:
        return embedding
    return {ENCODER: parts[ENCODER], **projectors, **embedding}


def _record_images(module: Any, sizes: Mapping[str, int]) -> dict[str, Mapping[str, Any]]:
    """Return the arguments of the parts that make embeddings of images and tokens."""
    from transformers.exporters.utils import _capture_forward

    parts = list_image_parts(module)
    if not parts:
        return {}
    tokens = _make_tokens("", sizes["batch"], sizes["seq"], module.config.get_text_config(decoder=True).vocab_size)
    embedded: dict[str, Mapping[str, Any]] = {EMBEDDING: {"input": tokens["input_ids"]}}
    if ENCODER not in parts:
        return embedded
    vision = module.config.vision_config
    ahead = next(dims for name, dims in PROJECTORS.items() if name in parts)
    images = torch.randn(*ahead, sizes["images"], getattr(vision, "num_channels", 3), vision.image_size, vision.image_size)
    with ExitStack() as stack, torch.no_grad():
        calls = {name: stack.enter_context(_capture_forward(part)) for name, part in parts.items() if name != EMBEDDING}
        module.get_image_features(pixel_values=images)
    return {**{name: made[0] for name, made in calls.items()}, **embedded}


def list_sizes(module: Any) -> tuple[str, ...]:
    """Return the names in SIZES that the inputs of a model depend on."""
    is_text = module.main_input_name == "input_ids"
    return ("batch", "seq", *(("source",) if module.config.is_encoder_decoder and is_text else ()),
            *(("images",) if ENCODER in list_image_parts(module) else ()))


def record(module: Any, sizes: Mapping[str, int], limits: huggingface.Limits) -> Run:
    """Return the arguments of each entry in a run of `generate`. The first sequence of its batch is padded on the left."""
    from transformers import GenerationConfig
    from transformers.exporters.utils import _capture_forward, decompose_prefill_decode

    makes_static = limits.is_static and not limits.has_windows
    static = {"cache_implementation": "static", "max_cache_len": limits.length} if makes_static else {}
    config = GenerationConfig(do_sample=False, use_cache=True, pad_token_id=0, eos_token_id=None, decoder_start_token_id=0, **static)
    encoder = module.get_encoder() if module.config.is_encoder_decoder else None
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoded = stack.enter_context(_capture_forward(encoder)) if encoder is not None else []
        given = {"past_key_values": cache} if (cache := huggingface.make_wide_cache(module, limits)) is not None else {}
        stages = decompose_prefill_decode(module, _make_prompt(module, sizes) | given, generation_config=config)
    first = {"encoder": encoded[0]} if encoded else _record_images(module, sizes)
    return Run(sizes, {**first, **{name: inputs for name, (_, inputs) in stages.items()}})


def _make_prompt(module: Any, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    config = module.config.get_text_config(decoder=True)
    prefix, length = ("decoder_", sizes["seq"]) if module.config.is_encoder_decoder else ("", sizes["seq"])
    made = _make_tokens(prefix, sizes["batch"], length, config.vocab_size)
    if prefix:
        made["decoder_input_ids"][:, 0] = 0  # the start, which generate() puts in front of others
    if module.main_input_name == "input_ids" and prefix:
        return made | _make_tokens("", sizes["batch"], sizes["source"], config.vocab_size)
    if list_image_parts(module):
        embedded = module.get_input_embeddings()(made.pop("input_ids")).detach()
        return {"inputs_embeds": embedded, **made}
    if module.main_input_name == "input_features":
        return made | {"input_features": torch.randn(sizes["batch"], module.config.num_mel_bins, 2 * module.config.max_source_positions)}
    return made


def _make_tokens(prefix: str, batch: int, length: int, vocabulary: int) -> dict[str, torch.Tensor]:
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, 0] = 0
    return {f"{prefix}input_ids": torch.randint(vocabulary // 2, vocabulary, (batch, length)), f"{prefix}attention_mask": mask}
