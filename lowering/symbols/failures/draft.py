"""Draft export, which lists all shape problems of a model at once. It runs the model on real data, so it gets a separate process.

    python -m lowering.symbols.failures.draft MODEL.json OUT.json SECONDS
"""

from __future__ import annotations

import json
import math
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lowering import files
from lowering.model import Model
from lowering.plain import from_plain, to_plain
from lowering.symbols.schema import Drafted, Line, SymbolRecord
from lowering.symbols.tracing.frames import convert_spot, is_model_code

_STUCK = 600.0  # seconds after which a draft that waits for something is given up: far more than its CPU time, and less than a stage has
_KINDS = {"DATA_DEPENDENT_ERROR": "data_dependent", "GUARD_ADDED": "guard"}


def add_draft(record: SymbolRecord, model: Model, seconds: float = 120.0) -> SymbolRecord:
    """Add the findings of a draft export of `model` to `record`, or the reason for its failure. seconds: limit of CPU time."""
    return replace(record, draft=run_draft(model, seconds))


def run_draft(model: Model, seconds: float = 120.0) -> tuple[Drafted, ...]:
    """List the problems that a draft export finds. Errors of the model never raise.

    seconds: limit of CPU time, which other processes do not use up.
    """
    with tempfile.TemporaryDirectory(prefix="draft-") as name:
        spec, out = Path(name) / "model.json", Path(name) / "out.json"
        files.write(spec, to_plain(model))
        command = [sys.executable, "-m", "lowering.symbols.failures.draft", str(spec), str(out), str(seconds)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_STUCK, check=False)
        except subprocess.TimeoutExpired:
            return (Drafted("failed", f"the draft export did not end in {_STUCK:g} s"),)
        if done.returncode == -signal.SIGXCPU:
            return (Drafted("failed", f"the draft export took more than {seconds:g} s of CPU"),)
        if done.returncode or not out.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return (Drafted("failed", f"the draft export ended with code {done.returncode}: {last}"),)
        return tuple(from_plain(Drafted, found) for found in files.read(out))


def _limit_time(seconds: float) -> None:
    """Let the kernel end this process when it has used so many seconds of CPU."""
    most = math.ceil(seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 5))


def _list_findings(model: Model) -> Iterator[Drafted]:
    import torch

    torch.set_num_threads(1)  # threads that wait for others use CPU time too

    from lowering.eager import inputs
    from lowering.eager.arguments import assemble
    from lowering.eager.module import instantiate
    from lowering.fx import dynamic_shapes

    module = instantiate(model)
    arguments = assemble(model, module, inputs.make(model, model.examples()))
    try:
        program = torch.export.draft_export(module, (), arguments, dynamic_shapes=dynamic_shapes.build_dynamic_shapes(model, arguments))
    except Exception as error:  # noqa: BLE001 - draft export cannot work around every error
        yield Drafted("failed", f"{type(error).__name__}: {str(error).split(chr(10), 1)[0]}")
        return
    report: Any = getattr(program, "_report", None)
    for failure in report.failures if report is not None else ():
        yield _convert_finding(failure.failure_type.name, failure.data, report.str_to_filename)


def _convert_finding(kind: str, data: Mapping[str, Any], names: Mapping[int, str]) -> Drafted:
    line = _find_line(data.get("user_stack") or (), names)
    match kind:
        case "DATA_DEPENDENT_ERROR":
            text = f"{data['expr']} depends on data, and {data.get('result')} was assumed; assert it with torch._check"
        case "GUARD_ADDED":
            text = f"the code needs {data['expr']}, with {data['symbol_to_sources']}"
        case _:
            text = " ".join(str(data[key]) for key in ("op", "reason") if key in data) or json.dumps(data, default=repr)
    return Drafted(_KINDS.get(kind, kind.lower()), text, line)


def _find_line(stack: Any, names: Mapping[int, str]) -> Line | None:
    spots = [(names.get(frame["filename"], str(frame["filename"])), int(frame["line"]), str(frame["name"])) for frame in stack]
    own = [spot for spot in spots if is_model_code(spot[0]) and not spot[0].startswith(str(Path(__file__)))]
    return convert_spot(own[-1]) if own else None


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    _limit_time(float(sys.argv[3]))
    files.write(target, [to_plain(found) for found in _list_findings(from_plain(Model, files.read(source)))])
