"""Description of stages with all their options, by a process in which they are loaded already."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowering import files, recipe
from lowering.errors import ConfigError, Problem
from lowering.job import build_stage
from lowering.plain import to_plain

ASKED, ANSWER = "describe-stages.json", "described-stages.json"


@dataclass(frozen=True)
class Described:
    """A stage with all its options, as JSON (None: refused), and the problems for which it is refused."""

    stage: Mapping[str, Any] | None
    problems: tuple[Problem, ...] = ()


def is_asked(folder: Path) -> bool:
    return (folder / ASKED).is_file()


def answer(folder: Path) -> None:
    """Instantiate the stages that `folder` asks for, and write their descriptions. Raises what their modules raise."""
    found = [to_plain(_describe(spec)) for spec in files.read(folder / ASKED)]
    (folder / ANSWER).write_text(json.dumps(found), encoding="utf-8")


def _describe(spec: Mapping[str, Any]) -> Described:
    try:
        return Described(recipe.describe(build_stage(spec)))
    except ConfigError as error:
        return Described(None, error.problems)
