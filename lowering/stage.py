"""The contract of a stage: a frozen dataclass whose fields are its options, turning one level into the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from lowering.errors import Problem
from lowering.level import Level, Program


class Rung(Protocol):
    """What a ladder is checked by: the level that a stage takes and the one that it gives."""

    @property
    def source(self) -> Level: ...

    @property
    def target(self) -> Level: ...


class Note(Protocol):
    """What a stage says while it works; it is recorded at once, so that it survives whatever ends the stage.

    Called: a warning of the job; `code` is a stable short word, `place` a user line, dim or op.
    `report`: data for the job's record under `symbols` (the symbol log) or `verify` ({points, max_abs, max_rel}); the last one counts.
    `file`: a file beside the stage's others, under its name with `suffix`; it stays however the stage ends. Raises OSError.
    """

    def __call__(self, code: str, message: str, place: str = "") -> None: ...

    def report(self, key: Literal["symbols", "verify"], data: Any) -> None: ...

    def file(self, suffix: str, data: bytes) -> None: ...


class Silent:
    """A Note that keeps nothing, for lowering from a REPL or a benchmark."""

    def __call__(self, code: str, message: str, place: str = "") -> None:
        pass

    def report(self, key: Literal["symbols", "verify"], data: Any) -> None:
        pass

    def file(self, suffix: str, data: bytes) -> None:
        pass


# What a stage can depend on beyond its options, its code, and its input's IR and signature.
Read = Literal["model", "interface", "weights", "levels", "devices"]
EVERYTHING: frozenset[Read] = frozenset(("model", "interface", "weights", "levels", "devices"))


@dataclass(frozen=True)
class Stage:
    """One step down the ladder. Subclasses are frozen dataclasses of plain values in lowering/stages/, one file each."""

    source: ClassVar[Level]
    target: ClassVar[Level]

    def requires(self, program: Program) -> Sequence[Problem]:
        """Everything in `program` that this stage cannot take; an empty list lets `apply` run."""
        return ()

    def apply(self, program: Program, note: Note) -> Program:
        """`program` at the target level; raises Unsupported or StageFailed."""
        raise NotImplementedError

    def ensures(self, program: Program) -> Sequence[Problem]:
        """What is wrong with this stage's own result; anything here fails the stage."""
        return ()

    def reads(self) -> frozenset[Read]:
        """What its result and files depend on beyond its options, its code, and its input's IR and signature.

        The less, the more often they can be taken from the store. `model`: all that it declares, and its code; `interface`: what it
        declares but for factory and seed; `weights`: their values; `levels`: programs above its input; `devices`: the GPUs there are.
        """
        return EVERYTHING

    def save(self, program: Program, stem: Path) -> list[Path]:
        """Write the level's files beside `stem` (stem.with_name(stem.name + suffix)); the first is the one to look at."""
        return []

    def ops(self, program: Program) -> dict[str, int]:
        """How often each op occurs in the result."""
        return {}
