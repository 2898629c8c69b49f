"""Composition with Hydra: pipeline.yaml and its groups as plain data. No other module calls Hydra's compose."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flows.config import yaml_files
from flows.config.overrides import quote
from lowering import paths
from lowering.errors import ConfigError, Problem

ROOT = Path(__file__).resolve().parents[2]  # the repository, or where Shapeline is installed
CONFIGS = ROOT / "configs"
PIPELINE = CONFIGS / "pipeline.yaml"  # in the repository, a link to pipeline.yaml at its root


@dataclass(frozen=True)
class Folders:
    """The folders searched for groups (`model/`, `suite/`, ...). The first folder that has a file wins."""

    paths: tuple[Path, ...] = (CONFIGS,)

    def file(self, group: str, name: str) -> Path | None:
        return next((file for path in self.paths if paths.is_file(file := path / group / f"{name}.yaml")), None)

    def name(self, group: str, file: Path) -> str | None:
        """Return the name that chooses `file` in its group; None if it is outside the group's folders or hidden by another file."""
        inside = next((path / group for path in self.paths if file.is_relative_to(path / group)), None)
        name = str(file.relative_to(inside).with_suffix("")) if inside else ""
        return name if name and self.file(group, name) == file else None

    def names(self, group: str) -> list[str]:
        """Return the names that can be chosen in a group, sorted."""
        folders = [path / group for path in self.paths]
        return sorted({str(file.relative_to(folder).with_suffix("")) for folder in folders for file in folder.rglob("*.yaml")})


@dataclass
class _Remembered:
    """Compositions: trees by choices and folders; contents of files by group and folders."""

    trees: dict[tuple[str | Path, ...], tuple[dict[str, Any], dict[str, str]]] = field(default_factory=dict)
    files: dict[tuple[str | Path, ...], dict[Path, Any]] = field(default_factory=dict)


_remembered: _Remembered | None = None  # set inside of `remember_choices`


@contextmanager
def remember_choices() -> Iterator[None]:
    """Compose equal choices, and each file of a group, once while the block runs. No file may change meanwhile."""
    global _remembered
    before, _remembered = _remembered, _Remembered()
    try:
        yield
    finally:
        _remembered = before


def compose_tree(choices: Sequence[str], folders: Folders) -> tuple[dict[str, Any], dict[str, str]]:
    """Compose pipeline.yaml with `choices`, Hydra overrides that choose group files.

    Returns the tree, with interpolations unresolved, and the name chosen in each group; neither may be changed. Raises ConfigError if
    Hydra refuses.
    """
    asked: tuple[str | Path, ...] = (*choices, *folders.paths)
    if _remembered is None:
        return _compose(choices, folders)
    if asked not in _remembered.trees:
        _remembered.trees[asked] = _compose(choices, folders)
    return _remembered.trees[asked]


def _compose(choices: Sequence[str], folders: Folders) -> tuple[dict[str, Any], dict[str, str]]:
    searchpath = ",".join(quote(f"file://{path}") for path in folders.paths)
    try:
        with _isolate_hydra():
            config = compose(PIPELINE.stem, [f"hydra.searchpath=[{searchpath}]", *choices], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, AttributeError, AssertionError,
            RecursionError) as error:  # Hydra raises these for odd defaults
        raise ConfigError(_make_problem(error, " ".join(choices))) from error
    tree = to_plain(config)
    return tree, tree.pop("hydra")["runtime"]["choices"]


def read_trees(group: str, files: Collection[Path], folders: Folders) -> tuple[dict[Path, Any], list[Problem]]:
    """Return the contents of files of a group, and a problem for each that cannot be read.

    Hydra composes the files in the group's folders that have a defaults list, all at once if possible. All others are read without Hydra,
    whose cost grows with the square of the number of files.
    """
    checked = {file: check_file(group, file, folders) for file in files}
    problems = [problem for found in checked.values() for problem in found]
    files = [file for file, found in checked.items() if not found]
    found = {file: tree for file in files if (tree := _read_plain(file)) is not None}
    named = {file: name for file in files if file not in found and (name := folders.name(group, file))}
    try:
        found |= _compose_together(group, named, folders)
    except ConfigError:
        for file, name in named.items():
            try:
                found |= _compose_together(group, {file: name}, folders)
            except ConfigError as error:
                problems += [Problem(problem.place if problem.place.startswith(label_file(file)) else label_file(file), problem.cause,
                                     problem.fix)
                             for problem in error.problems]
    for file in files:
        try:
            if file not in named and file not in found:
                found[file] = _read_file(file, group)
        except ConfigError as error:
            problems += error.problems
    return found, problems


