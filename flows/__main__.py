"""The command `shapeline`, also `python -m flows`. Exit status 0: all as expected; 1: something is not; 2: usage or configuration error."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flows.command import printing, verbs
from flows.command.exits import INTERRUPTED, OK, UNEXPECTED, USAGE_ERROR
from flows.engine import revival
from flows.engine.revival import ServerLost
from lowering import versions
from lowering.errors import ConfigError, InfraError, Problem, ShapelineError

RARELY = 50_000, 20, 20  # thresholds of the garbage collector: what a command makes is modules for the most part, and stays
ANY_TORCH = ("doctor", "completion")  # commands that help to repair an installation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: sys.argv) and return its exit status.

    The working directory is added to sys.path, so that configurations can name its modules.
    """
    _open_closed_streams()
    gc.set_threshold(*RARELY)
    atexit.register(gc.freeze)  # otherwise the interpreter looks for cycles in all that is loaded when it exits, more than once
    status = _run(arguments)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # closed, or full: the interpreter would fail again when it exits
        if sys.stdout is sys.__stdout__:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


def _open_closed_streams() -> None:
    """Connect the streams that the caller has closed to /dev/null. Otherwise a file that is opened later would receive what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number, so mostly that of the stream
            try:
                os.fstat(number)
            except OSError:
                os.dup2(null, number)
            setattr(sys, name, os.fdopen(null, "r" if number == 0 else "w"))


def _run(arguments: Sequence[str] | None) -> int:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(verbs.USAGE, end="", file=sys.stdout if given else sys.stderr)
        return OK if given else USAGE_ERROR
    if given[0] not in verbs.VERBS:
        problem = printing.describe_unknown_command(given[0], verbs.VERBS)
        print(f"shapeline: {problem}\n\n{verbs.USAGE}", end="", file=sys.stderr)
        return USAGE_ERROR
    if given[0] not in ANY_TORCH and (unsupported := versions.find_problem()) is not None:
        print(printing.render_problems([unsupported]), file=sys.stderr)
        return USAGE_ERROR
    try:
        return verbs.run(given[0], given[1:])
    except ConfigError as error:
        print(printing.render_problems(error.problems), file=sys.stderr)
        return USAGE_ERROR
    except InfraError as error:
        print(printing.render_problems(error.problems), file=sys.stderr, flush=True)
        if isinstance(error, ServerLost):  # Prefect's threads keep polling the server for minutes: do not wait for them
            sys.stdout.flush()
            os._exit(UNEXPECTED)
        return UNEXPECTED
    except ShapelineError as error:
        print(printing.render_problems(error.problems), file=sys.stderr)
        return UNEXPECTED
    except KeyboardInterrupt:
        print("shapeline: interrupted", file=sys.stderr)
        if "prefect" in sys.modules:  # its threads would print tracebacks while they end
            revival.end_embedded()
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        return INTERRUPTED
    except BrokenPipeError:  # `shapeline list | head`
        sys.stderr.close()
        return OK
    except OSError as error:
        place, cause = str(error.filename or "disk"), error.strerror or str(error)
        print(printing.render_problems([Problem(place, cause, "check the disk and the permissions")]), file=sys.stderr)
        return UNEXPECTED


if __name__ == "__main__":
    sys.exit(main())
