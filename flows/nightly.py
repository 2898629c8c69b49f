"""A scheduled suite: a served deployment that runs one night at a time, compares each run with the previous one, and posts a summary.

To use a work pool: `prefect deploy flows/nightly.py:night --pool NAME --cron "0 2 * * *"`, and a worker with the variable SHAPELINE_NIGHT.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flows.engine import access, server

access.use_password(os.environ.get("PREFECT_API_URL"))
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
from flows.config.overrides import quote
from flows.config.plan import Plan
from flows.engine import pages
from flows.history import hooks, publish, tracker, trackers
from flows.output import REPORT
from flows.report import report
from flows.report.terminal import escape
from lowering import files
from lowering.errors import ConfigError, Problem
from lowering.markdown import escape_line, make_code
from lowering.plain import from_plain
from lowering.store import mirror

SUMMARY = "summary.md"
HOOK_SECONDS = 120.0
FIXED = "SHAPELINE_NIGHT"  # environment variable of the process that serves: the overrides of its nights, as JSON
SECRET = "shapeline-webhook"  # Prefect Secret
ALLOWED = {"suite": re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,80}"), "select": re.compile(r"[A-Za-z0-9_.+=() -]{1,500}")}


@flow(name="nightly", validate_parameters=False)
def night(suite: str | None = None, select: str | None = None) -> State[Any]:
    """Run the suite of this deployment and post its summary. A missed run is skipped if a later one is also due.

    The configuration is that of the process that serves (FIXED). suite, select: all that a request to the server may change: the name of
    another suite, and which of its jobs. Raises ConfigError for anything else.
    """
    overrides = choose(json.loads(os.environ.get(FIXED, "[]")), suite, select)
    if later := _count_later_runs():
        return Completed(name="Missed", message=f"left out: {report.pluralize(later, 'later run')} of the schedule also due")
    from flows import execution  # imported here because it needs Prefect to be configured in this process

    run = config.load(overrides)
    folder = execution.lower_run(run)
    data = files.read(folder / REPORT)
    text = summarize(folder)
    files.write_bytes(folder / SUMMARY, files.encode(text))
    create_markdown_artifact(text, key=pages.make_key("night", data["suite"]), description=folder.name)
    settings = from_plain(Nightly, run.plan.config.get("nightly") or {})
    refused = [*post(text, folder, settings, read_webhook()), *track(folder, settings)]
    said = "; ".join([text.split("\n", 1)[0].lstrip("# "), *refused])
    regressed = any(change["regression"] for change in _read_changes(folder).values())
    return Failed(message=said) if regressed or not data["as_expected"] or refused else Completed(message=said)


def choose(fixed: Sequence[str], suite: str | None, select: str | None) -> list[str]:
    """Return the overrides of a night: the fixed ones, with another suite or selection. Raises ConfigError unless these are plain names."""
    for name, value in (("suite", suite), ("select", select)):
        if value is not None and not (isinstance(value, str) and ALLOWED[name].fullmatch(value)):
            raise ConfigError(Problem(f"parameter {name}", f"{value!r:.80} is not allowed", "name a suite, or words of job ids"))
    kept = [text for text in fixed if not ((suite and text.startswith(("suite=", "model="))) or (select and text.startswith("select=")))]
    return [*kept, *([f"suite={suite}"] if suite else []), *([f"select={quote(select)}"] if select else [])]


def read_webhook() -> str | None:
    """Return the URL that receives the summary: SHAPELINE_WEBHOOK, or the Prefect Secret `shapeline-webhook`; None if there is neither."""
    if address := os.environ.get("SHAPELINE_WEBHOOK"):
        return address
    from prefect.blocks.system import Secret

    load: Any = Secret.load
    try:
        return str(load(SECRET, _sync=True).get())
    except Exception:  # noqa: BLE001 - Prefect raises many kinds for a block that does not exist
        return None


def summarize(folder: Path) -> str:
    """Return a summary of a run in Markdown: totals, and the changes since the previous run and since the baseline."""
    data, found = files.read(folder / REPORT), _read_changes(folder)
    totals = ", ".join(f"{count} {outcome}" for outcome, count in data["outcomes"].items())
    regressed = any(change["regression"] for change in found.values())
    verdict = "regressions" if regressed else "as expected" if data["as_expected"] else "not as expected"
    place = f"{mirror.find_url(folder) or folder}/report.html"
    lines = [f"# {escape_line(data['suite'])}: {verdict}: {totals}", "", f"Run {make_code(data['run'])}, report: {make_code(place)}"]
    for name, change in found.items():
        other = "previous run" if name == "previous" else "baseline"
        lines += ["", f"## Since the {other} ({make_code(change['old']['run'])})", "", change["summary"], ""]
        kinds = [kind for kind in change["kinds"] if kind["rows"]]
        for kind in kinds:
            title = f"{kind['title']}: {len(kind['rows'])}"
            lines.append(f"- {f'**{title}**' if kind['bad'] else title} ({_list_names(kind['rows'])})")
        lines += [] if kinds else ["Nothing changed."]
    return "\n".join(lines) + "\n"


def post(text: str, folder: Path, settings: Nightly, webhook: str | None) -> list[str]:
    """Post the summary to `webhook` and the command of `settings`, and return a message for each failure, without the URL, a secret.

    The webhook receives a POST of {"text": …}. The command reads the text on stdin and the run's folder in SHAPELINE_RUN.
    """
    refused = []
    if webhook:
        try:
            hooks.post(webhook, {"text": text}, HOOK_SECONDS)
        except OSError as error:
            refused.append(f"the webhook did not accept the summary: {error}")
    if settings.command:
        try:
            hooks.run(settings.command, text, HOOK_SECONDS, {"SHAPELINE_RUN": str(folder)})
        except OSError as error:
            refused.append(f"the command for the summary {error}")
    for problem in refused:
        print(f"shapeline: {problem}", file=sys.stderr)
    return refused


def track(folder: Path, settings: Nightly) -> list[str]:
    """Open, update and close the tickets of the run in `folder`, print each action, and return a message for each one that failed."""
    if settings.tracker.kind is None:
        return []
    try:
        built = None if settings.tracker.dry_run else trackers.build(settings.tracker)
        refused = tracker.follow(folder, built, lambda text: print(f"tracker: {escape(text)}", flush=True))
    except ConfigError as error:
        refused = [str(problem) for problem in error.problems]
    for problem in refused:
        print(f"shapeline: {problem}", file=sys.stderr)
    return refused


def serve(plan: Plan, overrides: Sequence[str], name: str) -> None:
    """Serve the schedule of `plan` until interrupted.

    Raises ConfigError if no persistent server is configured or the schedule is invalid.
    """
    settings = from_plain(Nightly, plan.config.get("nightly") or {})
    if not PREFECT_API_URL.value():
        fix = "start one (shapeline server) and set its URL: export PREFECT_API_URL=http://127.0.0.1:4200/api"
        raise ConfigError(Problem("nightly", "a schedule needs a persistent Prefect server", fix))
    try:
        schedule = Cron(settings.cron, timezone=ZoneInfo(settings.timezone).key)
    except (ValueError, ZoneInfoNotFoundError) as error:
        place = "nightly.cron" if isinstance(error, ValueError) else "nightly.timezone"
        raise ConfigError(Problem(place, str(error).strip("'"), "cron: 0 2 * * *, timezone: Europe/Berlin")) from error
    access.check_closed(PREFECT_API_URL.value())
    os.environ[FIXED] = json.dumps(list(overrides))  # for the processes of the nights; the server's database does not have it
    night.serve(name=name, schedule=schedule, parameters={}, limit=1, pause_on_shutdown=False,
                entrypoint_type=EntrypointType.MODULE_PATH, description=f"shapeline nightly: {plan.suite}")  # fmt: skip


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
    named = ", ".join(make_code(row["job"]) for row in rows[:limit])
    return f"{named}, …" if len(rows) > limit else named
