"""A headless Chromium, and pages of a mixed run opened from disk; whatever a page says on its console or asks of a network is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.nights import invent
from tests.browser.invented import EARLIER, MIXED

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Watched:
    """A page and what went wrong on it. asked: addresses other than files."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def open(self, path: Path, fragment: str = "") -> Any:
        self.page.goto(f"file://{path}{fragment}")
        self.page.wait_for_selector("main h1")
        return self.page


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright, or make browser-test")
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH: apt-get install chromium, or make browser-test as root")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    """A fresh page; it must say nothing on its console and ask nothing of a network."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    found = Watched(context.new_page())
    found.page.set_default_timeout(15_000)
    found.page.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.on("dialog", lambda dialog: (found.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    found.page.on("request", lambda request: None if request.url.startswith("file:") else found.asked.append(request.url))
    yield found
    context.close()
    assert found.said == []
    assert found.asked == []


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """report.html of a mixed run, with a run of the night before beside it."""
    output = tmp_path_factory.mktemp("zoo")
    invent(output, EARLIER, started=datetime(2026, 11, 22, 2, tzinfo=UTC))
    return invent(output, MIXED, started=datetime(2026, 11, 23, 2, tzinfo=UTC)) / "report.html"
