"""Tickets of causes, in local imitations of GitHub's issues and of a webhook."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.nights import InventedJob, invent
from flows import nightly
from flows.__main__ import main
from flows.config.document import Nightly, TrackerSettings
from flows.history import causes, trackers
from lowering.errors import ConfigError
from tests.unit.history.invented_runs import FIRST, GREEN, LOST, RED, REDDER


class GitHub:
    """Issues of one repository, with what GitHub's API answers about them."""

    def __init__(self) -> None:
        self.issues: list[dict[str, Any]] = []
        self.comments: list[tuple[int, str]] = []
        self.tokens: set[str] = set()
        self.broken = False
        github = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                data = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
                github.tokens.add(self.headers["Authorization"])
                status, reply = github.answer(self.command, self.path, data)
                body = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = _answer  # noqa: N815 - the names that http.server calls

            def log_message(self, *words: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method: str, path: str, data: Any) -> tuple[int, Any]:
        if self.broken:
            return 503, {"message": "down for a while"}
        if method == "GET":
            return 200, [issue for issue in self.issues if issue["state"] == "open"]
        match = re.fullmatch(r"/repos/team/compiler/issues(?:/(\d+)(/comments)?)?", path)
        assert match, path
        if match[2]:
            self.comments.append((int(match[1]), data["body"]))
            return 201, {}
        if match[1]:
            self.issues[int(match[1]) - 1] |= data
            return 200, self.issues[int(match[1]) - 1]
        number = len(self.issues) + 1
        self.issues.append({"number": number, "state": "open", "html_url": f"https://github.test/team/compiler/issues/{number}", **data})
        return 201, self.issues[-1]


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    made = GitHub()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    monkeypatch.setenv(trackers.TOKEN, "t0ken")
    yield made
    made.server.shutdown()
    made.server.server_close()


class Nights:
    """Runs one night after the other, each followed by the tracker."""

    def __init__(self, output: Path, settings: TrackerSettings):
        self.output, self.settings, self.number = output, Nightly(tracker=settings), 0

    def __call__(self, jobs: Sequence[InventedJob]) -> list[str]:
        folder = invent(self.output, jobs, started=FIRST + timedelta(days=self.number))
        self.number += 1
        return nightly.track(folder, self.settings)


def settings(github: GitHub) -> TrackerSettings:
    return TrackerSettings("github", repository="team/compiler", url=github.url)


def test_a_ticket_is_opened_once_updated_closed_and_reopened(tmp_path: Path, github: GitHub) -> None:
    night = Nights(tmp_path, settings(github))
    assert night(GREEN) == []
    assert github.issues == []
    night(RED)
    night(RED)
    (issue,) = github.issues
    assert issue["state"] == "open" and issue["labels"] == ["shapeline"]
    assert issue["title"] == "[shapeline] error in torch: no lowering of '…' <b>"
    assert "shapeline run suite=zoo -k bert--default" in issue["body"]
    assert github.comments == []  # the same jobs: nothing new to tell
    night(REDDER)
    assert github.comments.pop() == (1, "1 job more: `gpt2--default`")
    night(LOST)  # by the infrastructure: says nothing about the cause, and gets no ticket of its own
    assert [issue["state"] for issue in github.issues] == ["open"] and github.comments == []
    night(GREEN)
    assert issue["state"] == "closed"
    assert github.comments.pop()[1].startswith("No job has this cause any more, as of run 20261106T")
    night(GREEN)
    night(RED)
    assert [issue["state"] for issue in github.issues] == ["open"]
    assert github.comments.pop()[1].startswith("The cause is back in run 20261108T")
    assert github.tokens == {"Bearer t0ken"}


def test_text_of_a_model_is_no_markup_in_a_ticket(tmp_path: Path, github: GitHub) -> None:
    night = Nights(tmp_path, settings(github))
    night([GREEN[0], replace(GREEN[1], outcome="error", stage="torch", problem="```\n@everyone <!-- x")])
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", github.issues[0]["body"], flags=re.DOTALL | re.MULTILINE)
    assert "@everyone" not in outside


def test_an_unreachable_tracker_is_updated_the_next_night(tmp_path: Path, github: GitHub) -> None:
    night = Nights(tmp_path, settings(github))
    github.broken = True
    (refused,) = night(RED)
    assert "did not open a ticket" in refused and "503 down for a while" in refused
    github.broken = False
    assert night(RED) == []
    assert len(github.issues) == 1


def test_an_open_ticket_whose_record_was_lost_is_found_again(tmp_path: Path, github: GitHub) -> None:
    night = Nights(tmp_path, settings(github))
    night(RED)
    (tmp_path / "runs" / causes.FILE).unlink()
    night(RED)
    assert len(github.issues) == 1


