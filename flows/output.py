"""Location of an output on this machine, a folder or the local copy of a URL, and the names of its parts."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from lowering.errors import ConfigError, Problem
from lowering.store import mirror

RUNS, STORE = "runs", "store"
REPORT = "report.json"  # a run's report for programs
COPIES = "SHAPELINE_COPIES"  # environment variable: the folder of this machine's copies
_URL = re.compile(r"([a-z][a-z0-9+.]+)://(.*)")


def locate(text: str | Path) -> Path:
    """Return the folder that holds `runs/` and `store/` of an output: the folder itself, or the local copy of a URL.

    Raises ConfigError if no client for the URL's scheme is installed.
    """
    match = _URL.fullmatch(str(text).rstrip("/"))
    if match is None:
        return Path(text)
    if match[1] == "file":
        return Path(match[2])
    import fsspec  # imported here because most runs have no URL

    try:
        fsspec.get_filesystem_class(match[1])
    except (ImportError, ValueError) as error:
        fix = "pip install 'shapeline[s3]'" if match[1].startswith("s3") else "install the fsspec client for that scheme"
        raise ConfigError(Problem(f"output={text}", f"there is no client for {match[1]}: {error}", fix)) from error
    url = match[0]
    root = _find_copies() / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', url)[:80]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    mirror.mark_mirror(root, url)
    return root


def _find_copies() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return Path(os.environ.get(COPIES) or home / "shapeline" / "outputs").absolute()
