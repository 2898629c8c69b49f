"""Reuse of stored results: the results that a job takes from the store, stage by stage, and those that it adds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowering import files, tracking
from lowering.errors import Untrusted
from lowering.job import Job
from lowering.level import Level, Program
from lowering.plain import to_plain
from lowering.recipe import describe
from lowering.stage import Stage
from lowering.store import keys, programs, provenance, restoring
from lowering.store.digests import compute_digest
from lowering.store.entries import PLACE, Entry, Store

# Kinds of notes: last dependencies of a job's stages; keys of all stages of a job; what a model's factory read.
STAGES, JOBS, READS = "stages", "jobs", "reads"


@dataclass(frozen=True)
class Step:
    """A stage that has run, on `given`, and its result `made`.

    record: the rest of the data of its entry. written: its files; their names begin with that of `stem`.
    """

    name: str
    given: Program
    made: Program
    record: Mapping[str, Any]
    stem: Path
    written: Sequence[Path]


class Reuse:
    """Follows a job through its stages by key.

    identity: of the current program; None if it cannot be saved, in which case no later result can be stored. weights: their digest.
    """

    def __init__(self, store: Store, job: Job, maker: str):
        provenance.freeze_loaded()  # the keys must describe the code that will run, even if its files change
        self.store, self.job, self.maker = store, job, maker
        self.identity: str | None = keys.MODEL
        self.weights: str | None = None
        self.refused = job.model.weights == "lazy"  # keys depend on the bytes of weights, which such a job does not read
        self.levels: list[str | None] = []
        self.used: dict[str, str] | None = None if self.refused else {}  # stage -> key; None once a stage had no key
        self.last: dict[str, Any] = store.notes.read(STAGES, job.id) or {}
        self._declared = json.loads(files.encode_json(to_plain(job.model)))
        self._model: dict[str, Any] | None = None

    def list_parts(self, stage: Stage) -> dict[str, Any] | None:
        """Return the parts of the key of `stage` applied to the current program, or None if they cannot be determined."""
        if self.identity is None or self.refused:
            return None
        reads = stage.reads()
        found = keys.list_stage_parts(describe(stage), self.identity)
        if "model" in reads:
            self._model = self._model or keys.describe_model(self._declared, read_names(self.store, self._declared), os.environ)
            found["model"] = self._model
        if "interface" in reads:
            found["interface"] = keys.describe_interface(to_plain(self.job.model))
        if "weights" in reads:
            found["weights"] = self.weights
        if stage.takes_twin and self.job.model.weights == "none":
            found["twin"] = self._describe_passed(stage)
        if "levels" in reads:
            found["levels"] = list(self.levels)
        if "devices" in reads:
            found["devices"] = provenance.describe_devices(os.environ)
        return found

    def _describe_passed(self, stage: Stage) -> dict[str, str]:
        """Return the digests of the options and code of the stages before `stage`, which lower the model's twin too."""
        names = list(self.job.stages)
        before = names[: next((index for index, name in enumerate(names) if self.job.stages[name] == stage), len(names))]
        return {name: compute_digest(keys.list_stage_parts(describe(self.job.stages[name]), keys.MODEL)) for name in before}

    def update(self, parts: dict[str, Any] | None, reads: tracking.Reads) -> dict[str, Any] | None:
        """Return the parts of a stage that has run its model's factory, with all that it read. The names are noted for the next look-up."""
        noted = read_names(self.store, self._declared)
        if not reads.names <= noted:
            with suppress(OSError):
                self.store.notes.write(READS, compute_digest(self._declared), sorted(reads.names | noted))
        if parts is None or "model" not in parts or reads.names <= noted:
            return parts
        self._model = keys.describe_model(self._declared, reads.names | noted, os.environ)
        return {**parts, "model": self._model}

    def explain_miss(self, name: str, parts: Mapping[str, Any]) -> str:
        """Explain why a stage with these parts is not in the store."""
        return keys.explain_miss(self.last.get(name, {}).get("parts"), parts)

    def take(self, name: str, entry: Entry, program: Program) -> Program:
        """Return the program of `entry`, which is read when a stage first accesses it."""
        # The current weights, because the entry may have been made with another seed.
        weights = self.weights if entry.data["carries"] else entry.data["weights"]
        self._advance(name, entry.key, entry.data["identity"], weights)
        if entry.data["through"]:
            return program
        return restoring.restore(self.store, self.job.model, entry, weights, program)

    def keep(self, step: Step, parts: Mapping[str, Any] | None) -> None:
        """Store the result of a stage: its IR, its files and its record. parts: of its key. Raises OSError, InfraError."""
        if self.refused:
            return
        made = step.made
        through = made.ir is step.given.ir
        ir = None if through else programs.dump(made, step.written)
        signature = None if made.signature is None else to_plain(made.signature)
        identity = self.identity if through else None if ir is None else compute_digest([made.level.word, compute_digest(ir), signature])
        carries = made.weights is step.given.weights
        weights = self.weights if carries else restoring.store_weights(made.weights, self.store)
        key = None if parts is None or identity is None else keys.compute(parts)
        self._advance(step.name, key, identity, weights)
        if key is None or parts is None:
            return
        data = {**step.record, "level": made.level.word, "identity": identity, "through": through, "signature": signature,
                "weights": None if carries else weights, "carries": carries, "maker": self.maker, "job": self.job.id, "stage": step.name}
        self.store.put(key, data, ir, step.stem, list(step.written))
        from lowering.store import narrowing  # imports torch, which many users of this module do not need

        for event in step.record["said"]:
            if event.get("key") == "sharing":
                narrowing.remember(self.store, parts, key, event["data"]["obstacle"])

    def narrow(self, parts: Mapping[str, Any], stem: Path) -> tuple[Entry | None, str]:
        """Derive the result with these parts from one of wider ranges, and store it; the files are written beside `stem`.

        Return its entry, or None and the reason why the stage has to run, if there are wider ranges. Raises OSError.
        """
        from lowering.store import narrowing
        from lowering.symbols.log.narrowing import Separate

        reason = ""
        for wider in narrowing.list_wider(self.store, parts):
            reason = reason or wider.obstacle
            wide = find(self.store, wider.key) if not wider.obstacle else None
            if wide is None:
                continue
            try:
                derived = narrowing.derive(wide, wider.ranges, self.job.model)
            except Separate as separate:
                reason = reason or str(separate)
                continue
            own = keys.compute(self.update(dict(parts), tracking.Reads(set(wider.read), set())) or parts)
            wide.place(stem)
            written = [stem.parent / name.replace(PLACE, stem.name, 1) for name in wide.files]
            for path in written:
                if path.suffix == Level.EXPORTED.suffix:
                    _replace_graph(path, derived.ir.partition(b"\n")[2])
            self.store.put(own, {**derived.data, "job": self.job.id}, derived.ir, stem, written)
            return find(self.store, own), ""
        return None, reason

    def list_differences(self, parts: Mapping[str, Any]) -> list[str]:
        """Return how the stored result with these parts differs from those that can be derived from wider ranges."""
        from lowering.store import narrowing
        from lowering.symbols.log.narrowing import Separate

        entry = find(self.store, keys.compute(parts))
        found = []
        for wider in narrowing.list_wider(self.store, parts) if entry is not None else ():
            wide = find(self.store, wider.key) if not wider.obstacle else None
            with suppress(Separate):
                if wide is not None and entry is not None:
                    differences = narrowing.list_differences(narrowing.derive(wide, wider.ranges, self.job.model), entry)
                    found += [f"{part} differs from that of {wide.data['job']}" for part in differences]
        return found

    def stop_storing(self) -> None:
        """Stop storing results, because one could not be stored."""
        self.refused, self.used = True, None

    def note(self, name: str, parts: Mapping[str, Any] | None, seconds: float, peak: int | None) -> None:
        """Record the parts of a stage that ran (None: unchanged), for `explain_miss`, and its cost, for the schedule. Raises OSError."""
        parts = parts or self.last.get(name, {}).get("parts")
        self.last = {**self.last, name: {"parts": parts, "seconds": seconds, "peak_rss_bytes": peak, "maker": self.maker}}
        self.store.notes.write(STAGES, self.job.id, self.last)

    def finish(self) -> None:
        """Record the keys of a successful job, so that `replay` needs nothing else. Raises OSError."""
        if self.used is not None:
            read = read_names(self.store, self._declared)
            parts = keys.list_job_parts(self.job.to_json(), provenance.describe_devices(os.environ), read, os.environ)
            self.store.notes.write(JOBS, keys.compute(parts), list(self.used.items()))

    def _advance(self, name: str, key: str | None, identity: str | None, weights: str | None) -> None:
        if self.identity != identity:
            self.levels.append(identity)
        self.identity, self.weights = identity, weights
        if key is None:
            self.used = None
        elif self.used is not None:
            self.used[name] = key


