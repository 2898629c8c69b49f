"""Installed distributions: the versions of those that hold imported modules, and a digest that changes with any of them."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata

from lowering import environments
from lowering.store import memory

DISTRIBUTIONS = "distributions"  # kind of facts that processes remember
# Packages that belong to a name, but whose distribution does not list the name among its modules.
NAMESPACES = {"iree": ("iree-base-compiler", "iree-base-runtime")}


def read_versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of the packages of top-level `modules`, and the pinned archives of the environment."""
    found = {"python": platform.python_version(), "machine": platform.machine(), **environments.read_archives()}
    for top in sorted(modules):
        for package in (*_map_distributions().get(top, ()), *NAMESPACES.get(top, ())):
            found[package] = _find_version(package)
    return found


def compute_stamp() -> str:
    """Return a digest that changes when a distribution is installed, removed or replaced."""
    found = hashlib.sha256(f"{sys.version} {sys.path}".encode("utf-8", "surrogateescape"))
    for folder in sys.path:
        with suppress(OSError), os.scandir(folder or ".") as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(("-info", ".egg")):
                    status = entry.stat()
                    found.update(f"{entry.path} {status.st_mtime_ns} {status.st_ino}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


@cache
def _map_distributions() -> Mapping[str, list[str]]:
    def read() -> dict[str, list[str]]:
        return {top: sorted(set(names)) for top, names in metadata.packages_distributions().items()}

    return dict(memory.find(DISTRIBUTIONS, compute_stamp(), read))


@cache
def _find_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
