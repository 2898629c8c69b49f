"""Self-test of the symbol log: three small exports check that the installed torch still logs the events that the log needs."""

from __future__ import annotations

import functools
import logging
import re

import torch
from torch.export import Dim

from lowering.symbols.tracing.capture import SHAPES, TRACE, Settings, capture

# The events that a probe must log: the kind, and the names in its data that are used.
EXPECTED = {
    "env": (), "symbol": ("symbol", "value", "source", "range"), "guard": ("prefix", "expr"), "range": ("symbol", "range"),
    "replacement": ("symbol", "target", "reason"), "unbacked": ("symbol", "lower", "upper", "made_by"),
    "specialization": ("symbol", "sources", "value", "reason"), "assumption": ("expr", "assumed"), "guards_produced": (),
}


class Probe(torch.nn.Module):
    """A module that branches on a size, fixes another one, and reads a size from data."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        grown = x * 2 if x.shape[0] > 3 else x
        return grown.view(-1, 7), y.nonzero()


@functools.cache
def run_self_test() -> tuple[str, ...]:
    """Check the log under the installed torch. Return one sentence per defect, or nothing if all needed events can be read. Never raises.

    Takes a third of a second, once per process; forked processes inherit the result.
    """
    try:
        return tuple(dict.fromkeys(_find_defects()))
    except Exception as error:  # noqa: BLE001 - if torch cannot export this, every job's own export reports it
        return (f"the self-test of the symbol log raised {type(error).__name__}: {error}",)


def _find_defects() -> list[str]:
    with capture(Probe(), Settings(trace=False)) as log:
        dims = {"x": {0: Dim.AUTO, 1: Dim.AUTO}, "y": {0: Dim.AUTO}}
        torch.export.export(Probe(), (torch.zeros(5, 7), torch.ones(3)), dynamic_shapes=dims, strict=False)
    found = [f"torch {torch.__version__} logs no '{kind}' event that the symbol log can read"
             for kind in EXPECTED if not any(event.kind == kind for event in log.events)]
    found += [f"the '{event.kind}' event of torch {torch.__version__} has no '{name}'"
              for event in log.events for name in EXPECTED.get(event.kind, ()) if name not in event.data]
    lines = [event.stack[-1][2] for event in log.events if event.kind == "guard" and event.stack]
    if "forward" not in lines:
        found.append(f"no guard of torch {torch.__version__} has a line of the model: the format of its call stack changed")
    if log.failed:
        found.append(f"{log.failed} events could not be read; the first: {re.sub(chr(10), ' ', log.failures[0])[-300:]}")
    if logging.root.manager.disable >= logging.DEBUG:
        found.append(f"logging.disable({logging.root.manager.disable}) silences {SHAPES} and {TRACE}")
    return found
