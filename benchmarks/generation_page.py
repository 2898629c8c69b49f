"""List the programs of a run of generative models: their entries, the dims that are dynamic in MHLO, and the steps compared with eager.

    python -m benchmarks.generation_page RUN

RUN is the folder of a run, such as that of `make run SUITE=generation`. Prints the table of docs/generation.md. Exit status 1: an entry did
not end `ok`, a declared dim is not dynamic in MHLO, or a `decode` was compared with fewer than eight steps of eager.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowering import files
from lowering.level import Level
from lowering.markdown import table
from lowering.sizes.dims import Affine, parse_dim

STEP = "decode"
FEWEST = 8  # steps


@dataclass(frozen=True)
class Entry:
    """An entry of a program. dims: the symbols of its arguments, each with whether all of its dims are dynamic in MHLO.

    steps: how many were compared with eager after prompts. same: the least share of rows in which a step chose eager's token.
    """

    model: str
    cache: str
    name: str
    outcome: str
    dims: Mapping[str, bool]
    steps: int
    same: float

    @property
    def is_whole(self) -> bool:
        return self.outcome == "ok" and all(self.dims.values()) and (self.name != STEP or self.steps >= FEWEST)

    def __str__(self) -> str:
        dims = ", ".join(symbol if is_dynamic else f"{symbol} (static)" for symbol, is_dynamic in self.dims.items())
        return f"`{self.name}` {dims}" + ("" if self.outcome == "ok" else f" ({self.outcome})")


def read_entry(job: Mapping[str, Any]) -> Entry:
    """Return the entry of a job of report.json."""
    cache, _, name = job["variant"].partition(":")
    dims: dict[str, bool] = {}
    for dim in (job["symbols"] or {}).get("requested", ()):
        if isinstance(asked := parse_dim(dim["asked"]), Affine):
            sizes = {level["level"]: level["size"] for level in dim["levels"]}
            dims[asked.symbol] = dims.get(asked.symbol, True) and sizes.get(Level.MHLO.word) == "?"
    walks = (job["verify"] or {}).get("steps", ())
    return Entry(job["model"], cache, name, job["outcome"], dims, sum(walk["steps"] for walk in walks),
                 min((walk["top1"] for walk in walks), default=1.0))


def list_rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return a row for each program."""
    programs: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        programs.setdefault((entry.model, entry.cache), []).append(entry)
    return [{"model": model.removesuffix("_generation"), "cache": cache, "entries and their dynamic dims": "; ".join(map(str, found)),
             "steps": sum(entry.steps for entry in found), "same token": f"{min(entry.same for entry in found):.0%}"}
            for (model, cache), found in programs.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Exit 1 if an entry is not whole."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generation_page", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="the folder of a run")
    entries = [read_entry(job) for job in files.read(parser.parse_args(arguments).run / "report.json")["jobs"]]
    print("\n".join(table(list_rows(entries))))
    return 0 if all(entry.is_whole for entry in entries) else 1


if __name__ == "__main__":
    raise SystemExit(main())
