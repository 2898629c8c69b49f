"""`shapeline doctor`: check what an installation needs, and say how to fix what it lacks."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from flows.command.arguments import add_output, make_parser
from flows.command.exits import OK, UNEXPECTED
from flows.runs import environment
from lowering.errors import ShapelineError

DISTRIBUTION = "shapeline"
LEAST_DISK, LEAST_MEMORY = 5 << 30, 4 << 30  # bytes
COMPILERS = ("torch", "torch_mlir.ir", "jaxlib.mlir.ir", "transformers")
SECONDS = 120.0
Mark = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of a check. note: something optional is missing; fix: what to do."""

    mark: Mark
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.mark:8} {self.text}{f' ({self.fix})' if self.fix else ''}"


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if something that every run needs is missing."""
    parser = make_parser("doctor", "Check versions, packages, compilers, GPU, Prefect, disk and memory, and name the fix of each problem.")
    add_output(parser)
    options = parser.parse_args(arguments)
    found = []
    for finding in itertools.chain(check_python(), check_versions(), check_imports(), check_tools(), check_machine(),
                                   check_disk(options.output), check_prefect()):  # fmt: skip
        print(finding, flush=True)
        found.append(finding)
    problems = sum(finding.mark == "problem" for finding in found)
    print(f"{problems or 'no'} problem{'' if problems == 1 else 's'}")
    return UNEXPECTED if problems else OK


def check_python() -> Iterator[Finding]:
    """Check the version of Python against that of the package."""
    version = ".".join(map(str, sys.version_info[:3]))
    try:
        wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("note", f"Python {version}; {DISTRIBUTION} runs from its source and is not installed", "pip install -e .")
        return
    fits = Requirement(f"python{wanted}").specifier.contains(version)
    yield Finding("ok", f"Python {version}") if fits else Finding("problem", f"Python {version} is not {wanted}", f"use Python {wanted}")


def check_versions() -> Iterator[Finding]:
    """Check the installed version of each package that Shapeline needs."""
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or ()]
    except importlib.metadata.PackageNotFoundError:
        return
    fitting = []
    for wanted in requirements:
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("problem", f"{wanted.name} is not installed", f"pip install '{wanted}'")
            continue
        if wanted.specifier.contains(version, prereleases=True):
            fitting.append(f"{wanted.name} {version}")
        else:
            yield Finding("problem", f"{wanted.name} {version} is not {wanted.specifier}", f"pip install '{wanted}'")
    yield Finding("ok", ", ".join(fitting))


def check_imports() -> Iterator[Finding]:
    """Import each compiler in a process of its own: a broken wheel may end the process that imports it."""
    for name in COMPILERS:
        done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=SECONDS, check=False)
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        package = name.split(".", 1)[0]
        yield Finding("ok", f"{package} can be imported") if done.returncode == 0 else Finding(
            "problem", f"{package} cannot be imported: {last}", f"pip install --force-reinstall {package.replace('_', '-')}"
        )


def check_tools() -> Iterator[Finding]:
    """Check optional programs: a C++ compiler, git, py-spy."""
    uses = {("c++", "g++", "clang++"): ("custom ops from C++ sources", "install g++ or clang++"),
            ("git",): ("the commit in records, and bisect", "install git"),
            ("py-spy",): ("native stacks of jobs that are too slow", "pip install 'shapeline[stacks]'")}  # fmt: skip
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    for names, (use, fix) in uses.items():
        found = next(filter(None, (shutil.which(name, path=beside) for name in names)), None)
        yield Finding("ok", f"{Path(found).name}: {use}") if found else Finding("note", f"no {names[0]}: {use} will not work", fix)


def check_machine() -> Iterator[Finding]:
    """Check memory, and whether torch sees the GPUs of the machine."""
    free = environment.read_available_bytes()
    machine = environment.describe_machine()
    text = f"{machine['cores']} cores, {free / (1 << 30):.1f} GiB of memory available"
    fix = "large models need more; run one job at a time: cluster.workers=1"
    yield Finding("ok", text) if free >= LEAST_MEMORY else Finding("note", text, fix)
    if not machine["gpus"]:
        yield Finding("ok", "no GPU: jobs run on the CPU")
        return
    done = subprocess.run([sys.executable, "-c", "import torch; print(torch.cuda.is_available())"], capture_output=True, text=True,
                          timeout=SECONDS, check=False)  # fmt: skip
    seen = done.stdout.strip().endswith("True")
    names = ", ".join(machine["gpus"])
    unseen = Finding("note", f"GPUs that torch does not see: {names}", "install a CUDA build of torch")
    yield Finding("ok", f"GPUs: {names}") if seen else unseen


def check_disk(output: Path) -> Iterator[Finding]:
    """Check that the output folder can be written, and has room."""
    place = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        yield Finding("problem", f"{place} cannot be written", "choose another folder: output=FOLDER")
        return
    free = shutil.disk_usage(place).free
    text = f"{free / (1 << 30):.0f} GiB free for {output}"
    yield Finding("ok", text) if free >= LEAST_DISK else Finding("note", text, "shapeline prune --help, shapeline cache gc")


def check_prefect() -> Iterator[Finding]:
    """Check that Prefect's home can be written, and that the server of PREFECT_API_URL answers."""
    from flows.engine import access, server  # imported here because it sets up Prefect

    server.configure()
    try:
        server.check_home()
    except ShapelineError as error:
        yield Finding("problem", f"{error.problems[0].place}: {error.problems[0].cause}", error.problems[0].fix)
        return
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        yield Finding("ok", "Prefect: a run starts or finds a server of this machine")
        return
    yield _ask(address, os.environ.get("PREFECT_API_AUTH_STRING") or access.read_password())


def _ask(address: str, password: str | None) -> Finding:
    """Ask a server whether it works, with a request that needs the password."""
    from flows.engine.access import encode_password

    headers = {"Authorization": encode_password(password)} if password else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{address.rstrip('/')}/admin/version", headers=headers), timeout=10):
            return Finding("ok", f"Prefect's server answers at {address}")
    except (OSError, ValueError) as error:
        fix = "start it (shapeline server), set PREFECT_API_AUTH_STRING, or unset PREFECT_API_URL"
        return Finding("problem", f"Prefect's server at {address} does not answer: {error}", fix)

