"""The warm process that stays between runs: what shares it, what does not, and how everything ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lowering.record.folder import prepare
from lowering.record.result import JobResult
from lowering.worker import client, keeper
from lowering.worker.client import KeptServer
from tests import toys
from tests.waiting import wait_for

RUN = """
import sys
from pathlib import Path
from lowering.record.folder import prepare
from lowering.worker import client, watch
from tests import toys
folder = Path(sys.argv[1])
prepare(toys.job(seconds=600), folder)
client.WARM = ()
client.keep(60)
watch.lower(folder)
"""


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state folder of a user who keeps nothing warm yet. Its path is short enough for a socket."""
    folder = tmp_path_factory.mktemp("k")
    monkeypatch.setenv("SHAPELINE_STATE", str(folder))
    yield folder
    for pid in list_keepers(folder):
        os.kill(pid, signal.SIGKILL)


def list_keepers(state: Path) -> list[int]:
    """The processes that listen in the folder, by the log that each of them holds open."""
    found = []
    for log in state.glob("worker-*.log"):
        for place in Path("/proc").glob("[0-9]*/fd/1"):
            try:
                if place.readlink() == log:
                    found.append(int(place.parts[2]))
            except OSError:
                continue
    return found


def begin(minutes: float = 60.0) -> KeptServer:
    control = keeper.connect(minutes, ())
    assert control is not None
    return KeptServer(control)


def lower(server: KeptServer, folder: Path) -> str:
    prepare(toys.job(), folder)
    child = server.fork(folder, {}, 60.0)
    assert child.wait(60.0) == 0
    child.close()
    result = JobResult.load(folder)
    assert result is not None
    return result.outcome


def test_runs_share_a_warm_process_and_each_has_a_server_of_its_own(tmp_path: Path, state: Path) -> None:
    first = begin()
    assert lower(first, tmp_path / "a") == "ok" and first.alive
    second = begin()
    assert lower(second, tmp_path / "b") == "ok"
    (kept,) = list_keepers(state)
    first.kill()
    assert not first.alive and second.alive
    assert lower(second, tmp_path / "c") == "ok"
    for server in (first, second):
        server.close()
    assert list_keepers(state) == [kept]
    os.kill(kept, signal.SIGKILL)
    assert wait_for(lambda: not list_keepers(state))
    third = begin()  # its socket is still there, and nothing listens
    assert lower(third, tmp_path / "d") == "ok"
    third.close()
    assert len(list_keepers(state)) == 1
    assert keeper.stop_all() == 1
    assert list_keepers(state) == [] and not list(state.glob("*.sock"))


def test_the_jobs_of_a_killed_run_die_and_the_warm_process_stays(tmp_path: Path, state: Path) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / "job")], env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    events = tmp_path / "job" / "events.jsonl"
    assert wait_for(lambda: events.exists() and "about-to" in events.read_text(), 60)
    assert keeper.stop_all() == 0  # a run uses it
    (kept,) = list_keepers(state)
    children = _list_tree(kept)
    assert len(children) >= 2  # the run's server, and the job
    run.kill()
    run.wait()
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    assert list_keepers(state) == [kept]
    assert keeper.stop_all() == 1


def _list_tree(pid: int) -> list[int]:
    from lowering.worker import processes

    own = list(processes.list_children(pid))
    return [*own, *(below for child in own for below in _list_tree(child))]


def test_it_ends_when_no_run_has_used_it_for_a_while_or_its_socket_is_gone(state: Path, tmp_path: Path) -> None:
    server = begin(minutes=0.0001)
    assert lower(server, tmp_path / "a") == "ok"
    server.close()
    assert wait_for(lambda: not list_keepers(state) and not list(state.glob("*.sock")))
    begin().close()
    (place,) = state.glob("*.sock")
    place.unlink()
    assert wait_for(lambda: not list_keepers(state))


def test_what_a_process_inherits_decides_which_one_it_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    given = keeper._read_first_environment()
    assert given["PATH"] == os.environ["PATH"]
    found = {"plain": keeper._digest(())}
    for name, change in {"threads": {"OMP_NUM_THREADS": "7"}, "terminal": {"COLUMNS": "7", "PREFECT_API_URL": "http://x"}}.items():
        monkeypatch.setattr(keeper, "_read_first_environment", lambda change=change: {**given, **change})
        found[name] = keeper._digest(())
    assert found["terminal"] == found["plain"] != found["threads"]
    monkeypatch.setattr(keeper, "_read_first_environment", lambda: given)
    assert keeper._digest(("lowering.stages.export",)) != found["plain"]
    monkeypatch.setattr(sys, "path", [*sys.path, "/elsewhere"])
    assert keeper._digest(()) != found["plain"]


def test_a_state_folder_that_cannot_hold_a_socket_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path / ("long" * 30)))
    assert keeper.connect(60.0, ()) is None
    monkeypatch.setattr(client, "_keep", 60.0)
    server = client._start(None)
    assert type(server) is client.ForkServer
    server.kill()
    server.close()
