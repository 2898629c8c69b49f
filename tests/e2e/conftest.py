"""What the end-to-end tests share: the quickstart suite, lowered once a session."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.e2e.quickstart import Lowered, lower_all


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Lowered]:
    """The quickstart's jobs by id."""
    return lower_all(tmp_path_factory.mktemp("quickstart"))
