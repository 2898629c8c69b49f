"""Artifacts of a run in Prefect's UI: a table with links to the jobs' pages, its progress, and a picture of its matrix."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar, cast
from uuid import UUID

import httpx
from prefect import runtime
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client

from flows.engine import picture
from flows.engine.pages import make_key, make_table, render_failures, render_taken
from flows.report import report
from flows.runs.record import Record
from flows.watching import run_watcher
from lowering.record.folder import MANIFEST
from lowering.record.result import JobResult

LOOK = 2.0  # seconds between two counts of the ended jobs
PAGE = 200  # artifacts per page of the server's answer
PATIENCE = 60.0  # seconds to wait for a restarted server

Made = TypeVar("Made")


def create_job_page(result: JobResult) -> None:
    """Create the page of a job, as Markdown."""
    text = "\n".join(report.render_page(result))
    _retry(lambda: create_markdown_artifact(text, key=make_key("job", result.id), description=result.outcome))


def create_taken_page(results: Sequence[JobResult], name: str) -> None:
    """Create the page of a batch of jobs taken from the store, as Markdown, under the key `name`."""
    text, said = render_taken(results)
    _retry(lambda: create_markdown_artifact(text, key=name, description=said))


def create_run_pages(run: Record, results: Sequence[JobResult], taken: Mapping[str, str]) -> None:
    """Create the table, the list of failures and the picture of a run. taken: by job, the key of the page of its batch."""
    suite, said = run.data["suite"], f"{run.data['run']}: {report.summarize(results)}"
    made = _retry(_read_pages)
    pages = {make_key("job", job): made[page] for job, page in taken.items() if page in made} | made
    _retry(lambda: create_table_artifact(make_table(results, pages), key=make_key("run", suite), description=said))
    _retry(lambda: create_markdown_artifact("\n".join(render_failures(run, results, pages)), key=make_key("failures", suite),
                                            description=said))
    _retry(lambda: create_image_artifact(picture.to_address(picture.draw_matrix(results, said)), key=make_key("matrix", suite),
                                         description=said))


@contextmanager
def show_progress(run: Record) -> Iterator[None]:
    """Show a progress bar in the UI while the block runs."""
    said = run.data["run"]
    made = cast(UUID, _retry(lambda: create_progress_artifact(0.0, key=make_key("progress", run.data["suite"]), description=said)))
    with run_watcher(partial(_update_progress, run, made)):
        yield


def _update_progress(run: Record, made: UUID, ended: threading.Event) -> None:
    last = 0.0
    while True:
        over = ended.wait(LOOK)
        done = sum((run.job_folder(job) / MANIFEST).exists() for job in run.ids)
        share = round(100.0 * done / max(1, len(run.ids)), 1)
        if share != last:
            with suppress(httpx.HTTPError):  # while the server restarts, or its disk is full; the next iteration updates it
                update_progress_artifact(made, share, description=f"{run.data['run']}: {done} of {len(run.ids)} jobs ended")
                last = share
        if over:
            return


def _retry(ask: Callable[[], Made]) -> Made:
    """Call `ask` and retry while the server is down. Prefect's client itself retries only with a server that answered before."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except httpx.TransportError:
            if time.monotonic() > end:
                raise
        time.sleep(1.0)


def _read_pages() -> dict[str, str]:
    """Return the artifacts of this flow run so far: key -> id of the newest."""
    found: dict[str, str] = {}
    seen = 0
    asked = {"artifacts": {"flow_run_id": {"any_": [str(runtime.flow_run.id)]}}, "sort": "CREATED_DESC", "limit": PAGE}
    with get_client(sync_client=True) as client:
        while True:
            answer = client.request("POST", "/artifacts/filter", json={**asked, "offset": seen}).json()
            found = {made["key"]: made["id"] for made in reversed(answer) if made["key"]} | found
            seen += len(answer)
            if len(answer) < PAGE:
                return found
