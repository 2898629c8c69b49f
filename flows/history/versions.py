"""Versions to run a job at: commits of a repository, or releases of a package, each in a folder of its own."""

from __future__ import annotations

import bisect
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from packaging.version import InvalidVersion, Version

from flows.output import REPORT, RUNS
from flows.runs import environment, shapes
from lowering.environments import choose_words, run_pip
from lowering.errors import ConfigError, InfraError, Problem
from lowering.versions import ANY

PATH = "PYTHONPATH"
SHOWN = 150  # lines of a commit's diff
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")  # of a package


@dataclass(frozen=True)
class Place:
    """The environment of a version. path: folders searched first for modules; folder: the working directory; overrides: of the run."""

    path: tuple[Path, ...]
    folder: Path
    overrides: tuple[str, ...]


class Axis(Protocol):
    """The kind of change that is bisected."""

    def check(self, version: str) -> None:
        """Raise ConfigError if there is no such version."""

    def list_versions(self, good: str, bad: str) -> list[str]:
        """Return the versions from `good` to `bad`, oldest first, both included. Raises ConfigError."""

    def open(self, version: str) -> Any:
        """Return a context manager that makes the Place of a version. It raises OSError or InfraError if it cannot."""

    def describe(self, version: str, before: str) -> str:
        """Return what changed in `version`, as text."""


@dataclass(frozen=True)
class Commits:
    """Commits of a git repository. own: it is Shapeline's; otherwise it has the model, and is the working directory of the run."""

    repository: Path
    overrides: tuple[str, ...]
    own: bool

    def check(self, version: str) -> None:
        self._resolve(version)

    def list_versions(self, good: str, bad: str) -> list[str]:
        """Return the commits from `good` to `bad` along first parents."""
        first, last = (self._resolve(name) for name in (good, bad))
        if _git(self.repository, "merge-base", "--is-ancestor", first, last, check=False).returncode:
            raise ConfigError(Problem(f"--good {good}", f"is no ancestor of {bad}", "name an earlier commit of the same branch"))
        between = _git(self.repository, "rev-list", "--reverse", "--first-parent", f"{first}..{last}").stdout.split()
        return [first, *between]

    def _resolve(self, name: str) -> str:
        found = _git(self.repository, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False)
        if found.returncode:
            raise ConfigError(Problem(f"'{name}'", f"is neither a run nor a commit of {self.repository}", "name a run, or a commit"))
        return found.stdout.strip()

    @contextmanager
    def open(self, version: str) -> Iterator[Place]:
        with tempfile.TemporaryDirectory(prefix="shapeline-bisect-") as folder:
            tree = Path(folder) / "tree"
            _git(self.repository, "worktree", "add", "--detach", "--force", str(tree), version)
            try:
                if self.own:
                    yield Place((tree, Path.cwd()), Path.cwd(), self.overrides)  # named, so that it is not put first
                else:
                    top = self.repository.resolve()
                    inside = Path.cwd().resolve().relative_to(top) if Path.cwd().resolve().is_relative_to(top) else Path()
                    moved = tuple(text.replace(str(top), str(tree)) for text in self.overrides)
                    yield Place((tree / inside, tree), tree / inside, moved)
            finally:
                _git(self.repository, "worktree", "remove", "--force", str(tree), check=False)

    def describe(self, version: str, before: str) -> str:
        text = _git(self.repository, "show", "--stat", "--patch", "--no-color", version).stdout.rstrip().splitlines()
        rest = [f"… {len(text) - SHOWN} more lines: git show {version[:12]}"] if len(text) > SHOWN else []
        return "\n".join([*text[:SHOWN], *rest])


@dataclass(frozen=True)
class Releases:
    """Releases of a package, installed without its dependencies into a throw-away folder."""

    package: str
    overrides: tuple[str, ...]

    def check(self, version: str) -> None:
        found = _list_releases(self.package)
        if _parse(version) not in found and _parse(version) not in (Version(each.public) for each in found):
            near = sorted(found, key=lambda each: abs(bisect.bisect(found, each) - bisect.bisect(found, _parse(version))))[:4]
            fix = f"name a run, or a version such as {', '.join(map(str, sorted(near)))}"
            raise ConfigError(Problem(f"'{version}'", f"is no release of {self.package} that pip finds", fix))

    def list_versions(self, good: str, bad: str) -> list[str]:
        """Return `good`, the releases between the two that pip finds, prereleases included, and `bad`."""
        found = _list_releases(self.package)
        ends = sorted((_parse(good), _parse(bad)))
        between = [version for version in found if ends[0] < version < ends[1]]
        versions = list(dict.fromkeys(str(version) for version in (ends[0], *between, ends[1])))
        return versions if _parse(good) <= _parse(bad) else versions[::-1]

    @contextmanager
    def open(self, version: str) -> Iterator[Place]:
        with tempfile.TemporaryDirectory(prefix="shapeline-bisect-") as folder:
            wanted = f"{self.package}=={version}"
            run_pip([sys.executable], ["install", "--quiet", "--no-deps", "--target", folder, wanted], wanted)
            yield Place((Path(folder),), Path.cwd(), self.overrides)

    def describe(self, version: str, before: str) -> str:
        return f"{self.package} {before} -> {version}"


