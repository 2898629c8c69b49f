"""A scheduled suite: a served deployment that runs one night at a time, compares each run with the previous one, and posts a summary.

To use a work pool: `prefect deploy flows/nightly.py:night --pool NAME --cron "0 2 * * *" --param overrides='["suite=full"]'`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flows.engine import server

server.configure()

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.flows import EntrypointType  # type: ignore[attr-defined]
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Failed
from prefect.types import DateTime

from flows.config import run as config
from flows.config.document import Nightly
from flows.config.plan import Plan
from flows.engine import prefect_artifacts
from flows.history import publish
from flows.output import REPORT
from flows.report import report
from lowering import files
from lowering.errors import ConfigError, Problem
from lowering.plain import from_plain

SUMMARY = "summary.md"
HOOK_SECONDS = 120.0


@flow(name="nightly", validate_parameters=False)
def night(overrides: list[str]) -> State[Any]:
    """Run the suite chosen by `overrides` and post its summary. A missed run is skipped if a later one is also due."""
    if later := _count_later_runs():
        return Completed(name="Missed", message=f"left out: {report.counted(later, 'later run')} of the schedule also due")
    from flows import lower  # imported here because it needs Prefect to be configured in this process

    run = config.load(overrides)
    folder = lower.lower_suite(run)
    data = files.read(folder / REPORT)
    text = summarize(folder)
    files.write_bytes(folder / SUMMARY, files.encode(text))
    create_markdown_artifact(text, key=prefect_artifacts.make_key("night", data["suite"]), description=folder.name)
    refused = post(text, folder, from_plain(Nightly, run.plan.config.get("nightly") or {}))
    said = "; ".join([text.split("\n", 1)[0].lstrip("# "), *refused])
    regressed = any(told["regression"] for told in _read_changes(folder).values())
    return Failed(message=said) if regressed or not data["as_expected"] or refused else Completed(message=said)


def summarize(folder: Path) -> str:
    """Return a summary of a run in Markdown: totals, and the changes since the previous run and since the baseline."""
    data, found = files.read(folder / REPORT), _read_changes(folder)
    totals = ", ".join(f"{count} {outcome}" for outcome, count in data["outcomes"].items())
    regressed = any(told["regression"] for told in found.values())
    verdict = "regressions" if regressed else "as expected" if data["as_expected"] else "not as expected"
    lines = [f"# {data['suite']}: {verdict}: {totals}", "", f"Run `{data['run']}`, report: `{folder / 'report.html'}`"]
    for name, told in found.items():
        other = "previous run" if name == "previous" else "baseline"
        lines += ["", f"## Since the {other} (`{told['old']['run']}`)", "", told["summary"], ""]
        kinds = [kind for kind in told["kinds"] if kind["rows"]]
        for kind in kinds:
            title = f"{kind['title']}: {len(kind['rows'])}"
            lines.append(f"- {f'**{title}**' if kind['bad'] else title} ({_list_names(kind['rows'])})")
        lines += [] if kinds else ["Nothing changed."]
    return "\n".join(lines) + "\n"


def post(text: str, folder: Path, settings: Nightly) -> list[str]:
    """Post the summary to the webhook and the command of `settings`, and return a message for each failure.

    The webhook receives a POST of {"text": …}. The command reads the text on stdin and the run's folder in SHAPELINE_RUN.
    """
    refused = []
    if settings.webhook:
        request = urllib.request.Request(settings.webhook, json.dumps({"text": text}).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=HOOK_SECONDS):
                pass
        except (OSError, ValueError) as error:
            refused.append(f"the webhook did not accept the summary: {error}")
    if settings.command:
        try:
            variables = {**os.environ, "SHAPELINE_RUN": str(folder)}
            done = subprocess.run(settings.command, shell=True, input=text, text=True, capture_output=True, timeout=HOOK_SECONDS,
                                  check=False, env=variables)  # fmt: skip
            if done.returncode:
                refused.append(f"the command for the summary exited with status {done.returncode}: {done.stderr.strip()[-300:]}")
        except (OSError, subprocess.TimeoutExpired) as error:
            refused.append(f"the command for the summary failed: {error}")
    for problem in refused:
        print(f"shapeline: {problem}", file=sys.stderr)
    return refused


def serve(plan: Plan, overrides: Sequence[str], name: str) -> None:
    """Serve the schedule of `plan` until interrupted.

    Raises ConfigError if no persistent server is configured or the schedule is invalid.
    """
    settings = from_plain(Nightly, plan.config.get("nightly") or {})
    if not PREFECT_API_URL.value():
        fix = "start one (prefect server start) and set its URL: export PREFECT_API_URL=http://127.0.0.1:4200/api"
        raise ConfigError(Problem("nightly", "a schedule needs a persistent Prefect server", fix))
    try:
        schedule = Cron(settings.cron, timezone=ZoneInfo(settings.timezone).key)
    except (ValueError, ZoneInfoNotFoundError) as error:
        place = "nightly.cron" if isinstance(error, ValueError) else "nightly.timezone"
        raise ConfigError(Problem(place, str(error).strip("'"), "cron: 0 2 * * *, timezone: Europe/Berlin")) from error
    night.serve(name=name, schedule=schedule, parameters={"overrides": list(overrides)}, limit=1, pause_on_shutdown=False,
                entrypoint_type=EntrypointType.MODULE_PATH, description=f"shapeline run {' '.join(overrides)}")  # fmt: skip


def _count_later_runs() -> int:
    """Return how many later runs of this run's deployment are already due. If any is, this run is out of date."""
    deployment, expected = runtime.deployment.id, runtime.flow_run.scheduled_start_time
    if not deployment or expected is None:
        return 0
    waiting = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING]))
    due = FlowRunFilterExpectedStartTime(after_=expected, before_=DateTime.now("UTC"))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=waiting, expected_start_time=due),
                                      deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])))  # fmt: skip
    return sum(str(run.id) != str(runtime.flow_run.id) and run.expected_start_time > expected for run in found)


def _read_changes(folder: Path) -> dict[str, Any]:
    try:
        return dict(files.read(folder / publish.CHANGES))
    except FileNotFoundError:
        return {}


def _list_names(rows: Sequence[dict[str, str]], limit: int = 5) -> str:
    named = ", ".join(f"`{row['job']}`" for row in rows[:limit])
    return f"{named}, …" if len(rows) > limit else named
