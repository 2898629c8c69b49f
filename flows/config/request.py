"""A parsed command line: the folders to search, the file chosen in each group, and the values to override."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.config import overrides
from flows.config.compose import CONFIGS, Folders
from flows.config.document import GROUPS
from flows.config.overrides import LABEL, Override
from lowering import paths
from lowering.errors import Problem, suggest

SEARCHPATH = ("hydra", "searchpath")
SHOWN = 20  # names listed in an error


@dataclass(frozen=True)
class Request:
    """A request of the command line.

    texts: the overrides as typed, with absolute paths, so that they mean the same from any working directory.
    files: the YAML chosen for each group. models: files of models to lower without a suite.
    values: the remaining overrides. failed: groups whose choice does not exist.
    """

    folders: Folders
    texts: tuple[str, ...] = ()
    files: dict[str, Path] = field(default_factory=dict)
    models: dict[str, Path] = field(default_factory=dict)
    values: tuple[Override, ...] = ()
    failed: frozenset[str] = frozenset()


def read(texts: Sequence[str]) -> tuple[Request, list[Problem]]:
    """Parse the request in `texts`; also return all of its problems."""
    given, problems = overrides.parse(texts)
    folders, found = _find_folders(given)
    problems += found
    files: dict[str, Path] = {}
    models: dict[str, Path] = {}
    failed, values, said = set(), [], []
    for override in given:
        place = f"{LABEL} {override.text}"
        text = override.text
        if override.keys == SEARCHPATH:
            text = f"hydra.searchpath={_format_list(f'file://{path}' for path in folders.paths if path != CONFIGS)}"
        elif override.group == "hydra":
            problems.append(Problem(place, "Hydra's own settings have no effect here", "only hydra.searchpath is read"))
        elif override.keys == ("model",):
            names = override.value if isinstance(override.value, list) else [override.value]
            if not names:
                problems.append(Problem(place, "names no model", "name one, or drop it to run a suite"))
                failed.add("model")
            text = f"model={_format_list(_make_absolute(str(name)) for name in names)}"
            for name in names:
                file = find_file("model", str(name), folders, Path.cwd())
                if file is None:
                    problems.append(make_missing_problem("model", str(name), place, folders, Path.cwd()))
                    failed.add("model")
                elif file.stem in models:
                    cause = f"names '{file.stem}' twice" if models[file.stem] == file else f"two files have the name '{file.stem}'"
                    problems.append(Problem(place, cause, "name each model once; a suite can give one of two files another name"))
                else:
                    models[file.stem] = file
        elif override.keys == ("stages",) and override.how == "sweep":
            files_swept = [_make_absolute(value) if isinstance(value, str) else value for value in override.value]
            values.append(replace(override, value=files_swept))
            if all(isinstance(value, str) for value in files_swept):
                text = f"stages=choice({','.join(map(overrides.quote, files_swept))})"
        elif len(override.keys) == 1 and override.group in GROUPS and override.how == "set":
            file = find_file(override.group, str(override.value), folders, Path.cwd())
            if file is None:
                problems.append(make_missing_problem(override.group, str(override.value), place, folders, Path.cwd()))
                failed.add(override.group)
            else:
                files[override.group] = file
                text = f"{override.group}={overrides.quote(_make_absolute(str(override.value)))}"
        else:
            values.append(override)
        said.append(text)
    if models and "suite" in files:
        problems.append(Problem(f"{LABEL} model=…", "a run lowers either a suite or the named models, not both", "drop suite= or model="))
    return Request(folders, tuple(said), files, models, tuple(values), frozenset(failed)), problems


def find_file(group: str, name: str, folders: Folders, beside: Path) -> Path | None:
    """Return the file of `name`: a path relative to `beside`, or a name in the group's folders; None if it does not exist."""
    if is_path(name):
        file = (beside / paths.expand(name)).resolve()
        return file if paths.is_file(file) else None
    return folders.file(group, name)


def is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _make_absolute(name: str) -> str:
    return str(paths.expand(name).resolve()) if is_path(name) else name


def _format_list(items: Iterable[str]) -> str:
    return f"[{','.join(map(overrides.quote, items))}]"


def make_missing_problem(group: str, name: str, place: str, folders: Folders, beside: Path) -> Problem:
    """Return the problem that `find_file` finds none for these arguments."""
    if is_path(name):
        return Problem(place, f"there is no file {name}", "" if Path(name).is_absolute() else f"paths are relative to {beside}")
    names = folders.names(group)
    kind = "file of configs/stages" if group == "stages" else group
    if paths.is_file(beside / f"{name}.yaml"):  # names are looked up in the configuration folders only
        fix = f"did you mean '{name}.yaml'?"
    elif len(names) > SHOWN and group in ("model", "suite"):
        fix = suggest(name, names) or f"`shapeline list --{group}s` prints all {len(names)}"
    else:
        fix = suggest(name, names) or f"known: {', '.join(names) or 'none'}"
    return Problem(place, f"there is no {kind} '{name}'", fix)


def _find_folders(given: Sequence[Override]) -> tuple[Folders, list[Problem]]:
    override = next((override for override in given if override.keys == SEARCHPATH), None)
    if override is None:
        return Folders(), []
    entries: list[Any] = override.value if isinstance(override.value, list) else [override.value]
    named = [paths.expand(str(entry).removeprefix("file://")).resolve() for entry in entries]
    problems = [Problem(f"{LABEL} {override.text}", f"there is no folder {path}") for path in named if not paths.is_folder(path)]
    return Folders((*(path for path in named if paths.is_folder(path)), CONFIGS)), problems