@cache
def _list_releases(package: str) -> list[Any]:
    """Return the versions of a package that pip finds, prereleases included, oldest first. Raises ConfigError if there are none."""
    place, fix = f"--axis {package}", "name commit, model, or a package: torch-mlir, jaxlib, transformers"
    if not _NAME.fullmatch(package):
        raise ConfigError(Problem(place, f"'{package}' is not the name of a package", fix))
    done = _run([sys.executable, "-m", "pip", "index", "versions", "--pre", "--disable-pip-version-check", package])
    match = re.search(r"^Available versions: (.*)$", done.stdout, re.MULTILINE)
    if done.returncode or match is None:
        raise ConfigError(Problem(place, f"pip finds no versions: {choose_words(done.stderr)}", fix))
    return sorted({version for text in match[1].split(",") if (version := _parse(text.strip(), strict=False))})


def _parse(text: str, strict: bool = True) -> Any:
    try:
        return Version(text)
    except InvalidVersion as error:
        if strict:
            raise ConfigError(Problem(f"'{text}'", "is neither a run nor a version", "name a run, or a version such as 5.23.0")) from error
        return None


def run_job(axis: Axis, version: str, job: str, output: Path) -> Mapping[str, Any] | str:
    """Run a job at a version in a new process below `output`, and return its row of report.json, or why there is none."""
    try:
        with axis.open(version) as place:
            return _run_at(place, job, output)
    except (OSError, subprocess.SubprocessError, InfraError) as error:
        return str(error)


def _run_at(place: Place, job: str, output: Path) -> Mapping[str, Any] | str:
    before = set((output / RUNS).glob("*/"))
    path = os.pathsep.join([*map(str, place.path), *filter(None, [os.environ.get(PATH)])])
    overrides = [text for text in place.overrides if not text.startswith(("select=", "output="))]
    command = [sys.executable, "-P", "-m", "flows", "run", *overrides, "-k", f"={job}", "--output", str(output)]
    done = subprocess.run(command, cwd=place.folder, env={**os.environ, PATH: path, ANY: "1"}, capture_output=True, text=True, check=False)
    made = [folder for folder in (output / RUNS).glob("*/") if folder not in before and not folder.is_symlink()]
    reports = sorted((folder / REPORT for folder in made if (folder / REPORT).is_file()), reverse=True)
    if not reports:
        return f"no report: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ['exit ' + str(done.returncode)]}"
    try:
        rows = [row for row in shapes.read_report(reports[0])["jobs"] if row["id"] == job]
    except ConfigError as error:  # a report of another version of the schema
        return str(error)
    return rows[0] if rows else f"{reports[0].parent.name} has no job {job}"


def read_version(report: Mapping[str, Any], axis: str) -> str:
    """Return the version of `axis` in a run: its commit, or the version of a package. Raises ConfigError if it has none."""
    recorded = report.get("environment") or {}
    found = (recorded.get("git") or {}).get("commit") if axis == "commit" else (recorded.get("packages") or {}).get(axis)
    if not found:
        known = ", ".join(environment.PACKAGES)
        fix = "name commits of the model's repository" if axis == "model" else f"use --axis commit, or one of {known}"
        raise ConfigError(Problem(str(report["run"]), f"does not record the version of '{axis}'", fix))
    return str(found)


def find_repository(folder: Path) -> Path:
    """Return the top of the git repository that contains `folder`. Raises ConfigError if there is none."""
    found = _git(folder, "rev-parse", "--show-toplevel", check=False) if shutil.which("git") else None
    if found is None or found.returncode:
        raise ConfigError(Problem(str(folder), "is not in a git repository", "name one: --repository DIR"))
    return Path(found.stdout.strip())


def _git(repository: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = _run(["git", "-C", str(repository), *words])
    if check and done.returncode:
        raise OSError(f"git {words[0]}: {done.stderr.strip()[-300:]}")
    return done


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
