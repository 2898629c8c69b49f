"""The typed errors of the project: each says where, why, and what to do, and knows the outcome it stands for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `place` (file and key, op, user line), `cause`, and `fix` (may be empty)."""

    place: str
    cause: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.cause}" if self.place else self.cause
        return f"{text} ({self.fix})" if self.fix else text

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def near_miss(word: str, words: Iterable[str]) -> str:
    """`did you mean 'seq'?` when one of `words` is close to `word`, else an empty string: the fix of a Problem."""
    close = difflib.get_close_matches(word, [str(known) for known in words], 1)
    return f"did you mean '{close[0]}'?" if close else ""


class ShapelineError(Exception):
    """Root of the project's errors; `problems` holds everything that was found, never only the first."""

    outcome: ClassVar[str] = "error"

    def __init__(self, problems: Problem | Sequence[Problem], log: str = ""):
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.log = log
        super().__init__("\n".join(map(str, self.problems)))


class ConfigError(ShapelineError):
    """The configuration is wrong; raised before any work starts."""

    outcome = "config"


class LoadError(ShapelineError):
    """The model cannot be built, or fails in eager mode on its own example inputs."""

    outcome = "load_error"


class Unsupported(ShapelineError):
    """A stage cannot lower its input; `problems` is the full inventory."""

    outcome = "unsupported"


class StageFailed(ShapelineError):
    """A pass, torch, or a stage's own `ensures` raised; `log` holds the diagnostic and the reproducer."""

    outcome = "error"


class Mismatch(ShapelineError):
    """A level computes other numbers than eager."""

    outcome = "mismatch"


class Refused(ShapelineError):
    """A program was given arguments that it does not take; `problems` holds its own messages."""

    outcome = "error"


class InfraError(ShapelineError):
    """The worker, disk or network failed; says nothing about the model."""

    outcome = "infra"
