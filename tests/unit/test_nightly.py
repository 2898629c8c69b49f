"""The summary of a night and where it goes; what Prefect's UI is given of a run."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.nights import InventedJob, invent
from flows import nightly
from flows.__main__ import main
from flows.config.document import Nightly
from flows.engine import access, picture
from flows.engine import pages as job_pages
from flows.runs import record
from lowering.errors import ConfigError
from lowering.record.result import JobResult, build_not_run

JOBS = [InventedJob("mlp"), InventedJob("bert"), InventedJob("<b>|evil`", outcome="error", stage="torch", problem="no lowering")]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    output = tmp_path_factory.mktemp("nights")
    later = [replace(JOBS[0], outcome="crash", stage="mhlo", problem="died"), *JOBS[1:]]
    return [invent(output, jobs, started=datetime(2026, 11, number, tzinfo=UTC)) for number, jobs in enumerate((JOBS, later), 1)]


@pytest.fixture
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """A webhook that takes everything but /full."""
    taken: list[bytes] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(507 if self.path == "/full" else 204)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    server.server_close()


def test_a_summary_has_the_outcomes_and_the_changes(nights: list[Path]) -> None:
    first, second = map(nightly.summarize, nights)
    assert first.startswith("# zoo: not as expected: 2 ok, 1 error\n")
    assert "Since" not in first
    assert second.startswith("# zoo: regressions: 1 ok, 1 error, 1 crash\n")
    assert "- **New failures: 1** (`mlp--default`)" in second
    assert "- Still failing: 1" in second


def test_the_summary_goes_to_the_webhook_and_the_command(nights: list[Path], tmp_path: Path, listener: tuple[str, list[bytes]]) -> None:
    address, taken = listener
    settings = Nightly(command=f"cat > {tmp_path}/told; echo $SHAPELINE_RUN >> {tmp_path}/told")
    assert nightly.post("größer", nights[0], settings, address) == []
    assert json.loads(taken[0]) == {"text": "größer"}
    assert (tmp_path / "told").read_text() == f"größer{nights[0]}\n"


def test_what_does_not_take_the_summary_is_said(nights: list[Path], listener: tuple[str, list[bytes]],
                                                capsys: pytest.CaptureFixture[str]) -> None:
    settings = Nightly(command="echo no disk >&2; exit 3")
    refused = nightly.post("text", nights[0], settings, f"{listener[0]}/full")
    assert "507" in refused[0] and listener[0] not in refused[0]
    assert refused[1] == "the command for the summary exited with status 3: no disk"
    assert capsys.readouterr().err.count("shapeline: ") == 2


@pytest.mark.parametrize(
    ("override", "problem"),
    [('nightly.cron="0 2 * *"', "nightly.cron"), ("nightly.timezone=Atlantis", "nightly.timezone"), ("nightly.corn=x", "nightly.corn")]
)
def test_a_schedule_that_is_none_is_refused_before_anything_is_served(
    override: str, problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["nightly", "model=mlp", override]) == 2
    assert problem in capsys.readouterr().err


def test_a_schedule_wants_a_server_that_stays(capsys: pytest.CaptureFixture[str]) -> None:
    if os.environ.get("PREFECT_API_URL"):
        pytest.skip("a server is named in this environment")
    assert main(["nightly", "model=mlp"]) == 2
    assert "needs a persistent Prefect server" in capsys.readouterr().err


def test_the_table_has_failures_first_and_links_every_page(nights: list[Path]) -> None:
    run = record.load(nights[1])
    pages = {"shapeline-job-bert-default": "1234"}
    rows = job_pages.make_table(run.results(), pages)
    assert [row["outcome"] for row in rows] == ["crash", "error", "ok"]
    assert rows[2]["job"] == "[bert--default](/artifacts/artifact/1234)"
    assert rows[0]["job"] == "[mlp--default](/artifacts/key/shapeline-job-mlp-default)"
    text = "\n".join(job_pages.render_failures(run, run.results(), pages))
    assert "[\\<b\\>\\|evil\\`--default](/artifacts/key/shapeline-job-b-evil-default-" in text


def test_keys_of_artifacts_are_distinct_and_allowed() -> None:
    words = ["bert--default", "bert-default", "a/b", "a b", "<b>", "ü", "ö", "x" * 300, "x" * 301, "--"]
    keys = [job_pages.make_key("job", word) for word in words]
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(key) < 140 for key in keys)
    assert len(set(keys[2:])) == len(keys[2:])


def test_the_picture_is_small_and_drawn_for_any_number_of_jobs(nights: list[Path]) -> None:
    result = record.load(nights[1]).results()[1]
    many: list[JobResult] = [result] * 3000 + [build_not_run("<x>", "&")]
    drawn = picture.draw_matrix(many, "<script>&")
    assert len(drawn) < 4000
    assert len(ElementTree.fromstring(drawn).findall("{http://www.w3.org/2000/svg}rect")) == 1 + 2 * len(result.stages)
    assert base64.b64decode(picture.to_address(drawn).split(",", 1)[1]).decode() == drawn
    assert ElementTree.fromstring(picture.draw_matrix([], "nothing")) is not None


def test_a_night_takes_only_a_suite_and_a_selection_from_a_request() -> None:
    fixed = ["suite=mine", "output=/data", "select=a"]
    assert nightly.choose(fixed, None, None) == fixed
    assert nightly.choose(fixed, "zoo", "bert and not image") == ["output=/data", "suite=zoo", "select='bert and not image'"]
    for suite, select in (("../evil.yaml", None), ("/tmp/x.yaml", None), (None, "x,output=/etc"), (None, "${oc.env:HOME}"), ("a\nb", None)):
        with pytest.raises(ConfigError, match="is not allowed"):
            nightly.choose(fixed, suite, select)


def test_the_webhook_is_a_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "model=mlp", "nightly.webhook=https://hooks.example/token"]) == 2
    said = capsys.readouterr().err
    assert "SHAPELINE_WEBHOOK" in said and "token" not in said
    monkeypatch.setenv("SHAPELINE_WEBHOOK", "https://hooks.example/token")
    assert nightly.read_webhook() == "https://hooks.example/token"
    assert nightly.post("text", Path(), Nightly(), "nonsense:token")[0] == (
        "the webhook did not accept the summary: <urlopen error unknown url type: nonsense>")


def test_the_password_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path / "state"))
    made = access.make_password()
    assert access.make_password() == made == access.read_password() and len(made) > 40
    assert access.locate_password().stat().st_mode & 0o777 == 0o600
    access.locate_password().chmod(0o640)
    assert access.read_password() is None
    with pytest.raises(ConfigError, match="other users can read it"):
        access.make_password()


def test_nights_are_not_served_through_an_open_server(listener: tuple[str, list[bytes]]) -> None:
    with pytest.raises(ConfigError, match="answers without a password"):
        access.check_closed(listener[0])
    with pytest.raises(ConfigError, match="cannot be reached"):
        access.check_closed("http://127.0.0.1:9/api")
