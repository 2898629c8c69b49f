"""The entries of a model's file: each is a model with a method, arguments and symbols of its own, and the weights of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from flows.config.layers import Layer, Layers, merge
from flows.config.slugs import NAME, make_name_problem
from lowering.errors import Problem, suggest
from lowering.fitting import Keys, Misfit, find_misfits
from lowering.model import Model
from lowering.plain import from_plain
from lowering.trees import Tree

SHARED = ("inputs", "constants", "symbols")
Place = Callable[[Keys], str]


def build(name: str, tree: Mapping[str, Any]) -> list[tuple[Model, Callable[[Keys], Keys]]]:
    """Build the model of each entry, or the only model of a file without entries.

    tree: a model's file as plain data. Each model comes with the function that returns where the file has one of its keys.
    """
    rest = {key: value for key, value in tree.items() if key != "entries"}
    entries: Mapping[str, Mapping[str, Any]] = _list_entries(tree)
    if not entries:
        return [(from_plain(Model, {"name": name, **rest}), lambda keys: keys)]
    built: dict[str, Model] = {}
    for entry in _sort_by_order(entries):
        before = entries[entry].get("after")
        built[entry] = replace(_build_entry(name, rest, entry, entries[entry]), after=built.get(before) if before else None)
    return [(built[entry], _locate(rest, entry, said)) for entry, said in entries.items()]


def _sort_by_order(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of entries, each after the one named by its `after`. Entries in a circle, which is reported, come last."""
    found: list[str] = []
    while ready := [name for name, said in entries.items() if name not in found and (said.get("after") in (None, *found)
                                                                                     or said["after"] not in entries)]:
        found += ready
    return found + [name for name in entries if name not in found]


def find_entry_misfits(tree: Mapping[str, Any]) -> Iterator[Misfit]:
    """Yield the misfits of each entry's inputs, merged over those that all entries share."""
    for entry, said in _list_entries(tree).items():
        locate = _locate(tree, entry, said)
        for misfit in find_misfits(Mapping[str, Tree], _merge(tree, said, "inputs"), ("inputs",)):
            yield misfit._replace(keys=locate(misfit.keys))


def _list_entries(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the entries of a file by name, without those that are null: left out of the ones that its factory implies."""
    return {name: said for name, said in (tree.get("entries") or {}).items() if said is not None}


def check_dropped(layers: Layers) -> Iterator[Problem]:
    """Yield a problem for each entry that is set to null although no layer declares it."""
    declared = {name for layer in layers.layers if isinstance(said := layer.data.get("entries"), Mapping)
                for name, entry in said.items() if entry is not None}
    for name, entry in (layers.data.get("entries") or {}).items():
        if entry is None and name not in declared:
            yield Problem(layers.place(("entries", name)), f"drops '{name}', but there is no such entry",
                          suggest(name, declared) or f"entries: {', '.join(declared) or 'none'}")


def _merge(rest: Mapping[str, Any], said: Mapping[str, Any], key: str) -> Any:
    return merge(rest.get(key) or {}, said.get(key) or {})


def find_problems(tree: Mapping[str, Any], models: list[Model], place: Place) -> Iterator[Problem]:
    """Yield the problems of the entries as a whole: names that cannot be those of functions, and shared symbols that none uses."""
    entries = _list_entries(tree)
    for entry in entries:
        if not entry.isidentifier():
            yield Problem(place(("entries", entry)), f"'{entry}' cannot be the name of a function", "use letters, digits and _")
        elif not NAME.fullmatch(entry):
            yield make_name_problem(entry, place(("entries", entry)))
    placed: set[str] = set()
    for entry in _sort_by_order(entries):
        before, at = entries[entry].get("after"), place(("entries", entry, "after"))
        if before is not None and before not in entries:
            yield Problem(at, f"there is no entry '{before}'", suggest(before, entries) or "name another entry")
        elif before is not None and before not in placed:
            yield Problem(at, f"'{before}' comes after '{entry}' too", "an entry comes after an earlier one")
        placed.add(entry)
    for symbol in tree.get("symbols") or {} if entries else ():
        if not any(symbol in model.symbols for model in models):
            yield Problem(place(("symbols", symbol)), "is not used in the inputs of any entry", "use it in a shape or remove it")


def _build_entry(name: str, rest: Mapping[str, Any], entry: str, said: Mapping[str, Any]) -> Model:
    merged = {key: _merge(rest, said, key) for key in SHARED}
    model = from_plain(Model, {"name": name, **rest, **merged, "method": said.get("method", "forward"), "entry": entry})
    try:
        used = model.select_symbols()
    except ValueError:  # reported by Model.problems
        return model
    if not used <= model.symbols.keys():  # reported too, with the closest of all symbols
        return model
    kept = {symbol: value for symbol, value in model.symbols.items() if symbol in used or symbol in (said.get("symbols") or {})}
    return replace(model, symbols=kept, buckets={symbol: sizes for symbol, sizes in model.buckets.items() if symbol in kept})


def _locate(rest: Mapping[str, Any], entry: str, said: Mapping[str, Any]) -> Callable[[Keys], Keys]:
    """Return the function that says whether a key of an entry's model is the entry's own, or one that it shares with the others."""
    shared, own = Layer("", rest), Layer("", said)
    return lambda keys: ("entries", entry, *keys) if own.count_keys(keys) and own.count_keys(keys) >= shared.count_keys(keys) else keys
