"""Broken configurations and damaged run folders, made by hypothesis from sound ones; and what a command makes of each."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import shutil
import signal
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from flows.__main__ import main
from flows.config.plan import Plan
from flows.config.run import Run
from flows.history import publish
from flows.runs import begin
from lowering import pipeline
from lowering.sizes.ranges import Range
from lowering.symbols.schema import Change, Failure, Fix, Happening, Line, Place, Relation, Requested, SymbolEntry, SymbolRecord, Warned
from tests import toys

SECONDS = 5  # a command that takes longer hangs
MODEL = {
    "factory": {"_target_": "lowering.sources.mlp.MLP", "width_in": 16, "width_hidden": 32, "width_out": 8},
    "inputs": {"features": {"dtype": "float32", "shape": ["batch", "2*seq", 16], "fill": {"uniform": [0, 1]}}},
    "symbols": {"batch": {"min": 1, "max": 64}, "seq": {"min": 2, "max": 512, "multiple_of": 8, "example": 16}},
    "constants": {"flag": True}, "seed": 0, "tolerances": {"float32": {"atol": 1e-5, "rtol": 1e-5, "reason": "why"}},
    "weights": "random", "libraries": [], "custom_calls": {}, "stages": {"export": {"explain": True}},
}  # fmt: skip
SUITE = {
    "models": {"tiny": {"variants": {"a": {"seed": 1}, "b": {"symbols": {"batch": {"max": 8}}}}, "sweep": {"symbols.seq.max": [128, 256]},
                        "exclude": [{"variant": "a", "symbols.seq.max": 128}]}},
    "sweep": {"seed": [0, 1]}, "max_jobs": 100, "strict_dims": False,
}  # fmt: skip
OVERRIDES = (
    "until=mhlo", "limits.stage_seconds=10", "cluster.workers=2", "select=tiny", "model.tiny.symbols.batch.max=4", "model.seed=1,2", "shard=1/2",
    "stages.export.explain=true", "~stages.verify", "route=fx", "limits.run_seconds=60", "output=out", "cluster.options.x=1", "symbols.extended_debug=[s0]",
    "nightly.timezone=UTC", "stages=core,fx", "+model.tiny.constants.x=1", "durations=none.json", "cache=false", "strict_dims=true", "model.tiny.stages.verify=null",
)  # fmt: skip
NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 10**18, 10**30, -(2**63) - 1, 0.5, float("nan"), float("inf"), "", " ", "???", "${oops}", "${model}", "${oc.env:HOME}", "..", "/",
    "/dev/zero", "~", "a" * 5000, "\u202eabc", "\x1b[31mred", "größe", "=1+1", [], {}, [[[]]], {"a": {"b": 1}}, ["batch", "batch"], "batch", "2*batch",
    "batch/0", "batch**9**9**9", "(" * 300, "1" * 5000, "1e400", "yes", "os.system", "no.such.module", "lowering", ".", "a.b.", "torch.nn.Linear",
    {"_target_": "os.system", "command": "true"}, {"_target_": 1}, {1: 2}, {"": ""}, {"min": 5, "max": 2}, {"min": 10**18}, {"max": 10**40}, "bert", "*", "[", "*?",
    {"randint": [5, 1]}, {"randint": [0, 10**30]}, {"constant": []}, "randn", "complex64", "SymInt", "batch--x", ".hidden", "con", "x" * 121, "\t", "a\nb", "\0",
)  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """Files of a folder of configurations, by name, and the arguments of `shapeline list`."""

    files: dict[str, bytes]
    arguments: tuple[str, ...]


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from _paths(value, (*path, key))


@st.composite
def mutated(draw: st.DrawFn, tree: Any, values: Sequence[Any] = NASTY) -> Any:
    """Return `tree` with up to three of its parts replaced, removed, renamed or added."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(sorted(_paths(tree), key=repr)))
        value = copy.deepcopy(draw(st.sampled_from(values)))
        if not path:
            tree = value if draw(st.integers(0, 9)) == 0 else tree
            continue
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        match draw(st.sampled_from(("replace", "remove", "rename", "add"))):
            case "replace":
                parent[path[-1]] = value
            case "remove":
                del parent[path[-1]]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.sampled_from((f"{path[-1]}s", str(path[-1])[1:], "größe", "a.b", "a=b", "x y", "\x07", "-", "??", 1, None, True)))] = parent.pop(path[-1])
            case _ if isinstance(parent, dict):
                parent[draw(st.sampled_from(("defaults", "extra", "_target_", "min", "hydra", "stages", "${x}", "\u202e")))] = value
            case _:
                parent.append(value)
    return tree


_BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 106))
RAW = (b"", b"\xff\xfe", b"\xf6", b"a: [", b"\t- x", b"---\n---\n", b"&a [*a]", b"a: &a {b: *a}", _BOMB, b"\0", b"[" * 3000, b"{a: " * 1500, b"- !!python/object/apply:os.system [true]",
       b"defaults: [tiny]", b"defaults: [_self_, ../../x]", b"defaults: {a: b}", b"defaults: 5", b"defaults: [{tiny: tiny}]", b"defaults: [nope, _self_]", b"<<: *x",
       b"a: 1\na: 2", b"? [a, b]\n: c", b"%YAML 9.9\n---\na: 1", b"a: " + b"9" * 10_000, b"#" * 100_000, "größe: ü\u2028".encode(), b"a: !!binary x", b"2001-01-01: 1", b"a: 2001-99-99")  # fmt: skip


@st.composite
def written(draw: st.DrawFn, tree: Any) -> bytes:
    """Return a tree as the bytes of a file, which may be damaged."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.sampled_from(RAW))
    text = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")
    match draw(st.integers(0, 11)):
        case 0:
            return text[: draw(st.integers(0, len(text)))]
        case 1:
            at = draw(st.integers(0, len(text)))
            return text[:at] + draw(st.binary(min_size=1, max_size=4)) + text[at:]
        case 2:
            return text + b"\n" + draw(st.sampled_from(RAW))
    return text


@st.composite
def overrides(draw: st.DrawFn) -> str:
    """Return an override of the command line, which may be wrong in its key, its value or its grammar."""
    text = draw(st.sampled_from(OVERRIDES))
    key, _, value = text.partition("=")
    match draw(st.integers(0, 9)):
        case 0:
            return text
        case 1:
            at = draw(st.integers(0, len(key)))
            return f"{key[:at]}{draw(st.sampled_from('xyzä.=,[]{}()~+@!$#:/ '))}{key[at:]}={value}"
        case 2:
            return draw(st.sampled_from((key, f"{key}=", f"={value}", f"~{key}", f"++{key}={value}", f"{key}={value},", f"{key}=[{value}", f"{key}@x={value}", "model=[]", "model=",
                                         "suite=[]", "suite=nope", "suite=../x.yaml", "model=./epoch=3-step=7.yaml", "modle=mlp", "suit=quickstart", "hydra.x=1", "hydra.searchpath=[/]",
                                         "stages=[]", "stages=nope", "cluster=nope", "cluster=[a,b]", "model.tiny=1", "model.nope.seed=1", "model=tiny,tiny", "select=()", "select=not",
                                         "select='((('", "shard=0/0", "shard=9/2", "route=1", "until=???", "limits=1", "limits=null", "cluster=null", "stages=null", "suite=null",
                                         "\u202ekey=1", "key=\x1b[31m")))
    nasty = draw(st.sampled_from(NASTY))
    spelt = nasty if isinstance(nasty, str) else json.dumps(nasty, default=str)
    return f"{key}={spelt}".replace("\0", "")


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    files = {"model/tiny.yaml": draw(written(draw(mutated(MODEL)))), "suite/mine.yaml": draw(written(draw(mutated(SUITE))))}
    if draw(st.integers(0, 5)) == 0:
        files["expect/mine.yaml"] = draw(written(draw(mutated({"strict": True, "expect": {"tiny": {"outcome": "error", "stage": "mhlo"}}}))))
    if draw(st.integers(0, 5)) == 0:
        files["loose.yaml"] = draw(written(draw(mutated(MODEL))))
        start = draw(st.sampled_from((["model=./loose.yaml"], ["model=tiny,./loose.yaml"])))
    else:
        start = ["suite=mine"]
    return Configuration(files, (*start, *draw(st.lists(overrides(), max_size=2))))


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, or what it raised; and what it printed."""

    status: int | str
    out: str
    err: str

    def fault(self, statuses: Sequence[int]) -> str:
        """Return what is wrong with the end; empty if it is a result or a clear refusal."""
        if self.status not in statuses:
            return f"status {self.status}"
        if "Traceback (most recent call last)" in self.err:
            return "a traceback"
        if self.status == 2 and not (self.err.startswith(("shapeline: ", "usage: ")) and len(self.err.strip().splitlines()) > 1):
            return f"a refusal without place and cause: {self.err!r}"
        if strange := [character for character in self.out + self.err if not character.isprintable() and character not in "\n\t"]:
            return f"prints {strange[0]!r}"
        return ""