def _replace_graph(path: Path, graph: bytes) -> None:
    """Replace an archive, which is a hard link into the store, by one with another graph."""
    from lowering.fx import archive

    changed = path.with_name(f".{path.name}.narrowed")
    archive.replace_graph(path, changed, graph)
    changed.replace(path)


def read_names(store: Store, model: Mapping[str, Any]) -> set[str]:
    """Return the files and variables that the factory of a model (as JSON) read the last time that it ran with this store."""
    noted = store.notes.read(READS, compute_digest(model))
    return {name for name in noted if isinstance(name, str)} if isinstance(noted, list) else set()


def find(store: Store, key: str) -> Entry | None:
    """Return the verified entry of `key`, or None if it or the weights it needs are missing.

    Raises Untrusted if it names a file outside of the store.
    """
    entry = store.find(key)
    return entry if entry is not None and restoring.has_weights(store, entry) else None


def read_keys(store: Store, job: Mapping[str, Any], environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (stage, key) for all stages of a job (as JSON) that succeeded with this store, or an empty list.

    The entries may have been removed. Imports neither stages nor compilers.
    """
    variables = {**os.environ, **environment}
    read = read_names(store, job["model"])
    held = store.notes.read(JOBS, keys.compute(keys.list_job_parts(job, provenance.describe_devices(variables), read, variables)))
    return [(name, key) for name, key in held or ()]


def find_job_entries(store: Store, job: Mapping[str, Any], environment: Mapping[str, str]) -> list[tuple[str, Entry]] | None:
    """Return the entries of all stages of a job (as JSON), by name, or None if one is missing. Imports neither stages nor compilers."""
    keyed = read_keys(store, job, environment)
    if [name for name, _ in keyed] != list(job["stages"])[: len(keyed)]:  # names of stages become names of files
        return None
    try:
        found = [(name, find(store, key)) for name, key in keyed]
    except Untrusted:  # the job's own process reports it
        return None
    return [(name, entry) for name, entry in found if entry is not None] if found and all(entry for _, entry in found) else None
