"""Run a sample of the tests under other releases of torch and of Python: `make test-matrix`.

A release of torch is installed on top of the packages of this environment; another Python gets an environment of its own, with
requirements.lock. Both are kept for the next time. Exit status 1 if a sample fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib import metadata
from pathlib import Path

from lowering.environments import Environment, build, run_pip
from lowering.errors import InfraError
from lowering.versions import ANY

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build/matrix"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE = "import platform, torch, torch_mlir, jaxlib; print(f'Python {platform.python_version()}, torch {torch.__version__}')"
# Every level, its numbers, the record of symbols, and the private parts of torch that they use.
SAMPLE = ("tests/unit/shapeline/test_lower.py", "tests/unit/symbols/test_capture.py", "tests/unit/torchscript",
          "tests/unit/fx/test_decompose.py", "tests/unit/eager/test_control_flow.py", "tests/filecheck")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix",
                                     description="Run a sample of the tests under other releases of torch and Python.")
    parser.add_argument("--torch", nargs="*", default=[], metavar="VERSION", help="releases of torch, such as 2.12.1")
    parser.add_argument("--python", nargs="*", default=[], metavar="COMMAND", help="other Pythons, such as python3.12")
    parser.add_argument("--tests", nargs="*", metavar="PATH", help="tests to run instead of the sample")
    options = parser.parse_args()
    cases = [(f"torch {version}", partial(_add_torch, version)) for version in options.torch]
    cases += [(python, partial(_make_environment, python)) for python in options.python]
    outcomes = [_run(name, prepare, options.tests or SAMPLE) for name, prepare in cases]
    print("\n".join(line for line, _ in outcomes))
    return int(not all(passed for _, passed in outcomes))


def _run(name: str, prepare: Callable[[], Path], tests: list[str] | tuple[str, ...]) -> tuple[str, bool]:
    """Return a line about the sample under one release, and whether it passed. A Python that this machine does not have is left out."""
    try:
        python = prepare()
    except FileNotFoundError as error:
        return f"{name}: not tried: {error}", True
    except InfraError as error:
        return f"{name}: cannot be installed: {error}", False
    # Programs of installed packages that tests start are those of this environment, or of the other Python.
    variables = {**os.environ, "PYTHONPATH": str(ROOT),
                 "PATH": os.pathsep.join([str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]]), ANY: "1"}
    versions = subprocess.run([str(python), "-P", "-c", PROBE], env=variables, capture_output=True, text=True, check=False)
    if versions.returncode:
        return f"{name}: cannot be imported: {versions.stderr.strip().splitlines()[-1]}", False
    done = subprocess.run([str(python), "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], cwd=ROOT, env=variables,
                          capture_output=True, text=True, check=False)
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()
    failed = [f"  {line}" for line in last if line.startswith(("FAILED", "ERROR"))]
    return "\n".join([f"{name} ({versions.stdout.strip()}): {last[-1] if last else 'nothing was printed'}", *failed]), done.returncode == 0


def _add_torch(version: str) -> Path:
    """Return the Python of an environment with a release of torch on top of the packages of this one. Raises InfraError."""
    index = choose_index(os.environ, metadata.version("torch"))
    return build(Environment(f"torch_{version}", (*([f"--extra-index-url={index}"] if index else []), f"torch=={version}")))


def _make_environment(command: str) -> Path:
    """Return the Python of an environment of the Python `command`, with the locked packages. Raises FileNotFoundError and InfraError."""
    found = find_python(command, os.environ)
    folder, lock = KEPT / Path(command).name, ROOT / "requirements.lock"
    python, ready = folder / "bin/python", folder / "installed.lock"
    if not ready.exists() or ready.read_bytes() != lock.read_bytes():
        made = subprocess.run([found, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True, check=False)
        if made.returncode:
            raise FileNotFoundError(f"{found} makes no environment: {made.stderr.strip()[-200:]}")
        index = choose_index(os.environ, metadata.version("torch"))
        run_pip([str(python)], ["install", "--quiet", *([f"--extra-index-url={index}"] if index else []), "-r", str(lock)], command)
        ready.write_bytes(lock.read_bytes())
    return python


def find_python(command: str, variables: Mapping[str, str]) -> Path:
    """Return the Python called `command`: the first that starts of the one on PATH and those that pyenv and uv keep, the newest first.

    A name on PATH may be that of a version manager for a Python that is not chosen here: it does not start. Raises FileNotFoundError.
    """
    tried = []
    for found in _list_pythons(command, variables):
        try:
            started = subprocess.run([found, "-c", ""], capture_output=True, text=True, check=False, env=dict(variables))
        except OSError as error:
            tried.append(f"{found}: {error.strerror}")
            continue
        if started.returncode == 0:
            return found
        tried.append(f"{found}: {(started.stderr.strip().splitlines() or ['does not start'])[0]}")
    raise FileNotFoundError("; ".join(tried) or f"there is no {command} on PATH, or in the folders of pyenv and uv")


def _list_pythons(command: str, variables: Mapping[str, str]) -> Iterator[Path]:
    if found := shutil.which(command, path=variables.get("PATH")):
        yield Path(found)
    home = Path(variables.get("HOME", "/"))
    kept = [Path(variables.get("PYENV_ROOT") or home / ".pyenv") / "versions",
            Path(variables.get("XDG_DATA_HOME") or home / ".local/share") / "uv/python"]
    pythons = [path for folder in kept for path in folder.glob(f"*/bin/{command}")]
    yield from sorted(pythons, key=lambda path: [int(word) for word in re.findall(r"\d+", path.parts[-3])], reverse=True)


@cache
def _is_reachable(index: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{index}/torch/", method="HEAD"), timeout=20):
            return True
    except OSError:
        return False


def choose_index(variables: Mapping[str, str], installed: str, is_reachable: Callable[[str], bool] = _is_reachable) -> str:
    """Return the index that has torch beside the default one: $TORCH_INDEX, or that of CPU builds if the `installed` torch is one.

    Empty if it is none, or the index cannot be reached: the default index may then have builds for CUDA only.
    """
    if given := variables.get("TORCH_INDEX"):
        return given
    if not installed.endswith("+cpu"):
        return ""
    if is_reachable(CPU_INDEX):
        return CPU_INDEX
    print(f"{CPU_INDEX} cannot be reached: torch comes from the default index, perhaps with CUDA; TORCH_INDEX names another",
          file=sys.stderr)
    return ""


if __name__ == "__main__":
    sys.exit(main())
