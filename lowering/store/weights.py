"""Deduplicated weights: safetensors files named by the digest of their content, in a folder that many jobs share."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.utils.weak import WeakIdKeyDictionary

from lowering import files, types
from lowering.errors import InfraError, Problem, Unsupported
from lowering.store import mirror
from lowering.store.entries import locate_weights

_ALIASES = "aliases"  # metadata: name -> the name under which the same bytes are stored
_digests: MutableMapping[torch.Tensor, tuple[Any, bytes]] = WeakIdKeyDictionary()


def compute_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the hex SHA-256 over names, dtypes, shapes and bytes, regardless of order.

    Raises Unsupported if tensors are fake, and lists them.
    """
    if faked := list_fakes(weights):
        fix = "build the model without FakeTensorMode"
        raise Unsupported([Problem(f"weight '{name}'", "is fake: it has a shape but no bytes", fix) for name in faked])
    whole = hashlib.sha256()
    seen: dict[Any, bytes] = {}
    for name in sorted(weights):
        tensor = weights[name]
        if _make_memory_key(tensor) not in seen:
            seen[_make_memory_key(tensor)] = digest_tensor(tensor)
        head = json.dumps([name, types.dtype_name(tensor.dtype), list(tensor.shape)]).encode()
        whole.update(len(head).to_bytes(4, "big") + head + seen[_make_memory_key(tensor)])
    return whole.hexdigest()


def digest_tensor(tensor: torch.Tensor) -> bytes:
    """Return the SHA-256 of the bytes, cached until torch writes to the tensor: several stages of a job use the same weights."""
    if tensor.is_inference():  # torch does not track writes to inference tensors
        return hashlib.sha256(_view_bytes(tensor)).digest()
    state = (tensor._version, _make_memory_key(tensor))
    if (known := _digests.get(tensor)) is not None and known[0] == state:
        return known[1]
    found = hashlib.sha256(_view_bytes(tensor)).digest()
    _digests[tensor] = (state, found)
    return found


def locate(store: Path, key: str) -> Path:
    return locate_weights(store, key)


def write(weights: Mapping[str, torch.Tensor], store: Path) -> str:
    """Write `weights` to `store` unless it has them, and return their digest.

    Tensors that share memory are stored once. Raises InfraError.
    """
    key = compute_digest(weights)
    path = locate(store, key)
    if path.exists():
        with suppress(OSError):  # a store that is read-only
            os.utime(path)  # needed soon: protects them from eviction
        _upload(path)
        return key
    first: dict[Any, str] = {}
    aliases = {}
    for name, tensor in weights.items():
        owner = first.setdefault(_make_memory_key(tensor), name)
        if owner != name:
            aliases[name] = owner
    distinct = {name: weights[name].detach().cpu().contiguous() for name in first.values()}
    _separate_storages(distinct)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replace_atomically(path) as draft:
            save_file(distinct, draft, {_ALIASES: json.dumps(aliases)})
            with draft.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        fix = "check the disk space and permissions of the store"
        raise InfraError(Problem(str(path), f"weights cannot be written: {error}", fix)) from error
    _upload(path)
    return key


def remove(store: Path, key: str) -> None:
    """Remove weights that do not match their digest, so that they are written again. Raises OSError."""
    locate(store, key).unlink(missing_ok=True)
    mirror.remove(locate(store, key))


def read(store: Path, key: str) -> dict[str, torch.Tensor]:
    """Return the weights of that digest, mapped from the file without a copy. Raises InfraError if the file is missing or broken."""
    path = locate(store, key)
    try:
        if not path.exists():
            mirror.fetch(path)
        files.check_regular(path)
        with safe_open(path, framework="pt") as file:
            aliases = json.loads((file.metadata() or {}).get(_ALIASES, "{}"))
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise InfraError(Problem(str(path), f"weights cannot be read: {error}", "run the job again to write them")) from error
    return found | {name: found[owner] for name, owner in aliases.items()}


def check(store: Path, key: str) -> None:
    """Verify that the stored bytes match the digest. Raises InfraError if not."""
    if (actual := compute_digest(read(store, key))) != key:
        raise InfraError(Problem(str(locate(store, key)), f"content does not match its name (digest {actual})",
                                 "delete the file and run the job again"))


def _upload(path: Path) -> None:
    """Upload the weights if the store mirrors a URL."""
    try:
        if not mirror.exists(path):
            mirror.upload([path])
    except OSError as error:
        fix = "check the URL and its permissions"
        raise InfraError(Problem(str(error.filename or path), f"weights cannot be written: {error}", fix)) from error


def _make_memory_key(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Return a key that is equal for tensors that are the same view of the same memory."""
    if tensor.numel() == 0:
        return (id(tensor),)
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.is_conj(), tensor.is_neg())


def _view_bytes(tensor: torch.Tensor) -> Any:
    flat = tensor.detach().cpu().contiguous().resolve_conj().resolve_neg().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def _separate_storages(tensors: dict[str, torch.Tensor]) -> None:
    """Copy views that share memory without being equal, because the file stores each tensor separately."""
    owners: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        if storage in owners or tensor.untyped_storage().nbytes() != tensor.nbytes:
            tensors[name] = tensor.clone()
        owners.add(storage)


def list_fakes(weights: Mapping[str, torch.Tensor]) -> list[str]:
    """List the names of tensors that have a shape but no bytes."""
    from torch._subclasses.fake_tensor import FakeTensor

    return [name for name, tensor in weights.items() if isinstance(tensor, FakeTensor) or tensor.device.type == "meta"]
