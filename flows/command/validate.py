"""`shapeline validate`: check the configuration and report all of its errors."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from flows.command import printing
from flows.command.arguments import collect_overrides, find_folders, make_plan_parser
from flows.command.exits import OK, USAGE_ERROR
from flows.config import compose
from flows.config.plan import Plan, plan, remove_duplicates
from lowering.errors import ConfigError, Problem


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 2 if the configuration has errors."""
    parser = make_plan_parser("validate", "Check the configuration without running anything, and list all of its errors at once.")
    parser.add_argument("--json", action="store_true", help="print the problems as JSON: place, cause, fix")
    parser.add_argument("--all", action="store_true", help="check every suite and every model, not one suite")
    options = parser.parse_intermixed_args(arguments)
    plans, found = _plan_all(options) if options.all else _plan_one(collect_overrides(options))
    if options.json:
        print(json.dumps({"ok": not found, "jobs": sum(len(planned.jobs) for planned in plans),
                          "problems": [problem.to_json() for problem in found]}, indent=1, ensure_ascii=False))
    elif found:
        print(printing.render_problems(found), file=sys.stderr)
    else:
        print(printing.render_valid(plans))
    return USAGE_ERROR if found else OK


def _plan_one(texts: Sequence[str]) -> tuple[list[Plan], tuple[Problem, ...]]:
    try:
        return [plan(texts)], ()
    except ConfigError as error:
        return [], error.problems


def _plan_all(options: argparse.Namespace) -> tuple[list[Plan], tuple[Problem, ...]]:
    """Plan every suite, and all models together; return the plans and all problems found."""
    plans: list[Plan] = []
    found: list[Problem] = []
    folders = find_folders(options)
    choices = [f"suite={name}" for name in folders.names("suite")]
    choices.append(f"model=[{','.join(folders.names('model'))}]")
    with compose.remember_choices():
        for choice in reversed(choices):  # all models first: the suites then find theirs composed
            planned, problems = _plan_one([choice, *collect_overrides(options)])
            plans = planned + plans
            found = [*problems, *found]
    return plans, remove_duplicates(found)
