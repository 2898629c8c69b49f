"""report.html as a file: all in one, nothing of the network, and no text of a run that could leave its place."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path

import pytest

from benchmarks.nights import InventedJob, invent
from flows.report import axes, clusters
from flows.report.dashboard import page, report_page, views
from flows.runs import record
from lowering.errors import Problem
from lowering.record.result import JobResult

EVIL = "</script><script>alert(1)</script>\u2028<!--"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    jobs = [InventedJob("evil", EVIL, outcome="error", stage="torch", problem=f"{EVIL}\udc80"),
            *(InventedJob("swept", f"batch{size}", batch=size) for size in (8, 16))]
    return invent(tmp_path_factory.mktemp("zoo"), jobs)


def test_every_asset_is_part_of_the_page() -> None:
    assert sorted((*page.STYLES, *page.SCRIPTS)) == sorted(path.name for path in page.ASSETS.iterdir())


def test_the_page_names_no_address_of_the_network(folder: Path) -> None:
    text = (folder / report_page.HTML).read_text()
    assert set(re.findall(r"https?://[^\s\"'`)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


def test_no_text_ends_its_script(folder: Path) -> None:
    text = (folder / report_page.HTML).read_text()
    assert text.count("<script") == text.count("</script>") == 2 + text.count("data-view=")
    payload = json.loads(re.search(r'id="payload">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert payload["jobs"][0]["v"].startswith("</script>")


def test_a_view_holds_the_ir_as_it_was_saved(folder: Path) -> None:
    job = folder / "jobs" / "swept--batch8"
    text = (job / views.VIEW).read_text(encoding="ascii")
    view = json.loads(text[text.index(", ") + 2 : text.rindex(");")])
    for level in view["levels"]:
        assert zlib.decompress(base64.b64decode(level["packed"])).decode() == (job / level["file"]).read_text()
    assert [level["stem"] for level in view["levels"]] == ["01-export", "02-torchscript", "03-torch", "04-stablehlo", "05-mhlo"]


def test_a_view_is_rebuilt_only_if_the_result_is_newer(folder: Path) -> None:
    job = folder / "jobs" / "swept--batch8"
    assert views.is_fresh(job)
    result = JobResult.load(job)
    assert result is not None
    result.save(job)
    assert not views.is_fresh(job)


def test_ir_too_large_for_a_page_is_linked_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "LARGEST", 10)
    job = folder / "jobs" / "swept--batch16"
    result = JobResult.load(job)
    assert result is not None
    assert all(level["packed"] is None and level["size"] > 10 for level in json.loads(views.render(job, result))["levels"])


def test_the_axes_of_a_run_that_declares_none_are_found(folder: Path) -> None:
    found = axes.read(record.load(folder))
    assert found["swept--batch8"]["symbols.batch.max"] == 8
    assert found[f"evil--{EVIL}"] == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cannot broadcast tensor<4x?xf32> with 'layer.3'", "cannot broadcast tensor<?x16xf32> with 'decoder'"),
        ("failed at /a/b/model.py:12 after 3.5 s", "failed at models/other.py:7 after 12 s"),
        ("%arg3 holds 0x7f00aa", "%0 holds 0x11"),
        ("s77 must be 4", "u2 must be 8"),
    ],
)
def test_one_cause_has_one_signature(one: str, other: str) -> None:
    found = {clusters.make_signature(JobResult("a--b", "a", "b", "error", "torch", problems=(Problem("x.py:3", cause),)))
             for cause in (one, other)}
    assert len(found) == 1


def test_other_causes_have_other_signatures() -> None:
    assert clusters.generalize("no lowering of aten.topk") != clusters.generalize("no lowering of aten.sort")
