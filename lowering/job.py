"""A job: one model with one set of ranges, and the stages it goes through. Frozen, JSON both ways."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from lowering import recipe
from lowering.model import Model
from lowering.stage import Stage


@dataclass(frozen=True)
class Job:
    """`stages` in the order they run, by name; `variant` tells jobs of one model apart; `until` is the last level wanted.

    strict_dims: a requested dim that a stage makes static ends the job there; else it is a warning.
    """

    model: Model
    stages: Mapping[str, Stage]
    variant: str = "default"
    until: str | None = None
    strict_dims: bool = False

    @property
    def id(self) -> str:
        return f"{self.model.name}--{self.variant}"

    def to_json(self) -> dict[str, Any]:
        return {
            "variant": self.variant,
            "until": self.until,
            "strict_dims": self.strict_dims,
            "model": plain(self.model),
            "stages": {name: recipe.describe(stage) for name, stage in self.stages.items()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Job:
        stages = {name: _stage(spec) for name, spec in data["stages"].items()}
        return Job(structured(Model, data["model"]), stages, data["variant"], data["until"], data.get("strict_dims", False))

    def dumps(self) -> str:
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False)


def _stage(spec: Mapping[str, Any]) -> Stage:
    kind = recipe.locate(spec[recipe.TARGET])
    options = {name: value for name, value in spec.items() if name != recipe.TARGET}
    if unknown := sorted(set(options) - {field.name for field in fields(kind)}):
        raise TypeError(f"{kind.__name__} has no option {', '.join(unknown)}")
    return structured(kind, options)


def plain(value: Any) -> Any:
    """A dataclass of plain values as JSON data, without type names."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


@cache
def type_hints(kind: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields."""
    return typing.get_type_hints(kind)


def structured(kind: Any, data: Any) -> Any:
    """`data` as an instance of the dataclass or container type `kind`; the inverse of `plain`. The data must fit already."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = type_hints(kind)
        given = {field.name: structured(hints[field.name], data[field.name]) for field in fields(kind) if field.name in data}
        missing = [field.name for field in fields(kind)
                   if field.name not in given and field.default is MISSING and field.default_factory is MISSING]
        if missing:
            raise TypeError(f"{kind.__name__} needs {', '.join(missing)}")
        return kind(**given)
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if is_dataclass(argument)]
        return structured(inner[0], data) if inner and isinstance(data, Mapping) else data
    if origin in (tuple, Sequence) and isinstance(data, list | tuple):
        return tuple(structured(arguments[0], item) for item in data)
    if isinstance(data, Mapping) and arguments and is_dataclass(arguments[-1]):
        return {key: structured(arguments[-1], item) for key, item in data.items()}
    return data
