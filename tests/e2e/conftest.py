"""What the end-to-end tests share: the quickstart suite, lowered once a session, and a Prefect server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.e2e.prefect_server import make_environment, serve
from tests.e2e.quickstart import Lowered, lower_all


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Lowered]:
    """The quickstart's jobs by id."""
    return lower_all(tmp_path_factory.mktemp("quickstart"))


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of commands that report to one server, which spares each of them the start of an embedded one."""
    home = tmp_path_factory.mktemp("prefect")
    environment = make_environment(home)
    with serve(environment, home / "server.log"):
        yield environment
