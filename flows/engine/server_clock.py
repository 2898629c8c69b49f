"""The clock of Prefect's server, which the flow and the workers of a cluster share: the clocks of their machines may differ."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from lowering import clock
from lowering.errors import InfraError, Problem


def read() -> float:
    """Return the seconds since the epoch by the server's clock, rounded down. Raises InfraError if the server does not tell them."""
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            return parsedate_to_datetime(client.request("GET", "/health").headers["Date"]).timestamp()
    except (httpx.HTTPError, KeyError, ValueError) as error:
        cause = f"its clock, by which limits.run_seconds is measured, cannot be read: {type(error).__name__}: {error}"
        raise InfraError(Problem("Prefect's server", cause, "check that the workers can reach the server")) from error


def to_shared(deadline: float) -> float:
    """Convert a time of this process's `lowering.clock` to the server's clock, to within a second."""
    return deadline - clock.now() + read()


def to_local(deadline: float) -> float:
    """Convert a time of the server's clock to this process's `lowering.clock`, to within a second."""
    return deadline - read() + clock.now()
