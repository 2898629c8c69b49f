"""A sweep in an interpreter of its own: its children are forks, and a fork of a process in which XLA runs has none of XLA's threads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.op_sweep import Task, sweep
from benchmarks.op_trial import Trial
from lowering.plain import from_plain, to_plain


def trials(tasks: Sequence[Task], seconds: float) -> list[Trial]:
    """What `sweep` gives of two workers; `seconds` is the deadline of one task."""
    asked = json.dumps({"tasks": [to_plain(task) for task in tasks], "seconds": seconds})
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-m", __name__], cwd=root, input=asked, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [from_plain(Trial, json.loads(line)) for line in answer.splitlines()]


if __name__ == "__main__":
    given = json.load(sys.stdin)
    for trial in sweep([from_plain(Task, task) for task in given["tasks"]], workers=2, seconds=given["seconds"]):
        print(json.dumps(to_plain(trial)), flush=True)
