"""Compiler of C++ sources to shared libraries against PyTorch's headers, cached by sources, flags, compiler and torch version."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from lowering.custom.sources import add_headers
from lowering.errors import LoadError, Problem

_ERROR = re.compile(r"^.*\b(?:error|undefined reference)\b.*$", re.MULTILINE)


def build(name: str, sources: Sequence[Path], flags: Sequence[str] = (), include: Sequence[Path] = ()) -> Path:
    """Build a shared library from `sources`, or return it from the cache. Raises LoadError with the compiler's output.

    name: used in messages; flags: passed to both compiler and linker; include: folders of headers, in addition to PyTorch's.
    """
    return _build(name, sources, flags, include, ("-fPIC", "-shared"), ".so")


def build_program(name: str, sources: Sequence[Path]) -> Path:
    """Build a program from `sources`, or return it from the cache, as `build` does with libraries."""
    return _build(name, sources, (), (), ("-O0",), "")  # it spends its time in libtorch


def _build(name: str, sources: Sequence[Path], flags: Sequence[str], include: Sequence[Path], kind: Sequence[str], suffix: str) -> Path:
    """Compile `sources` with the flags `kind`."""
    compiler = find_compiler()
    if compiler is None:
        wanted = os.environ.get("CXX")
        cause = f"CXX={wanted} does not exist" if wanted else "no C++ compiler was found"
        fix = "install g++ or clang++, or name a built .so under libraries"
        raise LoadError(Problem(f"library '{name}'", f"cannot be built: {cause}", fix))
    folder = find_cache() / compute_digest(compiler, sources, flags)
    library = folder / f"{sources[0].stem}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # jobs of a suite share libraries: one builds, the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            _compile(name, [*build_command(compiler, sources, flags, include), *kind], library)
    return library


def find_cache() -> Path:
    """Return the folder of built libraries: `$XDG_CACHE_HOME/shapeline/libraries`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shapeline" / "libraries"


def build_command(compiler: str, sources: Sequence[Path], flags: Sequence[str], include: Sequence[Path]) -> list[str]:
    """Return the compiler command without its output option and the flags that select a library or a program."""
    root = Path(torch.__file__).parent
    headers = [root / "include", root / "include/torch/csrc/api/include", *include]
    return [
        compiler, "-std=c++20", "-O2", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *(f"-isystem{path}" for path in headers), *map(str, sources), f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}",
        "-ltorch", "-ltorch_cpu", "-lc10", *flags,
    ]  # fmt: skip


def compute_digest(compiler: str, sources: Sequence[Path], flags: Sequence[str]) -> str:
    """Return a digest of the sources, the headers that they include by a relative path, the flags, the compiler and torch with its folder,
    where a built program finds libtorch.
    """
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    parts = [version.partition("\n")[0], torch.__version__, str(Path(torch.__file__).parent), *flags]
    parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in add_headers(sources)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def find_compiler() -> str | None:
    """Return the C++ compiler that CXX names, or else the first that is installed."""
    wanted = os.environ.get("CXX")
    return shutil.which(wanted) if wanted else shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def _compile(name: str, arguments: list[str], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        unfinished = Path(folder) / library.name
        done = subprocess.run([*arguments, "-o", str(unfinished)], capture_output=True, text=True, errors="replace", check=False)
        log = f"$ {' '.join([*arguments, '-o', str(library)])}\n{done.stdout}{done.stderr}"
        if done.returncode:
            first = _ERROR.search(done.stdout + done.stderr)
            cause = f"does not build: {first[0].strip() if first else f'{arguments[0]} exited with code {done.returncode}'}"
            raise LoadError(Problem(f"library '{name}'", cause, "the compiler's output is in the job's log"), log)
        unfinished.rename(library)
