"""Small twins of models of transformers: the same architecture with few layers and narrow widths, whose programs can be run.

A twin takes the arguments of its model. It has the same heads, sizes of heads and experts, so that its caches have the same shapes; only
the number of layers in a cache and the range of token ids change.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from lowering.errors import LoadError, Problem
from lowering.model import Model
from lowering.trees import REPEAT, Input

LAYERS = ("num_hidden_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")
WIDTHS = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "d_ff", "n_inner", "encoder_ffn_dim",
          "decoder_ffn_dim")
HEAD_SIZES = ("head_dim", "qk_nope_head_dim", "d_kv")  # a config with one of them need not derive the size of its heads from its width
TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
HIDDEN, WIDTH, WORDS = 64, 128, 512
FEWEST = 2  # layers of each stack
LARGEST = 1 << 28  # parameters of a twin
FIX = "name the changes of kwargs under twin: in the model's file"

Build = Callable[..., Any]
MakeConfig = Callable[[str, Mapping[str, Any]], Any]


def make(model: Model, build: Build, make_config: MakeConfig) -> tuple[Model, dict[str, Any]]:
    """Return the twin of `model`, which has weights, and the changes to `kwargs` of its factory.

    The changes are those of the model's file (`twin`), or follow from the config. Raises LoadError if the model cannot be shrunk by rule.
    """
    kwargs = dict(model.factory.get("kwargs") or {})
    config = make_config(model.factory["config"], kwargs)
    if model.twin is None:
        arguments = {key: value for key, value in model.factory.items() if key in inspect.signature(build).parameters}
        changes = _Rule(model, config, lambda given: _build_on_meta(build, {**arguments, "kwargs": merge(kwargs, given)})).find_changes()
    else:
        changes = dict(model.twin)
    small = make_config(model.factory["config"], merge(kwargs, changes))
    return _change(model, changes, _Fit(_read_sizes(config), _read_sizes(small))), changes


def merge(kwargs: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `kwargs` with `changes`; nested configs are merged key by key."""
    nested = {key: merge(kwargs[key], value) for key, value in changes.items()
              if isinstance(value, Mapping) and isinstance(kwargs.get(key), Mapping)}
    return {**kwargs, **changes, **nested}


@dataclass(frozen=True)
class _Rule:
    """Finds the changes of a config that make its model small. build: builds the module, without bytes, with changes of `kwargs`."""

    model: Model
    config: Any
    build: Callable[[Mapping[str, Any]], torch.nn.Module]

    def find_changes(self) -> dict[str, Any]:
        """Return the changes. Raises LoadError if the model stays large, or its twin would lack a kind of layer."""
        if self.config.get_text_config() is not self.config:
            raise LoadError(Problem("twin", "the config holds the configs of several models, and no rule shrinks those", FIX))
        whole = self.build({})
        changes, small = self._build_small(self._find_narrow() | self._find_shallow(whole))
        kinds, left = set(_list_layers(whole)), set(_list_layers(small))
        if kinds != left:
            raise LoadError(Problem("twin", f"a model of {changes} has layers of other kinds", FIX))
        if (count := sum(parameter.numel() for parameter in small.parameters())) > LARGEST:
            raise LoadError(Problem("twin", f"a model of {changes} still has {count:,} parameters", FIX))
        return changes

    def _build_small(self, changes: dict[str, Any]) -> tuple[dict[str, Any], torch.nn.Module]:
        """Return the changes with which the model can be built, and the module: some configs tie the width to the heads after all."""
        wide = {key: value for key, value in changes.items() if key != self._name("hidden_size")}
        try:
            return changes, self.build(changes)
        except Exception as error:
            if wide == changes:
                raise LoadError(Problem("twin", f"a model of {changes} cannot be built: {type(error).__name__}: {error}", FIX)) from error
        return self._build_small(wide)

    def _find_narrow(self) -> dict[str, Any]:
        """Return narrower widths, and fewer words. A width that an input has stays."""
        limits = {**dict.fromkeys(WIDTHS, WIDTH), "vocab_size": WORDS}
        known = inspect.signature(type(self.config)).parameters
        if any(key in known for key in HEAD_SIZES):
            limits["hidden_size"] = HIDDEN
        dims = {dim for leaf in self.model.leaves.values() for dim in leaf.dims() if isinstance(dim, int)}
        found = {self._name(key): limit for key, limit in limits.items()
                 if isinstance(size := getattr(self.config, key, None), int) and size > limit and size not in dims}
        if self._name("hidden_size") in found and "head_dim" in known:  # a config without a value would derive it from the width
            found["head_dim"] = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads
        if "vocab_size" in found:
            found |= {key: 0 for key in TOKENS if isinstance(token := getattr(self.config, key, None), int) and token >= WORDS}
        return found

    def _find_shallow(self, whole: torch.nn.Module) -> dict[str, Any]:
        """Return the number of layers that has one of each kind, and the settings of the layers that are left."""
        found: dict[str, Any] = {}
        for key in LAYERS:
            count = getattr(self.config, key, None)
            if not isinstance(count, int):
                continue
            stacks = [list(map(_describe_layer, part)) for part in whole.modules()
                      if isinstance(part, torch.nn.ModuleList) and len(part) == count]
            if types := getattr(self.config, "layer_types", None):
                stacks.append(list(types))
            few = max([FEWEST, *map(_count_prefix, stacks)])
            if few < count:
                found[self._name(key)] = few
                own = self.model.factory.get("kwargs") or {}
                found |= {name: value[:few] for name, value in own.items() if isinstance(value, list | tuple) and len(value) == count}
        return found

    def _name(self, key: str) -> str:
        return str(self.config.attribute_map.get(key, key))


