"""The capture itself: it reads this torch, disturbs nobody's logging, and never fails an export."""

from __future__ import annotations

import html
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._logging._internal import LazyTraceHandler

from lowering.model import Symbol
from lowering.symbols.log import recording
from lowering.symbols.tracing import trace
from lowering.symbols.tracing.capture import FAKE_TENSORS, SHAPES, TRACE, capture
from lowering.symbols.tracing.events import TEXT
from lowering.symbols.tracing.selftest import run_self_test
from tests.unit.models import symbol_models as models
from tests.unit.models.symbol_models import export, line, model

N = {"n": Symbol(4, 64)}
REFUSED = {"n": Symbol(1, 64)}


def state(name: str) -> tuple[object, ...]:
    logger = logging.getLogger(name)
    kept = [handler for handler in logger.handlers if not isinstance(handler, LazyTraceHandler)]  # it removes itself when first used
    return kept, logger.level, logger.propagate, logger.disabled


def test_this_torch_logs_all_that_is_read() -> None:
    assert run_self_test() == ()


def test_a_message_that_torch_no_longer_writes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TEXT, "set_replacement %s = %s (%s) %s")
    assert any("no 'replacement' event" in text for text in run_self_test.__wrapped__())


def test_loggers_are_left_as_they_were() -> None:
    before = state(SHAPES), state(TRACE)
    export(models.Branch, model(models.Branch, N, x=["n"]))
    assert (state(SHAPES), state(TRACE)) == before
    with pytest.raises(ZeroDivisionError), capture():
        raise ZeroDivisionError
    assert (state(SHAPES), state(TRACE)) == before


def test_other_handlers_get_what_their_level_let_through_and_no_more() -> None:
    logger, text = logging.getLogger(SHAPES), io.StringIO()
    handler = logging.StreamHandler(text)
    logger.addHandler(handler)
    level = logger.level
    try:
        logger.setLevel(logging.WARNING)
        export(models.Branch, model(models.Branch, N, x=["n"]))
        assert text.getvalue() == ""
        logger.setLevel(logging.INFO)
        export(models.Branch, model(models.Branch, N, x=["n"]))
        assert "create_symbol" in text.getvalue() and "_update_var_to_range" not in text.getvalue()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_tracebacks_of_fake_tensors_are_raised_and_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    logger, text = logging.getLogger(FAKE_TENSORS), io.StringIO()
    for name, value in {"handlers": [logging.StreamHandler(text)], "disabled": False, "level": logging.ERROR, "_cache": {}}.items():
        monkeypatch.setattr(logger, name, value)
    with capture():
        logger.error("failed", exc_info=ValueError("as torch logs it"))
        logger.error("anything else")
    assert text.getvalue() == "anything else\n"
    logger.error("failed", exc_info=ValueError("after the export"))
    assert "after the export" in text.getvalue()


def test_a_logger_that_a_logging_configuration_disabled_is_read_all_the_same() -> None:
    logger = logging.getLogger(SHAPES)
    logger.disabled = True
    try:
        assert export(models.Branch, model(models.Branch, N, x=["n"])).record.symbols
        assert logger.disabled
    finally:
        logger.disabled = False


def test_a_reader_that_raises_fails_no_export_and_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEXT, "%s %s [guard added] %s%s%s", ("guard", ("prefix",)))
    captured = export(models.Branch, model(models.Branch, x=[None]))
    assert captured.program is not None
    (warned,) = [warned for warned in captured.record.warnings if warned.code == "log_failed"]
    assert (warned.value, "zip()" in warned.message) == (1, True)


def test_a_record_that_cannot_be_made_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(export: object) -> tuple[()]:
        raise LookupError("a table that cannot be read")

    monkeypatch.setattr(recording, "build_symbol_table", broken)
    captured = export(models.Plain, model(models.Plain, N, x=["n"]))
    assert captured.program is not None
    assert (captured.record.model, captured.record.requested) == ("plain", ())
    (warned,) = captured.record.warnings
    assert warned.code == "log_failed" and "a table that cannot be read" in warned.message


def test_silenced_logging_is_a_warning_not_an_empty_record() -> None:
    logging.disable(logging.CRITICAL)
    try:
        found = export(models.Plain, model(models.Plain, {"n": Symbol(2, 64)}, x=["n"])).record
    finally:
        logging.disable(logging.NOTSET)
    assert "log_incomplete" in [warned.code for warned in found.warnings]


def test_the_trace_is_complete_though_torch_names_each_file_once_a_process(tmp_path: Path) -> None:
    export(models.Fixed, model(models.Fixed, x=[None]))
    path = trace.save(export(models.Fixed, model(models.Fixed, x=[None])).log, tmp_path)
    events = [json.loads(text.split("] ", 1)[1]) for text in path.read_text().splitlines() if not text.startswith("\t")]
    names = {event["str"][1] for event in events if "str" in event}
    used = {frame["filename"] for event in events for frame in event.get("create_symbol", {}).get("stack", ())}
    assert used and used <= names
    assert sum("create_symbol" in event for event in events) == 1
    assert sum("symbolic_shape_specialization" in event for event in events) == 1


TLPARSE = shutil.which("tlparse", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "tlparse"


def parsed(folder: Path, module: type[torch.nn.Module], *options: str, **shapes: Any) -> tuple[str, str]:
    """What tlparse says of a module's trace, and the text of the pages that it writes."""
    path = trace.save(export(module, model(module, REFUSED, **shapes)).log, folder)
    done = subprocess.run([TLPARSE, path, "-o", folder / "page", "--no-browser", *options], capture_output=True, text=True, check=True)
    pages = "".join(page.read_text() for page in sorted((folder / "page").rglob("*.html")))
    return done.stderr + done.stdout, html.unescape(re.sub(r"<[^>]*>", "", pages))


@pytest.mark.parametrize(("module", "shapes"), [
    (models.Branch, {"x": ["n"]}), (models.Pairs, {"x": [None]}), (models.Fixed, {"x": [None]}), (models.Selecting, {"x": ["n"]}),
    (models.Counting, {"n": []}),
])
def test_tlparse_reads_every_event_but_those_it_has_no_name_for(module: type[torch.nn.Module], shapes: dict[str, Any],
                                                                tmp_path: Path) -> None:
    said, page = parsed(tmp_path, module, **shapes)
    assert "Stats { ok: " in said
    assert not re.search("other_rank|fail|panic|error", said), said
    assert set(re.findall(r'Unknown fields: {(.*?)}', said)) <= {'"create_symbol"'}
    assert "symbol_models.py" in page or module is models.Counting


def test_tlparse_shows_the_guard_that_an_export_failed_on_with_the_model_s_line(tmp_path: Path) -> None:
    _, page = parsed(tmp_path, models.Branch, "--export", x=["n"])
    assert "Guard Evaluated" in page and "s77 > 3" in page
    assert f"symbol_models.py:{line('branch')}" in page
