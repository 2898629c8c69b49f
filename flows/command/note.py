"""`shapeline note`: notes on the causes of failures."""

from __future__ import annotations

import getpass
from collections.abc import Sequence

from flows.command.arguments import add_output, make_parser
from flows.command.exits import OK
from flows.history import causes
from flows.history.causes import Cause
from flows.output import RUNS
from flows.report.terminal import escape


def main(arguments: Sequence[str]) -> int:
    """Run the command: add a note to a cause, remove its notes, or list the causes. Raises ConfigError if no cause has that name."""
    parser = make_parser("note", "Add a note to a cause of failures. Reports show it as long as jobs fail with this cause. "
                                 "Without arguments, list the causes.")  # fmt: skip
    parser.add_argument("cause", nargs="?", metavar="CAUSE", help="its id, as reports show it, or a part of its signature")
    parser.add_argument("text", nargs="?", metavar="TEXT", help="the note (default: print the notes)")
    parser.add_argument("--by", metavar="NAME", help="who writes it (default: the name of the user)")
    parser.add_argument("--remove", action="store_true", help="remove the notes of the cause")
    add_output(parser)
    options = parser.parse_args(arguments)
    runs = options.output / RUNS
    if options.remove and (options.cause is None or options.text is not None):
        parser.error("--remove takes a CAUSE and no TEXT")
    if options.text is not None and not options.text.strip():
        parser.error("TEXT is empty")
    if options.by is not None and (options.text is None or not options.by.strip()):
        parser.error("--by needs a TEXT that somebody writes" if options.text is None else "--by is empty")
    if options.cause is None:
        found = sorted(causes.read(runs).causes.values(), key=lambda cause: (bool(cause.gone), cause.last), reverse=False)
        print("\n".join(map(_describe, found)) or f"no failed job was recorded in {runs}")
    elif options.text is not None:
        print(_describe(causes.add_note(runs, options.cause, options.text, options.by or _get_user())))
    elif options.remove:
        print(_describe(causes.drop_notes(runs, options.cause)))
    else:
        print(_describe(causes.find(causes.read(runs), options.cause, runs)))
    return OK


def _describe(cause: Cause) -> str:
    jobs = [job for members in cause.jobs.values() for job in members]
    where = f"gone since {cause.gone}" if cause.gone else f"since {cause.first}: {', '.join(jobs[:5])}{', …' if len(jobs) > 5 else ''}"
    lines = [f"{cause.id}  {cause.signature}", f"          {where}"]
    if cause.ticket:
        lines.append(f"          ticket {cause.ticket.ref}{'' if cause.ticket.open else ' (closed)'}")
    lines += [f"          {note.at[:10]} {note.by}: {note.text}" for note in cause.notes]
    return escape("\n".join(lines))


def _get_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        return "unknown"
