"""Generated run folders for benchmarks and tests of code that reads runs.

A generated run has the files of a real one: records, IR, symbol logs, with the outcomes that the caller specifies.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.config.plan import Plan
from flows.config.run import Run
from flows.history import publish
from flows.runs import record
from flows.runs.begin import begin as begin_run
from lowering import files
from lowering.errors import Problem
from lowering.ir.annotations import FILE, HEAD, VALUES
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.record.folder import LOG
from lowering.record.result import Expectation, JobResult, Remark, StageResult
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.symbols.schema import Change, Line, Place, Range, Requested, SymbolEntry, SymbolRecord

STAGES = ("export", "torchscript", "torch", "stablehlo", "mhlo", "verify")
ALL_STAGES = ("export", "transform", *STAGES[1:], "package")  # of pipeline.yaml
SUFFIX = {"export": ".py", "transform": ".py", "torchscript": ".ts", "torch": ".torch.mlir", "stablehlo": ".stablehlo.mlir",
          "mhlo": ".mhlo.mlir"}
SHARE = {"export": 0.5, "torchscript": 0.05, "torch": 0.1, "stablehlo": 0.15, "mhlo": 0.05, "verify": 0.15, "transform": 0.05,
         "package": 0.05}
PYTHON = ("export", "transform")  # stages that leave FX code
SOURCE = "zoo/model.py"


@dataclass(frozen=True)
class InventedJob:
    """Job of a generated run. changed: the first level whose program differs from the usual one; static: the dim is specialized."""

    model: str
    variant: str = "default"
    outcome: str = "ok"
    stage: str = "verify"
    expected: str = "ok"
    problem: str = ""
    seconds: float = 4.0
    peak: int = 600 << 20
    layers: int = 3
    batch: int = 64
    changed: str = ""
    static: bool = False
    cache: str = "off"
    warnings: Sequence[str] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[str] = STAGES


def invent(output: Path, jobs: Sequence[InventedJob], suite: str = "zoo", started: datetime | None = None,
           seconds: float | None = None) -> Path:
    """Write a finished run with its report below `output`/runs and return its folder."""
    run = begin(output, jobs, suite, started)
    for job in jobs:
        if job.outcome != "not_run":
            leave(job, run.job_folder(f"{job.model}--{job.variant}"))
    publish.write(run, sum(job.seconds for job in jobs) / 2 if seconds is None else seconds)
    return run.folder


def begin(output: Path, jobs: Sequence[InventedJob], suite: str, started: datetime | None = None) -> record.Record:
    """Write the record of a run in which no job has run yet."""
    ladder = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO()}
    prepared = tuple(Job(_model(job), ladder, job.variant) for job in jobs)
    expected = {f"{job.model}--{job.variant}": Expectation(job.expected) for job in jobs}
    begun = begin_run(Run(Plan(suite, output=output, overrides=(f"suite={suite}",), expected=expected), prepared))
    if started is None:
        return begun
    name = f"{started:%Y%m%dT%H%M%SZ}-{begun.folder.name.split('-', 1)[1]}"
    folder = begun.folder.rename(begun.folder.with_name(name))
    files.write(folder / record.RUN, {**begun.data, "run": name, "started": started.astimezone(UTC).isoformat(timespec="seconds")})
    latest = folder.parent / "latest"
    latest.unlink()
    latest.symlink_to(name)
    return record.load(folder)


def leave(job: InventedJob, folder: Path) -> None:
    """Write the files that the process of the job leaves in its folder."""
    named = random.randrange(1000)
    stages, last = [], job.stage if job.stage in job.stages else ""
    for number, name in enumerate(job.stages[: job.stages.index(last) + 1] if last else (), 1):
        ended = job.outcome if name == last else "ok"
        artifact = f"{number:02}-{name}{SUFFIX[name]}" if ended == "ok" and name in SUFFIX else None
        if artifact:
            (folder / artifact).write_text(program(name, job, named))
        stages.append(
            StageResult(
                name,
                ended,
                round(job.seconds * SHARE[name], 6),
                round(job.seconds * SHARE[name] * 0.9, 6),
                int(job.peak * (0.52 + 0.08 * number)),
                job.cache,
                artifact=artifact,
                ops={f"{name}.dot": job.layers, f"{name}.add": job.layers * 3},
            )
        )
    problems = (
        (Problem(f"{SOURCE}:12", job.problem or f"the {job.stage} stage says no", "look at the log"),) if job.outcome != "ok" else ()
    )
    (folder / LOG).write_text(f"{job.model}\nlowering\n{job.problem}\n", encoding="utf-8", errors="backslashreplace")
    result = JobResult(
        f"{job.model}--{job.variant}",
        job.model,
        job.variant,
        job.outcome,
        job.stage,
        Expectation(job.expected),
        job.seconds,
        job.peak,
        "VmHWM",
        tuple(stages),
        symbols(job).to_json() if stages else {},
        tuple(Remark("noted", text, f"{SOURCE}:3", "export") for text in job.warnings),
        _verify(job) if any(stage.name == "verify" for stage in stages) else {},
        problems,
    )
    result.save(folder)


def program(stage: str, job: InventedJob, named: int) -> str:
    """Return a program of `layers` layers at one level.

    `named` is the number of its first value. MLIR picks such names, so passes may change them.
    """
    extra = bool(job.changed) and job.stages.index(stage) >= job.stages.index(job.changed)
    first = named if stage in (*PYTHON, "torchscript") else random.randrange(1000)
    dim = str(job.batch) if job.static else {"export": "s77", "transform": "s77", "torchscript": "*"}.get(stage, "?")
    lines, value = [], "x" if stage in (*PYTHON, "torchscript") else "%arg0"
    for layer in range(job.layers + extra):
        lines.append(_line(stage, first + layer, value, dim, layer))
        value = f"v{first + layer}" if stage in (*PYTHON, "torchscript") else f"%{first + layer}"
    if stage in PYTHON:
        return (
            f'class GraphModule(torch.nn.Module):\n    def forward(self, x: "f32[{dim}, 16]"):\n'
            + "\n".join(lines)
            + f"\n        return ({value},)\n"
        )
    if stage == "torchscript":
        return f"graph(%x : Float({dim}, 16)):\n" + "\n".join(lines) + f"\n  return (%{value})\n"
    kind = _type(stage, dim)
    spans = " ".join(f"{3 + layer}={20 + layer}" for layer in range(len(lines)))
    body = f"module {{\n  func.func @main(%arg0: {kind}) -> {kind} {{\n" + "\n".join(lines) + f"\n    return {value} : {kind}\n  }}\n}}\n"
    values = " ".join(f"{3 + layer}=v{named + layer}" for layer in range(len(lines)))
    return f"{body}{HEAD}\n{FILE}{SOURCE}: {spans}\n{VALUES}{values}\n"


def _line(stage: str, number: int, value: str, dim: str, layer: int) -> str:
    if stage in PYTHON:
        said = f"        # File: {SOURCE}:{20 + layer} in forward, code: x = self.layers[{layer}](x)\n"
        return f'{said}        v{number}: "f32[{dim}, 16]" = torch.ops.aten.gelu.default({value})\n'
    if stage == "torchscript":
        return f"  %v{number} : Float({dim}, 16) = aten::gelu(%{value}) # {SOURCE}:{20 + layer}:0"
    return f"    %{number} = {'torch.aten' if stage == 'torch' else stage}.gelu {value} : {_type(stage, dim)}"


def _type(stage: str, dim: str) -> str:
    return f"!torch.vtensor<[{dim},16],f32>" if stage == "torch" else f"tensor<{dim}x16xf32>"


def symbols(job: InventedJob) -> SymbolRecord:
    """Return the symbol record of one dim `batch` of one input."""
    line = Line(SOURCE, 18, "forward", "def forward(self, x):")
    places = tuple(
        Place(stage, "x" if stage == "export" else "%arg0", str(job.batch) if job.static else "?")
        for stage in ("export", "torch", "stablehlo", "mhlo")
    )
    span = Range(2, job.batch)
    dim = Requested(
        "x[0]",
        "x",
        0,
        "batch",
        Range(1, job.batch),
        1,
        5,
        None if job.static else "s77",
        "specialized" if job.static else "dynamic",
        "batch",
        job.batch if job.static else None,
        (),
        "x.view(4, -1)" if job.static else "",
        line,
        places,
    )
    entry = SymbolEntry(
        "x[0]",
        "s77",
        "backed",
        "create_symbol",
        "batch",
        ("L['x'].size()[0]",),
        5,
        line,
        (line,),
        span,
        span,
        Range(1, job.batch),
        (Change("created", span, "its birth", line),),
    )
    return SymbolRecord(job.model, (dim,), (entry,))


def _verify(job: InventedJob) -> dict[str, Any]:
    output = {
        "elements": 80,
        "max_abs": 1e-6,
        "max_rel": 2e-6,
        "wrong": None,
        "detail": "3 of 80 differ" if job.outcome == "mismatch" else "",
    }
    points = [
        {
            "kind": kind,
            "sizes": {"batch": size},
            "note": "",
            "eager_seconds": 0.01,
            "levels": {level: {"seconds": 0.1, "failure": "", "outputs": {"out": output}} for level in ("torchscript", "mhlo")},
        }
        for kind, size in (("lower", 1), ("upper", job.batch))
    ]
    return {"points": points, "max_abs": 1e-6, "max_rel": 2e-6, "refused": ["batch=0"], "accepted": [], "blame": "", "budget": {}}


def _model(job: InventedJob) -> Model:
    return Model(
        job.model,
        {"_target_": "lowering.sources.mlp.MLP", **job.kwargs},
        {"x": Input("float32", ("batch", 16))},
        {"batch": Symbol(1, job.batch)},
    )