def run(arguments: Sequence[str], seconds: int = SECONDS) -> Ended:
    """Run a command in this process, with a limit of CPU time, and of ten times as much wall time."""
    out, err = io.StringIO(), io.StringIO()

    def late(*_: object) -> None:
        raise TimeoutError("hangs")

    before = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)  # again, because a callback of the interpreter may swallow the first
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds, 1.0)
    status: int | str
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(arguments)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else str(error.code)
    except BaseException as error:  # noqa: BLE001 - that is what is sought
        status = f"{type(error).__name__}: {error} at {' < '.join(f'{frame.name}:{frame.lineno}' for frame in traceback.extract_tb(error.__traceback__)[::-1][:6])}"
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    return Ended(status, out.getvalue(), err.getvalue())


def try_configuration(made: Configuration, folder: Path) -> str:
    """Write a configuration into `folder` and list its jobs. Return what is wrong, or an empty string."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in made.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with contextlib.chdir(folder):
        ended = run(["list", *made.arguments, "--config-dir", str(folder)])
    return ended.fault((0, 2))


# --- damaged run folders

LINE = Line("model.py", 3, "forward", "x + 1")
RECORD = SymbolRecord(
    "good", (Requested("x[0]", "x", 0, "batch", Range(1, 8), 1, 5, "s0", "dynamic", "s0", None, (), "", LINE, (Place("exported", "x", "s0"),)),),
    (SymbolEntry("i", "s0", "backed", "x", "batch", ("x",), 5, LINE, (LINE,), Range(1, 8), Range(1, 8), Range(1, 8), (Change("created", Range(1, 8), "x", LINE),)),),
    (Relation("r", "guard", "s0 > 1", "batch > 1", LINE, 1, "no", {"batch": 1}),), (Happening("guard", "batch > 1", "s0", LINE),),
    Failure("data_dependent", "Error", "message", LINE, ("v",), (Fix("batch", "2"),)), (Warned("became_static", "is static", "x[0]", 4, LINE),))  # fmt: skip
VERIFIED = {"points": [{"sizes": {"batch": 3}, "levels": {"mhlo": {"outputs": {}}}}], "max_abs": 1e-7, "max_rel": "nan", "weakened": {"float32": "why"}}

COMMANDS = (("report", "RUN"), ("report", "RUN", "--json"), ("show", "good--default", "--run", "RUN"), ("show", "good--default", "script", "--run", "RUN"), ("explain", "good--default", "--run", "RUN"),
            ("diff", "RUN", "RUN"), ("rerun-failed", "RUN", "--dry-run"), ("update-expected", "RUN", "--dry-run"), ("pin", "RUN"), ("cache", "why", "good"), ("cache", "ls"),
            ("prune", "--runs", "1", "--dry-run"), ("cache", "gc", "--max-bytes", "1G", "--keep", "RUN"))  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """A file of a run's folder, by number, how it is damaged, and the command that reads the run."""

    file: int
    how: str
    seed: Any
    command: tuple[str, ...]


HOW = ("tree", "tree", "tree", "truncate", "bytes", "empty", "remove", "link", "pipe", "folder", "nested", "unreadable")
_TEXTS = (*NASTY, {"schema": 1}, [1], "ok", "../../../../etc/passwd", "/etc/passwd", {"id": "x"}, -1.5, 2**70)


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    how = draw(st.sampled_from(HOW))
    return Damage(draw(st.integers(0, 1000)), how, draw(st.randoms(use_true_random=False)) if how == "tree" else draw(st.binary(max_size=6)), draw(st.sampled_from(COMMANDS)))


def damage(run_folder: Path, made: Damage) -> str:
    """Damage a file of the run in `run_folder`. Return which."""
    found = sorted(path for path in run_folder.rglob("*") if path.is_file() and path.suffix in (".json", ".js", ".ts", ".mlir", ".jsonl", ".txt"))
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
        case "unreadable":
            path.write_bytes(b"\xff\xfe" + content)
    return str(path.relative_to(run_folder))


def _mutate(tree: Any, random: Any) -> Any:
    """Replace or remove up to two parts of JSON data."""
    for _ in range(random.randint(1, 2)):
        *above, last = random.choice([path for path in _paths(tree) if path] or [("x",)])
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
    if not fault and ended.status == 2 and made.command[0] != "rerun-failed" and not re.search(r"\.(json|yaml|ts|mlir|txt|js)|runs|is not a level of this job", ended.err):
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
