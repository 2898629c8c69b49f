"""The report of a sweep: a table for every axis, with what each value bears and costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flows.report import by_axis


def job(model: str, axes: dict[str, Any], outcome: str = "ok", seconds: float = 1.0, cache: str = "miss", lost: int = 0) -> dict[str, Any]:
    requested = [{"verdict": "specialized" if number < lost else "dynamic", "lost_at": None} for number in range(2)]
    return {"model": model, "axes": axes, "outcome": outcome, "stage": "mhlo", "seconds": seconds, "peak_rss_bytes": 3 << 20,
            "symbols": {"requested": requested}, "levels": [{"size": 2048}],
            "stages": [{"cache": cache, "ops": {"a": 2, "b": 1}}, {"cache": cache, "ops": {}}]}


def test_every_value_has_a_row_with_its_endings_dims_and_costs() -> None:
    rows = by_axis.make_tables([
        job("a", {"symbols.seq.max": 512, "seed": 1}, seconds=4.0),
        job("a", {"symbols.seq.max": 64, "seed": 1}, seconds=1.0),
        job("a", {"symbols.seq.max": 64, "seed": 2}, seconds=3.0),
        job("a", {"symbols.seq.max": 512, "seed": 2}, "mismatch", seconds=6.0, lost=1),
    ])["symbols.seq.max"]
    assert rows == [
        {"model": "a", "value": 64, "jobs": 2, "ok": 2, "other": "", "dims dynamic": "4 of 4", "seconds": 2.0, "peak MiB": 3, "ops": 3,
         "IR KiB": 2.0},
        {"model": "a", "value": 512, "jobs": 2, "ok": 1, "other": "1 mismatch in mhlo", "dims dynamic": "3 of 4", "seconds": 5.0,
         "peak MiB": 3, "ops": 3, "IR KiB": 2.0},
    ]


def test_jobs_from_the_store_do_not_count_for_the_cost() -> None:
    rows = by_axis.make_tables([job("a", {"seed": 1}, seconds=9.0), job("a", {"seed": 2}, seconds=0.01, cache="hit")])["seed"]
    assert [row["seconds"] for row in rows] == [9.0, None]


def test_a_key_that_no_model_sweeps_over_is_no_axis() -> None:
    assert by_axis.make_tables([job("a", {"seed": 1, "variant": "x"}), job("b", {"seed": 2, "variant": "y"})]) == {}


def test_the_section_is_absent_without_a_sweep_and_has_a_table_an_axis(golden: Callable[[str, str], None]) -> None:
    assert list(by_axis.render_lines({})) == []
    swept = [job(model, {"symbols.seq.max": size, "stages": options}, outcome, seconds, cache, lost)
             for model, size, options, outcome, seconds, cache, lost in [
                 ("a", 64, "default", "ok", 4.0, "miss", 0), ("a", 64, "fx", "unsupported", 1.0, "miss", 0),
                 ("a", None, "default", "ok", 9.0, "hit", 1),
                 ("b", 512, "default", "crash", 2.0, "miss", 2), ("b", 64, "default", "ok", 3.5, "miss", 0)]]  # fmt: skip
    golden("by-axis.md", "\n".join(by_axis.render_lines(by_axis.make_tables(swept))) + "\n")
