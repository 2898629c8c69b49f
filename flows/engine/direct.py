"""The record of a run that needed no flow, in a Prefect server on this machine, by its REST API.

The same flow run, tasks and pages as of any other run. Importing Prefect's client would take longer than everything else in such a run.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from flows.engine import access, pages, picture, server
from flows.report import report
from flows.runs.record import Record
from lowering.record.result import JobResult

PATIENCE = 60.0  # seconds for an answer
TOGETHER = 4  # concurrent requests
COMPLETED, FAILED = {"type": "COMPLETED", "name": "Completed"}, {"type": "FAILED", "name": "Failed"}
BUSY = (429, 502, 503)  # a server that has just started answers so while its database is locked


def find_server() -> str | None:
    """Return the address of this process's server if it is on this machine and takes requests directly; else None."""
    url = os.environ.get(server.URL, "")
    parts = urlsplit(url)
    plain = parts.scheme == "http" and parts.hostname in access.LOCAL and not parts.username
    return url.rstrip("/") if plain and not os.environ.get(access.KEY) else None


def record(server: str, run: Record, batches: Sequence[Sequence[JobResult]], lowered: Sequence[JobResult] = ()) -> str:
    """Record a run that has ended, and return the id of its flow run. Raises OSError or ValueError if the server does not take it.

    batches: the results from the store, each batch as one task. lowered: the others, each as one task. The server gives the flow run the
    time at which it is told.
    """
    results, suite = run.results(), run.data["suite"]
    said = f"{run.data['run']}: {report.summarize(results)}"
    flow = _ask(server, "flows/", {"name": "lower"})["id"]
    made = _ask(server, "flow_runs/", {
        "flow_id": flow, "name": run.data["run"], "parameters": {"overrides": run.data["overrides"], "folder": str(run.folder)},
        "state": {"type": "RUNNING", "name": "Running"}})["id"]  # fmt: skip

    def make(kind: str, key: str, data: Any, description: str, task: str | None = None) -> str:
        asked = {"type": kind, "key": key, "data": data, "description": description, "flow_run_id": made, "task_run_id": task}
        return str(_ask(server, "artifacts/", asked)["id"])

    def make_task(key: str, name: str, state: Mapping[str, str]) -> str:
        asked = {"flow_run_id": made, "task_key": key, "dynamic_key": str(uuid.uuid4()), "name": name, "task_inputs": {}, "state": state}
        return str(_ask(server, "task_runs/", asked)["id"])

    def take(number: int) -> dict[str, str]:
        """Record a batch, and return the page of each of its jobs."""
        text, summary = pages.render_taken(batches[number])
        task = make_task("take-direct", f"from the store ({number + 1})", {**COMPLETED, "message": summary})
        page = make("markdown", pages.make_key("taken", suite, str(number + 1)), text, summary, task)
        return {pages.make_key("job", result.id): page for result in batches[number]}

    def lower(result: JobResult) -> dict[str, str]:
        """Record a job that was lowered, and return its page."""
        state = COMPLETED if result.outcome == "ok" else FAILED
        task = make_task("lower-direct", result.id, {**state, "message": pages.describe_end(result)})
        key = pages.make_key("job", result.id)
        return {key: make("markdown", key, "\n".join(report.render_page(result)), result.outcome, task)}

    with ThreadPoolExecutor(TOGETHER) as pool:
        by_job = {key: page for found in pool.map(take, range(len(batches))) for key, page in found.items()}
        by_job |= {key: page for found in pool.map(lower, lowered) for key, page in found.items()}
        matrix = picture.to_address(picture.draw_matrix(results, said))
        done = f"{run.data['run']}: {len(results)} of {len(results)} jobs ended"
        asked = [
            pool.submit(make, "progress", pages.make_key("progress", suite), 100.0, done),
            pool.submit(make, "table", pages.make_key("run", suite), json.dumps(pages.make_table(results, by_job)), said),
            pool.submit(make, "markdown", pages.make_key("failures", suite), "\n".join(pages.render_failures(run, results, by_job)), said),
            pool.submit(make, "image", pages.make_key("matrix", suite), matrix, said),
        ]
        for one in asked:
            one.result()
    ended = FAILED if report.find_unexpected(results) else COMPLETED
    _ask(server, f"flow_runs/{made}/set_state", {"state": {**ended, "message": report.summarize(results)}, "force": True})
    return str(made)


def make_link(server: str, flow_run: str) -> str:
    """Return the address of a flow run in the pages of the server."""
    return f"{server.removesuffix('/api')}/runs/flow-run/{flow_run}"


def _ask(server: str, path: str, data: Any) -> Any:
    """Return the answer to a POST, as JSON. Raises OSError or ValueError."""
    headers = {"Content-Type": "application/json"}
    if password := os.environ.get(access.CLIENT):
        headers["Authorization"] = access.encode_password(password)
    request = urllib.request.Request(f"{server}/{path}", json.dumps(data).encode("utf-8", "backslashreplace"), headers)
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code not in BUSY or time.monotonic() > end:
                raise
        time.sleep(0.2)
