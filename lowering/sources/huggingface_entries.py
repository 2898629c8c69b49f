"""The entries of a generative model of transformers: which programs serve it, their arguments, and the dims that vary.

`python -m lowering.sources.huggingface_entries` reads the arguments of `huggingface.generation` from stdin, a line of JSON for each model,
and answers with a line.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import transformers
from torch.utils import _pytree as pytree

from lowering import recipe
from lowering.eager import caches
from lowering.errors import LoadError, Problem, ShapelineError
from lowering.sources import huggingface

# The sizes of one run of `generate`, and a run for each of them with another value: a dim that differs between two runs is dynamic.
SIZES = {"batch": 3, "seq": 7, "source": 11, "images": 5}
OTHERS = {"batch": 4, "seq": 10, "source": 15, "images": 6}
LARGE = 1 << 28  # parameters of a model that is not run whole
# Entries of a model of images and text: the caller puts the projected images among the embeddings of the tokens.
ENCODER, EMBEDDING = "image_encoder", "embedding"
PROJECTORS = {"multi_modal_projector": (), "connector": (1,)}  # with the dims before those of the images that their models take
_FLAGS = frozenset(("use_cache", "return_dict", "logits_to_keep", "output_attentions", "output_hidden_states"))

Calls = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Run:
    """One run of `generate`: the sizes of its inputs, and the arguments that each entry was called with."""

    sizes: Mapping[str, int]
    calls: Calls


def derive(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return `entries` and `symbols`, as a model's file has them, of a model that `huggingface.generation(**arguments)` builds.

    The model generates two tokens at several sizes of its inputs. Raises LoadError if it cannot.
    """
    small, layers = _shrink(arguments)
    module = huggingface.generation(**small)
    limits = huggingface.Limits.of(module, arguments.get("cache", "dynamic"), arguments.get("max_length"))
    names = [name for name in SIZES if name in _list_sizes(module)]
    try:
        runs = [_run(module, SIZES, limits)] + [_run(module, {**SIZES, name: OTHERS[name]}, limits) for name in names]
    except ShapelineError:
        raise
    except Exception as error:  # generate() of any architecture
        cause = error.__cause__ or error
        fix = "complete the config, or declare the entries in the file of a model that huggingface.build makes"
        raise LoadError(Problem("factory", f"generate() raised {type(cause).__name__}: {cause}", fix)) from error
    config = huggingface.make_config(arguments["config"], arguments.get("kwargs")).get_text_config(decoder=True)
    methods = {"encoder": _find_path(module, module.get_encoder())} if "encoder" in runs[0].calls else {}
    methods |= {name: _find_path(module, part) for name, part in _list_image_parts(module).items()}
    kind = _find_kind(runs[0].calls["decode"].values())
    found = {name: _Writer(name, names, runs, limits, module, kind, config, layers, methods.get(name)).write() for name in runs[0].calls}
    if kind == "static":
        held = {name: tree for name, tree in found["decode"]["inputs"].items() if '"cumulative_length"' in json.dumps(tree)}
        found["prefill"]["inputs"] |= {name: _empty(tree) for name, tree in held.items()}
    chain = [name for name in found if name not in (ENCODER, *PROJECTORS, EMBEDDING)]  # the results of these go on to the next
    for before, name in pairwise(chain):
        found[name] = {"after": before, **found[name]}
    used = json.dumps(found)
    symbols = {name: {"min": 1, "max": high} for name, high in limits.symbols.items() if f'"{name}"' in used or f'"{name} ' in used}
    return {"entries": found, "symbols": symbols}


def _find_kind(arguments: Collection[Any]) -> Literal["growing", "static", "states"]:
    """Return what the caches among the arguments of a step hold: tokens, tokens up to a fixed number, or only states of a fixed size."""
    from transformers.exporters.utils import get_leaf_tensors

    found = [cache for cache in arguments if caches.is_cache(type(cache))]
    leaves = [name for cache in found for name in get_leaf_tensors(cache)]
    if any(name.endswith("cumulative_length") for name in leaves):
        return "static"
    return "growing" if any(name.endswith((".keys", ".values")) for name in leaves) else "states"


def _grows(tree: Any) -> bool:
    return '"past' in json.dumps(tree) or "*past" in json.dumps(tree)


