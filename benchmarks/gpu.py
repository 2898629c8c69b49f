"""Delivered programs on a GPU: `python -m benchmarks.gpu JOBS [--wide JOBS] [--platform gpu] [--seconds N]`.

JOBS is the folder `jobs` of a run that was made on any machine. Nothing here needs torch-mlir, transformers (but for --wide) or the Python
that lowered the jobs. Three tables are printed:

- numbers: each job's portable StableHLO at every point that `verify` recorded, and its MHLO at one, beside the results of eager that it
  recorded on the CPU; how many sizes outside of the ranges were refused in the program's words; for entries with states, eight steps beside
  XLA's CPU;
- memory: of a step that writes its states in place, and of the same program without aliases;
- speed, of the jobs of --wide, which have no weights: XLA beside eager and torch.compile on the same card, with random weights of the model
  that transformers builds from the job's config. Milliseconds: medians of runs after warm-up, each to its end.

XLA computes products of float32 as such where a row says `highest`, and rounds their operands to TF32, its default, where it says
`default`.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_numbers
from lowering import files
from lowering.ir import mlir, portable
from lowering.model import Model
from lowering.numerics.delivery import artifact, packaging
from lowering.numerics.running import xla
from lowering.numerics.running.xla import Xla
from lowering.plain import from_plain
from lowering.signature import Argument, Signature
from lowering.sizes import evaluation
from lowering.types import DTYPES

POINTS: Mapping[str, tuple[Mapping[str, int], ...]] = {
    "BertModel": ({"batch": 8, "seq": 128}, {"batch": 32, "seq": 512}),
    "LlamaForCausalLM": ({"batch": 1, "seq": 512}, {"batch": 4, "seq": 1024}),
}
ROUNDS = 30
_ALIAS = re.compile(r"(?:, )?tf\.aliasing_output = \d+ : i32")  # after an argument's name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=Path)
    parser.add_argument("--wide", type=Path)
    parser.add_argument("--platform", choices=xla.PLATFORMS, default="gpu")
    parser.add_argument("--points", type=int, default=4, help="of each job, at most")
    parser.add_argument("--seconds", type=float, default=480, help="no job is begun later than that")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    print(f"{describe_device(options.platform)}, XLA of jaxlib {read_jaxlib_version()}, torch {torch.__version__}")
    print("\n| job | points | max abs error | max rel error | MHLO | sizes refused | steps beside the CPU |\n|---|---|---|---|---|---|---|")
    for folder in sorted(options.jobs.iterdir()):
        if (folder / packaging.PROGRAM).is_file() and time.monotonic() < end:
            print(f"| {folder.name} | {' | '.join(gpu_numbers.check(folder, options.platform, options.points))} |", flush=True)
    wide = sorted(options.wide.iterdir()) if options.wide else []
    wide = [folder for folder in wide if (folder / packaging.PROGRAM).is_file()]
    print("\n| step | states | peak memory beyond the arguments | ms |\n|---|---|---|---|")
    for folder in wide:
        signature = read(folder)[0]
        if signature.states and "seq" not in signature.symbols and time.monotonic() < end:  # a step, and no prompt
            for row in attempt_rows(partial(measure_memory, folder, signature, options.platform), 3):
                print(f"| {folder.name} | {' | '.join(row)} |", flush=True)
    print("\n| program | sizes | eager ms | torch.compile ms (s to compile) | XLA ms (s to compile) | XLA, torch.compile / eager |\n"
          "|---|---|---|---|---|---|")
    for folder in wide:
        signature, model = read(folder)
        if not signature.states and time.monotonic() < end:
            for row in attempt_rows(partial(measure_speed, folder, signature, model, options.platform, end), 5):
                print(f"| {folder.name} | {' | '.join(row)} |", flush=True)


def read_jaxlib_version() -> str:
    """Return the version of jaxlib, of which XLA is a part."""
    import jaxlib

    return str(jaxlib.__version__)


def describe_device(platform: str) -> str:
    """Return the name of the card, or `cpu`."""
    import jax

    return str(jax.local_devices(backend=platform)[0].device_kind)


def read(folder: Path) -> tuple[Signature, Model]:
    """Read what a job's folder says of its program, which may have no weights."""
    data = files.read(folder / artifact.SIGNATURE)
    return from_plain(Signature, data["signature"]), from_plain(Model, data["model"])


