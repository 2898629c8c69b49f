"""Proposals for the file of a new model: its factory, its inputs and their dims, read from its class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from lowering.errors import LoadError, Problem, ShapelineError, Unsupported
from lowering.recipe import TARGET
from lowering.sources import documented, exported, huggingface, mlir, trials

MISSING = "???"  # a value that the author has to give
Tree = dict[str, Any]
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
    "image_size": 64, "patch_size": 16, "use_cache": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
SEQUENCE = 512
LARGEST = 2e9  # parameters of a model that is given values


@dataclass(frozen=True)
class Proposal:
    """The keys of a model's file. notes: what the author should know or fill in. refusal: why forward fails with these inputs."""

    factory: Tree
    inputs: Tree
    symbols: Tree
    notes: tuple[str, ...] = ()
    weights: str | None = None
    refusal: str = ""

    @property
    def complete(self) -> bool:
        """Whether no value is left for the author to give or correct."""
        return not self.refusal and MISSING not in repr((self.factory, self.inputs))


def filter_known(config: Any, wanted: Mapping[str, Any]) -> Tree:
    """Return the part of `wanted` whose keys a transformers config class has. Nested configs are filtered the same way."""
    keys = huggingface.list_known_keys(config)
    inner = {name: filter_known(part, wanted) for name, part in config.sub_configs.items()
             if name in keys and part.__name__ != "AutoConfig"}  # fmt: skip
    return {key: value for key, value in wanted.items() if key in keys} | {name: part for name, part in inner.items() if part}


def propose_huggingface(architecture: str) -> Proposal:
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
            found = found or Proposal(given, {"input": _leaf("float32", [MISSING])}, {}, (why,))
            continue
        first = _read_huggingface(given, module, (note,), other=False)
        other = _read_huggingface(given, module, (note,), other=True)
        for proposal in (first, other) if other.inputs != first.inputs else (first,):
            if not proposal.complete or (refusal := trials.find_refusal(proposal.inputs, module, make)) is None:
                return proposal
            if found is None or found.refusal != refusal:  # of equal refusals, the one of the smallest sizes
                found = _refuse(proposal, refusal)
    assert found is not None
    return found


def _count_skipped_positions(module: torch.nn.Module) -> int:
    """Return how many rows of a table of positions no token has: in the family of RoBERTa, those up to the row of padding."""
    tables = [part for name, part in module.named_modules()
              if isinstance(part, torch.nn.Embedding) and "position" in name.rpartition(".")[2] and part.padding_idx is not None]
    return max((table.padding_idx + 1 for table in tables if table.padding_idx is not None), default=0)


def _read_huggingface(factory: Tree, module: Any, notes: tuple[str, ...], other: bool) -> Proposal:
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
        inputs["input_ids"] = _leaf("int64", ["batch", "seq"], words)
        if "attention_mask" in taken:
            inputs["attention_mask"] = _leaf("int64", ["batch", "seq"], "padding")
        symbols["seq"] = {"min": 1, "max": longest}
        if "pixel_values" in taken and not other:
            notes = (*notes, "The architecture also takes images: declare pixel_values, and their places among input_ids.")
    if main == "pixel_values" or (other and "pixel_values" in taken):
        vision = getattr(config, "vision_config", None) or config
        size = getattr(vision, "image_size", None)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        frames = getattr(vision, "num_frames", None) if other else None
        image = [getattr(vision, "num_channels", 3), height or "height", width or "width"]
        inputs["pixel_values"] = _leaf("float32", ["batch", *([frames] if frames else []), *image])
        symbols |= {} if size else {name: {"min": 32, "max": 256, "multiple_of": 32} for name in ("height", "width")}
    elif main == "input_values":
        channels = [getattr(config, "audio_channels", 1)] if other else []
        inputs["input_values"] = _leaf("float32", ["batch", *channels, "samples"])
        symbols["samples"] = {"min": 1000, "max": 16000}
    elif main == "input_features" and hasattr(config, "num_mel_bins") and hasattr(config, "max_source_positions"):
        inputs["input_features"] = _leaf("float32", ["batch", config.num_mel_bins, 2 * config.max_source_positions])
    for name in [each for each in (main, *more) if each not in inputs]:
        inputs[name] = _leaf("float32", ["batch", MISSING])
        shape = documented.find_shape(module.forward, name)
        notes = (*notes, f"Give the shape of {name}{f', {shape}' if shape else ''}.")
    count = sum(parameter.numel() for parameter in module.parameters())
    weights = "none" if count > LARGEST else None
    if weights:
        notes = (*notes, f"It has {count / 1e9:.1f} billion parameters, and is lowered without values, and not run.")
    if config.is_encoder_decoder and "decoder_input_ids" in taken:
        inputs["decoder_input_ids"] = _leaf("int64", ["batch", "target"], words)
        symbols["target"] = {"min": 1, "max": min(longest, 64)}
    return Proposal(factory, inputs, symbols, notes, weights)


