"""Names of the leaves of pytrees: the arguments and the results of a module.

A leaf is named by its path, joined by dots. Where a class flattens itself without names, as the caches of transformers do, the path leads
through its attributes: `past_key_values.layers.0.keys`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

LONE = "output"  # name of the leaf of a tree that is a single leaf


def name_leaves(spec: pytree.TreeSpec) -> list[str]:
    """Return the name of each leaf of a pytree (`last_hidden_state`, `0.keys`), or `output` for a lone leaf."""
    return [name or LONE for name, _ in flatten(build_marked(spec))]


def build_marked(spec: pytree.TreeSpec) -> Any:
    """Return a tree of this structure, with an empty tensor of its own as each leaf."""
    return pytree.tree_unflatten([torch.empty(0) for _ in range(spec.num_leaves)], spec)


def flatten(tree: Any) -> list[tuple[str, Any]]:
    """Return the leaves of a tree with their names, in torch's order."""
    paths = list(_list_paths(tree, ()))
    inner: dict[int, dict[int, str]] = {}
    return [(".".join(_list_words(tree, path, leaf, inner)), leaf) for path, leaf in paths]


def _list_paths(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Iterate over the leaves of a tree with their paths, as `tree_flatten_with_path` does, which refuses a class that gives no keys."""
    handler = pytree.SUPPORTED_NODES.get(pytree._get_node_type(node))
    if handler is None:
        yield path, node
        return
    if handler.flatten_with_keys_fn is not None:
        keyed, _ = handler.flatten_with_keys_fn(node)
    else:
        keyed = [(pytree.SequenceKey(index), child) for index, child in enumerate(handler.flatten_fn(node)[0])]
    for key, child in keyed:
        yield from _list_paths(child, (*path, key))


def list_sources(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of each leaf of the keyword arguments, by the way torch.export's guards write it: `L['state'].hidden[0]`."""
    paths, _ = pytree.tree_flatten_with_path(tree)
    names = [name for name, _ in flatten(tree)]
    return {f"L['{path[0].key}']" + "".join(map(_format_access, path[1:])): name  # type: ignore[attr-defined]
            for (path, _), name in zip(paths, names, strict=True)}


def describe(tree: Any, names: Mapping[int, str]) -> Any:
    """Return a tree as JSON data with names as leaves. names: by the id of a leaf; an object is a mapping with its class as `_target_`."""
    if id(tree) in names:
        return names[id(tree)]
    if isinstance(tree, Mapping):
        return {str(key): describe(value, names) for key, value in tree.items()}
    if isinstance(tree, list | tuple | deque):
        return [describe(value, names) for value in tree]
    if type(tree) in pytree.SUPPORTED_NODES or hasattr(tree, "__dict__"):
        held = {name: found for name, value in vars(tree).items() if _has_name(found := describe(value, names))}
        return {"_target_": f"{type(tree).__module__}.{type(tree).__qualname__}", **held} if held else None
    return tree if isinstance(tree, bool | int | float | str) else None


def _has_name(described: Any) -> bool:
    """Return whether a described attribute is more than a setting of its object."""
    if isinstance(described, Mapping):
        return any(map(_has_name, described.values()))
    return any(map(_has_name, described)) if isinstance(described, list) else isinstance(described, str)


def _list_words(tree: Any, path: tuple[Any, ...], leaf: Any, inner: dict[int, dict[int, str]]) -> Iterator[str]:
    """Iterate over the words of a leaf's name. inner: the names of the leaves inside each object without names, by its id."""
    node = tree
    for key in path:
        if isinstance(key, pytree.SequenceKey) and not isinstance(node, list | tuple | deque):
            known = inner.get(id(node))
            if known is None:
                known = inner[id(node)] = dict(_walk(node, ""))
            yield known.get(id(leaf), str(key.idx))
            return
        yield _format_key(key)
        node = key.get(node)


def _walk(value: Any, name: str) -> Iterator[tuple[int, str]]:
    """Iterate over the tensors and symbolic numbers that a value holds, by id, with the paths to them."""
    if isinstance(value, torch.Tensor | torch.SymInt | torch.SymFloat | torch.SymBool):
        yield id(value), name
        return
    children: Iterator[tuple[Any, Any]] | enumerate[Any] | tuple[()] = ()
    if isinstance(value, Mapping):
        children = iter(value.items())
    elif isinstance(value, list | tuple | set | frozenset | deque):
        children = enumerate(value)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        children = iter(vars(value).items())
    for key, child in children:
        yield from _walk(child, f"{name}.{key}" if name else str(key))


def _format_key(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _format_access(key: Any) -> str:
    return f".{key.name}" if isinstance(key, pytree.GetAttrKey) else f"[{_format_key(key)!r}]" if isinstance(
        getattr(key, "key", None), str) else f"[{_format_key(key)}]"
