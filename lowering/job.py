"""A job: one model with one set of ranges, and the stages that lower it. Frozen; converts to and from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lowering import recipe
from lowering.environments import Environment
from lowering.model import Model
from lowering.plain import from_plain, to_plain
from lowering.stage import Stage


@dataclass(frozen=True)
class Job:
    """A model and the stages that lower it.

    stages: by name, in the order they run.
    variant: distinguishes the jobs of one model.
    until: the last level wanted.
    strict_dims: whether the job fails when a stage makes a requested dim static. Otherwise that is a warning.
    environment: the packages that its process has in other versions.
    """

    model: Model
    stages: Mapping[str, Stage]
    variant: str = "default"
    until: str | None = None
    strict_dims: bool = False
    environment: Environment | None = None

    @property
    def id(self) -> str:
        return f"{self.model.name}--{self.variant}"

    def to_json(self) -> dict[str, Any]:
        return {
            "variant": self.variant,
            "until": self.until,
            "strict_dims": self.strict_dims,
            "model": to_plain(self.model),
            "stages": {name: recipe.describe(stage) for name, stage in self.stages.items()},
            **({"environment": to_plain(self.environment)} if self.environment else {}),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Job:
        stages = {name: build_stage(spec) for name, spec in data["stages"].items()}
        environment = from_plain(Environment, data["environment"]) if data.get("environment") else None
        return Job(from_plain(Model, data["model"]), stages, data["variant"], data["until"], data.get("strict_dims", False), environment)

    def dumps(self) -> str:
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False)


@dataclass(frozen=True)
class DescribedJob:
    """A job as its JSON, whose stages need not be imported."""

    data: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.data['model']['name']}--{self.data['variant']}"

    def to_json(self) -> dict[str, Any]:
        return dict(self.data)


def build_stage(spec: Mapping[str, Any]) -> Stage:
    """Return the stage that a recipe describes. Raises ConfigError if it refuses its options."""
    kind = recipe.locate(spec[recipe.TARGET])
    options = {name: value for name, value in spec.items() if name != recipe.TARGET}
    if unknown := sorted(set(options) - {field.name for field in fields(kind)}):
        raise TypeError(f"{kind.__name__} has no option {', '.join(unknown)}")
    return from_plain(kind, options)
