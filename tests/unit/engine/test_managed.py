"""The managed server: found again, started once, replaced and ended, whatever became of it in the meantime."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from flows import execution
from flows.config.document import Cluster, Server
from flows.config.plan import Plan
from flows.engine import access, managed, revival, server, server_state, serving
from flows.engine.server_state import Standing
from lowering import clock, files
from lowering.errors import InfraError
from tests.waiting import wait_for

TOY = "import sys; sys.path.insert(0, sys.argv[1]); from tests.unit.engine import toy_server; toy_server.main(sys.argv[2:])"
HOUR = 60.0  # minutes


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state file of a user who has no server yet."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    yield server_state.locate_state()
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path / "state"))
    managed.stop(force=True)


@pytest.fixture
def toy(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with a server that starts at once."""
    monkeypatch.setattr(managed, "_BOOT", TOY)
    monkeypatch.setattr(managed, "END", 2.0)
    monkeypatch.setattr(managed, "ANSWER", 1.0)
    return place


@contextmanager
def used(place: Path) -> Iterator[None]:
    """Use the server, as a run in another process does."""
    handle = os.open(place.with_suffix(".users"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(handle)


def test_runs_that_begin_at_once_share_one_server_and_later_ones_find_it(toy: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(managed.ensure, [HOUR] * 4))
    (only,) = found
    assert managed.ensure(HOUR) == only
    assert toy.stat().st_mode & 0o777 == 0o600
    assert access.locate_password().stat().st_mode & 0o777 == 0o600
    assert managed.stop() == only and managed.stop() is None
    assert server_state.read_birth(only.pid) is None and not toy.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", only.port))


def test_a_killed_server_is_started_again_where_links_point_to(toy: Path) -> None:
    first = managed.ensure(HOUR)
    os.kill(first.pid, signal.SIGKILL)
    assert wait_for(lambda: not first.is_alive)
    second = managed.ensure(HOUR)
    assert second.pid != first.pid and second.url == first.url
    os.kill(second.pid, signal.SIGKILL)
    assert wait_for(lambda: not second.is_alive)
    with managed._bind(first.port) as other:  # another process has taken the port in the meantime
        assert other.getsockname()[1] == first.port
        assert managed.ensure(HOUR).port != first.port


def test_a_server_that_dies_during_a_run_is_revived_for_its_clients(toy: Path) -> None:
    starting = managed.Starting(managed._prepare(), access.make_password(), HOUR)
    first = starting.wait()
    os.kill(first.pid, signal.SIGKILL)
    assert wait_for(lambda: not first.is_alive)
    assert revival._restart(starting, first) is None
    assert starting.found and starting.found.url == first.url and starting.found.is_alive
    managed.stop()
    with managed._bind(first.port):
        assert "has taken its port" in str(revival._restart(starting, starting.found))


@pytest.mark.parametrize("change", [{"boot": "another"}, {"born": 1}])
def test_a_process_that_has_the_number_of_a_server_before_a_restart_is_left_alone(toy: Path, change: dict[str, str | int]) -> None:
    mine = Standing("http://127.0.0.1:1/api", 1, os.getpid(), server_state.read_birth(os.getpid()) or 0, clock.read_boot(), "", HOUR)
    managed._prepare()
    server_state.write(replace(mine, **change), toy)  # type: ignore[arg-type]
    assert managed.ensure(HOUR).pid != os.getpid()  # and this process was not ended
    toy.write_text("{")
    assert server_state.read() is None


def test_what_another_user_could_have_written_is_not_believed(toy: Path) -> None:
    found = managed.ensure(HOUR)
    toy.chmod(0o644)
    assert server_state.read() is None
    toy.chmod(0o600)
    assert server_state.read() == found


def test_the_password_is_not_sent_to_a_stranger_on_the_port(toy: Path) -> None:
    found = managed.ensure(HOUR)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        rows = files.read_text(Path("/proc/net/tcp"))
        assert f":{port:04X}" in rows
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: 12345)
            assert not server_state.is_own_port(port)
        assert server_state.is_own_port(port)
        stranger.close()
        assert not managed._is_answering(replace(found, port=port, url=f"http://127.0.0.1:{port}/api"), "any")


def test_a_server_of_another_version_is_replaced_unless_a_run_uses_it(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = managed.ensure(HOUR)
    monkeypatch.setenv("PREFECT_SERVER_API_DEFAULT_LIMIT", "100")  # as a new version, what it was started from has changed
    with used(toy):
        with pytest.raises(InfraError, match=r"another run uses it .*server=embedded"):
            managed.ensure(HOUR)
        with pytest.raises(InfraError, match="is used by a run"):
            managed.stop()
    second = managed.ensure(HOUR)
    assert not first.is_alive and second.is_alive


def test_a_server_that_hangs_is_replaced(toy: Path) -> None:
    first = managed.ensure(HOUR)
    os.kill(first.pid, signal.SIGSTOP)
    assert managed.ensure(HOUR).pid != first.pid
    assert not first.is_alive


def test_an_idle_server_ends(toy: Path) -> None:
    managed._prepare()
    with used(toy):
        found = managed.ensure(0.001)
        time.sleep(0.4)
        assert found.is_alive
    assert wait_for(lambda: not found.is_alive)


def test_a_server_whose_state_is_removed_ends(toy: Path) -> None:
    found = managed.ensure(HOUR)
    toy.unlink()
    assert wait_for(lambda: not found.is_alive)


def test_a_server_that_cannot_start_is_reported_with_its_output(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "_BOOT", "raise SystemExit('no such thing')")
    with pytest.raises(InfraError, match=r"ended with 1 when it started .*server=embedded") as caught:
        managed.ensure(HOUR)
    assert "no such thing" in caught.value.log


def test_the_server_that_the_user_named_comes_first(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert server.find_named_server() is None
    monkeypatch.setattr("prefect.settings.PREFECT_API_URL", type("Said", (), {"value": staticmethod(lambda: "http://profile/api")}))
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home/profiles.toml").write_text('active = "mine"\n[profiles.mine]\nPREFECT_API_URL = '
                                                 '"http://profile/api"\n[profiles.other]\n')
    assert server.find_named_server() == "http://profile/api"
    monkeypatch.setenv("PREFECT_PROFILE", "other")
    assert server.find_named_server() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://named/api")
    assert server.find_named_server() == "http://named/api"


@pytest.mark.parametrize(("server", "cluster", "ci", "wanted"), [
    (Server(), Cluster(), "", True), (Server(), Cluster(), "true", False), (Server("managed"), Cluster(), "true", True),
    (Server("embedded"), Cluster(), "", False), (Server("managed"), Cluster(runner="dask"), "", False)])  # fmt: skip
def test_what_is_managed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, cluster: Cluster, ci: str,
                         wanted: bool) -> None:
    asked: list[float] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(managed, "use", asked.append)
    execution.choose_server(Plan("one", cluster=cluster, server=server))
    assert asked == [30.0] * wanted


def test_an_unwritable_state_folder_is_reported_and_the_run_has_its_own_server(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path / "file/state"))
    execution.choose_server(Plan("one"))
    assert "the managed server cannot be used: the state of Shapeline: has no place" in capsys.readouterr().err
    assert managed.get_used() is None and "PREFECT_API_URL" not in os.environ
    with pytest.raises(Exception, match="has no place"):
        execution.choose_server(Plan("one", server=Server("managed")))


def test_a_database_of_mostly_free_pages_shrinks_when_its_server_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SMALL", 1 << 16)
    database = tmp_path / "prefect.db"
    serving.compact(database)
    assert not database.exists()
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("create table runs (data)")
        connection.executemany("insert into runs values (zeroblob(4096))", [()] * 100)
        connection.execute("delete from runs where rowid <= 40")
        size = database.stat().st_size
        serving.compact(database)
        assert database.stat().st_size == size
        connection.execute("delete from runs where rowid <= 90")
    serving.compact(database)
    assert database.stat().st_size < size / 5
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (10,)
