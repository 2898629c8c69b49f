"""Trackers: GitHub's issues, a command, and a webhook."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flows.config.document import TrackerSettings
from flows.history import hooks
from flows.history.tracker import Action, Tracker, make_marker
from lowering.errors import ConfigError, Problem

SECONDS = 60.0
PAGE = 100  # tickets a page, GitHub's maximum
TOKEN, ADDRESS = "SHAPELINE_TRACKER_TOKEN", "SHAPELINE_TRACKER_URL"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def build(settings: TrackerSettings) -> Tracker:
    """Return the tracker of the settings. Raises ConfigError if its secret is not in the environment, or would be sent unencrypted."""
    if settings.kind == "command":
        return CommandTracker(settings.command or "")
    if settings.kind == "webhook":
        return WebhookTracker(_check_address(_read_secret(ADDRESS, "the URL that receives the actions"), ADDRESS))
    address = _check_address(settings.url, "nightly.tracker.url").rstrip("/")
    return GitHubTracker(address, settings.repository or "", settings.labels, _read_secret(TOKEN, "a token that may write issues"))


def _read_secret(name: str, what: str) -> str:
    if value := os.environ.get(name):
        return value
    raise ConfigError(Problem(name, f"is not set, but nightly.tracker needs {what}", f"export {name}=…"))


def _check_address(address: str, place: str) -> str:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return address
    raise ConfigError(Problem(place, f"{parts.scheme or 'no scheme'}: the token would be sent unencrypted", "use an https:// URL"))


@dataclass(frozen=True)
class GitHubTracker:
    """GitHub's issues. url: of the API; repository: owner/name. A ticket is named by its page."""

    url: str
    repository: str
    labels: tuple[str, ...]
    token: str = field(repr=False)

    def apply(self, action: Action) -> str:
        """Carry out an action, and return the page of the issue. Raises OSError or ValueError."""
        if action.kind == "open":
            return self._open(action)
        number = self._find_number(action.ref)
        if action.comment:
            self._request("POST", f"/issues/{number}/comments", {"body": action.comment})
        changed = {"body": action.body} | ({"state": "closed" if action.kind == "close" else "open"} if action.kind != "update" else {})
        self._request("PATCH", f"/issues/{number}", changed)
        return action.ref

    def _open(self, action: Action) -> str:
        """Open an issue, or take the open one that an interrupted run left."""
        marker = make_marker(action.cause)
        for issue in self._list_open():
            if marker in (issue.get("body") or ""):
                return str(issue["html_url"])
        made = self._request("POST", "/issues", {"title": action.title, "body": action.body, "labels": list(self.labels)})
        return str(made["html_url"])

    def _list_open(self) -> Iterator[Mapping[str, Any]]:
        page, labels = 1, urllib.parse.quote(",".join(self.labels))
        while found := self._request("GET", f"/issues?state=open&labels={labels}&per_page={PAGE}&page={page}"):
            yield from found
            if len(found) < PAGE:
                return
            page += 1

    def _find_number(self, ref: str) -> str:
        match = re.fullmatch(rf"https?://\S+/{re.escape(self.repository)}/issues/(\d+)", ref)
        if match is None:
            raise ValueError(f"{ref} is not an issue of {self.repository}")
        return match[1]

    def _request(self, method: str, path: str, data: Mapping[str, Any] | None = None) -> Any:
        headers = {"Accept": "application/vnd.github+json", "Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.url}/repos/{self.repository}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise OSError(f"{method} {path.split('?', 1)[0]}: {error.code} {_read_message(error)}") from None


def _read_message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["message"])[:300]
    except (OSError, ValueError, KeyError, TypeError):
        return str(error.reason)


def _describe(action: Action) -> dict[str, Any]:
    return {"action": action.kind, "cause": action.cause.id, "signature": action.cause.signature, "ticket": action.ref,
            "title": action.title, "body": action.body, "comment": action.comment, "jobs": list(action.jobs)}  # fmt: skip


@dataclass(frozen=True)
class CommandTracker:
    """A shell command. It reads an action as JSON on stdin, and prints the name of a ticket that it opened."""

    command: str

    def apply(self, action: Action) -> str:
        """Run the command. Raises OSError if it fails, and ValueError if it does not name an opened ticket."""
        try:
            said = hooks.run(self.command, json.dumps(_describe(action)), SECONDS)
        except OSError as error:
            raise OSError(f"the command {error}") from error
        return _name_ticket(action, said.strip().split("\n", 1)[0], "the command printed no name of the ticket")


@dataclass(frozen=True)
class WebhookTracker:
    """A URL. It receives an action as JSON, and answers `{"ticket": NAME}` for a ticket that it opened."""

    url: str = field(repr=False)

    def apply(self, action: Action) -> str:
        """Post the action. Raises OSError or ValueError; their messages do not have the URL, which is a secret."""
        answer = hooks.post(self.url, _describe(action), SECONDS)
        if action.ref:
            return action.ref  # whatever the answer is: many webhooks only say `ok`
        try:
            reply = json.loads(answer)
        except ValueError:
            reply = None
        name = reply.get("ticket") if isinstance(reply, dict) else None
        return _name_ticket(action, str(name or ""), 'the webhook named no ticket: it must answer {"ticket": NAME}')


def _name_ticket(action: Action, name: str, otherwise: str) -> str:
    if action.ref or name:
        return action.ref or name[:300]
    raise ValueError(otherwise)
