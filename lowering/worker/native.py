"""Stacks of a running process, with native frames between the Python frames, read by py-spy from outside."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

EXTRA = "pip install 'shapeline[stacks]'"
_PR_SET_PTRACER, _ANY = 0x59616D61, -1


def allow_tracing() -> None:
    """Allow other processes of this user to read this process's stacks, if Yama restricts that to ancestors."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_long(_ANY), 0, 0, 0)


def read_stacks(pid: int, patience: float = 30.0) -> str:
    """Return the stacks of all threads of process `pid`, innermost frame first, or a message why that failed.

    patience: timeout in seconds.
    """
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        return f"no native stacks: py-spy is not installed ({EXTRA})"
    command = [program, "dump", "--native", "--pid", str(pid)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=patience, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no native stacks: {error}"
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"py-spy exited with code {done.returncode}"
        return f"no native stacks: {said} (a container needs the capability SYS_PTRACE)"
    return done.stdout