def _shrink(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
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


def _list_image_parts(module: Any) -> dict[str, torch.nn.Module]:
    """Return the parts that make embeddings of images and tokens, by entry; none for models of text.

    Only parts that take images of a fixed size, [images, channels, height, width], are among them.
    """
    from transformers.exporters.utils import _find_multimodal_submodules

    vision = getattr(module.config, "vision_config", None)
    parts = _find_multimodal_submodules(module)
    projectors = {name: parts[name] for name in PROJECTORS if name in parts}
    if not isinstance(getattr(vision, "image_size", None), int) or ENCODER not in parts or not projectors:
        return {}
    return {ENCODER: parts[ENCODER], **projectors, EMBEDDING: module.get_input_embeddings()}


def _record_images(module: Any, sizes: Mapping[str, int]) -> dict[str, Mapping[str, Any]]:
    """Return the arguments of the parts that make embeddings of images and tokens."""
    from transformers.exporters.utils import _capture_forward

    parts = _list_image_parts(module)
    if not parts:
        return {}
    vision = module.config.vision_config
    ahead = next(dims for name, dims in PROJECTORS.items() if name in parts)
    images = torch.randn(*ahead, sizes["images"], getattr(vision, "num_channels", 3), vision.image_size, vision.image_size)
    with ExitStack() as stack, torch.no_grad():
        calls = {name: stack.enter_context(_capture_forward(part)) for name, part in parts.items() if name != EMBEDDING}
        module.get_image_features(pixel_values=images)
    tokens = _make_tokens("", sizes["batch"], sizes["seq"], module.config.get_text_config(decoder=True).vocab_size)
    return {**{name: made[0] for name, made in calls.items()}, EMBEDDING: {"input": tokens["input_ids"]}}


def _find_path(module: torch.nn.Module, part: torch.nn.Module) -> str:
    return next(name for name, found in module.named_modules() if found is part)


def _empty(tree: Any) -> Any:
    """Return the tree of a cache with zeros in all of its leaves."""
    if isinstance(tree, Mapping):
        zeros = {"fill": "zeros"} if "dtype" in tree else {}
        return {key: _empty(value) for key, value in tree.items()} | zeros
    return [_empty(value) for value in tree] if isinstance(tree, list) else tree


def _list_sizes(module: Any) -> tuple[str, ...]:
    is_text = module.main_input_name == "input_ids"
    return ("batch", "seq", *(("source",) if module.config.is_encoder_decoder and is_text else ()),
            *(("images",) if _list_image_parts(module) else ()))


def _run(module: Any, sizes: Mapping[str, int], limits: huggingface.Limits) -> Run:
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
    if _list_image_parts(module):
        embedded = module.get_input_embeddings()(made.pop("input_ids")).detach()
        return {"inputs_embeds": embedded, **made}
    if module.main_input_name == "input_features":
        return made | {"input_features": torch.randn(sizes["batch"], module.config.num_mel_bins, 2 * module.config.max_source_positions)}
    return made


def _make_tokens(prefix: str, batch: int, length: int, vocabulary: int) -> dict[str, torch.Tensor]:
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, 0] = 0
    return {f"{prefix}input_ids": torch.randint(vocabulary // 2, vocabulary, (batch, length)), f"{prefix}attention_mask": mask}


@dataclass(frozen=True)
class _Writer:
    """Writes the arguments of one entry as the trees of a model's file, from the arguments of several runs."""

    entry: str
    names: Sequence[str]
    runs: Sequence[Run]
    limits: huggingface.Limits
    module: Any
    kind: Literal["growing", "static", "states"]
    config: Any
    layers: int | None
    method: str | None = None

    def write(self) -> dict[str, Any]:
        first = self.runs[0].calls[self.entry]
        inputs: dict[str, Any] = {}
        constants: dict[str, Any] = {}
        named = inspect.signature((self.module.get_submodule(self.method) if self.method else self.module).forward).parameters
        for name, value in first.items():
            if name in _FLAGS or value is None or name not in named:  # torch.export names no dims of what goes into **kwargs
                continue
            values = [run.calls[self.entry].get(name) for run in self.runs]
            is_mask = name.endswith("attention_mask")
            tree = (self._write_mask(values, name) if is_mask else self._write(values, name))
            if isinstance(tree, bool | int | float | str):
                constants[name] = tree
            elif tree is not None and tree != {}:
                inputs[name] = tree
        found = {"method": self.method, "inputs": inputs, "constants": constants}
        return {key: value for key, value in found.items() if value}

    def _write(self, values: Sequence[Any], name: str) -> Any:
        """Return the tree of an argument. values: what it was in each run."""
        first = values[0]
        if isinstance(first, torch.Tensor):
            return self._write_leaf(values, name)
        if caches.is_cache(type(first)):
            return self._write_cache(values, name)
        if isinstance(first, Mapping) and type(first).__module__.startswith("transformers"):
            fields = {key: self._write([value[key] for value in values], f"{name}.{key}") for key in first}
            return {recipe.TARGET: f"{type(first).__module__}.{type(first).__qualname__}", **_drop_empty(fields)}
        if isinstance(first, Mapping):
            return _drop_empty({str(key): self._write([value[key] for value in values], f"{name}.{key}") for key in first})
        if isinstance(first, list | tuple):
            items = [self._write([value[index] for value in values], f"{name}.{index}") for index in range(len(first))]
            return items if isinstance(first, list) else {"tuple": items}
        return first

    def _write_leaf(self, values: Sequence[torch.Tensor], name: str) -> dict[str, Any]:
        first = values[0]
        dims = [self._fit([value.shape[axis] for value in values]) for axis in range(first.dim())]
        leaf: dict[str, Any] = {"dtype": str(first.dtype).removeprefix("torch."), "shape": dims}
        fill = self._choose_fill(first, name)
        return leaf if fill is None else leaf | {"fill": fill}

    def _choose_fill(self, value: torch.Tensor, name: str) -> Any:
        last = name.rpartition(".")[2]
        if value.is_floating_point() or value.dtype is torch.bool:
            return None
        if last.endswith("input_ids") or self.entry == EMBEDDING:
            return {"randint": [0, int(self.config.vocab_size)]}
        if last.endswith("position_ids"):
            return "arange" if value.shape[-1] > 1 else {"randint": [0, self.limits.length]}
        return {"constant": int(value.flatten()[0])} if value.numel() else None

    @property
    def _own_mask(self) -> str:
        """The name of the mask of the tokens that are in the cache."""
        return "decoder_attention_mask" if self.module.config.is_encoder_decoder else "attention_mask"

    def _write_mask(self, values: Sequence[Any], name: str) -> dict[str, Any] | None:
        """Return the mask of tokens of an entry, [batch, tokens]. A static cache is given with a mask of all its tokens.

        `generate` makes the masks of a static cache ahead, [batch, 1, queries, tokens]; the model makes the same ones of this.
        """
        if name == self._own_mask and self.kind == "static":
            return {"dtype": "int64", "shape": ["batch", self.limits.length], "fill": "padding"}
        if name == self._own_mask and self.kind == "states" and self.entry == "decode":
            return None  # a state holds no token that could be masked
        return self._write_leaf(values, name) | {"fill": "padding"}

    def _write_cache(self, values: Sequence[Any], name: str) -> Any:
        """Return the tree of a cache; None if it is empty, so that the model makes its own."""
        kind = type(values[0])
        target = f"{'transformers' if hasattr(transformers, kind.__name__) else kind.__module__}.{kind.__name__}"
        if not isinstance(getattr(values[0], caches.LAYERS, None), list):
            return self._write_parts(values, name, target)
        layers = [list(self._write_layers([value.layers[index] for value in values], f"{name}.{index}"))
                  for index in range(len(values[0].layers))]
        if not any(layers) or self.entry != "decode":
            return None
        written = [dict(layer) for layer in layers]
        same = all(layer == written[0] for layer in written)
        tree: dict[str, Any] = {recipe.TARGET: target}
        if self.limits.has_windows:
            tree[caches.WINDOWS] = False
        if not _grows(written):
            tree["state"] = True
        return tree | {caches.LAYERS: {"repeat": self.layers or len(written), **written[0]} if same else written}

    def _write_parts(self, values: Sequence[Any], name: str, target: str) -> Any:
        """Return the tree of a cache without layers: one of two caches, or one that has its tensors as attributes."""
        held = vars(values[0])
        if parts := [key for key, value in held.items() if caches.is_cache(type(value))]:
            made = {key: self._write_cache([getattr(value, key) for value in values], f"{name}.{key}") for key in parts}
            return {recipe.TARGET: target, **made} if all(made.values()) else None
        if self.entry != "decode":
            return None
        tensors = {key for key, value in held.items() if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value))}
        fields = {key: self._write([getattr(value, key) for value in values], f"{name}.{key}") for key in held if key in tensors}
        return {recipe.TARGET: target, **({} if _grows(fields) else {"state": True}), **fields}

    def _write_layers(self, values: Sequence[Any], name: str) -> Iterator[tuple[str, Any]]:
        for key, held in vars(values[0]).items():
            if isinstance(held, torch.Tensor):
                yield key, self._write_leaf([getattr(value, key) for value in values], f"{name}.{key}")
            elif isinstance(held, dict) and held and any(isinstance(item, torch.Tensor) for item in held.values()):
                yield key, {str(number): self._write_leaf([getattr(value, key)[number] for value in values], key) for number in held
                            if held[number] is not None}

    def _fit(self, sizes: Sequence[int]) -> int | str | None:
        """Return a dim as a size or an expression of one symbol. sizes: what it was in each run."""
        changed = [index for index, size in enumerate(sizes) if size != sizes[0]]
        if not changed:
            return sizes[0]
        if len(changed) > 1:
            return None
        name = self.names[changed[0] - 1]
        scale, rest = divmod(sizes[changed[0]] - sizes[0], OTHERS[name] - SIZES[name])
        offset = sizes[0] - scale * SIZES[name]
        if rest or scale < 1:
            return None
        symbol = "past" if name == "seq" and self.entry == "decode" else name
        return _spell(symbol, scale, offset)


def _spell(symbol: str, scale: int, offset: int) -> str:
    text = symbol if scale == 1 else f"{scale}*{symbol}"
    return text if not offset else f"{text} {'+' if offset > 0 else '-'} {abs(offset)}"


def _drop_empty(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if value is not None}


def answer(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `derive` does, or the problems for which it cannot, as plain data."""
    try:
        return derive(arguments)
    except ShapelineError as error:
        return {"problems": [problem.to_json() for problem in error.problems]}


def main() -> None:
    """Print the answer to each line of stdin as a line of JSON."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what models print is no answer
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
