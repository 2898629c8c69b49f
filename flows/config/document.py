"""The schema of pipeline.yaml and of a file of configs/model. The schema of a suite is in `flows.config.suite`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, Literal, get_args, get_type_hints

from flows.config.schema import at_least, more_than
from lowering.fitting import advised
from lowering.ir.text_files import LARGE
from lowering.model import Model, Symbol
from lowering.trees import Tree

GROUPS = ("suite", "cluster", "stages")
Route = Literal["torchscript", "fx"]
ROUTES: tuple[str, ...] = get_args(Route)
MAIN_ROUTE = ROUTES[0]
DAY = 86400.0
MONTH = 31 * DAY
STAGES = "for example {export: {decompose: core}, verify: null}; null drops a stage"


@dataclass(frozen=True)
class Limits:
    """Limits of a job and of a run. None means no limit.

    stage_seconds: wall time of one stage. memory_bytes: resident memory of a job's process.
    run_seconds: wall time of the run; jobs unfinished by then are `not_run`.
    retries: how many times a job that ended in `infra` is retried; retry_seconds: the pause before the first retry.
    compress_bytes: IR text of at least this size is written compressed, as `.zst` (None: never).
    """

    stage_seconds: float = more_than(0, 900.0, MONTH, fix="in seconds: 10 minutes are 600")
    memory_bytes: int | None = at_least(1 << 20, None, fix="in bytes: 8 GiB are 8589934592")
    run_seconds: float | None = more_than(0, None, MONTH, fix="in seconds: 2 hours are 7200")
    retries: int = at_least(0, 2, 100)
    retry_seconds: float = at_least(0, 2.0, DAY)
    compress_bytes: int | None = at_least(0, LARGE)


@dataclass(frozen=True)
class Cluster:
    """The machines that run jobs. runner: how the flow's tasks are started. workers: concurrent jobs (None: as many as fit the machine).

    gpus: of threads, the ids to use, one per job that needs a GPU (None: all).
    memory_bytes: of threads, a limit on the memory of all jobs together (None: the free memory).
    address: of dask and ray, a running cluster (None: make a local one).
    cluster_class: of dask, the class of the cluster that is made, as a dotted name. options: its arguments, or those of ray.init.
    gpu_per_job: of dask and ray, the share of a GPU that a job that needs one requests.
    """

    runner: Literal["threads", "dask", "ray"] = "threads"
    workers: int | None = at_least(1, None, 10_000)
    gpus: tuple[int, ...] | None = at_least(0, None)
    memory_bytes: int | None = at_least(1 << 20, None, fix="in bytes: 8 GiB are 8589934592")
    address: str | None = None
    cluster_class: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    gpu_per_job: float = more_than(0, 1)


ServerKind = Literal["auto", "managed", "embedded"]


@dataclass(frozen=True)
class Server:
    """Prefect's server of a run, unless PREFECT_API_URL names one.

    kind: managed stays for later runs; embedded ends with the run; auto is embedded where the variable CI is set, and managed elsewhere.
    idle_minutes: how long a managed one stays when nobody uses it.
    keep_days: how long Prefect's database keeps a flow run that has ended (None: forever). The run's folder stays.
    """

    kind: ServerKind = "auto"
    idle_minutes: float = more_than(0, 30.0, MONTH / 60)
    keep_days: float | None = at_least(1, 30.0, 3650)


@dataclass(frozen=True)
class Worker:
    """The processes of jobs.

    keep_minutes: how long a warm process with the compilers stays for the next run (0: it ends with the run; None: 10 where the managed
    server is used and the machine has memory to spare, else 0).
    """

    keep_minutes: float | None = at_least(0, None, MONTH / 60)


@dataclass(frozen=True)
class SymbolLog:
    """Optional details of the symbol log. extended_debug: as the option of stage export."""

    extended_debug: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrackerSettings:
    """The tracker in which nights open, update and close a ticket per cause of failures. kind: null for none.

    repository: of github, owner/name; SHAPELINE_TRACKER_TOKEN holds a token that may write its issues. url: of the API.
    labels: of github, those of the tickets, by which open ones are found.
    command: a shell command that reads an action as JSON on stdin, and prints the name of an opened ticket.
    A webhook, at SHAPELINE_TRACKER_URL, receives an action as JSON, and answers {"ticket": NAME}.
    dry_run: only print the actions.
    """

    kind: Literal["github", "command", "webhook"] | None = None
    repository: str | None = None
    url: str = "https://api.github.com"
    labels: tuple[str, ...] = ("shapeline",)
    command: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Nightly:
    """The schedule of `shapeline nightly`: five cron fields in a time zone, receivers of the summary, and the tracker of its failures.

    cron: five fields, such as `0 2 * * *`. timezone: its name, such as Europe/Berlin. tracker: where its failures get tickets.
    webhook: refused, because it is a secret: SHAPELINE_WEBHOOK holds it. command: a shell command that receives it on stdin.
    """

    cron: str = "0 2 * * *"
    timezone: str = "UTC"
    webhook: str | None = None
    command: str | None = None
    tracker: TrackerSettings = TrackerSettings()


@dataclass(frozen=True)
class Document:
    """The root of the composed configuration: the keys of pipeline.yaml and its groups.

    route: the way from the exported program to the torch level; a route other than `torchscript` is a file of configs/stages.
    strict_dims: whether a job fails if a dim declared as dynamic becomes static, instead of warning (None: as its suite says).
    explain: as the option of stage export. server: its kind, or its kind and more.
    until: the last level wanted (None: all the way). output: folder or URL of the runs and the store.
    select: words in ids of jobs, with `and`, `or`, `not` and parentheses. shard: `i/n`, a part of the jobs.
    durations: an earlier run's folder or report.json, by which shards are balanced. cache: whether the store is read and written.
    """

    stages: Mapping[str, Mapping[str, Any] | None] = advised(STAGES)
    route: Route = "torchscript"
    until: str | None = None
    select: str = ""
    shard: str | None = advised("i/n: the first of four shards is 1/4", default=None)
    durations: str | None = None
    strict_dims: bool | None = None
    explain: bool | None = None
    symbols: SymbolLog = SymbolLog()
    output: str = "artifacts"
    cache: bool = True
    limits: Limits = Limits()
    cluster: Cluster = Cluster()
    nightly: Nightly = Nightly()
    server: Server | ServerKind = Server()
    worker: Worker = Worker()


@dataclass(frozen=True)
class Entry:
    """An entry of a model: a method of its module, with arguments and symbols of its own.

    method: its name, or a part of the module: `model.encoder`. constants: further, fixed arguments; symbols: its dims.

    They are merged over those of the model's file, which all entries share. inputs: of trees that are whole when merged.
    after: the entry whose results this one takes: verification runs that one and then steps of this one.
    """

    method: str = "forward"
    inputs: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    symbols: Mapping[str, Symbol] = field(default_factory=dict)
    after: str | None = None


ModelConfig = make_dataclass("ModelConfig", [
    ("factory", Mapping[str, Any], advised("for example {_target_: package.module.Class}")),
    # A model may declare its inputs in its entries.
    ("inputs", Mapping[str, Tree], advised("for example {x: {dtype: float32, shape: [batch, 16]}}", default_factory=dict)),
    *((item.name, get_type_hints(Model)[item.name],
       field(default=item.default, default_factory=item.default_factory, metadata=item.metadata))
      for item in fields(Model) if item.name not in ("name", "entry", "factory", "inputs", "after", "traced")),
    ("entries", Mapping[str, Entry | None], advised("for example {encoder: {method: model.encoder}}", default_factory=dict)),
    ("stages", Mapping[str, Mapping[str, Any] | None], advised(STAGES, default_factory=dict)),
], frozen=True)
ModelConfig.__doc__ = "A file of configs/model: the fields of Model except its name, its entries, and the stage options that differ."
