"""A configuration tree merged from layers (files, variants, the command line) that records which layer set each value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from flows.config import yaml_files
from lowering.errors import Problem
from lowering.fitting import Keys, Misfit, join_keys


@dataclass(frozen=True)
class Layer:
    """Part of a configuration. label: the file's path for messages, or `command line`.

    inside: keys at which `data` is in the file. drop: how many leading keys of `data` are not in the file.
    """

    label: str
    data: Any
    inside: Keys = ()
    file: Path | None = None
    drop: int = 0

    def count_keys(self, keys: Keys) -> int:
        """Return how many of the leading `keys` this layer has."""
        node = self.data
        for depth, key in enumerate(keys):
            inside = key in node if isinstance(node, Mapping) else isinstance(node, list) and isinstance(key, int) and key < len(node)
            if not inside:
                return depth
            node = node[key]
        return len(keys)

    def place(self, keys: Keys) -> str:
        """Return the place of `keys` for messages, as `configs/model/bert.yaml:12 symbols.seq.max`."""
        written = (*self.inside, *keys[self.drop:])
        line = _find_line(self.file, written) if self.file else 0
        return f"{self.label}{f':{line}' if line else ''} {join_keys(written)}".rstrip()


@dataclass(frozen=True)
class Layers:
    """Layers of a configuration. data: their merge, later layers over earlier ones."""

    layers: tuple[Layer, ...]
    data: Any

    @staticmethod
    def from_layer(layer: Layer) -> Layers:
        return Layers((layer,), layer.data)

    def over(self, layer: Layer) -> Layers:
        """Return these layers with `layer` on top."""
        return Layers((*self.layers, layer), merge(self.data, layer.data))

    def on(self, layer: Layer) -> Layers:
        """Return these layers with `layer` below all of them."""
        return Layers((layer, *self.layers), merge(layer.data, self.data))

    def place(self, keys: Keys) -> str:
        """Return the place where the value at `keys` was set last, or its nearest parent if no layer has `keys`."""
        said = [layer for layer in self.layers if layer.count_keys(keys) == len(keys)]
        return (said[-1] if said else max(self.layers, key=lambda layer: layer.count_keys(keys))).place(keys)

    def problems(self, found: Iterable[Misfit]) -> list[Problem]:
        """Return misfits as problems, each at the file and line that set the value."""
        return [Problem(self.place(misfit.keys), misfit.cause, misfit.fix) for misfit in found]


class Items(dict[int, Any]):
    """Some items of a list by their index, to merge over it."""


def merge(below: Any, above: Any) -> Any:
    """Merge `above` over `below`: mappings key by key, `Items` over the items of a list; anything else is replaced."""
    if isinstance(above, Items) and isinstance(below, list):
        return [merge(item, above[index]) if index in above else item for index, item in enumerate(below)]
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: merge(below[key], value) if key in below else value for key, value in above.items()}}


def nest(keys: Keys, value: Any) -> Any:
    """Return the tree that has only `value`, at `keys`. An int is the index of an item of a list."""
    for key in reversed(keys):
        value = Items({key: value}) if isinstance(key, int) else {key: value}
    return value


def _find_line(file: Path, keys: Keys) -> int:
    """Return the line of `keys`, or of their nearest parent in the file; 0 if the file does not have the first key."""
    node, line = _parse_nodes(file, file.stat().st_mtime_ns), 0
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = next(((name, value) for name, value in node.value if name.value == str(key)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            found = (node.value[key], node.value[key])
        else:
            found = None
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


@lru_cache(maxsize=64)
def _parse_nodes(file: Path, modified: int) -> yaml.Node | None:  # noqa: ARG001 - part of the cache key: a changed file is read again
    try:
        yaml_files.read(file, unique=False)
        return yaml.compose(yaml_files.read_text(file), Loader=yaml.SafeLoader)
    except (yaml_files.Unreadable, yaml.YAMLError):
        return None
