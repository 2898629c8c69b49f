"""Measurement of a stage: wall time, CPU time, and peak resident memory as reported by the kernel."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lowering.record.result import StageResult

HIGH_WATER = "VmHWM"
SINCE_START = "ru_maxrss"


def reset_peak() -> str:
    """Reset the kernel's high-water mark of memory if possible. Return how `read_peak_bytes` measures from now on."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return SINCE_START
    return HIGH_WATER


def read_peak_bytes(source: str) -> int:
    """Return the peak resident size in bytes, measured as `reset_peak` returned."""
    if source == HIGH_WATER:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Watch:
    """Measures one stage: wall and CPU seconds, the peak resident size, and the seconds of each phase."""

    def __init__(self) -> None:
        self.source = reset_peak()
        self.phases: dict[str, float] = {}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = round(time.perf_counter() - began, 6)

    def stop(self, done: StageResult) -> StageResult:
        return replace(done, seconds=round(time.perf_counter() - self._wall, 6), cpu_seconds=round(time.process_time() - self._cpu, 6),
                       peak_rss_bytes=read_peak_bytes(self.source), phases=self.phases)