def propose_callable(target: str) -> Proposal:
    """Propose the file of a model that the class or function `target` (package.module.name) makes. Raises LoadError if there is none."""
    made = _load(target)
    needed = _list_needed(inspect.signature(made))
    factory: Tree = {TARGET: target, **dict.fromkeys(needed, MISSING)}
    if needed:
        forward = getattr(made, "forward", None)
        names = _list_arguments(forward, bound=False) if forward else ["x"]
        return Proposal(factory, {name: _leaf("float32", ["batch", MISSING]) for name in names}, {"batch": {"min": 1, "max": 8}},
                        (f"Give {', '.join(needed)} of the factory, and the shapes of the inputs.",))  # fmt: skip
    try:
        module = trials.build(made)
    except Exception as error:
        fix = "give it a factory that works without arguments"
        raise LoadError(Problem(target, f"raised {trials.describe_error(error)}", fix)) from error
    if not isinstance(module, torch.nn.Module):
        raise LoadError(Problem(target, f"returns a {type(module).__name__}", "name a class or function that returns a torch.nn.Module"))
    names = _list_arguments(module.forward, bound=True)
    guessed, symbols = _guess_input(module)
    inputs = {name: guessed if name == names[0] and guessed else _leaf("float32", ["batch", MISSING]) for name in names}
    proposal = Proposal(factory, inputs, {"batch": {"min": 1, "max": 8}, **symbols})
    unknown = [name for name, leaf in inputs.items() if MISSING in leaf["shape"]]
    if unknown:
        return replace(proposal, notes=(f"Give the shape and dtype of {', '.join(unknown)}.",))
    refusal = trials.find_refusal(proposal.inputs, module, made)
    if refusal and (fixed := _fix_image(proposal, module)) and trials.find_refusal(fixed.inputs, module, made) is None:
        return fixed
    return _refuse(proposal, refusal) if refusal else proposal


def _fix_image(proposal: Proposal, module: torch.nn.Module) -> Proposal | None:
    """Return the proposal with images of the one size that a layer says it takes; None if no layer does."""
    given = (getattr(layer, name, None) for layer in module.modules() for name in ("img_size", "image_size"))
    size = next((size for size in given if isinstance(size, int) or (isinstance(size, list | tuple) and len(size) == 2)), None)
    if size is None or "height" not in proposal.symbols:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    known = {"height": height, "width": width}
    inputs = {name: {**leaf, "shape": [known.get(dim, dim) for dim in leaf["shape"]]} for name, leaf in proposal.inputs.items()}
    return replace(proposal, inputs=inputs, symbols={name: span for name, span in proposal.symbols.items() if name not in known})


def _refuse(proposal: Proposal, refusal: str | None) -> Proposal:
    notes = (*proposal.notes, f"forward fails with these inputs: {refusal}. Correct them.")
    return replace(proposal, notes=notes, refusal=refusal or "")


def propose_exported(path: str) -> Proposal:
    """Propose the file of a model that is a .pt2 file, with the dims that it was exported with. Raises LoadError if it is none.

    The file is read, which runs code of its maker: call it for a trusted one only.
    """
    _, args, kwargs, dims, symbols = exported.take_apart(exported.read(path, trusted=True))
    values = {**dict(zip(dims, args, strict=False)), **kwargs}
    inputs = {name: _describe(value, dims.get(name)) for name, value in values.items()}
    spans = {name: {"min": symbol.min} | ({"max": symbol.max} if symbol.max is not None else {}) for name, symbol in symbols.items()}
    factory = {TARGET: "lowering.sources.exported.load", "path": path, "trusted": True}
    return Proposal(factory, inputs, spans, ("trusted: torch runs code of whoever made the file when it reads it.",))


