"""The shape of the configuration: what may stand in pipeline.yaml and in a file of configs/model; `flows.config.suite` has the suite's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, Literal, get_args, get_type_hints

from flows.config.schema import at_least, more_than
from lowering.ir.text_files import LARGE
from lowering.model import Model

GROUPS = ("suite", "cluster", "stages")
Route = Literal["torchscript", "fx"]
ROUTES: tuple[str, ...] = get_args(Route)
MAIN_ROUTE = ROUTES[0]

@dataclass(frozen=True)
class Limits:
    """What one job may use: wall seconds of one stage, bytes of resident memory of its process (None: no limit). And what a run may:
    run_seconds (then what is unfinished is `not_run`), and how often a job that ended in `infra` is tried again, after retry_seconds.
    compress_bytes: IR text that long or longer is written compressed, as `.zst` (None: none is).
    """

    stage_seconds: float = more_than(0, 900.0)
    memory_bytes: int | None = at_least(1, None)
    run_seconds: float | None = more_than(0, None)
    retries: int = at_least(0, 2)
    retry_seconds: float = at_least(0, 2.0)
    compress_bytes: int | None = at_least(0, LARGE)


@dataclass(frozen=True)
class Cluster:
    """Where jobs run. `runner`: how the flow's tasks are started; `workers`: jobs at a time (None: as many as the machine bears).

    threads: gpus are the ids to lend, one to a job that wants one (None: all there are), memory_bytes what all jobs together may need
    (None: what is free). dask, ray: address of a running cluster; without one, a local cluster is made: by cluster_class (a dotted name)
    with `options` for Dask, by ray.init(**options) for Ray. gpu_per_job: what a job that wants a GPU asks the cluster for.
    """

    runner: Literal["threads", "dask", "ray"] = "threads"
    workers: int | None = at_least(1, None)
    gpus: tuple[int, ...] | None = None
    memory_bytes: int | None = at_least(1, None)
    address: str | None = None
    cluster_class: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    gpu_per_job: float = more_than(0, 1)


@dataclass(frozen=True)
class SymbolLog:
    """What the symbol log keeps beyond what it always does. extended_debug: as the option of stage export."""

    extended_debug: tuple[str, ...] = ()


@dataclass(frozen=True)
class Nightly:
    """The schedule of `shapeline nightly`: five cron fields in a time zone; where the summary goes: a URL (POST), a shell command (stdin)."""

    cron: str = "0 2 * * *"
    timezone: str = "UTC"
    webhook: str | None = None
    command: str | None = None


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
    shard: str | None = None
    durations: str | None = None
    strict_dims: bool | None = None
    explain: bool | None = None
    symbols: SymbolLog = SymbolLog()
    output: str = "artifacts"
    cache: bool = True
    limits: Limits = Limits()
    cluster: Cluster = Cluster()
    nightly: Nightly = Nightly()


ModelConfig = make_dataclass("ModelConfig", [
    *((item.name, get_type_hints(Model)[item.name], field(default=item.default, default_factory=item.default_factory))
      for item in fields(Model) if item.name != "name"),
    ("stages", Mapping[str, Mapping[str, Any] | None], field(default_factory=dict)),
], frozen=True)
ModelConfig.__doc__ = "A file of configs/model: what Model declares, but its name, and options of stages that differ for this model."
