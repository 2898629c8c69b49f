"""Broken configurations, made by hypothesis from sound ones, and what `shapeline list` makes of each."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.chaos.commands import run
from tests.chaos.nasty_values import NASTY, list_paths

MODEL = {
    "factory": {"_target_": "lowering.sources.mlp.MLP", "width_in": 16, "width_hidden": 32, "width_out": 8},
    "inputs": {"features": {"dtype": "float32", "shape": ["batch", "2*seq", 16], "fill": {"uniform": [0, 1]}}},
    "symbols": {"batch": {"min": 1, "max": 64}, "seq": {"min": 2, "max": 512, "multiple_of": 8, "example": 16}},
    "constants": {}, "seed": 0, "tolerances": {"float32": {"atol": 1e-5, "rtol": 1e-5, "reason": "why"}},
    "weights": "random", "libraries": [], "custom_calls": {}, "stages": {"export": {"explain": True}},
    "buckets": {"batch": [4, 8], "seq": [8]}, "capacities": {"u0": 4}, "method": "forward", "mode": "inference", "dtype": "float32",
    "quantization": {"scheme": "int8_dynamic", "skip": ["down"], "group_size": 32},
    "entries": {"first": {}, "second": {"method": "forward", "after": "first", "symbols": {"batch": {"max": 8}}}},
}  # fmt: skip
SUITE = {
    "models": {"tiny": {"variants": {"a": {"seed": 1}, "b": {"symbols": {"batch": {"max": 8}}}}, "sweep": {"symbols.seq.max": [128, 256]},
                        "exclude": [{"variant": "a", "symbols.seq.max": 128}]}},
    "sweep": {"seed": [0, 1]}, "max_jobs": 100, "strict_dims": False, "environments": {"own": [], "other": ["torch==2.12.1"]},
    "zip": {"symbols.batch.min": [1, 2], "symbols.batch.example": [3, 5]},
}  # fmt: skip
OVERRIDES = (
    "until=mhlo", "limits.stage_seconds=10", "cluster.workers=2", "select=tiny", "model.tiny.symbols.batch.max=4", "model.seed=1,2",
    "shard=1/2", "stages.export.explain=true", "~stages.verify", "route=fx", "limits.run_seconds=60", "output=out", "cluster.options.x=1",
    "symbols.extended_debug=[s0]", "nightly.timezone=UTC", "stages=core,fx", "+model.tiny.constants.x=1", "durations=none.json",
    "cache=false", "strict_dims=true", "model.tiny.stages.verify=null",
    "model.tiny.buckets.batch=[8]", "model.tiny.entries.second=null", "model.tiny.quantization=null", "server=embedded",
    "worker.keep_minutes=0", "nightly.tracker.kind=github", "nightly.tracker.repository=a/b", "suite.environments.own=[]",
    "stages.verify.levels=[mhlo]", "model.tiny.dtype=float32,bfloat16",
)  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """Files of a folder of configurations, by name, and the arguments of `shapeline list`."""

    files: dict[str, bytes]
    arguments: tuple[str, ...]


@st.composite
def mutated(draw: st.DrawFn, tree: Any, values: Sequence[Any] = NASTY) -> Any:
    """Return `tree` with up to three of its parts replaced, removed, renamed or added."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(sorted(list_paths(tree), key=repr)))
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
                parent[draw(st.sampled_from((f"{path[-1]}s", str(path[-1])[1:], "größe", "a.b", "a=b", "x y", "\x07", "-", "??", 1, None,
                                             True)))] = parent.pop(path[-1])
            case _ if isinstance(parent, dict):
                parent[draw(st.sampled_from(("defaults", "extra", "_target_", "min", "hydra", "stages", "${x}", "\u202e")))] = value
            case _:
                parent.append(value)
    return tree


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 106))
RAW = (b"", b"\xff\xfe", b"\xf6", b"a: [", b"\t- x", b"---\n---\n", b"&a [*a]", b"a: &a {b: *a}", BOMB, b"\0", b"[" * 3000, b"{a: " * 1500,
       b"- !!python/object/apply:os.system [true]", b"defaults: [tiny]", b"defaults: [_self_, ../../x]", b"defaults: {a: b}",
       b"defaults: 5", b"defaults: [{tiny: tiny}]", b"defaults: [nope, _self_]", b"<<: *x",
       b"a: 1\na: 2", b"? [a, b]\n: c", b"%YAML 9.9\n---\na: 1", b"a: " + b"9" * 10_000, b"#" * 100_000, "größe: ü\u2028".encode(),
       b"a: !!binary x", b"2001-01-01: 1", b"a: 2001-99-99")  # fmt: skip


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
            return draw(st.sampled_from((key, f"{key}=", f"={value}", f"~{key}", f"++{key}={value}", f"{key}={value},", f"{key}=[{value}",
                                         f"{key}@x={value}", "model=[]", "model=", "suite=[]", "suite=nope", "suite=../x.yaml",
                                         "model=./epoch=3-step=7.yaml", "modle=mlp", "suit=quickstart", "hydra.x=1", "hydra.searchpath=[/]",
                                         "stages=[]", "stages=nope", "cluster=nope", "cluster=[a,b]", "model.tiny=1", "model.nope.seed=1",
                                         "model=tiny,tiny", "select=()", "select=not", "select='((('", "shard=0/0", "shard=9/2", "route=1",
                                         "until=???", "limits=1", "limits=null", "cluster=null", "stages=null", "suite=null",
                                         "\u202ekey=1", "key=\x1b[31m")))
    nasty = draw(st.sampled_from(NASTY))
    spelt = nasty if isinstance(nasty, str) else json.dumps(nasty, default=str)
    return f"{key}={spelt}".replace("\0", "")


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    files = {"model/tiny.yaml": draw(written(draw(mutated(MODEL)))), "suite/mine.yaml": draw(written(draw(mutated(SUITE))))}
    if draw(st.integers(0, 5)) == 0:
        files["expect/mine.yaml"] = draw(written(draw(mutated({"strict": True,
                                                               "expect": {"tiny": {"outcome": "error", "stage": "mhlo"}}}))))
    if draw(st.integers(0, 5)) == 0:
        files["loose.yaml"] = draw(written(draw(mutated(MODEL))))
        start = draw(st.sampled_from((["model=./loose.yaml"], ["model=tiny,./loose.yaml"])))
    else:
        start = ["suite=mine"]
    return Configuration(files, (*start, *draw(st.lists(overrides(), max_size=2))))


def try_configuration(made: Configuration, folder: Path) -> str:
    """Write a configuration into `folder` and list its jobs. Return what is wrong, or an empty string."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in made.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with contextlib.chdir(folder):
        ended = run(["list", *made.arguments, "--config-dir", str(folder)])
    return ended.fault((0, 2))
