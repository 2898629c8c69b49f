"""`shapeline pin`: make a run the baseline of its suite."""

from __future__ import annotations

from collections.abc import Sequence

from flows.command import targets
from flows.command.arguments import make_run_parser
from flows.command.exits import OK
from flows.history import publish


def main(arguments: Sequence[str]) -> int:
    """Run the command: write the run into baselines.json."""
    options = make_run_parser("pin", "Make a run the baseline of its suite: every later run is compared with it.").parse_args(arguments)
    folder = targets.find_run(options.run, options.output)
    print(f"{folder.name} is the baseline of {publish.pin(folder)}")
    return OK
