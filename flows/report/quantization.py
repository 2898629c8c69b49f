"""Quantized models in report.md: bytes of weights by dtype, and the distance of each output to the float model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lowering.markdown import table
from lowering.record.result import JobResult


def render_lines(results: Sequence[JobResult]) -> Iterator[str]:
    """Yield the section of report.md; nothing for a run without quantized or converted models."""
    rows = []
    for result in results:
        block = result.verify.get("quantization")
        if block:
            weights = ", ".join(f"{name} {count:,}" for name, count in block["weights"].items())
            ratios = [f"{name} {ratio:.1f}" for name, ratio in block["signal_to_noise"].items() if ratio is not None]
            rows.append({"job": result.id, "bytes of weights": weights,
                         "signal to noise, dB": ", ".join(ratios) or block.get("not_compared", "")})
    if rows:
        yield ""
        yield "## Quantized models"
        yield ""
        yield from table(rows)
