"""`shapeline nightly`: serve a schedule that runs a suite."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from flows import nightly
from flows.command.arguments import make_parser
from flows.command.exits import OK, UNEXPECTED
from flows.config import run as config
from flows.report.terminal import escape
from lowering.errors import ShapelineError


def main(arguments: Sequence[str]) -> int:
    """Run the command: serve until interrupted. Raises ConfigError if no persistent server is configured or the schedule is invalid."""
    parser = make_parser("nightly", "Serve a schedule (nightly.cron in nightly.timezone) that runs a suite, one run at a time.")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the suite to run: overrides as in shapeline run")
    parser.add_argument("--name", help="name of the deployment (default: the suite's)")
    parser.add_argument("--once", action="store_true", help="run one night now, without a schedule, and exit")
    options = parser.parse_intermixed_args(arguments)
    plan = config.load(options.overrides).plan  # report every configuration error now, not at night
    overrides = list(options.overrides)
    if not any(text.startswith("output=") for text in overrides):
        overrides.append(f"output={plan.output.absolute()}")
    if options.once:
        os.environ[nightly.FIXED] = json.dumps(overrides)
        return _run_once()
    nightly.serve(plan, overrides, options.name or plan.suite)
    return OK


def _run_once() -> int:
    """Run one night, and print why it failed. Errors of Shapeline pass through, as from `shapeline run`."""
    state = nightly.night(return_state=True)
    if state.is_completed():
        return OK
    if isinstance(error := state.result(raise_on_failure=False), ShapelineError):
        raise error
    print(f"shapeline: the night failed: {escape(state.message or state.name or '')}", file=sys.stderr)
    return UNEXPECTED
