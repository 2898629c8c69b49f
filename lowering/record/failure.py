"""Classification of exceptions: the outcome and the text of anything that a model or a pass may raise."""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path

from lowering.errors import InfraError, Problem, ShapelineError
from lowering.files import escape_surrogates

# Errors of the disk and of the machine's limits. They say nothing about the model.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
# Messages of PyTorch's allocators, which raise RuntimeError.
OUT_OF_MEMORY = ("DefaultCPUAllocator: ", "CUDA out of memory")


def classify(error: BaseException) -> tuple[str, tuple[Problem, ...]]:
    """Return the outcome that an exception leads to, and its problems."""
    if isinstance(error, ShapelineError):
        return error.outcome if error.outcome != "config" else "error", error.problems or (Problem("", type(error).__name__),)
    problem = (Problem(_locate_raise(error), _describe(error)),)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom", problem
    if isinstance(error, RuntimeError) and any(sign in _describe(error) for sign in OUT_OF_MEMORY):
        return "oom", problem
    if isinstance(error, OSError) and error.errno in DISK:
        return InfraError.outcome, problem
    return "error", problem


def _describe(error: BaseException, limit: int = 4000) -> str:
    """Return the type and message of an exception, even if its `__str__` raises."""
    try:
        text = escape_surrogates(str(error))
    except Exception as second:  # noqa: BLE001 - its __str__ may be the model's code
        text = f"(its message cannot be read: {type(second).__name__})"
    if isinstance(error, SystemExit):
        text = f"the model or a stage called sys.exit({text})"
    return f"{type(error).__name__}: {text}"[:limit] if text else type(error).__name__


def _locate_raise(error: BaseException) -> str:
    """Return the innermost line of the traceback outside of installed packages, as `file:line in function`."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and not frame.filename.startswith("<")]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    return f"{_shorten_path(frame.filename)}:{frame.lineno} in {frame.name}"


def format_traceback(error: BaseException) -> str:
    """Return the complete traceback."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - formatting calls __str__
        return "".join(traceback.format_tb(error.__traceback__)) + _describe(error) + "\n"


def _shorten_path(file: str) -> str:
    """Return a path under the working directory relative to it, and other paths unchanged."""
    return os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else file
