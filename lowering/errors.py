"""Typed errors: each names the place, the cause and the fix of its problems, and carries the outcome of a job that ends with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Problem:
    """A single problem: its `place` (file and key, op, or user line), its `cause`, and a `fix`, which may be empty."""

    place: str
    cause: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.cause}" if self.place else self.cause
        return f"{text} ({self.fix})" if self.fix else text

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def suggest(word: str, words: Iterable[str]) -> str:
    """Return `did you mean 'seq'?` if one of `words` is close to `word`, else an empty string; meant as the fix of a Problem."""
    known = {str(word).lower(): str(word) for word in words}
    close = difflib.get_close_matches(str(word)[:200].lower(), known, 1)
    return f"did you mean '{known[close[0]]}'?" if close else ""


class ShapelineError(Exception):
    """Root of the project's errors. `problems` lists every problem found, not only the first."""

    outcome: ClassVar[str] = "error"

    def __init__(self, problems: Problem | Sequence[Problem], log: str = ""):
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.log = log
        super().__init__("\n".join(map(str, self.problems)))


class ConfigError(ShapelineError):
    """The configuration is wrong. Raised before any work starts."""

    outcome = "config"


class Untrusted(ConfigError):
    """A record names a path outside of its folder, or would run code although this user did not make it."""


class LoadError(ShapelineError):
    """The model cannot be built, or fails in eager mode on its example inputs."""

    outcome = "load_error"


class Unsupported(ShapelineError):
    """A stage cannot lower its input. `problems` lists every construct that it does not support."""

    outcome = "unsupported"


class StageFailed(ShapelineError):
    """A pass, torch, or a stage's `ensures` failed. `log` holds the diagnostics and the reproducer."""

    outcome = "error"


class Mismatch(ShapelineError):
    """The numerics of a level differ from eager."""

    outcome = "mismatch"


class Refused(ShapelineError):
    """A program rejected its arguments. `problems` holds the program's own messages."""

    outcome = "error"


class InfraError(ShapelineError):
    """The worker, the disk or the network failed. Says nothing about the model."""

    outcome = "infra"


def iterate_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an error and its causes, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
