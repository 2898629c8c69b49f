"""Tracking of a factory: the files it opens, the folders it lists, and the environment variables it reads, beyond what a model declares.

They become part of the keys of stored results. Python reports what it opens itself (audit events); what native code opens is not seen. What
cannot be part of a key (a process that was started, a connection, the whole environment) becomes a remark.
"""

from __future__ import annotations

import hashlib
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

OWN = Path(__file__).resolve().parent
INSTALLED = tuple(Path(folder).resolve() for folder in (
    *site.getsitepackages(), site.getusersitepackages(), *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib")),
    *(folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")),  # another environment's, by a .pth file
))
VARIABLE = "$"  # prefix of an environment variable among the names of a Reads
ABSENT, UNTRACKED = "absent", "untracked"  # in place of a digest
LARGEST = 1 << 30  # bytes of a file whose content is digested; of a larger one, size and time of change are
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/bin")
_ELSEWHERE = {"subprocess.Popen": "started a process", "os.system": "started a process", "os.posix_spawn": "started a process",
              "socket.connect": "made a connection"}
_STDLIB = tuple(str(Path(sysconfig.get_paths()[name]).resolve()) + os.sep for name in ("stdlib", "platstdlib"))


@dataclass
class Reads:
    """The inputs that a factory read. names: paths and, with a `$`, environment variables. untracked: reads that no key can hold."""

    names: set[str] = field(default_factory=set)
    untracked: set[str] = field(default_factory=set)


_lock = threading.Lock()
_current: dict[int, Reads] = {}  # by thread
_installed = False


@contextmanager
def track() -> Iterator[Reads]:
    """Record what this thread reads while the block runs."""
    _install()
    thread, reads = threading.get_ident(), Reads()
    before = _current.get(thread)
    _current[thread] = reads
    try:
        yield reads
    finally:
        if before is None:
            _current.pop(thread, None)
        else:
            _current[thread] = before
            before.names |= reads.names
            before.untracked |= reads.untracked


def digest(names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return a digest of the current content of everything in `names`: of files, of the lists of folders, and of variables."""
    return {name: _digest_variable(environment.get(name.removeprefix(VARIABLE))) if name.startswith(VARIABLE) else _digest_path(Path(name))
            for name in sorted(names)}


def _digest_variable(value: str | None) -> str:
    return ABSENT if value is None else hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()


def _digest_path(path: Path) -> str:
    try:
        if path.is_dir():
            return hashlib.sha256("\0".join(sorted(entry.name for entry in path.iterdir())).encode("utf-8", "surrogateescape")).hexdigest()
        status = path.stat()
        if not path.is_file():
            return UNTRACKED
        if status.st_size > LARGEST:
            return f"{status.st_size} bytes of {status.st_mtime_ns}"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ABSENT


def _install() -> None:
    """Install the audit hook and the readers of the environment, once for the process: a hook cannot be removed."""
    global _installed
    with _lock:
        if _installed:
            return
        _installed = True
    sys.addaudithook(_record_audit)
    kind: Any = type(os.environ)
    plain, every = kind.__getitem__, kind.__iter__

    def get(self: Any, key: Any) -> Any:
        if (reads := _current.get(threading.get_ident())) is not None and isinstance(key, str) and _is_asked_by_model(sys._getframe(1)):
            reads.names.add(VARIABLE + key)
        return plain(self, key)

    def iterate(self: Any) -> Any:
        if (reads := _current.get(threading.get_ident())) is not None and _is_asked_by_model(sys._getframe(1)):
            reads.untracked.add("read the whole environment")
        return every(self)

    kind.__getitem__, kind.__iter__ = get, iterate


def _record_audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Record an audit event. Must never raise, because the audited call would fail."""
    reads = _current.get(threading.get_ident()) if _current else None
    if reads is None:
        return
    with suppress(Exception):
        if event == "open":
            path, mode, flags = arguments
            writes = set(mode) & set("wax") if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            if not writes:
                _add(reads, path)
        elif event in ("os.listdir", "os.scandir"):
            _add(reads, arguments[0] if arguments[0] is not None else ".")
        elif event in _ELSEWHERE and _is_asked_by_model(sys._getframe(1)):
            reads.untracked.add(_ELSEWHERE[event])


def _add(reads: Reads, path: Any) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return  # a file descriptor
    absolute = os.path.realpath(os.fsdecode(path))
    place = Path(absolute)
    if absolute.startswith(tuple(f"{folder}/" for folder in _SYSTEM)) or place.suffix in (".py", ".pyc", ".so", ".pth"):
        return  # code is digested as source, and the system's files are not the model's
    if "__pycache__" in place.parts or place.is_relative_to(OWN) or any(place.is_relative_to(folder) for folder in INSTALLED):
        return
    if absolute in {os.path.realpath(entry) for entry in sys.path}:
        return  # listed by the import of a module
    reads.names.add(absolute)


def _is_asked_by_model(frame: FrameType | None) -> bool:
    """Return whether the innermost frame outside of the standard library is not in an installed package, nor in this one."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith("<") and not file.startswith(_STDLIB) and file != __file__:
            return not any(file.startswith(f"{folder}{os.sep}") for folder in (*INSTALLED, OWN))
        if any(file.startswith(f"{folder}{os.sep}") for folder in INSTALLED if "-packages" in str(folder)):
            return False
        frame = frame.f_back
    return False
