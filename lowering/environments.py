"""Environments of jobs: some packages in other versions, installed once in the user's cache, on top of those of this process.

An environment is a virtual environment of the same Python. Its own packages come first; all others are those that this process has.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import site
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from lowering import environment_cache, files
from lowering.environment_cache import MARK, read_mark
from lowering.errors import InfraError, Problem
from lowering.tracking import INSTALLED

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,39}")
PIP_OPTIONS = ("--index-url", "--extra-index-url", "--find-links", "--no-index", "--pre", "--only-binary", "--no-binary", "--prefer-binary")
REMEMBERED = 60.0  # seconds for which jobs of this process take a failed installation for granted
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?\s*={2,3}\s*[^\s,;*]+(\s*;.*)?")
_LINK = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[^\]]*\])?\s*@\s*)?(?P<url>[a-z][a-z0-9+]*://\S+)")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz")
_failed: dict[str, tuple[float, InfraError]] = {}


@dataclass(frozen=True)
class Environment:
    """Packages that a job runs with. requirements: lines of a requirements file of pip, each of one version (see `find_problem`)."""

    name: str
    requirements: tuple[str, ...] = ()


def find_problem(requirement: str) -> tuple[str, str] | None:
    """Return cause and fix if a line is neither of one version (`name==version`, or an archive) nor an option of pip; else None."""
    if requirement.startswith("-"):
        known = requirement.split("=")[0].split()[0] in PIP_OPTIONS
        return None if known else ("is no option that an environment may have", f"known: {', '.join(PIP_OPTIONS)}")
    if requirement.endswith(_ARCHIVES) and "://" not in requirement:
        return None if Path(requirement).is_file() else ("names no file", "name a wheel or a source archive")
    if _PINNED.fullmatch(requirement) or ((link := _LINK.fullmatch(requirement)) and _is_fixed(link["url"])):
        return None
    return ("does not name one version, so that two runs could differ without a change",
            "write name==version, the path or URL of a wheel, or git+https://…@COMMIT")


def find_package(requirement: str) -> str:
    """Return the normalized name of the package that a line `name==version` installs; empty for other lines."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[=\s]", requirement)[0]).lower() if _PINNED.fullmatch(requirement) else ""


def _is_fixed(url: str) -> bool:
    return re.search(r"@[0-9a-f]{40}(#|$)", url) is not None if url.startswith("git+") else url.partition("#")[0].endswith(_ARCHIVES)


def build(environment: Environment, is_over: Callable[[], bool] = lambda: False) -> Path:
    """Return the Python of an environment, which is installed if this user does not have it yet.

    is_over: whether the run has ended, for which an installation is given up. Raises InfraError with pip's words.
    """
    folder = locate(environment)
    python = folder / "bin" / "python"
    if (folder / MARK).is_file():
        environment_cache.hold(folder)  # before the next look: one that is being removed is gone then
    if (folder / MARK).is_file() and python.exists():
        return python
    if (failed := _failed.get(folder.name)) is not None and time.monotonic() - failed[0] < REMEMBERED:
        raise failed[1]
    place = f"environment {environment.name}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("a") as lock:
            _acquire(lock.fileno(), is_over, place)  # another job or run may be installing it
            if not ((folder / MARK).is_file() and python.exists()):
                _install(environment, folder, python, is_over)
            environment_cache.hold(folder)
        with suppress(OSError):  # another environment that cannot be removed is no failure of this one
            environment_cache.evict(keep=folder)
    except OSError as error:
        raise InfraError(Problem(place, f"cannot be made in {folder}: {error}", "check the disk")) from error
    except InfraError as error:
        _failed[folder.name] = time.monotonic(), error
        raise
    return python


def locate(environment: Environment) -> Path:
    """Return the folder of an environment, which is named by everything that its packages depend on."""
    return environment_cache.get_root() / compute_digest(environment)


