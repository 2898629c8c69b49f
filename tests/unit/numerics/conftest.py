"""What the tests of numbers share."""

from __future__ import annotations

import pytest

from lowering.numerics.running import iree


@pytest.fixture
def without_iree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify without IREE, so that a verdict does not depend on whether it is installed."""
    monkeypatch.setattr(iree, "is_available", lambda: False)
