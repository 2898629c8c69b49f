"""The command `shapeline`, also `python -m flows`. Exit 0: all as expected; 1: something is not; 2: usage or configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flows.command import printing, verbs
from flows.command.exits import INTERRUPTED, OK, UNEXPECTED, USAGE_ERROR
from flows.engine.revival import ServerLost
from lowering.errors import ConfigError, InfraError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (sys.argv's by default) and return its exit status.

    Modules in the working directory can be named in configurations.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(verbs.USAGE, end="", file=sys.stdout if given else sys.stderr)
        return OK if given else USAGE_ERROR
    if given[0] not in verbs.VERBS:
        problem = printing.unknown_command(given[0], verbs.VERBS)
        print(f"shapeline: {problem}\n\n{verbs.USAGE}", end="", file=sys.stderr)
        return USAGE_ERROR
    try:
        return verbs.run(given[0], given[1:])
    except ConfigError as error:
        print(printing.problems(error.problems), file=sys.stderr)
        return USAGE_ERROR
    except InfraError as error:
        print(printing.problems(error.problems), file=sys.stderr, flush=True)
        if isinstance(error, ServerLost):  # Prefect's threads go on asking the server for minutes, which nobody need wait for
            sys.stdout.flush()
            os._exit(UNEXPECTED)
        return UNEXPECTED
    except KeyboardInterrupt:
        print("shapeline: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `shapeline list | head`
        sys.stderr.close()
        return OK


if __name__ == "__main__":
    sys.exit(main())