def propose_mlir(path: str) -> Proposal:
    """Propose the file of a model that is a file of MLIR, with the inputs of its entry. Raises LoadError if no level takes the file."""
    module, refusals = None, []
    for level in ("stablehlo", "torch", "mhlo"):
        try:
            module = mlir.load(path, level)
            break
        except ShapelineError as error:
            refusals.append(error)
    if module is None:  # the level that gets furthest says why: a file that parses names its foreign ops
        best = next((error for error in refusals if not isinstance(error, Unsupported)), refusals[0])
        raise LoadError(best.problems)
    inputs: Tree = {}
    symbols: Tree = {}
    for name, kind in mlir.list_arguments(mlir.parse(module)):
        dtype, dims = mlir.describe_type(kind, module.level) or (MISSING, ())
        shape = [f"{name}_d{position}" if dim == "?" else int(dim) for position, dim in enumerate(dims)]
        symbols |= {dim: {"min": 1, "max": 64} for dim in shape if isinstance(dim, str)}
        inputs[name] = _leaf(dtype, shape)
    notes = ("Each dynamic dim has a symbol of its own: give those that are equal one, and each its range.",) if symbols else ()
    return Proposal({TARGET: "lowering.sources.mlir.load", "path": path, "level": module.level.word}, inputs, symbols, notes)


def _describe(value: Any, dims: Any) -> Any:
    """Return the tree of an example argument. dims: its dynamic dims, in a tree of the same form."""
    if isinstance(value, torch.Tensor):
        shape = [(dims or {}).get(position, size) for position, size in enumerate(value.shape)]
        is_int = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool) and value.numel()
        fill = {"randint": [int(value.min()), int(value.max()) + 1]} if is_int else None
        return _leaf(str(value.dtype).removeprefix("torch."), shape, fill)
    if isinstance(value, Mapping):
        return {key: _describe(item, (dims or {}).get(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(item, dims[index] if dims else None) for index, item in enumerate(value)]
    return value


def _load(target: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # also of the code of the module
        is_own = not isinstance(error, ModuleNotFoundError) or f"{module}.".startswith(f"{error.name}.")
        is_name = is_own and isinstance(error, ImportError | AttributeError | ValueError)
        fix = "write it as package.module:Class" if is_name else f"import {module} in Python, and install or repair what it needs"
        raise LoadError(Problem(target, f"cannot be imported: {trials.describe_error(error)}", fix)) from error
    if not callable(found):
        raise LoadError(Problem(target, "is not callable", "name a class or a function that returns a module"))
    return found


def _list_arguments(forward: Any, bound: bool) -> list[str]:
    """Return the names of the arguments that `forward` needs."""
    return _list_needed(inspect.signature(forward))[0 if bound else 1 :]


def _list_needed(signature: inspect.Signature) -> list[str]:
    """Return the names of the parameters without a default."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, one in signature.parameters.items() if one.default is one.empty and one.kind not in several]


def _guess_input(module: torch.nn.Module) -> tuple[Tree | None, Tree]:
    """Return the first input, and its symbols besides the batch, as the first layer takes it."""
    spans = {name: {"min": 32, "max": 256} for name in ("height", "width", "length")}
    for layer in _list_layers(module):
        if isinstance(layer, torch.nn.Embedding):
            return _leaf("int64", ["batch", "seq"], {"randint": [0, layer.num_embeddings]}), {"seq": {"min": 1, "max": SEQUENCE}}
        if isinstance(layer, torch.nn.Conv2d):
            return _leaf("float32", ["batch", layer.in_channels, "height", "width"]), {name: spans[name] for name in ("height", "width")}
        if isinstance(layer, torch.nn.Conv1d):
            return _leaf("float32", ["batch", layer.in_channels, "length"]), {"length": spans["length"]}
        if isinstance(layer, torch.nn.RNNBase):
            shape = ["batch", "seq", layer.input_size] if layer.batch_first else ["seq", "batch", layer.input_size]
            return _leaf("float32", shape), {"seq": {"min": 1, "max": 128}}
        if isinstance(layer, torch.nn.Linear):
            return _leaf("float32", ["batch", layer.in_features]), {}
    return None, {}


def _list_layers(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    return (layer for layer in module.modules() if not list(layer.children()))


def _leaf(dtype: str, shape: list[Any], fill: Any = None) -> Tree:
    return {"dtype": dtype, "shape": shape} | ({"fill": fill} if fill is not None else {})
