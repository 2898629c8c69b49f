"""A stand-in for Prefect's server, which takes seconds to start: it answers what is asked to see whether a server is well."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

from flows.engine import server_state, serving
from flows.engine.server_state import Standing
from lowering import clock


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(metadata.version("prefect")).encode())

    def log_message(self, *_: object) -> None:
        pass


def main(arguments: list[str]) -> None:
    place, lock, handle, idle, code = Path(arguments[0]), int(arguments[1]), int(arguments[2]), float(arguments[3]), arguments[4]
    toy = HTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False)
    toy.socket = socket.socket(fileno=handle)
    port = toy.socket.getsockname()[1]
    standing = Standing(f"http://127.0.0.1:{port}/api", port, os.getpid(), server_state.read_birth(os.getpid()) or 0,
                        clock.read_boot(), code, idle)
    serving.LOOK = 0.05
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    watched = serving.Watched(None)  # type: ignore[arg-type]
    watched.last = time.monotonic()
    stand_in = SimpleNamespace(started=True, should_exit=False)
    threading.Thread(target=serving._watch, args=(stand_in, watched, standing, place, lock), daemon=True).start()
    toy.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
