"""A job in report.html: its levels of IR side by side, its symbols, warnings and log."""

from __future__ import annotations

import re
from pathlib import Path

from tests.browser.conftest import Watched
from tests.browser.invented import GOOD


def test_compare_two_levels_and_follow_a_symbol_a_line_and_a_value(watched: Watched, run: Path) -> None:
    page = watched.open(run, "#/job/bert--default")
    page.wait_for_selector(".pane .line")
    page.get_by_label("Level on the left").select_option(label="01-export · 123 lines")
    page.get_by_label("Level on the right").select_option(index=4)
    page.wait_for_function(
        "document.querySelectorAll('.pane')[0].innerText.includes('GraphModule') && "
        "document.querySelectorAll('.pane')[1].innerText.includes('mhlo')"
    )
    page.get_by_label("Follow a symbol").select_option("s77")
    assert "Following the symbol batch (s77): 41 lines of 01-export" in page.locator(".following").inner_text()
    page.get_by_label("Follow a code line").select_option("zoo/model.py:23")
    assert page.locator(".following").inner_text().startswith(
        "Following the code line zoo/model.py:23: 2 lines of 01-export, 1 line of 05-mhlo")
    marked = page.locator(".pane").nth(1).locator(".line.hit")
    assert marked.count() == 1
    assert marked.inner_text().split()[0] == "6"
    argument = page.locator(".pane").nth(1).locator("[data-name='%arg0']").first
    assert argument.inner_text() == "%x"  # as the exported program calls it
    assert re.fullmatch(r"zoo/model\.py:23\nv\d+: f32\[batch, 16\]", marked.get_attribute("title") or "")
    argument.click()
    assert "Following %arg0 of 05-mhlo: 2 lines of 01-export, 2 lines of 05-mhlo" in page.locator(".following").inner_text()
    assert page.locator(".pane").nth(0).locator(".hot").first.inner_text() == "x"


def test_the_ir_opens_at_the_first_line_that_computes(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    few, many = (["  func.func @main(%arg0: tensor<?xf32>) {", *([f"    %c_{at} = stablehlo.constant dense<{at}>" for at in range(count)]),
                  "    %0 = stablehlo.add"]
                 for count in (3, 26))  # fmt: skip
    assert page.evaluate("lines => bodyOf(['module {', ...lines])", many) == 28
    assert page.evaluate("lines => bodyOf(['module {', ...lines])", few) == 0


def test_one_value_is_followed_through_every_level_whatever_it_is_called_there(watched: Watched, run: Path) -> None:
    page = watched.open(run, "#/job/bert--default")
    page.wait_for_selector(".pane .line")
    left, right = page.locator(".pane").nth(0), page.locator(".pane").nth(1)
    page.get_by_label("Level on the left").select_option(index=0)
    page.wait_for_function("document.querySelectorAll('.pane')[0].innerText.includes('GraphModule')")
    page.get_by_label("Search on the left").fill("layers[4]")
    name = left.locator(".line.at + .line [data-name]").first.inner_text()
    left.locator(f"[data-name='{name}']").first.click()
    for index in range(1, 5):
        page.get_by_label("Level on the right").select_option(index=index)
        page.wait_for_function("number => document.querySelectorAll('.pane select')[1].value === String(number)", arg=index)
        defined = right.locator(".line.hit", has=page.locator(".hot")).first
        assert defined.locator(".no").inner_text() == ("7" if index > 1 else "6")
        assert "by the line of code" not in page.locator(".following").inner_text()
    right.locator(".line.hit [data-name]").first.click()
    assert f"part of {name}: 2 lines of 01-export, 2 lines of 05-mhlo" in page.locator(".following").inner_text()


def test_search_and_fold_in_the_ir(watched: Watched, run: Path) -> None:
    page = watched.open(run, "#/job/bert--default")
    page.wait_for_selector(".pane .line")
    page.get_by_label("Search on the right").fill("gelu")
    assert page.locator(".pane").nth(1).locator("output").inner_text() == "41 lines"
    assert page.locator(".pane").nth(1).locator("mark").count() > 5
    page.get_by_label("Unfold all on the right").click()
    before = page.locator(".pane").nth(1).locator(".line").count()
    page.locator(".pane").nth(1).locator("[data-fold='1']").click()
    assert page.locator(".pane").nth(1).locator(".line").count() < before


def test_a_printed_job_holds_the_levels_in_view_whole(watched: Watched, run: Path) -> None:
    page = watched.open(run, "#/job/bert--default")
    page.wait_for_selector(".pane .line")
    whole = [int(pane.locator("select option:checked").inner_text().split("· ")[1].split()[0]) for pane in page.locator(".pane").all()]
    out_of_view = page.locator(".pane").first.locator(".line").nth(29)
    page.set_viewport_size({"width": 1280, "height": 300})
    out_of_view.wait_for(state="detached")  # drawn again with the next frame
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    shown = [pane.locator(".line").count() for pane in page.locator(".pane").all()]
    assert all(lines - 3 <= drawn <= lines for lines, drawn in zip(whole, shown, strict=True))  # but for the comments at the end
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".pane").nth(1).locator(".line").last.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    out_of_view.wait_for(state="detached")


