"""The deadline of a run on the workers of a cluster, whose clocks are not the flow's."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.engine import server_clock
from lowering import clock
from lowering.errors import InfraError


@pytest.mark.parametrize("ahead", [3600.0, -86400.0])
def test_a_worker_whose_clock_is_off_has_as_much_time_left_as_the_flow(ahead: float, prefect: Mapping[str, str],
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_settings({PREFECT_API_URL: prefect["PREFECT_API_URL"]}):
        shared = server_clock.to_shared(clock.now() + 600)
        monkeypatch.setattr(clock, "_OFFSET", clock._OFFSET + ahead)
        assert server_clock.to_local(shared) - clock.now() == pytest.approx(600, abs=60)  # a busy machine may take long between the two


def test_a_server_that_does_not_tell_its_time_is_named() -> None:
    with (temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
          pytest.raises(InfraError, match=r"limits.run_seconds is measured, cannot be read")):
        server_clock.read()
