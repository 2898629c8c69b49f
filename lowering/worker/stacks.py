"""Reads the stacks that a dying process leaves in its log: torch's fatal signal handler writes the native one, faulthandler that of Python."""

from __future__ import annotations

import re
import signal
from pathlib import Path

STACKS_SIGNAL = signal.SIGRTMAX - 2  # has a job write the Python stacks of its threads to its log
FATAL = b"\nFatal Python error: "  # how faulthandler begins, once a signal has ended the process
_NATIVE = re.compile(r"frame #\d+: (?P<name>.+?) \+ 0x[0-9a-f]+ \(0x[0-9a-f]+ in (?P<library>[^)]+)\)")
_PYTHON = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>\S+)', re.MULTILINE)
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x", re.MULTILINE)
_RAISING = ("FatalSignalHandler", "gsignal", "abort", "raise", "__assert_fail")
_READ = 1 << 20  # bytes of a log's end


def ended(log: Path) -> str:
    """The end of a log in which the stacks of a process are, empty if there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _READ))
            text = b"\n" + file.read()
    except OSError:
        return ""
    return text[text.rindex(FATAL):].decode("utf-8", "replace") if FATAL in text else ""


def place(text: str) -> str:
    """Where a process died: `in FUNCTION, called from FILE:LINE in FUNCTION`, as far as its stacks tell; else empty."""
    native, caller = _native(text), _caller(text)
    return ", ".join(part for part in (native and f"in {native}", caller and f"called from {caller}") if part)


def _native(text: str) -> str:
    """The innermost native function that is not part of dying: its name where the library tells it, else the library."""
    for frame in _NATIVE.finditer(text.partition("<omitting python frames>")[0]):
        library = Path(frame["library"]).name
        if any(word in frame["name"] for word in _RAISING) or library.startswith(("libc.so", "libc-", "libpthread")):
            continue
        return library if frame["name"].startswith("<unknown") else f"{frame['name']} ({library})"
    return ""


def _caller(text: str) -> str:
    """The innermost line of Python, of the thread that died, that is not in an installed package or the standard library."""
    threads = _THREAD.split(text)
    frames = list(_PYTHON.finditer(threads[1])) if len(threads) > 1 else []
    own = [frame for frame in frames if "/lib/python" not in frame["file"] and "site-packages" not in frame["file"]]
    if not frames:
        return ""
    frame = (own or frames)[0]
    return f"{Path(frame['file']).name}:{frame['line']} in {frame['name']}"
