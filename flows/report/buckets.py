"""The buckets of a run's jobs in report.md: sizes, costs, and the symbols whose sizes must be exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lowering.markdown import table
from lowering.record.result import JobResult


def render_lines(results: Sequence[JobResult]) -> Iterator[str]:
    """Yield the section of report.md; nothing for a run without buckets. products: of elements in dots and convolutions."""
    rows = [{
        "job": result.id,
        "bucket": ", ".join(f"{name}={size}" for name, size in bucket["sizes"].items()),
        "exact": ", ".join(bucket["exact"]),
        "products": bucket["cost"]["products"],
        "KiB": round(bucket["cost"]["bytes"] / 1024, 1),
        "ops": bucket["cost"]["ops"],
        "made s": bucket["cost"]["seconds"],
        "compiled s": bucket["cost"].get("compile_seconds"),
        "run s": bucket["cost"].get("run_seconds"),
    } for result in results for bucket in result.buckets]
    if rows:
        yield ""
        yield "## Buckets"
        yield ""
        yield from table(rows)
