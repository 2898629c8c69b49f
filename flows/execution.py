"""Execution of a plan: the server that the run reports to is chosen before Prefect is imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flows.config import run as config
from flows.config.plan import Plan
from flows.engine import access, managed, server
from lowering.errors import ConfigError, InfraError

NO = ("", "0", "false", "no", "off")


def lower_suite(planned: Plan) -> Path:
    """Lower the jobs of a plan, show the progress on stdout, write the report, and return the run's folder.

    ConfigError and InfraError pass through.
    """
    run = config.build(planned)
    choose_server(planned)
    from flows import lower  # imported here because the import of Prefect reads which server to use

    return lower.lower_suite(run)


def choose_server(planned: Plan) -> None:
    """Let this process report to the server that the user named, or else to the managed one, unless an embedded one is wanted.

    A managed server that cannot be used is told on stderr, and an embedded one used instead, unless the plan asks for a managed one.
    """
    server.configure()
    if named := managed.find_named_server():
        access.use_password(named)
        return
    kind = planned.server.kind
    if kind == "auto" and os.environ.get("CI", "").lower() not in NO:
        kind = "embedded"
    if kind == "embedded" or planned.cluster.runner != "threads":
        return
    try:
        managed.use(planned.server.idle_minutes)
    except (ConfigError, InfraError, OSError) as error:
        if kind == "managed":
            raise
        print(f"shapeline: the managed server cannot be used: {error}: this run has a server of its own", file=sys.stderr)
