"""Access to a Prefect server that stays. Its clients can start runs, so it requires a password that only this user can read."""

from __future__ import annotations

import os
import secrets
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from lowering import files, trust
from lowering.errors import ConfigError, Problem

CLIENT, SERVER, KEY = "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_KEY"
LOCAL = ("127.0.0.1", "localhost", "::1")
CLOSED = {f"PREFECT_SERVER_CORS_ALLOWED_{part}": "" for part in ("ORIGINS", "METHODS", "HEADERS")}  # answers no page of another site


def locate_password() -> Path:
    """Return the file of the password of this user's local server: `server-auth` beside the key of `lowering.trust`."""
    return trust.locate_key().with_name("server-auth")


def read_password() -> str | None:
    """Return `user:password` of the local server; None if there is none, or others could read it."""
    try:
        with files.open_regular(locate_password()) as file:
            status = os.fstat(file.fileno())
            found = file.read(4096).decode("ascii").strip()
    except (OSError, ValueError, RuntimeError):
        return None
    return found if found and status.st_uid == os.geteuid() and not status.st_mode & 0o077 else None


def make_password() -> str:
    """Return the password of the local server, made on first use with mode 0600. Raises ConfigError if it cannot be kept private."""
    path = locate_password()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.path.lexists(path):
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
                file.write(f"shapeline:{secrets.token_urlsafe(32)}\n")
            with suppress(FileExistsError):  # another process was first
                os.link(draft, path)
            draft.unlink()
    except OSError as error:
        fix = f"name another folder: export {trust.STATE}=DIR"
        raise ConfigError(Problem(str(path), f"cannot be written: {error.strerror}", fix)) from error
    if (found := read_password()) is None:
        raise ConfigError(Problem(str(path), "is empty, or other users can read it", "remove it: a new one is made"))
    return found


def use_password(address: str | None) -> None:
    """Let Prefect's clients in this process and its children use the password, if `address` is on this machine.

    Must be called before the first import of prefect.
    """
    if address and urlsplit(address).hostname in LOCAL and CLIENT not in os.environ and (found := read_password()):
        os.environ[CLIENT] = found


def check_closed(address: str) -> None:
    """Check that a server refuses a request without a password. Raises ConfigError if it answers, or cannot be reached."""
    request = urllib.request.Request(f"{address.rstrip('/')}/deployments/count", b"{}", {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30):
            pass
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return
        raise ConfigError(Problem(f"Prefect's server {address}", f"answers with status {error.code}", "check PREFECT_API_URL")) from error
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(f"Prefect's server {address}", f"cannot be reached: {error}", "start one: shapeline server")) from error
    cause = "answers without a password, so every user who reaches it could start runs in your name"
    raise ConfigError(Problem(f"Prefect's server {address}", cause, f"start it with shapeline server, or set {SERVER} for it"))


def encode_password(password: str) -> str:
    """Return the header that proves `user:password`."""
    return f"Basic {b64encode(password.encode()).decode()}"