def _build_on_meta(build: Build, arguments: Mapping[str, Any]) -> torch.nn.Module:
    with torch.device("meta"):
        module: torch.nn.Module = build(**arguments)
    return module


def _list_layers(module: torch.nn.Module) -> Iterator[Any]:
    """Iterate over the kinds of the layers of all stacks."""
    for part in module.modules():
        if isinstance(part, torch.nn.ModuleList) and len(part) >= FEWEST:
            yield from map(_describe_layer, part)


def _describe_layer(layer: torch.nn.Module) -> tuple[str, ...]:
    """Return the kind of a layer: the classes of its parts, and whether its attention has a window."""
    windows = {str(bool(window)) for part in layer.modules() if (window := getattr(part, "sliding_window", None)) is not None}
    return (*sorted({type(part).__name__ for part in layer.modules()}), *sorted(windows))


def _count_prefix(kinds: list[Any]) -> int:
    """Return how many of the first items have every kind of item."""
    return max(kinds.index(kind) for kind in set(kinds)) + 1 if kinds else 0


def _read_sizes(config: Any) -> tuple[int, int]:
    """Return the number of layers of a cache, and the number of words."""
    text = config.get_text_config(decoder=True)
    layers = next((found for key in reversed(LAYERS) if isinstance(found := getattr(text, key, None), int)), 0)
    return layers, int(getattr(text, "vocab_size", None) or 0)


@dataclass(frozen=True)
class _Fit:
    """Rewrites inputs for a twin. before, after: the layers of a cache and the words of the model and of its twin."""

    before: tuple[int, int]
    after: tuple[int, int]

    def apply(self, tree: Any, key: str = "") -> Any:
        """Return a tree of inputs with the layers and the token ids of the twin. key: the tree's name."""
        (layers, words), (few, fewer) = self.before, self.after
        if isinstance(tree, Input):
            fill = tree.fill
            if isinstance(fill, Mapping) and "randint" in fill and fill["randint"][1] == words:
                fill = {"randint": [min(fill["randint"][0], fewer - 1), fewer]}
            return replace(tree, fill=fill, repeat=few if tree.repeat == layers else tree.repeat)
        if isinstance(tree, list | tuple):
            kept = tree[:few] if key == "layers" and len(tree) == layers else tree
            return [self.apply(item) for item in kept]
        if not isinstance(tree, Mapping):
            return tree
        return {name: few if name == REPEAT and item == layers else self.apply(item, name) for name, item in tree.items()}


def _change(model: Model, changes: Mapping[str, Any], fit: _Fit) -> Model:
    """Return `model` with changes of its config and with weights."""
    factory = {**model.factory, "kwargs": merge(model.factory.get("kwargs") or {}, changes)}
    before = None if model.after is None else _change(model.after, changes, fit)
    inputs = {name: fit.apply(tree, name) for name, tree in model.inputs.items()}
    return replace(model, factory=factory, inputs=inputs, weights="random", twin=None, after=before)
