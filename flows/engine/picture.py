"""The matrix of a run as a small SVG picture: one column per stage, one line per job, coloured by the outcome of the stage."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from itertools import groupby
from xml.sax.saxutils import escape

from lowering.record.result import UNJUDGED, JobResult

COLOURS = {"ok": "#4c9a63", "hit": "#8fbf9d", "bad": "#cf4a3f", "apart": "#9a77c7", "none": "#e3e5e8"}
WIDTH, HEAD, HEIGHT = 96, 24, 480  # width of a column, height of the head, height of all lines together


def draw_matrix(results: Sequence[JobResult], title: str) -> str:
    """Return the picture as SVG. It stays small for any number of jobs: neighbours with the same outcome share a rectangle."""
    stages = list(dict.fromkeys(stage.name for result in results for stage in result.stages))
    line = max(0.25, min(12.0, HEIGHT / max(1, len(results))))
    width, height = max(5, len(stages)) * WIDTH, HEAD * 2 + line * len(results)
    parts = "".join(_draw_column(number, name, results, line) for number, name in enumerate(stages))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="4" y="16" fill="#1c1f23">{escape(title)}</text>{parts}</svg>'
    )


def to_address(picture: str) -> str:
    """Return the picture as a `data:` URL, which needs no server."""
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.encode()).decode('ascii')}"


def _draw_column(number: int, stage: str, results: Sequence[JobResult], line: float) -> str:
    spans = "".join(
        f'<rect x="{number * WIDTH + 1}" y="{HEAD * 2 + line * start:g}" width="{WIDTH - 2}" height="{line * length:g}" '
        f'fill="{COLOURS[kind]}"/>'
        for start, length, kind in _find_spans([_find_kind(result, stage) for result in results])
    )
    return f'<text x="{number * WIDTH + 4}" y="{HEAD * 2 - 6}" fill="#5a626c">{escape(stage)}</text>{spans}'


def _find_spans(kinds: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    start = 0
    for kind, members in groupby(kinds):
        length = len(list(members))
        yield start, length, kind
        start += length


def _find_kind(result: JobResult, name: str) -> str:
    stage = next((stage for stage in result.stages if stage.name == name), None)
    if stage is None:
        return "none"
    if stage.outcome != "ok":
        return "apart" if stage.outcome in UNJUDGED else "bad"
    return "hit" if stage.cache == "hit" else "ok"
