"""Releases of torch that Shapeline supports. It uses private parts of torch, which change with each release."""

from __future__ import annotations

import os
from importlib import metadata

from lowering.errors import Problem

TORCH = ("2.12", "2.13")  # tested by `make test-matrix`, newest last
ANY = "SHAPELINE_ANY_TORCH"  # environment variable: run with whatever is installed


def find_problem() -> Problem | None:
    """Return the problem of the installed torch, if it is not one of TORCH; None if it is, or the variable ANY is set."""
    try:
        found = metadata.version("torch")
    except metadata.PackageNotFoundError:
        found = "none"
    if found.startswith(tuple(f"{release}." for release in TORCH)) or os.environ.get(ANY):
        return None
    fix = f"pip install 'torch=={TORCH[-1]}.*', or try this one: {ANY}=1"
    return Problem("torch", f"Shapeline needs torch {' or '.join(TORCH)}, found {found}", fix)
