"""`shapeline server`: Prefect's server on this machine. It asks for a password."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Sequence

from flows.command.arguments import make_parser, parse_number
from flows.command.exits import OK, UNEXPECTED
from flows.config.document import MONTH, Server
from flows.engine import access, managed, server, server_state
from flows.engine.server_state import Standing
from lowering.worker import keeper


def main(arguments: Sequence[str]) -> int:
    """Run the command. Without a word it becomes the server, which listens on 127.0.0.1 only, and answers no page of another site."""
    parser = make_parser("server", "Run a Prefect server in the foreground, or control the managed one, which a run starts when it needs "
                                   "one. Its password is in a file that only you can read.")
    parser.add_argument("word", nargs="?", choices=("start", "stop", "status", "open"), help="what to do with the managed server")
    parser.add_argument("--port", type=parse_number(int, 1, 65535), default=4200,
                        help="the port of a server in the foreground (default: 4200)")
    parser.add_argument("--idle-minutes", type=parse_number(float, 0, MONTH / 60), default=Server.idle_minutes, metavar="N",
                        help="with start and open: minutes without use after which the server ends (default: %(default)g)")
    parser.add_argument("--keep-days", type=parse_number(float, 1, 3650), default=Server.keep_days, metavar="N",
                        help="how long the database keeps a flow run that has ended (default: %(default)g)")
    parser.add_argument("--force", action="store_true", help="with stop: even if a run uses the server")
    options = parser.parse_args(arguments)
    server.configure()
    server.keep_runs(options.keep_days)
    if options.word is None:
        _become(options.port)
    if options.word == "stop":
        found = managed.stop(options.force)
        print(f"stopped {found.url}" if found else "no server runs")
        if warm := keeper.stop_all():
            print(f"stopped {warm} warm process{'es' * (warm > 1)}")
        return OK
    if options.word == "status":
        return _print_status()
    found = managed.ensure(options.idle_minutes)
    print(_describe(found))
    if options.word == "open" and not webbrowser.open(found.page):
        print(f"no browser can be opened here: open {found.page}")
    return OK


def _print_status() -> int:
    found = server_state.read()
    if found is None or not found.is_alive:
        print("no server runs: a run starts one, or shapeline server start")
        return UNEXPECTED
    print(_describe(found))
    if not managed.is_answering(found):
        print("it does not answer, or its version is not the installed one: the next run replaces it")
        return UNEXPECTED
    return OK


def _describe(found: Standing) -> str:
    since = time.time() - server_state.measure_age(found)
    used = "used by a run" if managed.is_in_use() else f"ends after {found.idle_minutes:g} minutes without use"
    return (f"{found.page} (process {found.pid}, since {time.strftime('%Y-%m-%d %H:%M', time.localtime(since))}, {used})\n"
            f"the password that its pages ask for is in {access.locate_password()}")


def _become(port: int) -> None:
    """Become a server in the foreground."""
    password = access.make_password()
    environment = {**os.environ, **server.SETTINGS, **access.CLOSED, access.SERVER: password, access.CLIENT: password}
    environment.pop("PREFECT_API_URL", None)
    print(f"export PREFECT_API_URL=http://127.0.0.1:{port}/api  # the password is in {access.locate_password()}", flush=True)
    os.execve(sys.executable, [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)], environment)
