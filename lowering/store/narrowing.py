"""Results for narrower ranges of a model, derived from a stored result for wider ones where both have the same program."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lowering import files, tracking
from lowering.model import Model
from lowering.plain import from_plain, to_plain
from lowering.sizes.ranges import Range
from lowering.store import keys
from lowering.store.digests import compute_digest
from lowering.store.entries import Entry, Store
from lowering.symbols.log.narrowing import Narrowing, Separate, Sharing, drop_times
from lowering.symbols.schema import SymbolRecord

FAMILIES = "families"  # kind of notes: the stored results of a model by ranges
_MOST = 32  # results that a family remembers
_ORDERS = ("<", ">", "!=")  # a guard on a range

Ranges = dict[str, list[int | None]]  # symbol -> [min, max]


@dataclass(frozen=True)
class Derived:
    """The content of a derived entry. `narrowed` in its data says how the ranges differ: `seq.max: 512 -> 128`."""

    data: dict[str, Any]
    ir: bytes


@dataclass(frozen=True)
class Wider:
    """A stored result of wider ranges.

    read: what the model's factory read for it, by name, with digests. obstacle: why narrower ranges cannot share it; empty if they may.
    """

    key: str
    ranges: Ranges
    read: dict[str, str]
    obstacle: str


def list_wider(store: Store, parts: Mapping[str, Any]) -> list[Wider]:
    """Return the results that differ from the one with these parts only in wider ranges, the widest first."""
    own = _read_ranges(parts)
    held = [one for one in _read_family(store, parts) if _contains(one.ranges, own) and tracking.digest(one.read, os.environ) == one.read]
    return sorted(held, key=lambda one: -sum(_contains(one.ranges, other.ranges) for other in held))


def remember(store: Store, parts: Mapping[str, Any], key: str, obstacle: str) -> None:
    """Note a result, so that jobs with narrower ranges find it. Raises OSError."""
    own = Wider(key, _read_ranges(parts), dict(parts["model"]["read"]), obstacle)
    others = [one for one in _read_family(store, parts) if one.ranges != own.ranges]
    store.notes.write(FAMILIES, _name_family(parts), [to_plain(one) for one in (*others[-_MOST + 1 :], own)])


def _read_family(store: Store, parts: Mapping[str, Any]) -> list[Wider]:
    """Return the results of a family; none if its note is of another form."""
    try:
        return [from_plain(Wider, one) for one in store.notes.read(FAMILIES, _name_family(parts)) or ()]
    except (TypeError, ValueError, KeyError, AttributeError):
        return []


def derive(entry: Entry, ranges: Ranges, narrow: Model) -> Derived:
    """Return the result for the ranges of `narrow`. ranges: those of the same model that `entry` was made with.

    Raises Separate if a result made by itself could be another one.
    """
    wide = replace(narrow, symbols={name: replace(symbol, min=ranges[name][0] or 0, max=ranges[name][1])
                                    for name, symbol in narrow.symbols.items()})
    said = list(entry.data["said"])
    reports = _read_reports(entry.data)
    if "sharing" not in reports:
        raise Separate("the result has no record of the questions on sizes that it left open")
    sharing = from_plain(Sharing, reports["sharing"])
    if sharing.obstacle:
        raise Separate(sharing.obstacle)
    record = SymbolRecord.from_json(reports["symbols"])
    narrowing = Narrowing(record, wide, narrow)
    narrowed = narrowing.narrow_record(sharing)
    signature = {**entry.data["signature"], "symbols": _narrow_bounds(entry.data["signature"]["symbols"], narrow)}
    ir = _narrow_graph(entry.ir(), narrowing)
    data = {**entry.data, "said": list(_narrow_events(said, record, narrowed, entry.data["stage"])), "signature": signature,
            "identity": compute_digest([entry.data["level"], compute_digest(ir), signature]),
            "narrowed": ", ".join(_describe_change(wide, narrow))}
    return Derived(data, ir)


def list_differences(derived: Derived, entry: Entry) -> list[str]:
    """Return in which parts a derived result differs from one made by itself."""
    records = [drop_times(SymbolRecord.from_json(_read_reports(data)["symbols"])) for data in (derived.data, entry.data)]
    found = {"the program": derived.ir != entry.ir(),
             "the signature": json.loads(files.encode_json(derived.data["signature"])) != entry.data["signature"],
             "the symbol record": records[0] != records[1],
             "the warnings": _list_warnings(derived.data) != _list_warnings(entry.data)}
    return [part for part, differs in found.items() if differs]


def _read_reports(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that the stage reported, by key."""
    return {event["key"]: event["data"] for event in data["said"] if event["event"] == "report"}


