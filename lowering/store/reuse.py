"""What a job takes from the store instead of doing it again, and what it leaves there: the results of its stages, one by one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowering.errors import InfraError, Problem
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Built, Model
from lowering.plain import plain, structured
from lowering.recipe import describe
from lowering.signature import Signature
from lowering.stage import Stage
from lowering.store import keys, programs, provenance
from lowering.store.entries import Entry, Store, digest

if TYPE_CHECKING:
    import torch

STAGES, JOBS = "stages", "jobs"  # kinds of notes: what a job's stages were last made of; the keys of a whole job's stages
FAKE = "fake-"  # in the place of a digest: weights that have shapes and no bytes


class Reuse:
    """Follows a job down its stages, as keys.

    identity: of the program reached; None when it has no saved form, so that what comes of it cannot be stored. weights: their digest.
    """

    def __init__(self, store: Store, job: Job, maker: str):
        provenance.freeze_loaded()  # the keys are of the code that will run, whatever becomes of its files
        self.store, self.job, self.maker = store, job, maker
        self.identity: str | None = keys.MODEL
        self.weights: str | None = None
        self.refused = job.model.weights == "lazy"  # keys are made of the weights' bytes, which such a job does not read
        self.levels: list[str | None] = []
        self.used: dict[str, str] | None = None if self.refused else {}  # stage -> key; None once a stage had none
        self.last: dict[str, Any] = store.noted(STAGES, job.id) or {}
        self._model: dict[str, Any] | None = None

    def parts(self, stage: Stage) -> dict[str, Any] | None:
        """What the result of `stage` on the program reached depends on; None when that cannot be told."""
        if self.identity is None or self.refused:
            return None
        reads = stage.reads()
        found = keys.stage_parts(describe(stage), self.identity)
        if "model" in reads:
            self._model = self._model or keys.model_part(plain(self.job.model))
            found["model"] = self._model
        if "interface" in reads:
            found["interface"] = keys.interface_part(plain(self.job.model))
        if "weights" in reads:
            found["weights"] = self.weights
        if "levels" in reads:
            found["levels"] = list(self.levels)
        if "devices" in reads:
            found["devices"] = provenance.devices(os.environ)
        return found

    def why(self, name: str, parts: Mapping[str, Any]) -> str:
        """Why a stage with these parts is not in the store."""
        return keys.why(self.last.get(name, {}).get("parts"), parts)

    def take(self, name: str, entry: Entry, program: Program) -> Program:
        """The program that `entry` stands for, to be read when a stage looks at it."""
        weights = self.weights if entry.data["carries"] else entry.data["weights"]  # those of now: another seed may have made the entry
        self._reached(name, entry.key, entry.data["identity"], weights)
        if entry.data["through"]:
            return program
        if program.level is Level.MODEL:
            program = Program(Level.MODEL, _Unbuilt(self.store, self.job.model, weights))
        signature = entry.data["signature"]
        held = _Held(self.store, self.job.model, entry, weights)
        return programs.Stored(held.level, signature and structured(Signature, signature), program, held.ir, held.weights)

    def keep(self, name: str, parts: Mapping[str, Any] | None, given: Program, made: Program, record: Mapping[str, Any], stem: Path,
             written: Sequence[Path]) -> None:
        """Store what a stage made of `given`: its IR, the files it wrote, and its `record`. Raises OSError, InfraError."""
        if self.refused:
            return
        through = made.ir is given.ir
        ir = None if through else programs.dump(made, written)
        signature = None if made.signature is None else plain(made.signature)
        identity = self.identity if through else None if ir is None else digest([made.level.word, digest(ir), signature])
        carries = made.weights is given.weights
        weights = self.weights if carries else _write(made.weights, self.store)
        key = None if parts is None or identity is None else keys.of(parts)
        self._reached(name, key, identity, weights)
        if key is not None:
            data = {**record, "level": made.level.word, "identity": identity, "through": through, "signature": signature,
                    "weights": None if carries else weights, "carries": carries,
                    "maker": self.maker, "job": self.job.id, "stage": name}
            self.store.put(key, data, ir, stem, list(written))

    def lose(self) -> None:
        """What was made could not be stored: from here on nothing is."""
        self.refused, self.used = True, None

    def note(self, name: str, parts: Mapping[str, Any] | None, seconds: float, peak: int | None) -> None:
        """Remember what a stage that ran was made of (None: as before) and what it took: for `why`, and for the schedule. Raises OSError."""
        parts = parts or self.last.get(name, {}).get("parts")
        self.last = {**self.last, name: {"parts": parts, "seconds": seconds, "peak_rss_bytes": peak, "maker": self.maker}}
        self.store.note(STAGES, self.job.id, self.last)

    def finish(self) -> None:
        """Remember the keys of a job that ended well: `replay` then needs nothing else. Raises OSError."""
        if self.used is not None:
            parts = keys.job_parts(self.job.to_json(), provenance.devices(os.environ))
            self.store.note(JOBS, keys.of(parts), list(self.used.items()))

    def _reached(self, name: str, key: str | None, identity: str | None, weights: str | None) -> None:
        if self.identity != identity:
            self.levels.append(identity)
        self.identity, self.weights = identity, weights
        if key is None:
            self.used = None
        elif self.used is not None:
            self.used[name] = key


def find(store: Store, key: str) -> Entry | None:
    """The entry of `key`, verified, if the weights it stands for are there too."""
    entry = store.find(key)
    if entry is not None and (held := entry.data["weights"]) and not held.startswith(FAKE) and not store.has_weights(held):
        return None
    return entry


def noted(store: Store, job: Mapping[str, Any], environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """(stage, key) of all stages of a job (as JSON) that has ended well with this store; none when it has not.

    The entries may be gone. Imports neither stages nor compilers.
    """
    held = store.noted(JOBS, keys.of(keys.job_parts(job, provenance.devices({**os.environ, **environment}))))
    return [(name, key) for name, key in held or ()]


def of_job(store: Store, job: Mapping[str, Any], environment: Mapping[str, str]) -> list[tuple[str, Entry]] | None:
    """The entries of all stages of a job (as JSON), by name, if the store has them all. Imports neither stages nor compilers."""
    found = [(name, find(store, key)) for name, key in noted(store, job, environment)]
    return [(name, entry) for name, entry in found if entry is not None] if found and all(entry for _, entry in found) else None


class _Held:
    """Reads one entry's program; what cannot be read is removed, so that the next attempt makes it anew."""

    def __init__(self, store: Store, model: Model, entry: Entry, weights: str | None):
        self.store, self.model, self.entry, self.key = store, model, entry, weights
        self.level = next(level for level in Level if level.word == entry.data["level"])

    def ir(self) -> Any:
        if self.model.libraries:
            from lowering.custom import libraries

            libraries.load(self.model)
        weights = self.weights() if self.level is Level.EXPORTED else {}
        try:
            return programs.load(self.level, self.entry.ir(), weights)
        except Exception as error:
            self.store.discard(self.entry.key)
            cause = f"the {self.level.word} program cannot be read back: {type(error).__name__}: {error}"
            raise InfraError(Problem(str(self.entry.folder), cause, "run the job again: it was removed and is made anew")) from error

    def weights(self) -> Mapping[str, torch.Tensor]:
        return _read(self.store, self.key, self.entry.data["signature"])


