"""Questions to the process that runs jobs, in which the compilers are loaded."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lowering import files
from lowering.plain import from_plain
from lowering.record.folder import Limits
from lowering.worker import client
from lowering.worker.describing import ANSWER, ASKED, Described

PATIENCE = 120.0  # seconds for the modules of the user's own stages


def describe(specs: Sequence[Mapping[str, Any]]) -> list[Described] | None:
    """Describe the stages of `specs`, in the process that will run jobs; None if it fails otherwise than by a ConfigError.

    Raises InfraError if there is no such process.
    """
    with tempfile.TemporaryDirectory(prefix="shapeline-") as name:
        folder = Path(name)
        (folder / ASKED).write_text(json.dumps(list(specs)), encoding="utf-8")
        child = client.get_server().fork(folder, {}, Limits().start_seconds)
        try:
            code = child.wait(PATIENCE)
        finally:
            child.kill()
            child.close()
        return [from_plain(Described, one) for one in files.read(folder / ANSWER)] if code == 0 else None
