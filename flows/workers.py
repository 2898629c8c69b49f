"""What a worker on another machine must have in common with the run before it takes a job: versions, and the folders it writes to."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import environment
from lowering.errors import Problem


def problems(expected: Mapping[str, Any], folder: Path, store: Path | None) -> list[Problem]:
    """Everything that keeps this process from lowering the job of `folder` as the run's own process would.

    expected: the run's `environment`.
    """
    host = platform.node()
    here = {"python": platform.python_version(), **environment.versions()}
    wanted = {"python": expected["python"], **expected["packages"]}
    found = [Problem(f"worker {host}", f"has {name} {here.get(name) or 'missing'}, the run was started with {version or 'none'}",
                     "install the same versions on every worker")
             for name, version in wanted.items() if here.get(name) != version]
    found += [Problem(f"worker {host}", f"cannot write to {path}", "runs and store lie on a path that every worker shares: output=PATH")
              for path in (folder, store) if path is not None and not _writable(path)]
    return found


def _writable(path: Path) -> bool:
    """Whether files can be made there, or in the folder that it would be made in."""
    there = next((place for place in (path, *path.parents) if place.exists()), None)
    return there is not None and os.access(there, os.W_OK)