def describe(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an environment (as JSON) for a key: its requirements, and the versions installed for it (None: not yet)."""
    asked = Environment(environment["name"], tuple(environment["requirements"]))
    return {"digest": compute_digest(asked), "installed": list_versions(asked)}


def list_versions(environment: Environment) -> dict[str, str] | None:
    """Return the versions of the packages that are installed for an environment, by name; None if it is not installed here."""
    folder = Path(sys.prefix) if read_mark(Path(sys.prefix)) else locate(environment)
    return _list_installed(folder) if (folder / MARK).is_file() else None


def compute_digest(environment: Environment) -> str:
    """Return the digest of an environment: its requirements, the files that they name, and the Python and packages of this process.

    In a process of the environment itself, return the one that it was built by.
    """
    own = read_mark(Path(sys.prefix))
    if own.get("requirements") == list(environment.requirements):
        return str(own["digest"])
    asked = json.dumps([list(environment.requirements), _digest_archives(environment), sys.version, sys.base_prefix, _list_base()])
    return hashlib.sha256(asked.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def read_archives() -> dict[str, str]:
    """Return the digest of every archive that the environment of this process was made from: its version does not tell its content."""
    return dict(read_mark(Path(sys.prefix)).get("archives", {}))


def find_paths() -> list[str]:
    """Return the folders that this process searches before installed packages: a job's process searches them first too."""
    found: list[str] = []
    for entry in sys.path:
        folder = Path(entry or os.curdir).resolve()
        if folder.suffix == ".zip" or any(folder.is_relative_to(installed) for installed in INSTALLED):
            break
        found.append(str(folder))
    return found


def check_precedence(environment: Environment) -> None:
    """Raise InfraError if a folder that is searched first has a module of a package of the environment, which would then not be used."""
    purelib = locate(environment) / _get_library()
    for package in metadata.distributions(path=[str(purelib)]):
        tops = {Path(file.parts[0]) for file in package.files or () if file.suffix == ".py" and not file.parts[0].startswith("..")}
        for top, folder in ((top, folder) for top in tops for folder in find_paths()):
            found = Path(folder, top)
            if found.exists() or found.with_suffix(".py").exists():
                cause = f"installs {package.name} {package.version}, but {found} would be imported instead"
                raise InfraError(Problem(f"environment {environment.name}", cause, "remove it from PYTHONPATH, or run elsewhere"))


def _install(environment: Environment, folder: Path, python: Path, is_over: Callable[[], bool]) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of an installation that was interrupted
    venv.EnvBuilder(symlinks=True, with_pip=importlib.util.find_spec("pip") is None).create(folder)
    lines = [f"import site; site.addsitedir({base!r})\n" for base, _ in _list_base()]  # after its own packages
    (folder / _get_library() / "base.pth").write_text("".join(lines), encoding="utf-8")
    asked = folder / "requirements.txt"
    asked.write_text("\n".join(environment.requirements) + "\n", encoding="utf-8")
    # -P: the working directory may have modules of any name.
    install = ["install", "--quiet", "--no-input", "--requirement", str(asked)]
    run_pip([str(python), "-P"], install, f"environment {environment.name}", is_over)
    files.write(folder / MARK, {"name": environment.name, "requirements": list(environment.requirements), "digest": folder.name,
                                "archives": _digest_archives(environment)})


def _list_installed(folder: Path) -> dict[str, str]:
    return dict(sorted((package.name, package.version) for package in metadata.distributions(path=[str(folder / _get_library())])))


def run_pip(python: Sequence[str], arguments: Sequence[str], place: str, is_over: Callable[[], bool] = lambda: False) -> str:
    """Run pip and return what it prints. Raises InfraError, at `place`, with its words if it fails, or if `is_over` becomes true."""
    command = [*python, "-m", "pip", "--disable-pip-version-check", *arguments]
    try:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace") as pip:
            while True:
                try:
                    printed, _ = pip.communicate(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    if is_over():
                        pip.kill()
                        raise InfraError(Problem(place, "was not finished when the run ended", "run it again")) from None
    except OSError as error:
        raise InfraError(Problem(place, f"Python cannot be run: {error}", "repair the installation of Python")) from error
    if pip.returncode:
        cause, fix = f"pip failed: {choose_words(printed)}", "correct the requirements, or check the network"
        raise InfraError(Problem(place, cause, fix), printed[-8000:])
    return printed


def choose_words(printed: str) -> str:
    """Return the errors that pip printed, or its last lines."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return " ".join(errors or lines[-3:] or ["without a word"])[:600]


def _acquire(lock: int, is_over: Callable[[], bool], place: str) -> None:
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if is_over():
                raise InfraError(Problem(place, "was not installed when the run ended", "run it again")) from None
            time.sleep(0.2)


def _get_library() -> str:
    return f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


@lru_cache(maxsize=1)
def _list_base() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the folders of installed packages of this process, each with its packages."""
    given = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else []),
             *(entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages"))]  # fmt: skip
    folders = [folder for folder in dict.fromkeys(given) if Path(folder).is_dir()]
    return tuple((folder, tuple(_list_packages(folder))) for folder in folders)


def _list_packages(folder: str) -> Iterator[str]:
    yield from sorted(f"{package.name} {package.version}" for package in metadata.distributions(path=[folder]))


def _digest_archives(environment: Environment) -> dict[str, str]:
    found = {}
    for file in (Path(line) for line in environment.requirements if Path(line).is_file()):
        with file.open("rb") as content:
            found[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return found
