"""The true part of padded results: sliced by the counts that follow them, after the conditions of the run are checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lowering.errors import Problem, Refused
from lowering.signature import Signature


def trim(signature: Signature, computed: Sequence[Any]) -> tuple[Any, ...]:
    """Return the results that callers see of all that a program computed, each padded dim cut to its count.

    Raises Refused with every condition of the run that does not hold.
    """
    pairs = list(zip(signature.computed, computed, strict=True))
    if broken := [Problem(result.name, "does not hold on these values") for result, value in pairs if result.kind == "check" and not value]:
        raise Refused(broken)
    counts = {result.name: int(value) for result, value in pairs if result.kind == "count"}
    return tuple(_cut(value, result.dims, counts) for result, value in pairs if result.kind not in ("count", "check"))


def _cut(value: Any, dims: Sequence[int | str], counts: dict[str, int]) -> Any:
    counted = [(position, counts[dim]) for position, dim in enumerate(dims) if isinstance(dim, str) and dim in counts]
    for position, count in counted:
        value = value.narrow(position, 0, count)
    return value.clone() if counted else value
