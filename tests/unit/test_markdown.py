"""Names and errors in Markdown stay text: they make no tags, links, emphasis or further cells."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from flows.report.report import render_page
from lowering.errors import Problem
from lowering.markdown import escape_cell, escape_item, escape_line, make_code, make_link, table
from lowering.record.result import JobResult, StageResult

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TEXTS = st.lists(st.sampled_from([*"abc0 |<>[]()*_~`\\&;!#+-=.:/\"'\n", "[x](javascript:alert(1))", "![x](//h)", "<b>", "&lt;", "__init__",
                                  "1. ", "```", "http://h"]), max_size=12).map("".join)  # fmt: skip
PARTS = {"inline", "text", "softbreak", "code_inline", "html_inline"}


def read_inline(tokens: list[Token]) -> tuple[set[str], str]:
    """Return the kinds of the tokens inside of blocks, and what a reader sees; spans of code as in the text that made them."""
    inner = [token for block in tokens for token in block.children or ()]
    seen = "".join(f"{token.markup}{token.content}{token.markup}" if token.type == "code_inline" else token.content for token in inner)
    return {token.type for token in inner if token.content != "<br>"}, seen


def squash(text: str) -> str:
    return re.sub(r"\s+|<br>|`+", "", text)


@pytest.mark.parametrize("text", [
    "<script>alert(1)</script>", "\\<img src=x onerror=alert(1)>", "a|b", "a\\|b", "a\\\\|<b>", "a\n# b\n<svg onload=x>",
    "[x](javascript:alert(1))", "![x](http://h/x.png)", "a](http://h) [b", "`a](http://h) [b`|c", "a\\", "a\\\nb",
])  # fmt: skip
def test_text_makes_no_tags_and_no_cells(text: str) -> None:
    stage = StageResult("torch", "error", artifact=text)
    result = JobResult(text, "model", "variant", "error", "torch", problems=(Problem(text, text),), stages=(stage,))
    lines = [*render_page(result, "jobs/x"), "", f"## {escape_line(text)}", "", *table([{"job": text, "cause": text}])]
    html = MARKDOWN.render("\n".join(lines))
    assert not any(tag in html.replace("<br>", "") for tag in ("<script", "<img", "<svg", "<b>"))
    assert "&lt;br" not in html
    assert re.findall('href="([^"]*)"', html)[0] == "jobs/x/log.txt"
    assert all(target.startswith("jobs/x/") for target in re.findall('href="([^"]*)"', html))
    assert (html.count("<td"), html.count("<h1"), html.count("<h2")) == (9, 1, 1)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(TEXTS)
def test_a_reader_sees_the_text(text: str) -> None:
    cell = MARKDOWN.parse("\n".join(table([{"a": text, "b": "next"}])))
    item = MARKDOWN.parse(f"- {escape_item(text)}")
    line = MARKDOWN.parse(f"# x {escape_line(text)} x")
    assert [token.type for token in cell].count("td_open") == 2
    assert [token.type for token in item if token.type.endswith("_open")] in (
        ["bullet_list_open", "list_item_open", "paragraph_open"], ["bullet_list_open", "list_item_open"])
    assert [token.type for token in line if token.type.endswith("_open")] == ["heading_open"]
    for tokens, around in ((cell, ("ab", "next")), (item, ("", "")), (line, ("x", "x"))):
        kinds, seen = read_inline(tokens)
        assert kinds <= PARTS - {"html_inline"}
        assert squash(seen) == around[0] + squash(text) + around[1]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(TEXTS)
def test_links_and_code_hold_their_text(text: str) -> None:
    tokens = MARKDOWN.parse(f"x {make_link(text, f'jobs/{text}')} x")
    (inline,) = (token for token in tokens if token.type == "inline")
    links = [token for token in inline.children or () if token.type == "link_open"]
    assert len(links) == 1
    assert str(links[0].attrs["href"]).startswith("jobs/")
    assert squash(read_inline(tokens)[1]) == f"x{squash(text)}x"
    if text.strip():
        (inline,) = (token for token in MARKDOWN.parse(f"x {make_code(text)} x") if token.type == "inline")
        assert [token.content for token in inline.children or ()] == ["x ", " ".join(text.split()), " x"]


def test_code_in_a_cell_stays_code() -> None:
    assert escape_cell("`pip install .[xla]` or `a|b`, not [2, 64]") == r"`pip install .[xla]` or `a\|b`, not [2, 64]"
