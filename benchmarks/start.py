"""Measure what a user waits for around a lowering: the start of commands and of runs.

    python -m benchmarks.start [--against FOLDER] [--repeats 5] [--settings KEY=VALUE...] [--json FILE]

`list` and `validate` read configurations. `cold` is the first run of a user on a machine: no server, no database, no store. `changed`
lowers a trivial model that has changed (another seed) and `hit` repeats it; both find the server of an earlier run, if the version keeps
one. --against names another checkout, such as a worktree of an older commit, whose command is that of its pyproject.toml: its commands
alternate with this one's, so that both see the same machine. CPU is that of the command and its children, without a server that stays.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
WAYS = ("list", "validate", "cold", "changed", "hit")


@dataclass(frozen=True)
class Row:
    """One command of a checkout: medians of its wall and CPU seconds."""

    checkout: str
    way: str
    seconds: float
    cpu_seconds: float


class Checkout:
    """A version of Shapeline with a user of its own. settings: further overrides of its runs."""

    def __init__(self, name: str, root: Path, home: Path, settings: Sequence[str]):
        self.name, self.root, self.settings = name, root, settings
        self.command = (sys.executable, "-c", find_command(root))
        self.seed = 0
        self.move(home)

    def move(self, home: Path) -> None:
        """Move to the folders of a new user."""
        home.mkdir()
        unset = {key: value for key, value in os.environ.items() if key != "CI" and not key.startswith(("PREFECT_", "SHAPELINE_"))}
        self.home = home
        self.environment = {**unset, "PYTHONPATH": str(self.root), "HOME": str(home), "PREFECT_HOME": str(home / "prefect"),
                            "SHAPELINE_STATE": str(home / "state")}  # fmt: skip

    def run(self, *words: str) -> tuple[float, float]:
        """Run a command, and return its wall and CPU seconds."""
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([*self.command, *words], cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"{self.name}: shapeline {' '.join(words)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def measure(self, way: str) -> tuple[float, float]:
        """Run the command of a way."""
        if way == "list":
            return self.run("list", "suite=zoo")
        if way == "validate":
            return self.run("validate", "--all")
        if way == "cold":
            self.leave()
            self.move(self.home.with_name(f"{self.home.name}-"))
        elif way == "changed":
            self.seed += 1
        return self.run("run", "model=mlp", f"model.mlp.seed={self.seed}", f"output={self.home}/artifacts", *self.settings)

    def leave(self) -> None:
        """Stop what stays, if the version knows how to."""
        with suppress(subprocess.SubprocessError, OSError):
            subprocess.run([*self.command, "server", "stop", "--force"], cwd=self.root, env=self.environment, capture_output=True,
                           timeout=60, check=False)  # fmt: skip


def find_command(root: Path) -> str:
    """Return the code that is the command `shapeline` of a checkout, as its pyproject.toml names it. Exits if the folder is none."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        module, _, function = project["scripts"]["shapeline"].partition(":")
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"{root} is not a checkout of Shapeline: {error}") from error
    return f"import sys; from {module} import {function}; sys.exit({function}())"


def has_key(root: Path, key: str) -> bool:
    """Return whether the configuration of a checkout has a top-level key, in the file where the version has it."""
    found = (root / name for name in ("configs/pipeline.yaml", "pipeline.yaml"))
    return any(f"\n{key}:" in file.read_text(encoding="utf-8") for file in found if file.is_file())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description="Measure the start of commands and of runs.")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout, measured in turn with this one")
    parser.add_argument("--repeats", type=int, default=5, help="runs per command (default: 5)")
    parser.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS), help=f"of {','.join(WAYS)}")
    parser.add_argument("--settings", nargs="*", default=[], metavar="KEY=VALUE", help="further overrides of this checkout's runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        checkouts = [Checkout("this", ROOT, Path(folder, "this"), given.settings)]
        if given.against:
            checkouts.insert(0, Checkout("before", given.against.resolve(), Path(folder, "before"), []))
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        try:
            for way in given.ways:
                for _ in range(given.repeats):
                    for checkout in checkouts:
                        found.setdefault((checkout.name, way), []).append(checkout.measure(way))
        finally:
            for checkout in checkouts:
                checkout.leave()
    rows = [Row(name, way, median(one[0] for one in each), median(one[1] for one in each)) for (name, way), each in found.items()]
    print(f"medians of {given.repeats}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| command | checkout | wall s | CPU s |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.way} | {row.checkout} | {row.seconds:.2f} | {row.cpu_seconds:.2f} |")
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
