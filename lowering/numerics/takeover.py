"""Comparisons that are taken over from an earlier one of an equal program with an equal reference on equal inputs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from lowering import types
from lowering.errors import ShapelineError
from lowering.numerics.bench import EXAMINED_SECONDS, Bench
from lowering.numerics.coverage.corners import Sizes
from lowering.numerics.reference import Reference, digest_named
from lowering.numerics.running.runner import LevelRun, Tensors
from lowering.numerics.verification import LevelCheck
from lowering.plain import from_plain, to_plain
from lowering.store import verdicts

_EXAMINED = "-examined"  # in the names of verdicts on results that `Bench.check` examined
_REPEATED_SECONDS = 0.05  # of an eager run that is measured twice


class Data:
    """Inputs, weights in place of the module's own, and the reference of one comparison, of which several levels have the digest."""

    def __init__(self, bench: Bench, given: Tensors, reference: Reference, weights: Tensors) -> None:
        self.bench, self.given, self.reference, self.weights = bench, given, reference, weights

    @cached_property
    def parts(self) -> list[bytes]:
        """All that a comparison depends on beside the program, the model, and the options of the stage."""
        made = [[types.dtype_name(making.narrowest) if making.narrowest else None, making.is_random] for making in self.bench.makings]
        settings = [made, to_plain(self.bench.signature.returned), to_plain(self.bench.signature.arguments), self.reference.is_close]
        return [json.dumps(settings).encode(), digest_named(self.given).encode(), digest_named(self.weights).encode(),
                self.reference.digest.encode()]

    @property
    def is_fixed(self) -> bool:
        """Whether nothing that a comparison does depends on earlier ones, or on random numbers."""
        return not (self.bench.is_random or self.bench.makes_integers or self.bench.has_vectors or self.reference.runs)


def check(data: Data, run: LevelRun, rank: int, compare: Callable[[], LevelCheck]) -> LevelCheck:
    """Return the verdict of an earlier equal comparison, or that of `compare`, which later ones take over if all results agree.

    rank: of the effort of compilations; an earlier comparison is equal if it made the same or more.
    """
    held, start = verdicts.current(), time.perf_counter()
    is_examined = data.reference.seconds < EXAMINED_SECONDS
    key = _compute_key(held, data, run) if held is not None and data.is_fixed else None
    if held is None or key is None:
        return compare()
    # a comparison that was examined says more than one that was not
    found = held.find(f"{key}{_EXAMINED}") or (None if is_examined else held.find(key))
    if found is not None and found["rank"] >= rank:
        data.bench.noted += [(code, place, message) for code, place, message in found["noted"]]
        return replace(from_plain(LevelCheck, found["check"]), seconds=time.perf_counter() - start, maker=found["maker"])
    before = len(data.bench.noted)
    checked = compare()
    if checked.agrees and data.is_fixed:
        verdict = {"check": to_plain(checked), "noted": data.bench.noted[before:], "rank": rank}
        held.put(f"{key}{_EXAMINED}" if is_examined else key, verdict)
    return checked


def measure(bench: Bench, sizes: Sizes) -> float:
    """Return the CPU seconds of one eager run at `sizes`, measured by this job or an earlier one of the same model and machine."""
    held = verdicts.current()
    key = held.compute_key([b"seconds", json.dumps(dict(sizes), sort_keys=True).encode()]) if held is not None else ""
    if held is not None and (found := held.find(key)) is not None:
        return float(found["seconds"])
    seconds = bench.seconds(sizes)
    if held is not None:
        if seconds > _REPEATED_SECONDS:
            seconds = min(seconds, bench.seconds(sizes))  # later jobs do not measure what else ran here
        held.put(key, {"seconds": seconds})
    return seconds


def _compute_key(held: verdicts.Verdicts, data: Data, run: LevelRun) -> str | None:
    try:
        program = run.identify(data.bench.select_inputs(data.given))
    except ShapelineError:  # the comparison reports it
        return None
    return None if program is None else held.compute_key([run.form.level.word.encode(), program.encode(), *data.parts])

