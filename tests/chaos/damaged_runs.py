"""Damaged run folders, made by hypothesis from a sound one, and what a command makes of each."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from flows.config.plan import Plan
from flows.config.run import Run
from flows.history import publish
from flows.runs import begin
from lowering import pipeline
from lowering.sizes.ranges import Range
from lowering.symbols.schema import Change, Failure, Fix, Happening, Line, Place, Relation, Requested, SymbolEntry, SymbolRecord, Warned
from tests import toys
from tests.chaos.commands import run
from tests.chaos.nasty_values import NASTY, list_paths

LINE = Line("model.py", 3, "forward", "x + 1")
RECORD = SymbolRecord(
    "good", (Requested("x[0]", "x", 0, "batch", Range(1, 8), 1, 5, "s0", "dynamic", "s0", None, (), "", LINE,
                       (Place("exported", "x", "s0"),)),),
    (SymbolEntry("i", "s0", "backed", "x", "batch", ("x",), 5, LINE, (LINE,), Range(1, 8), Range(1, 8), Range(1, 8),
                 (Change("created", Range(1, 8), "x", LINE),)),),
    (Relation("r", "guard", "s0 > 1", "batch > 1", LINE, 1, "no", {"batch": 1}),), (Happening("guard", "batch > 1", "s0", LINE),),
    Failure("data_dependent", "Error", "message", LINE, ("v",), (Fix("batch", "2"),)),
    (Warned("became_static", "is static", "x[0]", 4, LINE),))  # fmt: skip
VERIFIED = {"points": [{"sizes": {"batch": 3}, "levels": {"mhlo": {"outputs": {}}}}], "max_abs": 1e-7, "max_rel": "nan",
            "weakened": {"float32": "why"}}
COMMANDS = (("report", "RUN"), ("report", "RUN", "--json"), ("show", "good--default", "--run", "RUN"),
            ("show", "good--default", "script", "--run", "RUN"), ("explain", "good--default", "--run", "RUN"),
            ("diff", "RUN", "RUN"), ("rerun-failed", "RUN", "--dry-run"), ("blockers", "RUN"), ("exec", "good--default", "--run", "RUN"),
            ("update-expected", "RUN", "--dry-run"), ("pin", "RUN"), ("cache", "why", "good"), ("cache", "ls"),
            ("prune", "--runs", "1", "--dry-run"), ("cache", "gc", "--max-bytes", "1G", "--keep", "RUN"))  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """A file of a run's folder, by number, how it is damaged, and the command that reads the run."""

    file: int
    how: str
    seed: Any
    command: tuple[str, ...]


HOW = ("tree", "tree", "tree", "truncate", "bytes", "empty", "remove", "link", "pipe", "folder", "nested", "unreadable", "huge")
_TEXTS = (*NASTY, {"schema": 1}, [1], "ok", "../../../../etc/passwd", "/etc/passwd", {"id": "x"}, -1.5, 2**70)


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    how = draw(st.sampled_from(HOW))
    return Damage(draw(st.integers(0, 1000)), how,
                  draw(st.randoms(use_true_random=False)) if how == "tree" else draw(st.binary(max_size=6)),
                  draw(st.sampled_from(COMMANDS)))


def damage(run_folder: Path, made: Damage) -> str:
    """Damage a file of the run in `run_folder`. Return which."""
    found = sorted(path for path in run_folder.rglob("*")
                   if path.is_file() and path.suffix in (".json", ".js", ".ts", ".mlir", ".jsonl", ".txt"))
    structured = [path for path in found if path.suffix == ".json"]
    path = (structured if made.how == "tree" else found)[made.file % len(structured if made.how == "tree" else found)]
    content = path.read_bytes()
    path.unlink()
    match made.how:
        case "tree":
            path.write_text(json.dumps(_mutate(json.loads(content), made.seed), default=str))
        case "truncate":
            path.write_bytes(content[: len(content) // 2])
        case "bytes":
            path.write_bytes(content[: len(content) // 3] + made.seed + content[len(content) // 3 + 1 :])
        case "empty":
            path.touch()
        case "link":
            path.symlink_to("/etc/passwd")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "nested":
            path.write_bytes(b"[" * 100_000)
        case "huge":
            with path.open("wb") as file:
                file.truncate(1 << 40)  # no block of the disk is taken
        case "unreadable":
            path.write_bytes(b"\xff\xfe" + content)
    return str(path.relative_to(run_folder))


def _mutate(tree: Any, random: Any) -> Any:
    """Replace or remove up to two parts of JSON data."""
    for _ in range(random.randint(1, 2)):
        *above, last = random.choice([path for path in list_paths(tree) if path] or [("x",)])
        parent = tree
        for key in above:
            parent = parent[key]
        if random.random() < 0.25 and isinstance(parent, dict):
            parent.pop(last, None)
        elif isinstance(parent, dict | list) and parent:
            parent[last] = copy.deepcopy(random.choice(_TEXTS))
    return tree


def try_damage(whole: Path, folder: Path, made: Damage) -> str:
    """Copy the output `whole` to `folder`, damage its run, and run the command. Return what is wrong, or an empty string."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder, symlinks=True)
    (run_folder,) = (path.parent for path in folder.glob("runs/*/run.json") if not path.parent.is_symlink())
    said = damage(run_folder, made)
    arguments = [run_folder.name if word == "RUN" else word for word in made.command]
    ended = run([*arguments, "--output", str(folder)])
    fault = ended.fault((0, 1, 2))
    if not fault and ended.status == 2 and made.command[0] != "rerun-failed" and not re.search(
        r"\.(json|yaml|ts|mlir|txt|js)|runs|is not a level of this job", ended.err):
        fault = f"a refusal that names no file: {ended.err!r}"
    return f"{fault} ({' '.join(made.command)}; {made.how} of {said})" if fault else ""


def make_output(folder: Path) -> Path:
    """Make an output with a finished run of two toy jobs, their store, and a symbol record. Return `folder`."""
    begun = begin.begin(Run(Plan("toys", output=folder, overrides=("suite=toys",), expectations=folder / "expected.yaml"),
                            (toys.job(name="good"), toys.job("raise", name="bad"))))
    for how, name in (("ok", "good"), ("raise", "bad")):
        job = begun.job_folder(f"{name}--default")
        result = pipeline.run(toys.job(how, name=name), job, store=folder / "store")
        replace(result, symbols=RECORD.to_json(), verify=VERIFIED).save(job)
    publish.write(begun, 1.0)
    begin.end(begun, 1.0)
    return folder
