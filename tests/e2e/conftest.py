"""What the end-to-end tests share: the quickstart suite, lowered once a session, and a Prefect server."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests import prefect_server
from tests.e2e.quickstart import Lowered, lower_all


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Lowered]:
    """The quickstart's jobs by id."""
    return lower_all(tmp_path_factory.mktemp("quickstart"))


@pytest.fixture(scope="session")
def prefect() -> dict[str, str]:
    """The environment of commands that report to the session's server."""
    return prefect_server.share()