def read_shape(argument: Argument, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of an argument at `sizes`."""
    return tuple(evaluation.evaluate(dim, sizes) for dim in argument.dims)


def measure_memory(folder: Path, signature: Signature, platform: str) -> list[tuple[str, ...]]:
    """Return the rows of a step with aliased states and of the same without: peak bytes that XLA's allocator reports, and the time."""
    import jax

    device = jax.local_devices(backend=platform)[0]
    text = mlir.text(portable.deserialize((folder / packaging.PROGRAM).read_bytes()), elide=None)
    sizes = {name: symbol.max for name, symbol in signature.symbols.items()}
    generator = torch.Generator().manual_seed(0)
    values = [make_value(argument, sizes, generator) for argument in signature.arguments]
    size = sum(values[position].numel() * values[position].element_size() for position in signature.states)
    rows = []
    for label, program in (("aliased", text), ("not aliased", _ALIAS.sub("", text))):
        if program == text and label != "aliased":
            rows.append((label, "the program has no aliases", ""))
            continue
        runs = Xla(platform, is_strict=False)
        executable = runs.prepare(program, values)
        step = runs.stepper(executable, values, signature.states)
        step()
        gc.collect()
        planned = executable.get_compiled_memory_stats()
        times = measure(step, lambda: None)
        stats = device.memory_stats() or {}
        peak = f"{stats.get('peak_bytes_in_use', 0) / 2**20:.0f} MiB at most so far, {stats.get('bytes_in_use', 0) / 2**20:.0f} in use"
        plan = (f"results {planned.output_size_in_bytes / 2**20:.0f} MiB, of them in place {planned.alias_size_in_bytes / 2**20:.0f}, "
                f"temporary {planned.temp_size_in_bytes / 2**20:.0f}")
        rows.append((f"{label}, {size / 2**20:.0f} MiB", f"{plan}; {peak}, pool {stats.get('pool_bytes', 0) / 2**20:.0f}", f"{times:.2f}"))
        del executable, step, runs
        gc.collect()
    return rows


def make_value(argument: Argument, sizes: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
    """Return a random tensor for an argument: small numbers, and 1 for integers."""
    dtype, shape = DTYPES[argument.dtype].torch, read_shape(argument, sizes)
    if dtype.is_floating_point:
        return (torch.randn(shape, generator=generator) * 0.02).to(dtype)
    return torch.ones(shape, dtype=dtype)


def measure(run: Callable[[], Any], wait: Callable[[], None], rounds: int = ROUNDS) -> float:
    """Return the median of milliseconds."""
    for _ in range(3):
        run()
    wait()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        wait()
        found.append((time.perf_counter() - start) * 1e3)
    return statistics.median(found)


def measure_speed(folder: Path, signature: Signature, model: Model, platform: str, end: float) -> list[tuple[str, ...]]:
    """Return a row for each of the model's POINTS and each precision."""
    import transformers

    kwargs = model.factory
    built, cuda = getattr(transformers, kwargs["architecture"]), "cuda" if platform == "gpu" else "cpu"
    dtype = DTYPES[model.dtype].torch if model.dtype else torch.float32
    torch.manual_seed(0)
    with torch.device(cuda):
        module = built(getattr(transformers, kwargs["config"])(**kwargs["kwargs"])).to(dtype).eval()
    text = mlir.text(portable.deserialize((folder / packaging.PROGRAM).read_bytes()), elide=None)
    held = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
    weights = {argument.name: held[argument.name].detach().cpu() for argument in signature.arguments if argument.kind != "input"}
    runs = Xla(platform, is_strict=False)
    runs.hold(weights)
    rows = []
    for sizes in POINTS[kwargs["architecture"]]:
        given = {argument.name: torch.randint(0, 1000, read_shape(argument, sizes)) if argument.name == "input_ids"
                 else torch.ones(read_shape(argument, sizes), dtype=torch.int64) for argument in signature.inputs}
        values = [weights[argument.name] if argument.kind != "input" else given[argument.name] for argument in signature.arguments]
        there = {name: value.to(cuda) for name, value in given.items()}
        for precision in ("highest", "default") if dtype is torch.float32 else ("default",):
            if time.monotonic() > end:
                return rows
            work = partial(measure_row, sizes, precision, module, there, text, values, runs)
            rows += attempt_rows(lambda work=work: [work()], 5)
    del module, runs
    gc.collect()
    torch._dynamo.reset()
    if cuda == "cuda":
        torch.cuda.empty_cache()
    return rows


def attempt_rows(work: Callable[[], Sequence[tuple[str, ...]]], width: int) -> Sequence[tuple[str, ...]]:
    """Return the rows of some work, or one that tells the error that ended it."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001
        return [(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", *[""] * (width - 1))]


def measure_row(sizes: Mapping[str, int], precision: str, module: torch.nn.Module, given: Mapping[str, torch.Tensor], text: str,
                values: Sequence[torch.Tensor], runs: Xla) -> tuple[str, ...]:
    """Return the row of one precision at one point."""
    wait = torch.cuda.synchronize if next(module.parameters()).is_cuda else (lambda: None)
    torch.set_float32_matmul_precision("highest" if precision == "highest" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    with torch.no_grad():
        want = module(**given)[0].float().cpu()
        eager = measure(lambda: module(**given), wait)
        torch._dynamo.reset()
        start = time.perf_counter()
        compiled = torch.compile(module, dynamic=False)
        compiled(**given)
        wait()
        compiling = time.perf_counter() - start
        inductor = measure(lambda: compiled(**given), wait)
    start = time.perf_counter()
    static = xla.refine(text, [(value.dtype, tuple(value.shape)) for value in values])
    executable = runs.compile(static) if precision == "highest" else compile_as_given(static, runs.platform)
    xla_compiling = time.perf_counter() - start
    arrays = list(map(runs._take, values))
    found = runs._read(runs._execute(executable, arrays))[0].float()
    error = ((found - want).norm() / want.norm()).item()
    ours = measure(lambda: runs._execute(executable, arrays), lambda: None)
    at = ", ".join(f"{name} {size}" for name, size in sizes.items())
    return (f"{at}, {precision}", f"{eager:.2f}", f"{inductor:.2f} ({compiling:.0f})", f"{ours:.2f} ({xla_compiling:.0f})",
            f"{ours / eager:.2f}, {inductor / eager:.2f}; difference from eager {error:.1e}")


def compile_as_given(static: bytes, platform: str) -> Any:
    """Compile a static program with XLA's own defaults, as a user of the file does."""
    import jax
    from jaxlib import xla_client

    device = jax.local_devices(backend=platform)[0]
    return device.client.compile_and_load(static, xla_client.DeviceList((device,)), xla_client.CompileOptions())


if __name__ == "__main__":
    main()
