"""report.html in a browser, opened from disk: what an engineer does with it in the morning."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from benchmarks.nights import InventedJob, invent
from flows.__main__ import main
from tests.browser.conftest import Watched
from tests.browser.invented import ENDED, HOSTILE, HOSTILE_JOBS, MARKUP, MIXED

BAD = sum(job.outcome not in ("infra", "not_run") for job in ENDED) + len(HOSTILE_JOBS)


def rows(page: Any) -> Any:
    return page.locator("#matrix tbody tr:not(.said):not(.group)")


def test_the_headline_keeps_the_machines_apart(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    assert page.locator(".headline h1").inner_text() == f"{BAD} jobs not as expected"
    assert "2 jobs ended by the infrastructure" in page.locator(".headline").inner_text()
    assert page.locator("#shown").inner_text() == f"{len(MIXED)} jobs"


def test_filter_to_failures_and_open_a_job(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    page.get_by_label("Outcome", exact=True).select_option("unexpected")
    assert rows(page).count() == BAD + 2
    page.get_by_label("Search /").fill("ends-crash")
    assert rows(page).count() == 1
    assert "ended as crash in layer 12" in page.locator("#matrix .said").inner_text()
    page.get_by_role("link", name="ends-crash--default").first.click()
    page.wait_for_selector("#problems")
    assert page.locator("h1").inner_text() == "ends-crash--default"
    assert "ended as crash in layer 12" in page.locator("#problems").inner_text()


def test_an_outcome_of_the_headline_filters_the_table(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    page.locator(".outcome", has_text="timeout").click()
    assert rows(page).count() == 1
    assert "ends-timeout" in rows(page).first.inner_text()


def test_sort_and_group(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    page.get_by_role("button", name="Time", exact=True).click()
    assert "bert" in rows(page).first.inner_text()
    assert page.locator("#matrix th[aria-sort=descending]").inner_text().startswith("Time")
    page.get_by_label("Group by").select_option("a:symbols.batch.max")
    assert page.locator("#matrix tr.group").count() == 4
    page.get_by_label("Group by").select_option("m")
    group = page.get_by_role("button", name="llama", exact=False).first
    page.get_by_label("Search /").fill("llama--")
    assert rows(page).count() == 6
    group.click()
    assert rows(page).count() == 0


def test_failures_of_one_cause_are_one_cluster_with_the_run_that_saw_it_first(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    cluster = page.locator(".cluster", has_text="ended as mismatch in layer N")
    assert "first seen in this run" in cluster.inner_text()
    cluster.locator("summary").click()
    cluster.get_by_role("button", name="in the table").click()
    assert rows(page).count() == 1


def test_the_fixes_are_ranked_with_the_jobs_that_each_unlocks(watched: Watched, run: Path) -> None:
    fixes = watched.open(run).locator("#blockers tbody tr")
    assert fixes.count() > 1
    first = fixes.first
    first.locator("summary").click()
    assert first.locator("li a").count() == int(first.locator("summary").inner_text().split()[0]) >= int(
        first.locator("td").nth(5).inner_text()) >= 1


def test_the_page_lists_the_changes_since_the_previous_run(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    changes = page.locator("#changes")
    assert "There are regressions" in changes.inner_text()
    assert changes.locator("details", has_text="New failures").locator(".n").inner_text() == str(
        sum(job.outcome not in ("infra", "not_run") for job in ENDED)
    )
    ir = changes.locator("details", has_text="IR changed")
    if not ir.evaluate("element => element.open"):
        ir.locator("summary").click()
    assert "04-stablehlo" in ir.inner_text()


def test_the_theme_switches_and_stays(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(colour) != light
    page.reload()
    page.wait_for_selector("main h1")
    assert page.get_by_role("button", name="Theme: dark").count() == 1


def test_all_controls_work_by_keyboard(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    page.keyboard.press("/")
    page.keyboard.type("bert")
    assert rows(page).count() == 1
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "bert--default":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector(".pane .line")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "code":
            break
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert "Following the code line zoo/model.py:23" in page.locator(".following").inner_text()
    page.keyboard.press("v")
    assert "of 04-stablehlo" in page.locator(".following").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".following").inner_text() == "Nothing is followed."


def test_hostile_names_are_text(watched: Watched, run: Path) -> None:
    for number, name in enumerate(HOSTILE):
        page = watched.open(run, "#/")
        page.get_by_label("Search /").fill(f"h{number}--")
        page.locator("#matrix tbody th a").first.click()
        page.wait_for_selector("#problems")
        assert page.locator("h1").text_content() == f"h{number}--{name}"
        assert name in (page.locator("#problems pre").first.text_content() or "")
        assert name in (page.locator("#warnings").text_content() or ""), name
        assert page.locator("main script, main img, main svg[onload]").count() == 0, name
        assert page.title() != "owned", name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name


@pytest.mark.parametrize("fragment", ["#/", "#/job/bert--default", "#/job/ends-unsupported--default"])
def test_nothing_overlaps_or_is_cut(watched: Watched, run: Path, fragment: str) -> None:
    """No page scrolls sideways; a cell that holds more than it shows says so by an ellipsis and a title, or scrolls."""
    page = watched.open(run, fragment)
    if "job" in fragment:
        page.wait_for_selector("#files")
    for width, theme in product((1280, 1920), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 1000})
        page.emulate_media(color_scheme=theme)
        # The levels in view are drawn in a frame.
        page.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (width, theme)
        assert page.evaluate(CUT) == [], (width, theme)
        assert page.evaluate(OVERLAPS) == [], (width, theme)


CUT = """() => [...document.querySelectorAll(
  'main td, main th, main button, main dd, main h1, main h2, main p, main .badge')].filter((element) => {
  const style = getComputedStyle(element);
  const clipped = element.scrollWidth > element.clientWidth + 1 && style.display !== 'inline';
  return clipped && style.textOverflow !== 'ellipsis' && style.overflowX !== 'auto' && !element.closest('.code');
}).map((element) => `${element.tagName} ${element.textContent.slice(0, 60)}`)"""
OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll('main td, main th, main section > h2, .toolbar > *, .outcome, .tile, .pane-bar > *')]
    .map((element) => [element, element.getBoundingClientRect()])
    .filter(([element, box]) => box.width && box.height && !element.closest('.code'));
  const found = [];
  for (const [element, box] of boxes) for (const other of element.parentElement.children) {
    if (other === element) continue;
    const beside = other.getBoundingClientRect();
    const width = Math.min(box.right, beside.right) - Math.max(box.left, beside.left);
    const height = Math.min(box.bottom, beside.bottom) - Math.max(box.top, beside.top);
    if (width > 1 && height > 1) found.push(`${element.textContent.slice(0, 30)} / ${other.textContent.slice(0, 30)}`);
  }
  return found;
}"""


