"""Caches of transformers as arguments: built for the config of a module, and registered with torch's pytree."""

from __future__ import annotations

import copy
import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from lowering.errors import LoadError, Problem

LAYERS = "layers"
WINDOWS = "windows"
_WINDOWED = ("sliding_attention", "chunked_attention", "reference_sliding_attention")
_WIDE = {"hybrid_sliding": "hybrid", **dict.fromkeys(_WINDOWED, "full_attention")}  # types of layers
_TYPE = re.compile(r'"type\\*": ?\\*"(transformers(?:\.\w+)*)[.:](\w+)\\*"')  # of a tree of torch.export, as JSON inside JSON


def is_cache(kind: Any) -> bool:
    """Return whether a class is a cache of transformers, by transformers' own rule."""
    if not (isinstance(kind, type) and kind.__module__.partition(".")[0] == "transformers"):
        return False
    from transformers.exporters.exporter_dynamo import is_cache_class

    return bool(is_cache_class(kind))


def read_length(cache: Any) -> dict[str, int]:
    """Return the number of tokens that a cache was made for, as the argument of its constructor. An unused cache has no tensors to tell."""
    if "max_cache_len" not in inspect.signature(type(cache)).parameters:
        return {}
    return {"max_cache_len": max(layer.max_cache_len for layer in cache.layers)}


def register(kind: type) -> None:
    """Register a cache class with torch's pytree, as transformers does before an export."""
    from transformers.exporters.exporter_dynamo import register_pytree_node

    register_pytree_node(kind)


def register_all(serialized: str) -> None:
    """Import the classes of transformers that the structures of a serialized program name, and register the caches among them."""
    for module, name in dict.fromkeys(_TYPE.findall(serialized)):  # of a record, which may not make us import anything else
        try:
            kind: Any = getattr(importlib.import_module(module), name, None)
        except ImportError:  # torch then says which type it does not know
            continue
        if is_cache(kind):
            register(kind)


def build(kind: type, fields: Mapping[str, Any], module: torch.nn.Module, place: str) -> Any:
    """Build a cache for the config of `module`.

    fields: `layers`, a list that holds the tensors of each layer by the names of its attributes (None: a layer that holds none), and
    arguments of the constructor. The fields of a cache of two caches are passed in their order; those of another cache without layers are
    its attributes. `windows: false` makes layers of a sliding window keep all tokens (see `widen`).
    """
    layers = fields.get(LAYERS)
    rest = {name: value for name, value in fields.items() if name != LAYERS}
    try:
        if not isinstance(layers, list):
            is_pair = all(is_cache(type(value)) for value in fields.values())
            return kind(*rest.values()) if is_pair else _set(_create(kind, {}, [], module, fields), fields, place)
        cache = _create(kind, rest, layers, module)
        for index, tensors in enumerate(layers):
            if tensors is not None:
                _fill(cache.layers[index], tensors, f"{place}.{LAYERS}[{index}]")
    except LoadError:
        raise
    except Exception as error:  # constructors of transformers raise many kinds
        fix = "layers: a list of {keys: LEAF, values: LEAF}, as many as the config has"
        raise LoadError(Problem(place, f"{kind.__name__} raised {type(error).__name__}: {error}", fix)) from error
    if len(cache.layers) != len(layers):
        raise LoadError(Problem(f"{place}.{LAYERS}", f"are {len(layers)}, and the config has {len(cache.layers)}", "declare every layer"))
    return cache


def _create(kind: type, given: Mapping[str, Any], layers: list[Any], module: torch.nn.Module, states: Any = None) -> Any:
    """Create an empty cache with a layer of the right kind for each of `layers`. states: the tensors of a cache without layers."""
    formals = inspect.signature(kind).parameters
    arguments = {name: value for name, value in given.items() if name != WINDOWS}
    config = getattr(module, "config", None)
    if "config" in formals and config is not None:
        config = config.get_text_config(decoder=True)
        arguments.setdefault("config", config if given.get(WINDOWS, True) else widen(config))
    if "max_cache_len" in formals and "max_cache_len" not in arguments:
        arguments["max_cache_len"] = next(int(layer["keys"].shape[-2]) for layer in layers if layer and "keys" in layer)
    if "max_batch_size" in formals:
        largest = max((value for value in pytree.tree_leaves(states) if isinstance(value, torch.Tensor)), key=lambda value: value.dim())
        arguments |= {"max_batch_size": largest.shape[0], "dtype": largest.dtype}
    cache = kind(**arguments)
    while layers and cache.layer_class_to_replicate is not None and len(cache.layers) < len(layers):
        cache.layers.append(cache.layer_class_to_replicate())
    return cache


def widen(config: Any) -> Any:
    """Return the config for whose caches each layer of attention keeps all tokens; the masks of the model still apply its windows.

    A layer that drops tokens counts them in Python, and an export would fix that count.
    """
    from transformers.cache_utils import get_layer_types_and_kwargs

    wide = copy.deepcopy(config)
    kinds = [_WIDE.get(kind, kind) for kind in get_layer_types_and_kwargs(config)[0]]
    name = config.attribute_map.get("layer_types", "layer_types")
    if isinstance(getattr(type(config), name, None), property):  # which follows from other settings, as in RecurrentGemma
        wide.__class__ = type(type(config).__name__, (type(config),), {name: kinds})
    else:
        wide.layer_types = kinds
    return wide


def has_windows(config: Any) -> bool:
    """Return whether caches for a config drop tokens that are outside of a window."""
    from transformers import DynamicCache

    return any(getattr(layer, "is_sliding", False) for layer in DynamicCache(config=config).layers)


def _set(cache: Any, fields: Mapping[str, Any], place: str) -> Any:
    """Set the attributes of a cache without layers. A dict keeps its keys, which the fields have as text."""
    for name, value in fields.items():
        if not hasattr(cache, name):
            known = f"it has {', '.join(vars(cache))}"
            raise LoadError(Problem(f"{place}.{name}", f"{type(cache).__name__} has no attribute '{name}'", known))
        held = getattr(cache, name)
        setattr(cache, name, {key: value[str(key)] for key in held} if isinstance(held, dict) else value)
    return cache


def _fill(layer: Any, tensors: Mapping[str, Any], place: str) -> None:
    """Set the tensors of a layer as if it had been used before. They may be shared by no other object."""
    if "keys" in tensors:
        empty = (tensors["keys"][..., :0, :], tensors["values"][..., :0, :])
        layer.lazy_initialization(*empty)
    for name, value in tensors.items():
        if not hasattr(layer, name):
            known = ", ".join(name for name, held in vars(layer).items() if isinstance(held, torch.Tensor))
            raise LoadError(Problem(f"{place}.{name}", f"{type(layer).__name__} has no attribute '{name}'", f"its tensors: {known}"))
        if isinstance(value, Mapping):  # of a linear attention: its states by number
            for key, state in value.items():
                layer.lazy_initialization(**{name: state}, state_idx=int(key))
                getattr(layer, name)[int(key)] = state
                layer.has_previous_state[int(key)] = True
        else:
            setattr(layer, name, value)