def test_a_dry_run_prints_the_actions_and_does_nothing(tmp_path: Path, github: GitHub, capsys: pytest.CaptureFixture[str]) -> None:
    night = Nights(tmp_path, replace(settings(github), dry_run=True))
    night(RED)
    assert "open a ticket: [shapeline] error in torch: no lowering" in capsys.readouterr().out
    assert github.issues == [] and github.tokens == set()
    assert main(["tracker", "--dry-run", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("open a ticket: ")
    overrides = ["nightly.tracker.kind=github", "nightly.tracker.repository=team/compiler", f"nightly.tracker.url={github.url}"]
    assert main(["tracker", *overrides, "--output", str(tmp_path)]) == 0
    assert len(github.issues) == 1


def test_a_command_and_what_it_prints_is_a_ticket(tmp_path: Path) -> None:
    night = Nights(tmp_path, TrackerSettings("command", command=f"cat >> {tmp_path}/actions; echo >> {tmp_path}/actions; echo BUG-7"))
    for jobs in (RED, GREEN):
        assert night(jobs) == []
    actions = [json.loads(line) for line in (tmp_path / "actions").read_text().splitlines()]
    assert [(one["action"], one["ticket"]) for one in actions] == [("open", ""), ("close", "BUG-7")]
    (cause,) = causes.read(tmp_path / "runs").causes.values()
    assert cause.ticket is not None and cause.ticket.ref == "BUG-7" and not cause.ticket.open
    night = Nights(tmp_path, TrackerSettings("command", command="echo no network >&2; exit 3"))
    night.number = 2
    assert "exited with status 3: no network" in night(RED)[0]


class Webhook:
    """A URL that keeps what is posted to it. status, answer: what it says."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.status, self.answer = 200, b'{"ticket": "T-1"}'
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                webhook.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(webhook.status)
                self.send_header("Content-Length", str(len(webhook.answer)))
                self.end_headers()
                self.wfile.write(webhook.answer)

            def log_message(self, *words: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-path"


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    made = Webhook()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    monkeypatch.setenv(trackers.ADDRESS, made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_webhook_receives_each_action_once_and_names_the_ticket(tmp_path: Path, webhook: Webhook) -> None:
    night = Nights(tmp_path, TrackerSettings("webhook"))
    assert night(RED) == night(RED) == []
    webhook.answer = b"ok"  # as chat services answer: the ticket is known by now
    for jobs in (REDDER, LOST, GREEN, RED):
        assert night(jobs) == []
    actions = [(one["action"], one["ticket"], one["comment"]) for one in webhook.posted]
    assert actions[:3] == [("open", "", ""), ("update", "T-1", ""), ("update", "T-1", "1 job more: `gpt2--default`")]
    assert [one[:2] for one in actions[4:]] == [("close", "T-1"), ("reopen", "T-1")]
    assert actions[3] == ("update", "T-1", "")  # the night that lost its machines
    assert webhook.posted[0]["jobs"] == ["bert--default"]
    assert webhook.posted[0]["signature"].startswith("error in torch: no lowering of")


def test_a_webhook_that_fails_is_asked_again_and_its_url_is_not_printed(tmp_path: Path, webhook: Webhook) -> None:
    night = Nights(tmp_path, TrackerSettings("webhook"))
    webhook.status = 500
    (refused,) = night(RED)
    assert "500" in refused and "secret-path" not in refused
    webhook.status, webhook.answer = 200, b"ok"
    (refused,) = night(RED)
    assert 'it must answer {"ticket": NAME}' in refused
    webhook.answer = b'{"ticket": "T-2"}'
    assert night(RED) == []
    (cause,) = causes.read(tmp_path / "runs").causes.values()
    assert cause.ticket is not None and cause.ticket.ref == "T-2" and cause.ticket.open
    assert [one["action"] for one in webhook.posted] == ["open"] * 3


def test_a_secret_is_asked_for_and_not_sent_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(trackers.TOKEN, raising=False)
    with pytest.raises(ConfigError, match=trackers.TOKEN):
        trackers.build(TrackerSettings("github", "a/b"))
    monkeypatch.setenv(trackers.TOKEN, "t0ken")
    with pytest.raises(ConfigError, match="unencrypted"):
        trackers.build(TrackerSettings("github", "a/b", url="http://github.example.org"))


@pytest.mark.parametrize(("overrides", "problem"), [
    (["kind=github"], "nightly.tracker.repository"), (["kind=github", "repository=compiler"], "owner/name"),
    (["kind=command"], "nightly.tracker.command"), (["kind=jira"], "nightly.tracker.kind"),
])  # fmt: skip
def test_a_tracker_that_cannot_work_is_refused_before_the_night(overrides: list[str], problem: str,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "suite=mlp", *(f"nightly.tracker.{text}" for text in overrides)]) == 2
    assert problem in capsys.readouterr().err
