"""Weights, once: a safetensors file named by the digest of what it holds, in a folder that many jobs share."""

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
from lowering.store.entries import weights_file

_ALIASES = "aliases"  # metadata: name -> the name under which the same bytes are stored
_digests: MutableMapping[torch.Tensor, tuple[Any, bytes]] = WeakIdKeyDictionary()


def digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Hex SHA-256 over names, dtypes, shapes and bytes; the order of the mapping does not count. Unsupported lists the fake tensors."""
    if faked := fakes(weights):
        fix = "build the model without FakeTensorMode"
        raise Unsupported([Problem(f"weight '{name}'", "is fake: it has a shape and no bytes", fix) for name in faked])
    whole = hashlib.sha256()
    seen: dict[Any, bytes] = {}
    for name in sorted(weights):
        tensor = weights[name]
        if _identity(tensor) not in seen:
            seen[_identity(tensor)] = _digest_of(tensor)
        head = json.dumps([name, types.name(tensor.dtype), list(tensor.shape)]).encode()
        whole.update(len(head).to_bytes(4, "big") + head + seen[_identity(tensor)])
    return whole.hexdigest()


def _digest_of(tensor: torch.Tensor) -> bytes:
    """SHA-256 of its bytes, read again only when torch has written to it since: several stages of a job ask for the same weights."""
    if tensor.is_inference():  # torch does not count what is written to such a one
        return hashlib.sha256(_bytes(tensor)).digest()
    state = (tensor._version, _identity(tensor))
    if (known := _digests.get(tensor)) is not None and known[0] == state:
        return known[1]
    found = hashlib.sha256(_bytes(tensor)).digest()
    _digests[tensor] = (state, found)
    return found


def path_of(store: Path, key: str) -> Path:
    return weights_file(store, key)


def write(weights: Mapping[str, torch.Tensor], store: Path) -> str:
    """Put `weights` into `store` unless it holds them already; the digest. Tensors that share memory are stored once. Raises InfraError."""
    key = digest(weights)
    path = path_of(store, key)
    if path.exists():
        with suppress(OSError):  # a store that is read-only here
            os.utime(path)  # about to be needed: nobody shall clear them away
        _publish(path)
        return key
    first: dict[Any, str] = {}
    aliases = {}
    for name, tensor in weights.items():
        owner = first.setdefault(_identity(tensor), name)
        if owner != name:
            aliases[name] = owner
    distinct = {name: weights[name].detach().cpu().contiguous() for name in first.values()}
    _part_storages(distinct)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.drafted(path) as draft:
            save_file(distinct, draft, {_ALIASES: json.dumps(aliases)})
            with draft.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        raise InfraError(Problem(str(path), f"weights cannot be written: {error}", "check space and permissions of the store")) from error
    _publish(path)
    return key


def remove(store: Path, key: str) -> None:
    """Forget weights that are not what their digest says: they are written anew. Raises OSError."""
    path_of(store, key).unlink(missing_ok=True)
    mirror.remove(path_of(store, key))


def read(store: Path, key: str) -> dict[str, torch.Tensor]:
    """The weights of that digest, mapped from the file, not copied. InfraError when the file is missing or broken."""
    path = path_of(store, key)
    try:
        if not path.exists():
            mirror.bring(path)
        with safe_open(path, framework="pt") as file:
            aliases = json.loads((file.metadata() or {}).get(_ALIASES, "{}"))
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise InfraError(Problem(str(path), f"weights cannot be read: {error}", "run the job again to write them")) from error
    return found | {name: found[owner] for name, owner in aliases.items()}


def check(store: Path, key: str) -> None:
    """InfraError when the bytes in the store are not those that the digest names."""
    if (actual := digest(read(store, key))) != key:
        raise InfraError(Problem(str(path_of(store, key)), f"holds other bytes (digest {actual})", "delete the file and run the job again"))


def _publish(path: Path) -> None:
    """Where the store is the copy of a URL, have the weights there too."""
    try:
        if not mirror.exists(path):
            mirror.publish([path])
    except OSError as error:
        raise InfraError(Problem(str(error.filename or path), f"weights cannot be written: {error}", "check the URL and its permissions")) from error


def _identity(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Equal for tensors that are the same view of the same memory."""
    if tensor.numel() == 0:
        return (id(tensor),)
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.is_conj(), tensor.is_neg())


def _bytes(tensor: torch.Tensor) -> Any:
    flat = tensor.detach().cpu().contiguous().resolve_conj().resolve_neg().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def _part_storages(tensors: dict[str, torch.Tensor]) -> None:
    """Copy views that share memory without being equal: the file holds each tensor by itself."""
    owners: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        if storage in owners or tensor.untyped_storage().nbytes() != tensor.nbytes:
            tensors[name] = tensor.clone()
        owners.add(storage)


def fakes(weights: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of tensors that have a shape and no bytes."""
    from torch._subclasses.fake_tensor import FakeTensor

    return [name for name, tensor in weights.items() if isinstance(tensor, FakeTensor) or tensor.device.type == "meta"]
