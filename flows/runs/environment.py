"""The environment of a run: versions, machine, and the state of the source, as plain data for its record."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torch-mlir", "jaxlib", "jax", "numpy", "transformers", "hydra-core", "prefect")


def describe() -> dict[str, Any]:
    """Return the version of Python, the versions of PACKAGES, the machine, and the commit of this code, if it has one."""
    return {"python": platform.python_version(), "packages": read_versions(), "machine": describe_machine(), "git": _describe_git()}


def describe_machine() -> dict[str, Any]:
    """Return host, system, cpu, cores (that this process may use), memory_bytes, gpus (names)."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _read_field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [_read_field(str(card), "Model") for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))],
    }


def read_available_bytes() -> int:
    """Return the bytes of memory that new processes can use without swapping."""
    return int((_read_field("/proc/meminfo", "MemAvailable") or "0 kB").split()[0]) * 1024


def read_versions() -> dict[str, str | None]:
    """Return the installed versions of PACKAGES, None for those that are not installed. Imports none of them."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _read_field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _describe_git() -> dict[str, Any] | None:
    """Return the commit this code runs from and whether it was modified since; None if it is not part of a repository."""
    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = ask("rev-parse", "HEAD")
    if commit is None or ask("ls-files", "--error-unmatch", Path(__file__).name) is None:  # installed inside another project's repository
        return None
    changes = ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "modified": None if changes is None else bool(changes)}
