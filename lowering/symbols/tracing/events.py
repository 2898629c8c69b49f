"""Parser of torch's log messages about symbols: a table of message templates, each with the names of its arguments."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lowering.symbols.tracing.frames import Spot


@dataclass(frozen=True)
class Event:
    """An event. data: live sympy objects or text, keyed by the argument names in the tables below; stack: model frames, innermost last."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    stack: tuple[Spot, ...] = ()
    seconds: float = 0.0


# Key of the data of an assumption or a guard: the names of torch's functions that asked, as a set.
ASKED_BY = "asked_by"

# Functions of torch whose assumptions say nothing about results. Those on contiguity decide strides, which no program of ours has. A
# broadcast that torch takes for none asserts that the sizes are equal. The size of a slice that is not known gets a symbol of its own.
_STRIDES = ("is_contiguous", "check_contiguous_sizes_strides", "is_contiguous_for_memory_format", "is_channels_last_contiguous_2d",
            "is_channels_last_contiguous_3d", "_is_non_overlapping_and_dense_or_false", "is_non_overlapping_and_dense_or_false",
            "are_strides_like_channels_last_or_false", "compute_elementwise_output_logical_to_physical_perm",
            "_get_output_tensor_from_cache_entry", "make_contiguous_strides_for", "_extract_tensor_metadata")  # fmt: skip
_NO_CONDITION = frozenset((*_STRIDES, "constructors", "_broadcast_shapes", "_compute_slice_index", "slice_forward"))

# Message templates of the logger `torch.fx.experimental.symbolic_shapes`. Others add no information about symbols.
TEXT: dict[str, tuple[str, tuple[str, ...]]] = {
    "create_env": ("env", ()),
    "create_symbol %s = %s for %s %s %s%s%s": ("symbol", ("symbol", "value", "source", "range", "location", "advice", "detail")),
    "%s %s [%s, %s] %s%s": ("unbacked", ("made_by", "symbol", "lower", "upper", "location", "detail")),
    "create_symbol %s duck sized %s": ("shared", ("symbol", "source")),
    "_update_var_to_range %s = %s (update)": ("range", ("symbol", "range")),
    "_update_var_to_range %s = %s (new)": ("range", ("symbol", "range")),
    "set_replacement %s = %s (%s) %s": ("replacement", ("symbol", "target", "reason", "range")),
    "%s %s [guard added] %s%s%s": ("guard", ("prefix", "expr", "location", "advice", "detail")),
    "could not evaluate %s due to data dependency, it was assumed to be %s with no runtime assertions %s %s": (
        "assumption", ("expr", "assumed", "location", "detail")),
    "Ignored guard %s == %s, this could result in accuracy problems": ("ignored", ("expr", "assumed")),
    "propagate_real_tensors evaluate_expr(%s) -> %s": ("real_value", ("expr", "assumed")),
    "rebind_unbacked: discard %s %s %s -> %s": ("discarded", ("target", "symbol", "path", "value")),
    "produce_guards": ("guards_produced", ()),
}

# Events of the structured trace that add to the text.
STRUCTURED = {
    "symbolic_shape_specialization": "specialization",
    "missing_fake_kernel": "missing_fake_kernel",
    "mismatched_fake_kernel": "mismatched_fake_kernel",
}


def read_text(record: logging.LogRecord) -> tuple[str, dict[str, Any]] | None:
    """Return the kind and the data of a record of the shapes logger, or None if it is not relevant."""
    row = TEXT.get(record.msg)
    if row is None:
        return None
    kind, names = row
    values = record.args if isinstance(record.args, tuple) else (record.args,) if record.args else ()
    data = dict(zip(names, values, strict=True))
    if record.stack_info:
        data["detail"] = f"{data.get('detail', '')}\n{record.stack_info}"
    return kind, data


def read_structured(record: logging.LogRecord) -> tuple[str, dict[str, Any]] | None:
    """Return the same for a record of torch's structured trace."""
    metadata: Mapping[str, Any] = getattr(record, "metadata", {})
    name = next((name for name in STRUCTURED if name in metadata), None)
    return (STRUCTURED[name], dict(metadata[name])) if name else None


def decides_nothing(event: Event) -> bool:
    """Return whether the results are the same whether or not an assumption is true, by the function of torch that made it."""
    return event.kind == "assumption" and not _NO_CONDITION.isdisjoint(event.data.get(ASKED_BY, ()))


def is_of_slice(event: Event) -> bool:
    """Return whether an assertion says that a size which data decide is one that a slice can have, which is always true."""
    return "slice_forward" in event.data.get(ASKED_BY, ())