class _Unbuilt(Built):
    """A model whose module is built when a stage looks at it; it then holds the weights that were exported."""

    _store: Store
    _weights: str | None

    def __init__(self, store: Store, model: Model, weights: str | None):
        self.__dict__.update(model=model, _store=store, _weights=weights)  # it is frozen

    @cached_property
    def module(self) -> Any:  # type: ignore[override]
        import torch

        from lowering.eager.module import instantiate

        module = instantiate(self.model)
        if self._weights and not self._weights.startswith(FAKE):
            own = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
            with torch.no_grad():
                for weight, tensor in _read(self._store, self._weights, None).items():
                    if weight in own:
                        own[weight].copy_(tensor)
        return module


def _write(weights: Mapping[str, torch.Tensor], store: Store) -> str | None:
    """The digest of `weights`, which the store now holds; of fake ones there is nothing to hold."""
    from lowering.store.weights import fakes, write

    if not weights:
        return None
    if fakes(weights):
        return FAKE + digest([[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in weights.items()])
    return write(weights, store.weights)


def _read(store: Store, key: str | None, signature: Mapping[str, Any] | None) -> dict[str, torch.Tensor]:
    """The weights of a digest, checked; fake ones as `signature` describes them. InfraError when they are not what was written."""
    from lowering.store.weights import check, read, remove

    if key is None:
        return {}
    if key.startswith(FAKE):
        return _fake(structured(Signature, signature))
    try:
        check(store.weights, key)
        return read(store.weights, key)
    except InfraError as error:
        remove(store.weights, key)
        raise InfraError(error.problems[0], "the file was removed; run the job again: it is made anew") from error


def _fake(signature: Signature) -> dict[str, torch.Tensor]:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from lowering import types

    with FakeTensorMode():
        return {weight.name: torch.empty([int(dim) for dim in weight.dims], dtype=types.DTYPES[weight.dtype].torch)
                for weight in signature.weights}