def test_a_job_shows_its_symbols_points_ops_warnings_and_log(watched: Watched, run: Path) -> None:
    page = watched.open(run, "#/job/bert--default")
    page.wait_for_selector("#symbols table")
    assert "dynamic" in page.locator("#symbols").inner_text()
    assert "batch=64" in page.locator("#verification").inner_text()
    assert "promised wider" in page.locator("#warnings").inner_text()
    assert "sh jobs/bert--default/repro.sh" in page.locator(".job-head").inner_text()
    ops = page.locator("#ladder details").first
    ops.locator("summary").click()
    assert "export.add" in ops.inner_text()
    page.locator("#log summary").click()
    assert "lowering" in page.locator("#log pre").inner_text()


def test_a_view_beside_the_page_is_loaded_on_demand(watched: Watched, run: Path) -> None:
    text = run.read_text()
    start = text.index('<script type="application/json" data-view="bert--default">')
    beside = run.with_name("without.html")
    beside.write_text(text[:start] + text[text.index("</script>", start) + 9 :])
    page = watched.open(beside, "#/job/bert--default")
    page.wait_for_selector(".pane .line")
    assert "gelu" in page.locator(".pane").nth(1).inner_text()
    assert all(job.model for job in GOOD)


def test_a_wide_signature_has_a_line_for_each_argument_and_the_files_line_numbers(watched: Watched, run: Path) -> None:
    page = watched.open(run)
    arguments = ", ".join(f"%arg{number}: tensor<?x{number}xf32> {{note = \"a, b\"}}" for number in range(40))
    head = f"  func.func @main({arguments}) -> (tensor<?x16xf32>, tensor<1xf32>) {{"
    body = f"module {{\n{head}\n    %0 = mhlo.add %arg0, %arg1 : tensor<?x16xf32>\n  }}\n}}\n"
    text = f"{body}// Code lines: 1\n// lines of model.py: 3=20\n// values: 3=v0\n"
    level = page.evaluate("""text => { const level = analysed(text, "05-mhlo.mhlo.mlir"); return {
        lines: level.lines, numbers: level.numbers, code: [...level.code], computes: [...level.computes],
        names: level.arguments.map((one) => one.name), defined: level.defines.flat(),
        start: bodyOf(level.lines, level.numbers) }; }""", text)  # fmt: skip
    assert "".join(line.strip() for line in level["lines"]).replace(" ", "") == "".join(text.split("// Code")[0].split())
    assert max(map(len, level["lines"])) < 80 and level["lines"][3] == '          %arg1: tensor<?x1xf32> {note = "a, b"},'
    assert [number for number in level["numbers"] if number] == [1, 2, 3, 4, 5]
    row = level["numbers"].index(3)
    assert level["code"] == [[row, "model.py:20"]] and level["computes"] == [[row, "v0"]] and level["defined"] == ["%0"]
    assert level["names"] == [f"%arg{number}" for number in range(40)] and level["start"] == row
