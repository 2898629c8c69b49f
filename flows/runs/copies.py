"""Runs and stores at a URL (`output=s3://bucket/prefix`): each machine downloads the files it needs and uploads the files it makes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from flows import output
from flows.runs import record
from flows.runs.record import Record
from flows.watching import run_watcher
from lowering import trust
from lowering.record.folder import JOB, MANIFEST, REPRO
from lowering.store import mirror

LOOK = 5.0  # seconds between two checks for jobs that ended on other machines


def upload_run(run: Record) -> None:
    """Upload the record of a new run and the files that its workers need. Raises OSError."""
    if mirror.find_url(run.folder) is None:
        return
    folders = [run.job_folder(job) for job in run.ids]
    mirror.upload([*(folder / name for folder in folders for name in (JOB, REPRO)), run.folder / record.RUN])


def locate_job(folder: str, url: str | None) -> Path:
    """Return the folder of a job on this machine: `folder`, or if `url` is given, its place in the local copy. Raises OSError."""
    if url is None:
        return Path(folder)
    root, _, name = url.rpartition(f"/{output.RUNS}/")
    found = output.locate(root) / output.RUNS / name
    if not (found / JOB).exists() and not mirror.fetch(found / JOB):
        raise FileNotFoundError(2, "there is no such job", f"{url}/{JOB}")
    mirror.fetch(found / MANIFEST)
    return found


def upload_job(folder: Path) -> None:
    """Upload all files of a job's folder, the manifest last. Raises OSError."""
    if mirror.find_url(folder) is None:
        return
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST and not path.name.startswith("."))
    mirror.upload([*found, folder / MANIFEST])


def upload_joined(folder: Path) -> None:
    """Upload all files of a joined program. Raises OSError."""
    if mirror.find_url(folder) is not None:
        mirror.upload([path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")])


def gather(run: Record, jobs: Sequence[str]) -> None:
    """Download the files of those `jobs` that ended on other machines. Raises OSError."""
    for folder in map(run.job_folder, jobs):
        content = mirror.read(folder / MANIFEST)
        if content is None or ((folder / MANIFEST).exists() and (folder / MANIFEST).read_bytes() == content):
            continue
        for name in mirror.list_names(folder):
            if name not in (MANIFEST, JOB, REPRO):
                mirror.fetch(folder / name)
        mirror.fetch(folder / MANIFEST)


@contextmanager
def gather_during(run: Record, elsewhere: bool) -> Iterator[None]:
    """Download jobs that end on other machines while the block runs, so that progress shows them. elsewhere: whether jobs may run there."""
    if not elsewhere or mirror.find_url(run.folder) is None:
        yield
        return

    def watch(over: threading.Event) -> None:
        while not over.wait(LOOK):
            with suppress(OSError):  # the end of the run tries again and reports the error
                gather(run, run.list_unfinished())

    with run_watcher(watch):
        yield


def upload_reports(folder: Path) -> None:
    """Upload the reports of a run and the index of all runs. Raises OSError."""
    if mirror.find_url(folder) is None:
        return
    beside = [path for path in folder.parent.iterdir() if path.is_file() and path.suffix in (".html", ".json")]
    (folder.parent / "latest.txt").write_text(folder.name)
    found = (*folder.iterdir(), *beside, folder.parent / "latest.txt")
    mirror.upload([path for path in found if path.is_file() and not path.name.startswith(".")])


def download_results(top: Path, name: str) -> str:
    """Download the results of a run's jobs, if its output is at a URL, and return the run's name. Raises OSError.

    name: `latest` is the run that ended last.
    """
    if mirror.find_url(top) is None or not (there := _find_run(top, name)):
        return name
    for file in mirror.list_names(top / output.RUNS / there):
        if file.endswith(f"/{MANIFEST}"):
            mirror.fetch(top / output.RUNS / there / file)
    return there


def download_run(top: Path, name: str) -> None:
    """Download a run made by another machine, unless it is here already. `latest` is the run that ended last. Raises OSError."""
    runs = top / output.RUNS
    if mirror.find_url(runs) is None or (runs / name / output.REPORT).exists():
        return
    if there := _find_run(top, name):
        for file in mirror.list_names(runs / there):
            mirror.fetch(runs / there / file)
        with suppress(FileExistsError):
            (runs / "latest").symlink_to(there)


def _find_run(top: Path, name: str) -> str:
    """Return the name of the run `name` at the URL of `top`; empty if `name` cannot be a run."""
    if name == "latest" and (name := (mirror.read(top / output.RUNS / "latest.txt") or b"").decode("utf-8", "replace").strip()):
        trust.check_name(name, f"{mirror.find_url(top)}/{output.RUNS}/latest.txt")
    return "" if "/" in name or name in (".", "..") else name
