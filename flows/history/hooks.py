"""Hooks of a run: a URL that receives JSON, and a shell command that reads a text."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Mapping
from typing import Any


def post(url: str, data: Any, seconds: float) -> bytes:
    """Post `data` as JSON, and return the answer. Raises OSError, whose message does not have the URL: it is a secret."""
    try:
        request = urllib.request.Request(url, json.dumps(data).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return bytes(answer.read())
    except (OSError, ValueError) as error:
        raise OSError(str(error).replace(url, "its URL")) from None


def run(command: str, text: str, seconds: float, variables: Mapping[str, str] | None = None) -> str:
    """Run a shell command that reads `text` on stdin, and return its stdout. variables: added to its environment.

    Raises OSError that says how it failed, as the end of a sentence: `exited with status 3: no disk`.
    """
    try:
        done = subprocess.run(command, shell=True, input=text, text=True, capture_output=True, timeout=seconds, check=False,
                              env={**os.environ, **(variables or {})})  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise OSError(f"took more than {seconds:.0f} s") from error
    if done.returncode:
        raise OSError(f"exited with status {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout
