"""Names and errors in Markdown stay text: they make no tags and no further cells."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from flows.report.markdown import escape_line, table
from flows.report.report import render_page
from lowering.errors import Problem
from lowering.record.result import JobResult


@pytest.mark.parametrize("text", [
    "<script>alert(1)</script>", "\\<img src=x onerror=alert(1)>", "a|b", "a\\|b", "a\\\\|<b>", "a\n# b\n<svg onload=x>",
])  # fmt: skip
def test_text_makes_no_tags_and_no_cells(text: str) -> None:
    result = JobResult(text, "model", "variant", "error", "torch", problems=(Problem(text, text),))
    lines = [*render_page(result), "", f"## {escape_line(text)}", "", *table([{"job": text, "cause": text}])]
    html = MarkdownIt("commonmark").enable("table").render("\n".join(lines))
    assert not any(tag in html.replace("<br>", "") for tag in ("<script", "<img", "<svg", "<b>"))
    assert (html.count("<td"), html.count("<h1"), html.count("<h2")) == (2, 1, 1)
