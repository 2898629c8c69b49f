"""Programs with collectives: each device of XLA runs the program of one rank, and is compared with a process of torch.distributed.

A process of its own runs both, because XLA reads the number of its devices once. It forks a process per rank, in which the model's factory
finds a process group of gloo in place of the one that only served the export.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lowering.errors import Problem, ShapelineError, StageFailed
from lowering.ir import mlir
from lowering.legalize.patterns import collectives
from lowering.level import Level, Program
from lowering.model import Built, Model
from lowering.numerics.bench import Bench
from lowering.numerics.verification import LevelCheck, Verification
from lowering.signature import Signature

MOST = 8  # devices, each with a process of torch
_SECONDS = 600
_PLACE = "several devices"


@dataclass(frozen=True)
class Task:
    """Task of the process of a rank. ranks: of each device; given: inputs at each point, the same on all ranks."""

    model: Model
    signature: Signature
    weights: Mapping[str, torch.Tensor]
    ranks: Sequence[int]
    given: Sequence[Mapping[str, torch.Tensor]]


def find_collectives(module: Any) -> list[str]:
    """Return the names of the collectives in an MHLO module."""
    return sorted({name for name in mlir.count_ops(module) if name.partition(".")[2] in collectives.KINDS})


def list_ranks(module: Any) -> list[int]:
    """Return the rank of each device: its place in its group, or its id where the groups of the collectives differ."""
    groups = {str(op.attributes[collectives.GROUPS]): op.attributes[collectives.GROUPS] for op in mlir.walk_operations(module)
              if op.name.partition(".")[2] in collectives.KINDS}
    rows = [[int(each) for each in found] for found in groups.values()]
    if len(rows) > 1:
        return list(range(len(rows[0])))
    shape = next(iter(groups.values())).type.shape
    size = int(shape[1])
    return [rank for _, rank in sorted((device, position % size) for position, device in enumerate(rows[0]))]


def find_obstacle(program: Program) -> str:
    """Return why the program cannot be run on its devices here; empty if it can."""
    top = program.at(Level.MODEL)
    if top is None or not isinstance(top.ir, Built):
        return "it was not lowered from a model, which each rank would build"
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        return "this PyTorch has no gloo"
    count = len(list_ranks(program.ir))
    return f"it has {count} devices, and at most {MOST} are run" if count > MOST else ""


def compare(program: Program, found: Verification, bench: Bench) -> Verification:
    """Return `found` with the results of all devices at its points. Raises StageFailed if a process fails."""
    assert program.signature is not None
    given = [bench.inputs(check.point.sizes, bench.model.seed + index) for index, check in enumerate(found.points)]
    task = Task(bench.model, program.signature, program.weights, list_ranks(program.ir), given)
    with tempfile.TemporaryDirectory(prefix="shapeline-ranks-") as folder:
        _start(Path(folder), task, program.ir)
        points = [replace(check, levels={Level.MHLO.word: _check(Path(folder), index, bench, task)})
                  for index, check in enumerate(found.points)]
    return replace(found, points=tuple(points), special=(), kept=(), vectors=())


def _start(folder: Path, task: Task, module: Any) -> None:
    """Run the process, which leaves the results of each rank and device in the folder. Raises StageFailed."""
    (folder / "task").write_bytes(pickle.dumps(task))
    (folder / "program").write_bytes(mlir.to_bytecode(module))
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={len(task.ranks)}"
    variables = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    try:
        ended = subprocess.run([sys.executable, "-m", __name__, str(folder)], env=variables, capture_output=True, text=True,
                               errors="replace", check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise StageFailed(Problem(_PLACE, f"did not end in {_SECONDS} s")) from None
    if ended.returncode:
        said = folder / "failed"
        cause = said.read_text(encoding="utf-8") if said.exists() else (ended.stderr.strip().splitlines() or ["no message"])[-1]
        fix = "the factory must build the module of torch.distributed.get_rank() where a process group exists, see examples/tensor_parallel"
        raise StageFailed(Problem(_PLACE, cause, fix), ended.stderr)


def _check(folder: Path, index: int, bench: Bench, task: Task) -> LevelCheck:
    """Compare each device with its rank at a point."""
    said = json.loads((folder / f"refused-{index}.json").read_text()) if (folder / f"refused-{index}.json").exists() else None
    if said is not None:
        return LevelCheck(0.0, failure=said["failure"], refused=said["refused"])
    got = torch.load(folder / f"devices-{index}.pt", weights_only=True)
    outputs = {}
    for device, rank in enumerate(task.ranks):
        want = torch.load(folder / f"rank-{rank}-{index}.pt", weights_only=True)
        for result, making, one, other in zip(task.signature.returned, bench.makings, got["results"][device], want, strict=True):
            outputs[f"{result.label} on device {device}"] = bench.compare(one, other, making)
    return LevelCheck(got["seconds"], outputs)


def main(folder: Path) -> None:
    """Run the ranks, then the devices. A failure is written to `failed`, and ends the process with code 1."""
    task: Task = pickle.loads((folder / "task").read_bytes())
    context = multiprocessing.get_context("fork")  # before torch has run anything, and with all modules loaded once
    processes = [context.Process(target=_run_rank, args=(folder, task, rank)) for rank in sorted(set(task.ranks))]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes):
            break  # the others would wait for it
        time.sleep(0.05)
    for process in processes:
        process.terminate()
        process.join()
    if (folder / "failed").exists():
        sys.exit(1)
    _run_devices(folder, task)


def _run_rank(folder: Path, task: Task, rank: int) -> None:
    """Build the module of a rank, and save its weights and its results at each point."""
    import torch.distributed as dist

    from lowering.eager.module import instantiate
    from lowering.numerics.running.runner import Eager

    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=len(set(task.ranks)),
                                timeout=datetime.timedelta(seconds=_SECONDS))
        module = instantiate(task.model)
        eager = Eager(task.model, module, task.signature)
        torch.save({name: value.detach() for name, value in module.state_dict().items()}, folder / f"weights-{rank}.pt")
        for index, given in enumerate(task.given):
            torch.save(eager(given), folder / f"rank-{rank}-{index}.pt")
        dist.destroy_process_group()
    except Exception as error:
        (folder / "failed").write_text(f"rank {rank} of torch.distributed raised {type(error).__name__}: {error}", encoding="utf-8")
        raise


def _run_devices(folder: Path, task: Task) -> None:
    """Run the program on a device for each rank at each point, and save the results."""
    from lowering.numerics.running import counted, devices
    from lowering.numerics.running.runner import order_arguments

    module = mlir.parse((folder / "program").read_bytes(), mlir.create_hlo_context())
    held = {rank: {**task.weights, **torch.load(folder / f"weights-{rank}.pt", weights_only=True)} for rank in set(task.ranks)}
    for index, given in enumerate(task.given):
        taken = {argument.name: given[argument.name] for argument in task.signature.inputs}
        start = time.perf_counter()
        try:
            computed = devices.run_on_each(module, [order_arguments(task.signature, held[rank], taken) for rank in task.ranks])
            results = [counted.trim(task.signature, found) for found in computed]
        except ShapelineError as error:
            said = {"failure": str(error), "refused": not isinstance(error, StageFailed)}
            (folder / f"refused-{index}.json").write_text(json.dumps(said), encoding="utf-8")
            continue
        torch.save({"seconds": time.perf_counter() - start, "results": results}, folder / f"devices-{index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
