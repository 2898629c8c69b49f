"""`shapeline server`: a standing Prefect server on this machine that asks for a password."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from flows.command.arguments import make_parser
from flows.engine import access, server


def main(arguments: Sequence[str]) -> int:
    """Run the command: become the server. It listens on 127.0.0.1 only, and answers no page of another site."""
    parser = make_parser("server", "Start a Prefect server for this machine. Its password is in a file that only you can read.")
    parser.add_argument("--port", type=int, default=4200, help="the port (default: 4200)")
    options = parser.parse_args(arguments)
    password = access.make_password()
    closed = {f"PREFECT_SERVER_CORS_ALLOWED_{part}": "" for part in ("ORIGINS", "METHODS", "HEADERS")}
    environment = {**os.environ, **server.SETTINGS, **closed, access.SERVER: password, access.CLIENT: password}
    environment.pop("PREFECT_API_URL", None)
    print(f"export PREFECT_API_URL=http://127.0.0.1:{options.port}/api  # the password is in {access.locate_password()}", flush=True)
    os.execve(sys.executable, [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(options.port)],
              environment)
