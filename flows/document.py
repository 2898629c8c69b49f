"""The shape of the configuration: what may stand in pipeline.yaml and in a file of configs/model; `flows.suite` has the suite's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, Literal, get_args, get_type_hints

from lowering.model import Model

GROUPS = ("suite", "cluster", "stages")
Route = Literal["torchscript", "fx"]
ROUTES: tuple[str, ...] = get_args(Route)
MAIN_ROUTE = ROUTES[0]

@dataclass(frozen=True)
class Limits:
    """What one job may use: wall seconds of one stage, bytes of resident memory of its process (None: no limit)."""

    stage_seconds: float = 900.0
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Cluster:
    """Where jobs run. `runner`: how the flow's tasks are started; `workers`: jobs at a time (None: as many as the machine bears)."""

    runner: Literal["threads"] = "threads"
    workers: int | None = None


@dataclass(frozen=True)
class SymbolLog:
    """What the symbol log keeps beyond what it always does. extended_debug: as the option of stage export."""

    extended_debug: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """The root of the composed configuration: the keys of pipeline.yaml and its groups.

    route: by which way the exported program comes to the torch level; one other than `torchscript` is a file of configs/stages.
    strict_dims: whether a job fails when a dim asked to be dynamic becomes static (None: as its suite says, else it is a warning).
    explain: as the option of stage export.
    """

    stages: Mapping[str, Mapping[str, Any] | None]
    route: Route = "torchscript"
    until: str | None = None
    select: str = ""
    strict_dims: bool | None = None
    explain: bool | None = None
    symbols: SymbolLog = SymbolLog()
    output: str = "artifacts"
    cache: bool = True
    limits: Limits = Limits()
    cluster: Cluster = Cluster()


ModelConfig = make_dataclass("ModelConfig", [
    *((item.name, get_type_hints(Model)[item.name], field(default=item.default, default_factory=item.default_factory))
      for item in fields(Model) if item.name != "name"),
    ("stages", Mapping[str, Mapping[str, Any] | None], field(default_factory=dict)),
], frozen=True)
ModelConfig.__doc__ = "A file of configs/model: what Model declares, but its name, and options of stages that differ for this model."
