"""Parser of the stacks that a dying process logs: the native stack from torch's signal handler, and the Python stacks from faulthandler."""

from __future__ import annotations

import re
import signal
from pathlib import Path

STACKS_SIGNAL = signal.SIGRTMAX - 2  # makes a job write the Python stacks of its threads to its log
FATAL = b"\nFatal Python error: "  # the start of faulthandler's output after a fatal signal
_NATIVE = re.compile(r"frame #\d+: (?P<name>.+?) \+ 0x[0-9a-f]+ \(0x[0-9a-f]+ in (?P<library>[^)]+)\)")
_PYTHON = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>\S+)', re.MULTILINE)
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x", re.MULTILINE)
_RAISING = ("FatalSignalHandler", "gsignal", "abort", "raise", "__assert_fail")
_READ = 1 << 20  # bytes at the end of a log that are searched


def find_stacks(log: Path) -> str:
    """Return the end of a log, from the stacks of a process on, or an empty string if there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _READ))
            text = b"\n" + file.read()
    except OSError:
        return ""
    return text[text.rindex(FATAL):].decode("utf-8", "replace") if FATAL in text else ""


def describe_crash(text: str) -> str:
    """Return where a process died, as far as its stacks tell: `in FUNCTION, called from FILE:LINE in FUNCTION`, or an empty string."""
    native, caller = _find_native_frame(text), _find_python_frame(text)
    return ", ".join(part for part in (native and f"in {native}", caller and f"called from {caller}") if part)


def _find_native_frame(text: str) -> str:
    """Return the innermost native function that is not part of crash handling: its name, or the library if it has no name."""
    for frame in _NATIVE.finditer(text.partition("<omitting python frames>")[0]):
        library = Path(frame["library"]).name
        if any(word in frame["name"] for word in _RAISING) or library.startswith(("libc.so", "libc-", "libpthread")):
            continue
        return library if frame["name"].startswith("<unknown") else f"{frame['name']} ({library})"
    return ""


def _find_python_frame(text: str) -> str:
    """Return the innermost Python line of the crashed thread outside of installed packages and the standard library."""
    threads = _THREAD.split(text)
    frames = list(_PYTHON.finditer(threads[1])) if len(threads) > 1 else []
    own = [frame for frame in frames if "/lib/python" not in frame["file"] and "site-packages" not in frame["file"]]
    if not frames:
        return ""
    frame = (own or frames)[0]
    return f"{Path(frame['file']).name}:{frame['line']} in {frame['name']}"
