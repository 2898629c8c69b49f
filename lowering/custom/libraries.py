"""Loader of a model's op libraries, and the record of the library that registered each op."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import torch

from lowering import paths
from lowering.custom import compiler
from lowering.custom.naming import split_name
from lowering.errors import LoadError, Problem, ShapelineError, iterate_causes, suggest
from lowering.model import Library, Model

_owners: dict[str, str] = {}  # op -> library that registered it
_loaded: set[str] = set()
_FEW = 20  # ops of a namespace that a message lists


def load(model: Model) -> None:
    """Load all libraries of `model` that this process has not loaded. Raises LoadError, which lists each that cannot be built or loaded.

    Also raises LoadError if an op in `custom_calls` is not registered afterwards.
    """
    problems: list[Problem] = []
    logs: list[str] = []
    for position, library in enumerate(model.libraries):
        try:
            _load(library)
        except ShapelineError as error:
            place = f"models.{model.name}.libraries[{position}]"
            problems += [Problem(f"{place}: {problem.place}", problem.cause, problem.fix) for problem in error.problems]
            logs.append(error.log)
    if not problems:
        problems = [report_unknown_op(name, model, f"custom_calls.{key}: ") for key in model.custom_calls
                    if (name := split_name(key)[0]) not in _list_ops()]
    if problems:
        raise LoadError(problems, "\n".join(filter(None, logs)))


def _load(library: str | Library) -> None:
    name = name_library(library)
    before = _list_ops()
    if isinstance(library, Library) and library.module:
        _import(library.module)
    else:
        path = _find_file(name, library)
        if str(path.resolve()) not in _loaded:
            _open(name, path)
            _loaded.add(str(path.resolve()))
    _owners.update(dict.fromkeys(_list_ops() - before, name))


def _find_file(name: str, library: str | Library) -> Path:
    if isinstance(library, str):
        return paths.expand(library)
    return compiler.build(name, [paths.expand(source) for source in library.sources], library.flags)


def _open(name: str, path: Path) -> None:
    if not path.is_file():
        raise LoadError(Problem(f"library '{name}'", "file does not exist", f"paths are relative to the working directory, {Path.cwd()}"))
    try:
        torch.ops.load_library(str(path.resolve()))
    except Exception as error:
        cause = error.__cause__ or error.__context__ or error
        text = str(cause).strip().splitlines()[0]
        fix = ("it was built for another version of torch: build it again" if "undefined symbol" in text
               else "run ldd to find missing libraries")
        raise LoadError(Problem(f"library '{name}'", f"does not load: {text}", fix), str(cause)) from error


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        raise LoadError(Problem(f"library '{module}'", f"importing it raised {type(error).__name__}: {error}")) from error


def name_library(library: str | Library) -> str:
    """Return the name of a library in messages: its path, its module, or its sources."""
    if isinstance(library, str):
        return library
    return library.module or ", ".join(library.sources)


def _list_ops() -> set[str]:
    return {name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names()}


def describe_owner(op: str) -> str:
    """Describe where the op `ns::name` was registered: `library 'ops.cpp'`, or outside the model's libraries."""
    return f"library '{_owners[op]}'" if op in _owners else "registered outside the model's libraries"


def report_unknown_op(name: str, model: Model | None, place: str = "") -> Problem:
    """Return the problem of an op `ns::name` that is not registered, with hints where it may come from."""
    namespace = name.partition("::")[0]
    known = sorted(op for op in _list_ops() if op.startswith(f"{namespace}::"))
    listed = ", ".join(map(name_library, model.libraries if model else ())) or "none"
    others = f"; {namespace} has {', '.join(known)}" if 0 < len(known) <= _FEW else ""
    fix = suggest(name, known) or f"list its library under libraries (now: {listed}){others}"
    return Problem(f"{place}op '{name}'", "is not registered", fix)


_MISSING = re.compile(r"'_OpNamespace' '(\w+)' object has no attribute '(\w+)'")


def explain(error: BaseException, model: Model | None) -> Problem | None:
    """Return the problem if a missing op or fake kernel caused `error`, else None."""
    for link in iterate_causes(error):
        missing = _MISSING.search(str(link)) if isinstance(link, AttributeError) else None
        if missing:
            return report_unknown_op(f"{missing[1]}::{missing[2]}", model)
        op = getattr(link, "func", None) if isinstance(link, torch._subclasses.fake_tensor.UnsupportedOperatorException) else None
        if isinstance(op, torch._ops.OpOverload):
            name = op._schema.name
            fix = (f"register one: TORCH_LIBRARY_IMPL({op.namespace}, Meta, m) in C++, or @torch.library.register_fake('{name}') "
                   "in a Python module that is listed under libraries")  # fmt: skip
            return Problem(f"op '{name}' ({describe_owner(name)})", "has no fake kernel, so its result shapes are not known", fix)
    return None
