"""Programs and weights read back from the store: a result's IR when a stage first accesses it, its weights once they are verified."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lowering.errors import InfraError, Problem
from lowering.level import Level, Program
from lowering.model import Built, Model
from lowering.plain import from_plain
from lowering.signature import Signature
from lowering.store import programs
from lowering.store.digests import compute_digest
from lowering.store.entries import Entry, Store

if TYPE_CHECKING:
    import torch

FAKE = "fake-"  # prefix, in place of a digest, of weights that have shapes but no bytes


def restore(store: Store, model: Model, entry: Entry, weights: str | None, given: Program) -> Program:
    """Return the program of `entry`, the result of a stage applied to `given`. It is read on first access.

    weights: the digest of its weights, which may be others than those of the entry.
    """
    if given.level is Level.MODEL:
        given = Program(Level.MODEL, _Unbuilt(store, model, weights))
    signature = entry.data["signature"]
    held = _Held(store, model, entry, weights)
    return programs.Stored(held.level, signature and from_plain(Signature, signature), given, held.ir, held.weights)


def has_weights(store: Store, entry: Entry) -> bool:
    """Return whether the store has the weights of `entry`, if it has any with bytes."""
    key = entry.data["weights"]
    return not key or key.startswith(FAKE) or store.has_weights(key)


class _Held:
    """Reads the program of one entry. An entry that cannot be read is removed, so that the next attempt rebuilds it."""

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
            fix = "run the job again: the entry was removed and will be rebuilt"
            raise InfraError(Problem(str(self.entry.folder), cause, fix)) from error

    def weights(self) -> Mapping[str, torch.Tensor]:
        return _load_weights(self.store, self.key, self.entry.data["signature"])


class _Unbuilt(Built):
    """A model whose module is built on first access, and then gets the weights that were exported."""

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
                for weight, tensor in _load_weights(self._store, self._weights, None).items():
                    if weight in own:
                        own[weight].copy_(tensor)
        return module


def store_weights(weights: Mapping[str, torch.Tensor], store: Store) -> str | None:
    """Store `weights` and return their digest. Fake weights have no bytes to store."""
    from lowering.store.weights import list_fakes, write

    if not weights:
        return None
    if list_fakes(weights):
        return FAKE + compute_digest([[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in weights.items()])
    return write(weights, store.weights)


def _load_weights(store: Store, key: str | None, signature: Mapping[str, Any] | None) -> dict[str, torch.Tensor]:
    """Read and verify the weights of a digest; build fake ones from `signature`. Raises InfraError if they are damaged."""
    from lowering.store.weights import check, read, remove

    if key is None:
        return {}
    if key.startswith(FAKE):
        return _make_fake_weights(from_plain(Signature, signature))
    try:
        check(store.weights, key)
        return read(store.weights, key)
    except InfraError as error:
        remove(store.weights, key)
        raise InfraError(error.problems[0], "the file was removed and will be rebuilt; run the job again") from error


def _make_fake_weights(signature: Signature) -> dict[str, torch.Tensor]:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from lowering import types

    with FakeTensorMode():
        return {weight.name: torch.empty([int(dim) for dim in weight.dims], dtype=types.DTYPES[weight.dtype].torch)
                for weight in signature.weights}
