"""Runs of `generate`, from which the entries of a generative model follow: the arguments that each of its programs is called with."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from lowering.errors import LoadError, Problem
from lowering.sources import huggingface, images

# The sizes of one run of `generate`, and a run for each of them with another value: a dim that differs between two runs is dynamic.
SIZES = {"batch": 3, "seq": 7, "source": 11, "images": 5}
OTHERS = {"batch": 4, "seq": 10, "source": 15, "images": 6}
TOKEN_TYPES = "token_type_ids"  # which tokens of a prompt stand for images
LARGE = 1 << 28  # parameters of a model that is not run whole

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
        built = inspect.signature(huggingface.build).parameters
        module: Any = huggingface.build(**{key: value for key, value in arguments.items() if key in built})
    config = module.config
    kwargs = dict(arguments.get("kwargs") or {})
    alike = not config.is_encoder_decoder and len(set(getattr(config, "layer_types", None) or [None])) == 1 and "layer_types" not in kwargs
    if sum(parameter.numel() for parameter in module.parameters()) < LARGE or not alike or config.get_text_config() is not config:
        return dict(arguments), None
    few = {"num_hidden_layers": 1, "vocab_size": 512, "intermediate_size": 64}
    return {**arguments, "kwargs": {**kwargs, **few}}, int(config.num_hidden_layers)


def list_sizes(module: Any) -> tuple[str, ...]:
    """Return the names in SIZES that the inputs of a model depend on."""
    is_text = module.main_input_name == "input_ids"
    return ("batch", "seq", *(("source",) if module.config.is_encoder_decoder and is_text else ()),
            *(("images",) if images.ENCODER in images.list_parts(module) else ()))


def record(module: Any, sizes: Mapping[str, int], limits: huggingface.SizeLimits) -> Run:
    """Return the arguments of each entry in a run of `generate`. The first sequence of its batch is padded on the left."""
    from transformers import GenerationConfig
    from transformers.exporters.utils import decompose_prefill_decode

    makes_static = limits.is_static and not limits.has_windows
    static = {"cache_implementation": "static", "max_cache_len": limits.length} if makes_static else {}
    config = GenerationConfig(do_sample=False, use_cache=True, pad_token_id=0, eos_token_id=None, decoder_start_token_id=0, **static)
    encoder = module.get_encoder() if module.config.is_encoder_decoder else None
    prompt = _make_prompt(module, sizes)
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoded = stack.enter_context(images.capture_calls(encoder)) if encoder is not None else []
        given = {"past_key_values": cache} if (cache := huggingface.make_wide_cache(module, limits, sizes["source"])) is not None else {}
        stages = decompose_prefill_decode(module, prompt | given, generation_config=config)
    found = {name: inputs for name, (_, inputs) in stages.items()}
    if encoder is None and images.list_parts(module):
        found["prefill"] = _embed(module, found["prefill"])
        found["decode"].pop(TOKEN_TYPES, None)  # a step makes no token of an image
    tokens = _make_tokens("", sizes["batch"], sizes["seq"], module.config.get_text_config(decoder=True).vocab_size)["input_ids"]
    first = {"encoder": encoded[0]} if encoded else images.record(module, sizes["images"], tokens)
    return Run(sizes, {**first, **found})


def _embed(module: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a prompt with the embeddings of its tokens in place of the tokens."""
    tokens = inputs.get("input_ids")
    if tokens is None:
        return dict(inputs)
    embedded = module.get_input_embeddings()(tokens).detach()
    return {"inputs_embeds" if name == "input_ids" else name: embedded if name == "input_ids" else value for name, value in inputs.items()}


def _make_prompt(module: Any, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Return the arguments of `generate`. Raises LoadError if the model reads other inputs than tokens or the features of Whisper."""
    config = module.config.get_text_config(decoder=True)
    prefix, length = ("decoder_", sizes["seq"]) if module.config.is_encoder_decoder else ("", sizes["seq"])
    made = _make_tokens(prefix, sizes["batch"], length, config.vocab_size)
    if prefix:
        made["decoder_input_ids"][:, 0] = 0  # the start, which generate() puts in front of others
    if module.main_input_name == "input_features" and hasattr(module.config, "num_mel_bins"):
        return made | {"input_features": torch.randn(sizes["batch"], module.config.num_mel_bins, 2 * module.config.max_source_positions)}
    if module.main_input_name != "input_ids":
        cause = f"{type(module).__name__} reads '{module.main_input_name}'; entries follow for tokens, images, and the features of Whisper"
        raise LoadError(Problem("architecture", cause, "declare the entries, with huggingface.build as the factory"))
    if prefix:
        return made | _make_tokens("", sizes["batch"], sizes["source"], config.vocab_size)
    if images.list_parts(module):
        accepted = inspect.signature(module.prepare_inputs_for_generation).parameters
        if TOKEN_TYPES in inspect.signature(module.forward).parameters:  # the mask lets tokens of an image see each other
            made[TOKEN_TYPES] = torch.zeros_like(made["input_ids"])
        if "inputs_embeds" in accepted:
            return _embed(module, made)
    return made


def _make_tokens(prefix: str, batch: int, length: int, vocabulary: int) -> dict[str, torch.Tensor]:
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, 0] = 0
    return {f"{prefix}input_ids": torch.randint(vocabulary // 2, vocabulary, (batch, length)), f"{prefix}attention_mask": mask}
