"""Requests to Prefect's server without Prefect."""

from __future__ import annotations

import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flows.engine import direct


def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not() -> None:
    answers = [503, 503, 200, 422]

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(answers.pop(0))
            self.end_headers()
            self.wfile.write(b'{"id": 1}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/api"
        assert direct._ask(address, "flows/", {}) == {"id": 1}
        with pytest.raises(urllib.error.HTTPError, match="422"):
            direct._ask(address, "flows/", {})
        server.shutdown()
    assert answers == []
