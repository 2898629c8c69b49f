"""Whether the stages `verify` and `package` catch wrong lowerings, planted one by one into small models.

    python -m benchmarks.planted [-k WORD] [--json FILE] [--points N]

Each fault is one job. It is *caught* if the job does not end `ok`, *named* if it does and the record says what was not compared: the job is
unverified, a class of sizes that would have shown the fault was not tried, or a warning says what was not compared exactly. It is *silent*
otherwise. Each model is also run without a fault, which has to end `ok`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import torch

from benchmarks import planted_entries, planted_models, planted_op_models, planted_program_models
from benchmarks.planted_faults import FAULTS
from benchmarks.planting import Fault
from lowering import pipeline
from lowering.ir import mlir
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Model
from lowering.record import folder as folders
from lowering.record.result import JobResult
from lowering.stage import Note, Stage
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

MODELS = {**planted_models.MODELS, **planted_op_models.MODELS, **planted_program_models.MODELS}
EXPORTS = {**planted_models.EXPORTS, **planted_program_models.EXPORTS}
VERDICTS = ("caught", "named", "silent")


@dataclass(frozen=True)
class Plant(Stage):
    """Edits the text of the MHLO."""

    source: ClassVar[Level] = Level.MHLO
    target: ClassVar[Level] = Level.MHLO

    edit: Callable[[str], str] = str

    def apply(self, program: Program, note: Note) -> Program:
        text = self.edit(mlir.text(program.ir, elide=None))
        return replace(program, ir=mlir.parse(text, mlir.create_hlo_context()))


@dataclass(frozen=True)
class Trial:
    """The outcome of one fault. seconds: of CPU, of the whole job."""

    fault: str
    kind: str
    verdict: str
    why: str
    seconds: float = 0.0


def lower(fault: Fault, folder: Path, **options: Any) -> JobResult:
    """Run the model of a fault through all stages, with the fault in it.

    The entries of a model are lowered without it and joined with it: the result is that of the first that fails, or of the joined program.
    """
    if fault.model in planted_entries.MODELS:
        return _join(fault, folder, **options)
    return _lower(fault, MODELS[fault.model], folder, **options)


def _join(fault: Fault, folder: Path, **options: Any) -> JobResult:
    entries = planted_entries.MODELS[fault.model]
    for entry, model in entries.items():
        result = _lower(Fault("nothing", "control", fault.model), model, folder / entry, **options)
        if result.outcome != "ok" or result.unverified:
            return result
    with fault.patch():
        found = planted_entries.join(folder / "joined", {entry: entry for entry in entries})
    assert found.outcome != "ok" or set(found.checked) == set(entries), f"compared {found.checked} only"
    return replace(result, outcome=found.outcome, problems=found.problems, stage="package")


def _lower(fault: Fault, model: Model, folder: Path, **options: Any) -> JobResult:
    stages: dict[str, Stage] = {"export": Export(**EXPORTS.get(fault.model, {})), "torchscript": ToTorchScript(), "torch": ToTorchDialect(),
                                "stablehlo": ToStableHLO(), "mhlo": ToMHLO()}
    if fault.edit is not None:
        stages["plant"] = Plant(fault.edit)
    stages |= {"verify": Verify(**{"platforms": ("cpu",), **options, **fault.options}), "package": Package()}
    with fault.patch():
        job = Job(model, stages)
        folders.prepare(job, folder)
        result = pipeline.run(job, folder)
    result.save(folder)
    return result


def judge(fault: Fault, result: JobResult) -> tuple[str, str]:
    """Return (verdict, why)."""
    fails = result.outcome == "mismatch" or (result.outcome == "error" and ".py:" not in result.problems[0].place)
    if fails and result.stage in ("verify", "package"):
        return "caught", f"{result.outcome} in {result.stage}: {result.problems[0]}"
    if result.outcome != "ok":
        return "broken", f"{result.outcome} in {result.stage}: {result.problems[0]}"
    if result.unverified:
        return "named", f"unverified: {result.unverified}"
    said = [*result.verify.get("not_tried", ()), *(remark.code for remark in result.warnings)]
    named = [name for name in fault.classes if any(name in words for words in said)]
    return ("named", f"not tried: {', '.join(named)}") if named else ("silent", "ok")


def trials(pattern: str, **options: Any) -> Iterator[Trial]:
    controls = [Fault("nothing", "control", name) for name in (*MODELS, *planted_entries.MODELS)]
    for fault in (*controls, *FAULTS):
        if pattern not in f"{fault.kind} {fault.name} {fault.model}":
            continue
        yield _alone(fault, options)


def _alone(fault: Fault, options: dict[str, Any]) -> Trial:
    """Try a fault in a process of its own: torch's state after one job must not decide another."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(fault, options, sender))
    process.start()
    sender.close()
    try:
        trial: Trial = receiver.recv()
    except EOFError:
        trial = Trial(f"{fault.name} ({fault.model})", fault.kind, "broken", "the process ended")
    process.join()
    return trial


def _run(fault: Fault, options: dict[str, Any], sender: Connection) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.process_time()
        result = lower(fault, Path(name), **options)
        seconds = time.process_time() - start
    verdict, why = judge(fault, result)
    if fault.kind == "control":
        is_right = result.outcome == "ok" and bool(result.unverified) == (fault.model == "undefined")
        verdict, why = ("right", result.unverified) if is_right else ("broken", why)
    sender.send(Trial(f"{fault.name} ({fault.model})", fault.kind, verdict, why, seconds))


def table(found: list[Trial]) -> str:
    """Format a table with a row for each kind, in Markdown."""
    lines = ["| kind | faults | caught | named as not tried | silently ok |", "|---|---:|---:|---:|---:|"]
    kinds = [*dict.fromkeys(trial.kind for trial in found if trial.kind != "control")]
    for kind in [*kinds, "all"]:
        count = Counter(trial.verdict for trial in found if trial.kind != "control" and kind in (trial.kind, "all"))
        lines.append(f"| {kind} | {sum(count.values())} | " + " | ".join(str(count[verdict]) for verdict in VERDICTS) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", default="", metavar="WORD", help="only faults with this in their kind, name or model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every trial there")
    parser.add_argument("--points", type=int, help="stages.verify.points")
    given = parser.parse_args()
    found = []
    for trial in trials(given.k, **({} if given.points is None else {"points": given.points})):
        print(f"{trial.verdict:7} {trial.kind:14} {trial.fault}: {trial.why[:160]} [{trial.seconds:.2f}]", flush=True)
        found.append(trial)
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps([vars(trial) for trial in found], indent=1))


if __name__ == "__main__":
    main()
