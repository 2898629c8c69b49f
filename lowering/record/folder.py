"""The folder of a job: the names of its files, and the two that let any process run the job, job.json and repro.sh."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowering import files, recipe, trust
from lowering.ir import text_files
from lowering.job import DescribedJob, Job
from lowering.plain import to_plain

JOB = "job.json"
REPRO = "repro.sh"
EVENTS = "events.jsonl"
LOG = "log.txt"
TIMINGS = "timings.json"
MANIFEST = "manifest.json"  # written last: it commits the result
LEVELS, VIEW = "levels.json", "view.js"  # what the report derives from a committed result
OWN = frozenset({JOB, REPRO, EVENTS, LOG, TIMINGS, MANIFEST})  # files that no stage writes
COMPRESS = "compress_bytes"  # in job.json
SIGNATURE = "signature.json"  # what the stage `package` writes: arguments, results, and the program that `shapeline exec` runs


@dataclass(frozen=True)
class Limits:
    """Limits of one job.

    stage_seconds: wall time of one stage.
    memory_bytes: resident size of its process tree (None: no limit).
    exit_seconds: time for the process to exit after its result is committed.
    start_seconds: time for the process to be forked (a cold server loads the compilers first).
    deadline: end of the whole run, in seconds of `lowering.clock`; jobs that have not ended by then are `not_run`.
    compress_bytes: IR text of at least this size is compressed (None: never).
    """

    stage_seconds: float = 900.0
    memory_bytes: int | None = None
    exit_seconds: float = 30.0
    start_seconds: float = 300.0
    deadline: float | None = None
    compress_bytes: int | None = text_files.LARGE


def prepare(job: Job | DescribedJob, folder: Path, limits: Limits = Limits(), store: Path | None = None) -> None:
    """Prepare `folder` for the job: write job.json, which any process can run, and repro.sh, which runs it. Raises OSError.

    store: where results of stages are looked up and stored (None: nowhere).
    The files are not synced to disk, because that would dominate the time of a job whose results are all in the store. If the machine stops
    right afterwards, they may be torn; `is_prepared` detects that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = {"store": os.path.relpath(store, folder)} if store else {}
    save({**job.to_json(), **held, COMPRESS: limits.compress_bytes}, folder)
    options = f"--stage-seconds {limits.stage_seconds:g}" + (f" --memory-bytes {limits.memory_bytes}" if limits.memory_bytes else "")
    path = "".join(f"{name}={shlex.quote(os.environ[name])} " for name in ("PYTHONPATH", trust.STATE) if os.environ.get(name))
    files.write_bytes(folder / REPRO, files.encode(f"""\
#!/bin/sh
# Lowers this job again in a separate child process. The results go to repro/ beside this file.
# --here runs it in this process, for a debugger; --until LEVEL stops early.
folder=$(cd "$(dirname "$0")" && pwd)
cd {shlex.quote(str(Path.cwd()))} && {path}exec "${{PYTHON:-{sys.executable}}}" -m lowering.worker "$folder" {options} "$@"
"""), durable=False)
    (folder / REPRO).chmod(0o755)


def save(data: Mapping[str, Any], folder: Path) -> None:
    """Write job.json with the seal of this user, by which its code may be run again. Raises OSError."""
    files.write_bytes(folder / JOB, files.encode(files.encode_json(trust.seal(data, JOB)) + "\n"), durable=False)


def is_own(data: Any) -> bool:
    """Return whether this user wrote the job.json that `data` was read from."""
    return trust.is_own(data, JOB)


def list_code(data: Any) -> list[str]:
    """List the code that a job executes: the callables, libraries and packages that its job.json names."""
    if not isinstance(data, Mapping):
        return []
    model = data.get("model") or {}
    libraries = model.get("libraries") or () if isinstance(model, Mapping) else ()
    targets = [str(value) for value in _walk_targets(data)]
    environment = data.get("environment")
    wanted = environment.get("requirements") or () if isinstance(environment, Mapping) else ()
    return [*(f"the callable {target}" for target in dict.fromkeys(targets)), *(describe_library(library) for library in libraries),
            *([f"pip install {' '.join(map(str, wanted))}"] if wanted else [])]


def describe_library(library: Any) -> str:
    """Describe an op library of a model, as JSON or as a `Library`, in a message: a shared library, a module, or a build with its flags."""
    if isinstance(library, str):
        return f"the library {library}"
    fields = library if isinstance(library, Mapping) else to_plain(library)
    if fields.get("module"):
        return f"the module {fields['module']}"
    sources, flags = (list(map(str, fields.get(key) or ())) for key in ("sources", "flags"))
    return f"the C++ compiler on {', '.join(sources)} with the flags {' '.join(flags)!r}"


def _walk_targets(data: Any) -> Iterator[Any]:
    if isinstance(data, Mapping):
        yield from [data[recipe.TARGET]] if recipe.TARGET in data else []
        for value in data.values():
            yield from _walk_targets(value)
    elif isinstance(data, list):
        for value in data:
            yield from _walk_targets(value)


def clear(folder: Path) -> None:
    """Remove the result of an earlier attempt at the job, and what was derived from it. Raises OSError."""
    for name in (MANIFEST, EVENTS, LOG, LEVELS, VIEW):
        (folder / name).unlink(missing_ok=True)


def is_prepared(folder: Path) -> bool:
    """Return whether the files that `prepare` wrote are complete, and this user's."""
    try:
        return is_own(files.read(folder / JOB)) and (folder / REPRO).read_bytes().endswith(b'"$@"\n')
    except (OSError, ValueError):
        return False


def find_store(data: Mapping[str, Any], folder: Path) -> Path | None:
    """Return the store that the job of `folder` uses, or None. data: its job.json, which holds the path relative to the folder."""
    return (folder / data["store"]).resolve() if data.get("store") else None


def read_compress_bytes(data: Mapping[str, Any]) -> int | None:
    """Return the size from which the job compresses IR text. data: its job.json."""
    return data.get(COMPRESS, text_files.LARGE)
