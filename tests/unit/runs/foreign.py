"""What the tests of somebody else's runs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.__main__ import main
from lowering import files

JOB_ID = "toy--default"


def edit(path: Path, **changes: Any) -> None:
    files.write(path, {**files.read(path), **changes})


def said(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])
