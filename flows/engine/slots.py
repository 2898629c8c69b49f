"""Slots for the jobs of a run: memory and GPUs of this machine. A job waits until the resources it is expected to need are free."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.config.document import Cluster
from flows.engine.schedule import Need
from flows.runs.environment import read_available_bytes


class Slots:
    """The resources that concurrent jobs share. memory_bytes: the total of all jobs; gpus: ids, each for one job at a time.

    A job that needs more memory than the total starts when no other job runs, so that no job waits forever.
    """

    def __init__(self, memory_bytes: int, gpus: Sequence[str] = ()):
        self.free, self.gpus, self.taken = memory_bytes, list(gpus), 0
        self.first_gpu = next(iter(gpus), None)
        self.has_gpus = bool(gpus)
        self.changed = threading.Condition()

    @contextmanager
    def take(self, need: Need) -> Iterator[dict[str, str]]:
        """Take the resources of `need` for the block, and yield the environment variables of the job's process.

        Only a job that needs a GPU sees one.
        """
        wants = need.gpu and self.has_gpus
        with self.changed:
            self.changed.wait_for(lambda: (self.taken == 0 or need.memory_bytes <= self.free) and (not wants or bool(self.gpus)))
            self.taken += 1
            self.free -= need.memory_bytes
            gpu = self.gpus.pop(0) if wants else None
        try:
            yield {"CUDA_VISIBLE_DEVICES": gpu or ""} if self.has_gpus else {}
        finally:
            with self.changed:
                self.taken -= 1
                self.free += need.memory_bytes
                if gpu is not None:
                    self.gpus.append(gpu)
                self.changed.notify_all()

    def list_variables(self, need: Need) -> dict[str, str]:
        """Return the variables that `take` would yield, except for the choice of GPU, without taking anything."""
        return {"CUDA_VISIBLE_DEVICES": (self.first_gpu if need.gpu else None) or ""} if self.has_gpus else {}


def lay_out(cluster: Cluster) -> Slots:
    """Return the slots of this machine for the jobs of a run."""
    gpus = find_gpus() if cluster.gpus is None else [str(gpu) for gpu in cluster.gpus]
    return Slots(cluster.memory_bytes or read_available_bytes(), gpus)


def find_gpus() -> list[str]:
    """Return the ids of the GPUs that this process may use."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [device for device in allowed.split(",") if device.strip()]
    return [str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


@contextmanager
def use_assigned() -> Iterator[dict[str, str]]:
    """Yield the environment variables of a job on a cluster worker: only the GPUs that the cluster assigned are visible."""
    yield {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "")} if find_gpus() or "RAY_JOB_ID" in os.environ else {}
