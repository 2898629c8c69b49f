"""Entries that follow from a model's factory: a source of generative models runs each one once, outside of this process, to learn them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from flows.config import checks, compose
from flows.config.layers import Layers
from lowering import files, trust
from lowering.errors import Problem
from lowering.recipe import TARGET

GENERATION = "lowering.sources.huggingface.generation"
FILE = compose.CONFIGS / "entries.json"  # the entries of the models that are shipped, so that planning them does not run them
_PROGRAM = "lowering.sources.huggingface_entries"
_CODE = tuple(compose.ROOT / "lowering" / name for name in (
    "sources/huggingface.py", "sources/huggingface_entries.py", "sources/huggingface_runs.py", "sources/images.py", "eager/caches.py"))


def implies_entries(tree: Mapping[str, Any]) -> bool:
    """Return whether the entries of a model's file follow from its factory."""
    factory = tree.get("factory")
    return isinstance(factory, Mapping) and factory.get(TARGET) == GENERATION


@dataclass
class Derived:
    """The entries of models by the key of their factory: from files, or from a process that is started for the first unknown one.

    file: entries that were written before. known: all that were asked for. The process ends with the block that this is the context of.
    """

    file: Path = FILE
    known: dict[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Derived:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()  # it ends with its input
            self._process = None

    def imply(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries and symbols that a model's factory implies; nothing if it is not complete (see `find_problems`)."""
        found = self._find(tree)
        return {key: found[key] for key in ("entries", "symbols") if key in found}

    def find_problems(self, tree: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str, str]]:
        """Return the problems for which the entries of a factory were not found, as (keys in the file, cause, fix)."""
        return [(("factory", *filter(None, problem["place"].removeprefix("factory").split("."))), problem["cause"], problem["fix"])
                for problem in self._find(tree).get("problems", ())]

    def write(self, file: Path) -> None:
        """Write all entries that were asked for."""
        files.write(file, {key: self.known[key] for key in sorted(self.known) if "problems" not in self.known[key]})

    def _find(self, tree: Mapping[str, Any]) -> Mapping[str, Any]:
        arguments = {name: value for name, value in tree["factory"].items() if name != TARGET}
        if checks.check_factory(tree["factory"], lambda keys: ""):
            return {}
        key = _make_key(arguments)
        if key not in self.known:
            mine = trust.locate_key().with_name("entries") / f"{key}.json"
            found = _read(self.file).get(key) or _read(mine) or None
            if found is None:
                found = self._ask(arguments)
                if "problems" not in found:
                    mine.parent.mkdir(parents=True, exist_ok=True)
                    files.write(mine, found)
            self.known[key] = found
        return self.known[key]

    def _ask(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let the process find the entries of a model: planning does not import torch."""
        if self._process is None:
            self._process = subprocess.Popen([sys.executable, "-m", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                             stderr=subprocess.DEVNULL, cwd=compose.ROOT)
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps(arguments, default=str), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return dict(json.loads(line))
        code = self._process.wait()
        self._process = None
        return {"problems": [Problem("factory", f"the process that finds its entries ended with {code}", "declare its entries").to_json()]}


def drop_unused(tree: Mapping[str, Any], layers: Layers) -> dict[str, Any]:
    """Return a model's tree without the symbols that its factory implies and no entry has, because an entry is null or replaced.

    layers: those of the tree, with the implied one at the bottom.
    """
    used = json.dumps([tree.get("entries"), tree.get("inputs")])
    own = [layer.data.get("symbols", {}) for layer in layers.layers[1:] if isinstance(layer.data, Mapping)]
    kept = {name: symbol for name, symbol in (tree.get("symbols") or {}).items()
            if _is_used(name, used) or any(name in said for said in own)}
    return {**tree, "symbols": kept}


def _is_used(symbol: str, text: str) -> bool:
    return any(f'{before}{symbol}{after}' in text for before in ('"', "*") for after in ('"', " "))


def _make_key(arguments: Mapping[str, Any]) -> str:
    """Return the key of a factory: its arguments, the version of transformers, and the code that derives entries."""
    code = hashlib.sha256(b"".join(path.read_bytes() for path in _CODE)).hexdigest()
    content = json.dumps([arguments, metadata.version("transformers"), code], sort_keys=True, default=str)
    return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
