"""Keys of stage results. A key consists of named parts, one per dependency, so that a miss can be explained by the parts that changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lowering import environments, recipe, tracking
from lowering.store import provenance
from lowering.store.digests import compute_digest

WORDS = {"input": "the input changed", "weights": "the weights changed", "levels": "a level above changed",
         "twin": "a stage that lowers the twin changed"}
SCHEMA = 3  # of the parts, and of the format of saved levels; raise it when either changes
ENDS = ("min", "max")  # of a symbol's range
MODEL = "model"  # the input of a first stage; its dependencies are in the part `model`


def list_stage_parts(spec: Mapping[str, Any], given: str) -> dict[str, Any]:
    """Return the parts common to all stages. spec: the stage's recipe with all options; given: the identity of its input."""
    target = spec[recipe.TARGET]
    return {"schema": SCHEMA, "stage": dict(spec), "input": given, "source": provenance.digest_sources(target),
            "tools": provenance.list_versions(target)}


def describe_model(model: Mapping[str, Any], read: Iterable[str] = (), environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Describe a model (as JSON) by its declaration, the code that builds it, and the files that it names.

    read: files and variables that its factory read the last time it ran (see lowering.tracking). environment: the variables.
    """
    code = provenance.list_targets(model) + [library["module"] for library in model.get("libraries", ())
                                           if isinstance(library, Mapping) and library.get("module")]
    return {"declared": dict(model), "source": provenance.digest_sources(*code), "tools": provenance.list_versions(*code),
            "files": provenance.digest_named_files(model), "read": tracking.digest(read, environment or {})}


def drop_ranges(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model that `describe_model` describes, without the ends of the ranges of its symbols."""
    declared = model["declared"]
    symbols = {name: {part: value for part, value in symbol.items() if part not in ENDS} for name, symbol in declared["symbols"].items()}
    return {**model, "declared": {**declared, "symbols": symbols}}


def describe_interface(model: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the declaration of a model (as JSON), without the code and weights of its module."""
    declared = {name: value for name, value in model.items() if name not in ("factory", "seed")}
    return {"declared": declared, "source": {}, "tools": {}, "files": provenance.digest_named_files(declared)}


def list_job_parts(job: Mapping[str, Any], devices: Mapping[str, Any], read: Iterable[str] = (),
                   environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return everything that the result of a whole job (as JSON) depends on. read, environment: as in `describe_model`."""
    targets = [spec[recipe.TARGET] for spec in job["stages"].values()]
    parts = {"schema": SCHEMA, "stages": list(job["stages"].items()), "until": job["until"],
             "strict_dims": job.get("strict_dims", False), "model": describe_model(job["model"], read, environment),
             "devices": devices, "source": provenance.digest_sources(*targets), "tools": provenance.list_versions(*targets)}
    if asked := job.get("environment"):  # the versions in this process may not be those of the job's
        return parts | {"model": parts["model"] | {"tools": {}}, "tools": environments.describe(asked)}
    return parts


def compute(parts: Mapping[str, Any]) -> str:
    return compute_digest(parts)


def explain_miss(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> str:
    """Describe the changes since the last result of the same stage: `seq.max: 512 -> 128; lowering/ir/mlir.py changed`."""
    if old is None:
        return "first time"
    return "; ".join(_describe_changes(old, new)) or "no longer in the store, or the last attempt failed"


def _describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for part in sorted({*old, *new}):
        before, after = old.get(part), new.get(part)
        if before == after:
            continue
        if part == "source":
            yield _join_names(_name_changes(before, after))
        elif part in ("model", "interface") and before and after:
            found = [f"{what} -> {now}" for what, now in _find_differences(before["declared"], after["declared"])]
            changed = [name for kind in ("source", "files", "read") for name in _name_changes(before.get(kind), after.get(kind))]
            found += [_join_names(changed)] if changed else []
            found += [f"{name} {was} -> {now}" for name, was, now in _pair_changes(before["tools"], after["tools"])]
            yield f"{part}: {', '.join(found[:4])}" + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        elif part == "stage":
            yield ", ".join(f"option {what} -> {now}" for what, now in _find_differences(before, after))
        elif part == "tools":
            yield ", ".join(f"{name} {was} -> {now}" for name, was, now in _pair_changes(before, after))
        else:
            yield WORDS.get(part, f"{part} changed")


def _find_differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (`key.key: old value`, new value) for each leaf that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _find_differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield f"{path}: {old}", new


def _pair_changes(old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> list[tuple[str, str, str]]:
    before, after = old or {}, new or {}
    pairs = [(name, before.get(name, "none"), after.get(name, "none")) for name in sorted({*before, *after})]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _name_changes(old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> list[str]:
    return [name for name, _, _ in _pair_changes(old, new)]


def _join_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") + " changed"