def check_file(group: str, file: Path, folders: Folders) -> list[Problem]:
    """Return the problems for which a file, or one that its `defaults` name in the same group, cannot be read."""
    found: list[Problem] = []
    waiting, seen = [file], set[Path]()
    while waiting:
        if (current := waiting.pop()) in seen:
            continue
        seen.add(current)
        try:
            content = yaml_files.read(current)
        except yaml_files.Unreadable as error:
            found.append(Problem(f"{label_file(current)}{f':{error.line}' if error.line else ''}", str(error)))
            continue
        if content is not None and not isinstance(content, dict):
            found.append(Problem(label_file(current), f"is a {type(content).__name__}, not a mapping", "write key: value"))
            continue
        named = content.get("defaults") if content else None
        for entry in named if isinstance(named, list) else ():
            names = entry.values() if isinstance(entry, dict) else [entry]
            waiting += [other for name in names if isinstance(name, str) and (other := folders.file(group, name))]
    return found


def read_alone(file: Path) -> dict[str, Any] | None:
    """Return the content of a checked file that Hydra would add to its group as it stands; None if only Hydra can tell."""
    tree = _read_plain(file)
    return None if tree is None or "@package" in yaml_files.read_text(file) else tree


def _compose_together(group: str, named: Mapping[Path, str], folders: Folders) -> dict[Path, Any]:
    key: tuple[str | Path, ...] = (group, *folders.paths)
    known = {} if _remembered is None else _remembered.files.setdefault(key, {})
    files = [file for file in named if file not in known]
    choices = [f"+{group}@content.c{number}={named[file]}" for number, file in enumerate(files)]
    tree = compose_tree(["~suite", "~cluster", *choices], folders)[0] if files else {}
    found = {file: tree.get("content", {}).get(f"c{number}") for number, file in enumerate(files)}
    if _remembered is not None:
        known |= found
    return {file: known[file] if file in known else found[file] for file in named}


def to_plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=False)


def resolve(tree: Any, at: Sequence[str] = ()) -> Any:
    """Return the node of `tree` at `at` with its interpolations resolved against the whole tree.

    Raises ConfigError, naming the key, if one cannot be resolved.
    """
    if "${" not in repr(tree):
        for key in at:
            tree = tree[key]
        return tree
    node = OmegaConf.create(tree)
    for key in at:
        node = node[key]
    try:
        return OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(Problem(str(error.full_key or ""), str(error).splitlines()[0])) from None


def label_file(file: Path) -> str:
    """Return the path of a file for messages: relative to the working directory or to the project if inside, else absolute."""
    file = file.resolve()
    for folder in (Path.cwd(), ROOT):
        if file.is_relative_to(folder):
            return str(file.relative_to(folder))
    return str(file)


def _read_plain(file: Path) -> dict[str, Any] | None:
    """Return the content of a file that is a mapping of plain values, without a defaults list, interpolations or a package; else None.

    What is None is read again by OmegaConf or Hydra.
    """
    content = yaml_files.read(file)
    return content if isinstance(content, dict) and "defaults" not in content and _is_plain(content) else None


def _is_plain(node: Any) -> bool:
    """Return whether OmegaConf would keep a value as it is."""
    if isinstance(node, dict):
        return all(type(key) in (str, int, float, bool) and _is_plain(value) for key, value in node.items())
    if isinstance(node, list):
        return all(map(_is_plain, node))
    return (type(node) is str and "${" not in node) or type(node) in (int, float, bool, NoneType)


def _read_file(file: Path, group: str) -> Any:
    try:
        tree = to_plain(OmegaConf.load(file))
    except (OSError, yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(_make_problem(error, label_file(file))) from error
    if isinstance(tree, dict) and "defaults" in tree:
        fix = f"move the file to DIR/{group}/ and use --config-dir DIR"
        raise ConfigError(Problem(f"{label_file(file)} defaults", "is only supported in a group's folder", fix))
    return tree


@contextmanager
def _isolate_hydra() -> Iterator[None]:
    """Initialize Hydra for the block, and restore a Hydra that is already running: its state is global to the process."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = running


def _make_problem(error: Exception, choices: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return Problem(f"{label_file(Path(mark.name))}:{mark.line + 1}", f"is not valid YAML: {error.problem}")
    first = re.sub(r"\s+", " ", str(error).split("\nSee https")[0].split("Config search path")[0]).strip()
    return Problem(choices, first)