def test_a_page_without_its_files_names_them(watched: Watched, run: Path, tmp_path: Path) -> None:
    """Large views lie beside the page; without them it still opens, and names the file."""
    text = run.read_text()
    start = text.index('<script type="application/json" data-view="bert--default">')
    alone = tmp_path / "report.html"
    alone.write_text(text[:start] + text[text.index("</script>", start) + 9 :])
    page = watched.open(alone, "#/job/bert--default")
    page.wait_for_selector(".notice")
    assert "jobs/bert--default/view.js was not found next to this page" in page.locator(".notice").inner_text()
    assert [text for text in watched.said if "ERR_FILE_NOT_FOUND" not in text] == []
    watched.said.clear()


def test_the_index_of_runs_links_every_run(watched: Watched, run: Path) -> None:
    page = watched.open(run.parents[1] / "index.html")
    assert page.locator("#runs tbody tr").count() == 2
    assert "bert" in page.locator("#models").inner_text()
    assert "taken from the store" not in page.locator("main").inner_text()  # the note on marked figures, of which there are none
    page.locator("#runs tbody a").first.click()
    page.wait_for_selector(".headline")


def test_the_index_shows_the_last_nights_and_the_history_of_a_model(watched: Watched, tmp_path: Path) -> None:
    jobs = [InventedJob("bert"), InventedJob(MARKUP)]
    broken = {"outcome": "error", "stage": "torch", "problem": "no lowering"}
    for night in range(20):
        bert = replace(jobs[0], **broken) if night in (17, 18) else replace(jobs[0], cache="hit", seconds=0.0) if night == 19 else jobs[0]
        new = [InventedJob("new")] if night == 19 else []
        invent(tmp_path, [bert, *jobs[1:], *new], started=datetime(2026, 11, 1 + night, tzinfo=UTC))
    page = watched.open(tmp_path / "runs" / "index.html")
    nights = page.locator("#nights tbody tr")
    assert nights.count() == 14
    assert [nights.nth(row).locator("td").all_inner_texts()[3:6] for row in range(3)] == [["0", "0", "1"], ["0", "1", "0"], ["1", "0", "0"]]
    dots = [page.locator("#models tbody tr", has_text=name).locator("circle").last.get_attribute("cx") for name in ("bert", "new")]
    assert dots[0] == dots[1]  # the newest run of a model that has one run stands where that of a model with 20 does
    assert "* includes stages taken from the store" in page.locator("#models").inner_text()
    assert "4.00 s*" in page.locator("#models tbody tr", has_text="bert").inner_text()  # every stage from the store: the last measured time
    page.get_by_role("link", name="bert", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#course")
    course = page.locator("#course tbody tr")
    assert course.count() == 20
    assert "bert--default: fixed" in course.nth(0).inner_text() and "torchscript" in course.nth(1).inner_text()
    assert "fails: error in torch: no lowering" in course.nth(2).inner_text()
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("link", name="All runs").click()
    page.get_by_role("link", name=MARKUP, exact=True).click()
    page.wait_for_selector("#course")
    assert page.locator("h1").inner_text() == MARKUP


def test_the_overview_fits_a_narrow_screen(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".cluster .cause").first.bounding_box()["width"] > 200


def test_the_page_of_two_runs_compared_shows_hostile_names_as_text(watched: Watched, run: Path, tmp_path: Path) -> None:
    page_file = tmp_path / "diff.html"
    assert main(["diff", "previous", run.parent.name, "--html", str(page_file), "--output", str(run.parents[2])]) == 1
    page = watched.open(page_file)
    assert "There are regressions" in page.locator(".verdict").inner_text()
    new = page.locator("details", has_text="New jobs")
    if not new.evaluate("element => element.open"):
        new.locator("summary").click()
    text = new.inner_text()
    assert MARKUP in text
    assert "🦙🔥" in text
    assert page.locator("main script, main img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
