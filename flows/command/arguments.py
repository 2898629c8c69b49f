"""Arguments that several commands take, each with one meaning and one default."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows import output as outputs

NEWEST = "a run's folder or id (default: the newest)"


def output(parser: argparse.ArgumentParser) -> None:
    """Adds --output: where finished runs are."""
    parser.add_argument("--output", type=outputs.locate, default=Path("artifacts"), metavar="DIR|URL", help="what holds runs/ (default: artifacts)")


def of_run(command: str, description: str) -> argparse.ArgumentParser:
    """A parser of a command about one finished run: RUN, --output."""
    parser = argparse.ArgumentParser(prog=f"shapeline {command}", description=description)
    parser.add_argument("run", nargs="?", default="latest", help=NEWEST)
    output(parser)
    return parser
