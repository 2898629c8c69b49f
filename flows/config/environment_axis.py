"""The environments of a suite as an axis of its sweeps: each job runs once in every environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.config.layers import Layers
from flows.config.slugs import ENVIRONMENT
from flows.config.suite import Axis
from lowering import environments
from lowering.errors import Problem


def list_axes(suite: Layers) -> list[Axis]:
    """Return the axis of the suite's environments, if it has any."""
    names = list(suite.data.get("environments") or {})
    return [Axis(ENVIRONMENT, names, suite.place(("environments",)))] if names else []


def find_problems(suite: Layers) -> Iterator[Problem]:
    """Iterate over the problems of the names and requirements of the suite's environments."""
    for name, lines in (suite.data.get("environments") or {}).items():
        if not environments.NAME.fullmatch(name):
            yield Problem(suite.place(("environments", name)), f"'{name}' cannot be a part of a job's name",
                          "use up to 40 letters, digits, _ and ., a letter first")
        first: dict[str, int] = {}
        for index, line in enumerate(lines):
            package = environments.find_package(line)
            if package and first.setdefault(package, index) != index:
                yield Problem(suite.place(("environments", name, index)), f"'{line}' names {package} again", "name each package once")
            if wrong := environments.find_problem(line):
                yield Problem(suite.place(("environments", name, index)), f"'{line}' {wrong[0]}", wrong[1])


def describe(suite: Layers, name: str | None) -> dict[str, Any]:
    """Return the part of a job that has its environment. Files are named by absolute paths: jobs run elsewhere."""
    if name is None:
        return {}
    lines = [str(Path(line).absolute()) if Path(line).is_file() else line for line in suite.data["environments"][name]]
    return {"environment": {"name": name, "requirements": lines}}
