"""The state file of the managed server, which names its process and its address, and facts about that process."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from lowering import clock, files, trust


@dataclass(frozen=True)
class Standing:
    """A server that was started. url: of its API. pid, born, boot: its process, by the time of its birth in ticks since this boot.

    port: what it listens on. code: digest of what it was started from; a server of another code is replaced.
    """

    url: str
    port: int
    pid: int
    born: int
    boot: str
    code: str
    idle_minutes: float

    @property
    def page(self) -> str:
        """The address of its pages."""
        return self.url.removesuffix("/api")

    @property
    def is_alive(self) -> bool:
        return self.boot == clock.read_boot() and read_birth(self.pid) == self.born


def locate_state() -> Path:
    """Return the path of the state file. Raises RuntimeError if this user has no home."""
    home = os.path.realpath(Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser())
    name = hashlib.sha256(f"{platform.node()}\0{home}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return trust.locate_key().with_name(f"server-{name}.json")


def read() -> Standing | None:
    """Return the server of the state file, dead or alive; None if there is none, or another user could have written it."""
    try:
        with files.open_regular(locate_state()) as file:
            status = os.fstat(file.fileno())
            data = json.loads(file.read(1 << 16))
        return Standing(**data) if status.st_uid == os.geteuid() and not status.st_mode & 0o077 else None
    except (OSError, ValueError, TypeError):
        return None


def write(standing: Standing, place: Path) -> None:
    """Write the state file, in one step and for this user only. Raises OSError."""
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        json.dump(asdict(standing), file)
    draft.replace(place)


def read_birth(pid: int) -> int | None:
    """Return the time at which a process was born, in ticks since the boot; None if it does not exist, or is dead and not reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def measure_age(found: Standing) -> float:
    """Return for how many seconds a living server has existed."""
    return clock.measure_uptime() - found.born / os.sysconf("SC_CLK_TCK")


def is_own_port(port: int) -> bool:
    """Return whether a process of this user listens on a port of 127.0.0.1."""
    wanted = f"0100007F:{port:04X}"
    rows = (line.split() for line in files.read_text(Path("/proc/net/tcp")).splitlines()[1:])
    return any(row[1] == wanted and row[3] == "0A" and int(row[7]) == os.geteuid() for row in rows)
