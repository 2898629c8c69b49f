"""The model's own code lines on the live Python stack, without torch, the standard library, and the caller of the capture."""

from __future__ import annotations

import functools
import linecache
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from traceback import FrameSummary
from types import FrameType

from lowering.symbols.schema import Line

Spot = tuple[str, int, str]  # file, line, function: the cheapest way to record a frame

_PACKAGES = ("site-packages", "dist-packages")
_FRAMEWORKS = ("torch", "torch_mlir", "functorch", "torchgen", "sympy", "mpmath", "numpy", "typing_extensions.py")
_OURS = str(Path(__file__).parents[2]) + os.sep
_MODELS = (_OURS + "sources" + os.sep, str(Path(__file__).with_name("selftest.py")))  # with models of their own
_STDLIB = tuple({os.path.realpath(path) + os.sep for path in (sysconfig.get_paths()["stdlib"], str(Path(os.__file__).parent))})


@functools.cache
def is_model_code(file: str) -> bool:
    """Return whether `file` is the model's code: not generated code, this package, torch, its dependencies, or the standard library."""
    if file.startswith("<") or (file.startswith(_OURS) and not file.startswith(_MODELS)):
        return False
    parts = Path(file).parts
    for folder in _PACKAGES:
        if folder in parts:
            return parts[len(parts) - parts[::-1].index(folder)] not in _FRAMEWORKS
    return not os.path.realpath(file).startswith(_STDLIB)


def read_live_stack(base: FrameType | None) -> tuple[Spot, ...]:
    """Return the model's frames between the caller and `base` (exclusive; None: to the bottom), innermost last."""
    found: list[Spot] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not base:
        if is_model_code(frame.f_code.co_filename):
            found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return tuple(reversed(found))


def list_torch_functions(base: FrameType | None) -> frozenset[str]:
    """Return the names of torch's functions on the stack between the model's innermost frame, or `base`, and the caller."""
    found: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not base and not is_model_code(frame.f_code.co_filename):
        found.append(frame.f_code.co_name)
        frame = frame.f_back
    return frozenset(found)


def filter_summary(summary: Iterable[FrameSummary]) -> tuple[Spot, ...]:
    """Return the model's frames of a traceback, innermost last."""
    return tuple((frame.filename, frame.lineno or 0, frame.name) for frame in summary if is_model_code(frame.filename))


@functools.lru_cache(maxsize=65536)
def convert_spot(spot: Spot) -> Line:
    file, line, function = spot
    return Line(to_portable(file), line, function, linecache.getline(file, line).strip())


def convert_spots(spots: Iterable[Spot]) -> tuple[Line, ...]:
    return tuple(convert_spot(spot) for spot in spots)


@functools.cache
def to_portable(file: str) -> str:
    """Return `file` relative to its package folder or the working directory if possible, for a name that is the same on every machine."""
    parts = Path(file).parts
    for folder in _PACKAGES:
        if folder in parts:
            return "/".join(parts[len(parts) - parts[::-1].index(folder) :])
    path, here = Path(file), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else file


def find(file: str) -> Path | None:
    """Return the local path of a name from `to_portable`, or None if there is no such Python file below the working directory or sys.path.

    Other files are not read, because the name may come from the record of somebody else.
    """
    roots = [Path(root).resolve() for root in ("", *sys.path)]
    found = ((root / file).resolve() for root in roots)
    return next((path for path in found if path.suffix == ".py" and path.is_file() and any(map(path.is_relative_to, roots))), None)
