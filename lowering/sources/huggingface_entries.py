"""The entries of a generative model of transformers: which programs serve it, their arguments, and the dims that vary.

`python -m lowering.sources.huggingface_entries` reads the arguments of `huggingface.generation` from stdin, a line of JSON for each model,
and answers with a line.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
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
from lowering.sources.huggingface_runs import OTHERS, SIZES, TOKEN_TYPES, Run, list_sizes, record, shrink
from lowering.sources.images import EMBEDDING, ENCODER, PROJECTORS, list_parts

_FLAGS = frozenset(("use_cache", "return_dict", "logits_to_keep", "output_attentions", "output_hidden_states"))


def derive(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return `entries` and `symbols`, as a model's file has them, of a model that `huggingface.generation(**arguments)` builds.

    The model generates two tokens at several sizes of its inputs. Raises LoadError if it cannot.
    """
    small, layers = shrink(arguments)
    module = huggingface.generation(**small)
    limits = huggingface.SizeLimits.read(module, arguments.get("cache", "dynamic"), arguments.get("max_length"))
    names = [name for name in SIZES if name in list_sizes(module)]
    try:
        runs = [record(module, SIZES, limits)] + [record(module, {**SIZES, name: OTHERS[name]}, limits) for name in names]
    except ShapelineError:
        raise
    except Exception as error:  # generate() of any architecture
        cause = error.__cause__ or error
        fix = "complete the config, or declare the entries in the file of a model that huggingface.build makes"
        raise LoadError(Problem("factory", f"generate() raised {type(cause).__name__}: {cause}", fix)) from error
    config = huggingface.make_config(arguments["config"], arguments.get("kwargs")).get_text_config(decoder=True)
    methods = {"encoder": _find_path(module, module.get_encoder())} if "encoder" in runs[0].calls else {}
    methods |= {name: _find_path(module, part) for name, part in list_parts(module).items()}
    kind = _find_kind(runs[0].calls["decode"].values())
    found = {name: _Writer(name, names, runs, limits, module, kind, config, layers, methods.get(name)).write() for name in runs[0].calls}
    if kind == "static":
        held = {name: tree for name, tree in found["decode"]["inputs"].items() if '"cumulative_length"' in json.dumps(tree)}
        found["prefill"]["inputs"] |= {name: _fill_with_zeros(tree) for name, tree in held.items()}
    chain = [name for name in found if name not in (ENCODER, *PROJECTORS, EMBEDDING)]  # the results of these go on to the next
    for before, name in pairwise(chain):
        found[name] = {"after": before, **found[name]}
    used = json.dumps(found)
    symbols = {name: {"min": 1, "max": high} for name, high in limits.largest.items() if re.search(rf'"(\d+\*)?{name}( [+-] \d+)?"', used)}
    return {"entries": found, "symbols": symbols}


def _find_kind(arguments: Collection[Any]) -> Literal["growing", "static", "states"]:
    """Return the kind of the caches of a step: `growing` with the tokens, `static` of a fixed number of tokens, or only `states`."""
    from transformers.exporters.utils import get_leaf_tensors

    found = [cache for cache in arguments if caches.is_cache(type(cache))]
    leaves = [name for cache in found for name in get_leaf_tensors(cache)]
    if any(name.endswith("cumulative_length") for name in leaves):
        return "static"
    return "growing" if any(name.endswith((".keys", ".values")) for name in leaves) else "states"


def _grows(tree: Any) -> bool:
    """Return whether a dim of a tree depends on the tokens before a step."""
    return '"past' in json.dumps(tree) or "*past" in json.dumps(tree)


def _find_path(module: torch.nn.Module, part: torch.nn.Module) -> str:
    return next(name for name, found in module.named_modules() if found is part)


def _fill_with_zeros(tree: Any) -> Any:
    """Return the tree of a cache whose tensors are zeros."""
    if isinstance(tree, Mapping):
        zeros = {"fill": "zeros"} if "dtype" in tree else {}
        return {key: _fill_with_zeros(value) for key, value in tree.items()} | zeros
    return [_fill_with_zeros(value) for value in tree] if isinstance(tree, list) else tree


@dataclass(frozen=True)
class _Writer:
    """Writes the arguments of one entry as the trees of a model's file, from the arguments of several runs."""

    entry: str
    names: Sequence[str]
    runs: Sequence[Run]
    limits: huggingface.SizeLimits
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
        if last == TOKEN_TYPES:
            return {"randint": [0, 2]}
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
        held = [not isinstance(layer, transformers.cache_utils.DummyLayer) for layer in values[0].layers]
        if empty := [index for index, layer in enumerate(layers) if held[index] and not layer]:
            cause = f"layers {', '.join(map(str, empty))} of its {kind.__name__} hold no tensors after a prompt"
            fix = "a model whose states are attributes of its modules has no program of a step"
            raise LoadError(Problem("architecture", cause, fix))
        written = [dict(layer) if holds else None for layer, holds in zip(layers, held, strict=True)]
        same = all(layer == written[0] for layer in written)
        tree: dict[str, Any] = {recipe.TARGET: target}
        if self.limits.has_windows:
            tree[caches.WINDOWS] = False
        if not _grows(written):
            tree["state"] = True
        return tree | {caches.LAYERS: {"repeat": self.layers or len(written), **first} if same and (first := written[0]) else written}

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
