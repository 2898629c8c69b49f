"""Interface of a stage: a frozen dataclass of options that lowers a program from one level to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol

from lowering.errors import Problem
from lowering.level import Level, Program


class Rung(Protocol):
    """The levels of a stage, by which a ladder of stages is checked: the one it takes and the one it gives."""

    @property
    def source(self) -> Level: ...

    @property
    def target(self) -> Level: ...


Report = Literal["symbols", "verify", "buckets", "sharing"]


class Note(Protocol):
    """Logger passed to a stage. Everything is recorded immediately, so it survives any end of the stage.

    `__call__`: warn. `code` is a short, stable word; `place` is a user line, dim or op.
    `report`: add data to the job's record under `symbols` (the symbol log), `verify` ({points, max_abs, max_rel}) or `buckets` (a list of
        them), or keep with the result under `sharing` what jobs with narrower ranges need to take it; the last call counts.
    `file`: write a file beside the stage's other files, under its name with `suffix`; it is kept even if the stage fails. Raises OSError.
    """

    def __call__(self, code: str, message: str, place: str = "") -> None: ...

    def report(self, key: Report, data: Any) -> None: ...

    def file(self, suffix: str, data: bytes) -> None: ...


class Silent:
    """A Note that discards everything, for lowering from a REPL or a benchmark."""

    def __call__(self, code: str, message: str, place: str = "") -> None:
        pass

    def report(self, key: Report, data: Any) -> None:
        pass

    def file(self, suffix: str, data: bytes) -> None:
        pass


# Dependencies that a stage can have beyond its options, its code, and the IR and signature of its input.
Read = Literal["model", "interface", "weights", "levels", "devices"]
Sharing = Literal["auto", "off", "check"]  # whether a stage's result is derived from that of wider ranges, or compared with it
EVERYTHING: frozenset[Read] = frozenset(("model", "interface", "weights", "levels", "devices"))


@dataclass(frozen=True)
class Stage:
    """One step down the ladder. Subclasses are frozen dataclasses of plain values, one per file of lowering/stages/.

    least: of numeric options, the smallest value, as a literal: `validate` reads it from the source. takes_twin: whether the stage runs the
    program, so that a program without weights comes with its `twin`.
    """

    source: ClassVar[Level]
    target: ClassVar[Level]
    least: ClassVar[Mapping[str, float]] = MappingProxyType({})
    takes_twin: ClassVar[bool] = False

    def requires(self, program: Program) -> Sequence[Problem]:
        """List everything in `program` that this stage cannot lower. `apply` runs only if the list is empty."""
        return ()

    def apply(self, program: Program, note: Note) -> Program:
        """Lower `program` to the target level. Raises Unsupported or StageFailed."""
        raise NotImplementedError

    def ensures(self, program: Program) -> Sequence[Problem]:
        """List the problems of this stage's result. Any problem fails the stage."""
        return ()

    def reads(self) -> frozenset[Read]:
        """Return the dependencies of the result and its files beyond the options, the code, and the IR and signature of the input.

        The fewer there are, the more often results can be taken from the store. `model`: the whole declaration and its code; `interface`:
        the declaration without factory and seed; `weights`: their values; `levels`: the programs above the input; `devices`: the available
        GPUs.
        """
        return EVERYTHING

    def shares(self) -> Sharing:
        """Return whether the result may be derived from a stored one of the same model with wider ranges."""
        return "off"

    def save(self, program: Program, stem: Path) -> list[Path]:
        """Write the level's files beside `stem` (stem.with_name(stem.name + suffix)). The first one returned is the main one."""
        return []

    def ops(self, program: Program) -> dict[str, int]:
        """Count the occurrences of each op in the result."""
        return {}