def _list_warnings(data: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [(event["code"], event["message"], event["place"]) for event in data["said"] if event["event"] == "warning"]


def _narrow_bounds(bounds: Mapping[str, Any], narrow: Model) -> dict[str, Any]:
    if bounds.keys() != narrow.symbols.keys():
        raise Separate("the signature bounds sizes that no symbol declares")
    return {name: {**bound, "min": narrow.symbols[name].min, "max": narrow.symbols[name].max} for name, bound in bounds.items()}


def _narrow_graph(dumped: bytes, narrowing: Narrowing) -> bytes:
    """Return the serialized program with narrower ranges, the only place where it has any."""
    head, _, saved = dumped.partition(b"\n")
    tree = json.loads(saved)
    if json.dumps(tree, allow_nan=False).encode() != saved:
        raise Separate("the stored program has another form")
    ordered = sum(any(sign in guard for sign in _ORDERS) for guard in tree.get("guards_code") or ())
    if ordered and not narrowing.implies_guards(ordered):
        raise Separate("the program has guards on ranges")
    for expr, span in tree["range_constraints"].items():
        found = narrowing.narrow_constraint(expr, Range(span["min_val"], span["max_val"]))
        span["min_val"], span["max_val"] = found.lower, found.upper
    return head + b"\n" + json.dumps(tree, allow_nan=False).encode()


def _narrow_events(said: list[Any], record: SymbolRecord, narrowed: SymbolRecord, stage: str) -> Iterator[dict[str, Any]]:
    """Iterate over the events of the stage, with the record and its warnings replaced."""
    own = {(warning.code, warning.text, warning.place) for warning in record.warnings}
    for event in said:
        if event["event"] == "report" and event["key"] == "symbols":
            yield {**event, "data": narrowed.to_json()}
            for warning in narrowed.warnings:
                yield {"event": "warning", "code": warning.code, "message": warning.text, "place": warning.place, "stage": stage}
        elif event["event"] != "warning" or (event["code"], event["message"], event["place"]) not in own:
            yield dict(event)


def _describe_change(wide: Model, narrow: Model) -> Iterator[str]:
    for name, symbol in narrow.symbols.items():
        for end in keys.ENDS:
            before, after = getattr(wide.symbols[name], end), getattr(symbol, end)
            if before != after:
                yield f"{name}.{end}: {before} -> {after}"


def _name_family(parts: Mapping[str, Any]) -> str:
    """Return the digest of the parts, without those in which members of a family may differ."""
    stage = {option: value for option, value in parts["stage"].items() if option != "share"}
    return compute_digest({**parts, "stage": stage, "model": {**keys.drop_ranges(parts["model"]), "read": {}}})


def _read_ranges(parts: Mapping[str, Any]) -> Ranges:
    return {name: [symbol.get(end) for end in keys.ENDS] for name, symbol in parts["model"]["declared"]["symbols"].items()}


def _contains(wide: Ranges, narrow: Ranges) -> bool:
    """Return whether all ranges of `narrow` are within those of `wide`, and one is narrower."""
    if wide == narrow or wide.keys() != narrow.keys():
        return False
    return all(Range(*narrow[name]).within(Range(*wide[name])) for name in wide)
