"""The quickstart's jobs, lowered as a run lowers them but for the verification of numbers, with examples that stand out in any IR."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from flows.config.plan import plan
from lowering import files
from lowering.job import Job
from lowering.model import Model
from lowering.plain import from_plain
from lowering.record.folder import SIGNATURE, prepare
from lowering.record.result import JobResult
from lowering.signature import Signature
from lowering.symbols import SymbolRecord
from lowering.worker import watch

PLANNED = plan(["suite=quickstart", "~stages.verify"]).jobs
IDS = [f"{job['model']['name']}--{job['variant']}" for job in PLANNED]
# Primes that are no rank, no dtype's code, no size of a kernel or a weight of these models.
STANDING_OUT = (13, 29, 37, 41, 43, 53, 5, 7)


@dataclass(frozen=True)
class Lowered:
    """A job, its folder and how it ended."""

    job: Job
    folder: Path
    result: JobResult

    @property
    def examples(self) -> dict[str, int]:
        return self.job.model.examples()

    @cached_property
    def record(self) -> SymbolRecord:
        return SymbolRecord.load(self.folder)

    @cached_property
    def signature(self) -> Signature:
        return from_plain(Signature, files.read(self.folder / SIGNATURE)["signature"])

    def text(self, stage: str) -> str:
        """The program that a stage gave, as it was saved."""
        (file,) = [path for path in self.folder.glob(f"*-{stage}.*") if path.suffix in (".py", ".ts", ".mlir")]
        return file.read_text()


def lower_all(folder: Path) -> Mapping[str, Lowered]:
    """Every job of the suite, two at a time, each in its own child process."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(IDS, pool.map(lambda data: _lower(Job.from_json(data), folder), PLANNED), strict=True))


def _lower(job: Job, folder: Path) -> Lowered:
    job = replace(job, model=_standing_out(job.model))
    home = folder / "runs" / "quickstart" / "jobs" / job.id
    prepare(job, home)
    return Lowered(job, home, watch.lower(home))


def _standing_out(model: Model) -> Model:
    """`model` with an example of its own for each symbol that admits one of STANDING_OUT."""
    symbols, taken = {}, set()
    for name, symbol in model.symbols.items():
        sizes = (prime * symbol.multiple_of for prime in STANDING_OUT)
        size = next(size for size in sizes if size not in taken and symbol.admits(size))
        taken.add(size)
        symbols[name] = replace(symbol, example=size)
    return replace(model, symbols=symbols)
