"""Run a sample of the tests under other releases of torch and of Python: `make test-matrix`.

A release of torch is installed on top of the packages of this environment; another Python gets an environment of its own, with
requirements.lock. Both are kept for the next time. Exit status 1 if a sample fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lowering.environments import Environment, build, run_pip
from lowering.errors import InfraError
from lowering.versions import ANY

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build/matrix"
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
    cases: list[tuple[str, Callable[[], Path]]] = [(f"torch {version}",
                                                    lambda version=version: build(Environment(f"torch_{version}", (f"torch=={version}",))))
                                                   for version in options.torch]  # fmt: skip
    cases += [(python, lambda python=python: _make_environment(python)) for python in options.python]
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


def _make_environment(command: str) -> Path:
    """Return the Python of an environment of the Python `command`, with the locked packages. Raises FileNotFoundError and InfraError."""
    found = shutil.which(command)
    if found is None:
        raise FileNotFoundError(f"there is no {command}")
    folder, lock = KEPT / Path(command).name, ROOT / "requirements.lock"
    python, ready = folder / "bin/python", folder / "installed.lock"
    if not ready.exists() or ready.read_bytes() != lock.read_bytes():
        made = subprocess.run([found, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True, check=False)
        if made.returncode:  # a name that a version manager keeps for a Python that it does not have
            raise FileNotFoundError(f"{command} makes no environment: {made.stderr.strip()[-200:]}")
        index = [f"--extra-index-url={os.environ['TORCH_INDEX']}"] if os.environ.get("TORCH_INDEX") else []
        run_pip([str(python)], ["install", "--quiet", *index, "-r", str(lock)], command)
        ready.write_bytes(lock.read_bytes())
    return python


if __name__ == "__main__":
    sys.exit(main())
