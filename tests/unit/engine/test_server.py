"""Which Prefect server the workers of a cluster report to."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.config.compose import ROOT
from flows.config.document import Cluster
from flows.engine import server
from lowering.errors import InfraError


@pytest.mark.parametrize("address", ["tcp://head:8786", "ray://10.0.0.7:10001"])
def test_workers_elsewhere_need_a_server_that_they_can_reach(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(InfraError, match="PREFECT_API_URL=http://HOST:4200/api"), server.share(Cluster(runner="dask", address=address)):
        pytest.fail("the run went on")


@pytest.mark.parametrize("address", [None, "auto", "tcp://127.0.0.1:8786", f"tcp://{platform.node()}:8786"])
def test_workers_here_can_have_the_runs_own(address: str | None) -> None:
    assert server._is_here(address)


def test_an_unwritable_home_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = r"file/home: cannot be written: Not a directory \(use another folder: export PREFECT_HOME=FOLDER\)"
    with (temporary_settings({PREFECT_HOME: tmp_path / "file/home"}, restore_defaults={PREFECT_API_URL}),
          pytest.raises(InfraError, match=said)):
        server.check_home()
    with temporary_settings({PREFECT_HOME: tmp_path / "home"}, restore_defaults={PREFECT_API_URL}):
        server.check_home()


def test_an_unwritable_home_is_reported_before_prefect_is_imported() -> None:
    code = ("import sys\nfrom flows.engine import server\nfrom lowering.errors import InfraError\n"
            "try: server.check_home()\nexcept InfraError as error: print(error, 'prefect' in sys.modules)")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60,
                          env={**clean, "PREFECT_HOME": "/dev/null/x", "PYTHONPATH": str(ROOT)})
    assert "/dev/null/x: cannot be written" in done.stdout and done.stdout.endswith("False\n")


def test_an_unwritable_home_is_replaced_with_a_warning(tmp_path: Path) -> None:
    code = "import os; from flows.engine import server; server.configure(); print(os.environ.get('PREFECT_HOME'))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60,
                          env={**clean, "HOME": "/dev/null/x", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == str(tmp_path / f"shapeline-prefect-{os.geteuid()}")
    assert "~/.prefect cannot be written" in done.stderr and "PREFECT_HOME names another folder" in done.stderr
    assert (tmp_path / f"shapeline-prefect-{os.geteuid()}").stat().st_mode & 0o777 == 0o700


def test_a_key_of_another_server_is_ignored_for_an_embedded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_other")
    with temporary_settings(updates={PREFECT_API_KEY: "pnu_other"}, restore_defaults={PREFECT_API_URL}):
        with server.ignore_foreign_key():
            assert not PREFECT_API_KEY.value() and "PREFECT_API_KEY" not in os.environ
        assert PREFECT_API_KEY.value() and os.environ["PREFECT_API_KEY"] == "pnu_other"
    with temporary_settings(updates={PREFECT_API_KEY: "mine", PREFECT_API_URL: "http://127.0.0.1:1/api"}), server.ignore_foreign_key():
        assert PREFECT_API_KEY.value()
