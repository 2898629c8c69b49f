"""The entries of a model as one program: a function per entry, and every weight once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch

from lowering import files, types
from lowering.errors import InfraError, Problem
from lowering.ir import portable
from lowering.level import Program
from lowering.numerics.coverage import weight_values
from lowering.numerics.delivery import artifact, packaging
from lowering.numerics.running.runner import list_names
from lowering.plain import from_plain, to_plain
from lowering.record.folder import SIGNATURE
from lowering.signature import ENTRIES_SCHEMA, Signature
from lowering.store import weights


@dataclass(frozen=True)
class Part:
    """The program of an entry. version: of the portable artifact; weights: None if it has none; said: its description in signature.json.

    job: the name of its job's folder, beside that of the joined program; None if it is of no job.
    """

    program: bytes
    version: str
    signature: Signature
    weights: Mapping[str, torch.Tensor] | None
    said: Mapping[str, Any]
    job: str | None = None

    @staticmethod
    def from_program(program: Program) -> Part:
        """Return the part of an MHLO program of a built model. Raises StageFailed, Unsupported."""
        held = None if weights.list_fakes(program.weights) else program.weights
        return Part._build(*packaging.serialize(program), packaging.describe(program), held)

    @staticmethod
    def load(folder: Path) -> Part:
        """Return the part that the job in `folder` packaged. Raises InfraError if a file is missing or broken."""
        try:
            said = files.read(folder / SIGNATURE)
            program = artifact.read_program(folder, said["program"]["file"], said["program"]["sha256"], SIGNATURE)
            version = said["program"]["format"].removeprefix(packaging.FORMAT).strip()
            held = said["weights"] and weights.read(folder / said["weights"]["store"], said["weights"]["sha256"])
            return Part._build(program, version, {key: said[key] for key in packaging.DESCRIPTION}, held, folder.name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            cause = f"cannot be read: {type(error).__name__}: {error}"
            raise InfraError(Problem(str(folder / SIGNATURE), cause, "run the job again")) from error

    @staticmethod
    def _build(program: bytes, version: str, said: Mapping[str, Any], held: Mapping[str, torch.Tensor] | None,
               job: str | None = None) -> Part:
        return Part(program, version, from_plain(Signature, said["signature"]), held, said, job)


def save(parts: Mapping[str, Part], folder: Path, store: Path, missing: Mapping[str, str] | None = None) -> list[Path]:
    """Write program.stablehlo with a function for each of `parts`, by entry, and a signature.json of all, to `folder`.

    store: where their weights go. missing: the entries that are not joined, and why. Raises StageFailed, InfraError.
    """
    versions = {part.version for part in parts.values()}
    if len(versions) > 1:
        raise InfraError(Problem(str(folder), f"the entries are portable artifacts of the versions {', '.join(sorted(versions))}",
                                 "package all with one stages.package.target_version"))
    names = unify(parts)
    signatures = {entry: rename(part.signature, names[entry]) for entry, part in parts.items()}
    program = portable.join({entry: part.program for entry, part in parts.items()},
                            {entry: list_names(signature) for entry, signature in signatures.items()}, versions.pop())
    held = None
    if all(part.weights is not None for part in parts.values()):
        united = {names[entry][name]: tensor for entry, part in parts.items() for name, tensor in (part.weights or {}).items()}
        held = {"sha256": weights.write(united, store), "store": os.path.relpath(store, folder)}
    version = next(iter(parts.values())).version
    files.write_bytes(folder / packaging.PROGRAM, program)
    files.write(folder / SIGNATURE, {
        "schema": ENTRIES_SCHEMA,
        "program": {"file": packaging.PROGRAM, "sha256": hashlib.sha256(program).hexdigest(), "format": f"{packaging.FORMAT} {version}"},
        "weights": held,
        "entries": {entry: {"job": part.job, **part.said, "signature": to_plain(signatures[entry])} for entry, part in parts.items()},
        "missing": dict(missing or {}),
    })  # fmt: skip
    return [folder / SIGNATURE, folder / packaging.PROGRAM]


def unify(parts: Mapping[str, Part]) -> dict[str, dict[str, str]]:
    """Return a name for every weight of every entry, by its name there. Weights that are equal in two entries get one name.

    A part of a module names its weights relative to itself, so that an equal tensor of another name is the same weight, unless all of its
    elements are equal, as those of many new biases are, or an entry writes to it. Weights that differ and have one name get the entry's
    name as a prefix.
    """
    written = {result.state for part in parts.values() for result in part.signature.results}
    found: dict[str, dict[str, str]] = {}
    digests: dict[str, Any] = {}  # by name
    for entry in sorted(parts, key=lambda entry: parts[entry].said["model"].get("method", "forward") != "forward"):  # those with full names
        others: dict[Any, list[str]] = {}
        for name, digest in digests.items():
            others.setdefault(digest, []).append(name)
        found[entry] = {}
        for name, digest in _digest_weights(parts[entry]):
            new = name
            if digests.get(name) != digest:
                same = [] if name in written or _is_uniform(parts[entry], name) else others.get(digest, [])
                same = [other for other in same if other not in written]
                same.sort(key=lambda other: not other.endswith(f".{name}"))
                new = same[0] if same else _choose_free(name, entry, digests)
            digests[new] = digest
            found[entry][name] = new
    return found


def _choose_free(name: str, entry: str, taken: Collection[str]) -> str:
    """Return `name`, or that with the prefix of its entry and a number if it is taken."""
    names = chain((name, f"{entry}.{name}"), (f"{entry}.{name}_{number}" for number in count(1)))
    return next(free for free in names if free not in taken)


def rename(signature: Signature, names: Mapping[str, str]) -> Signature:
    """Return the signature with other names for its weights."""
    def new(name: str) -> str:
        return names.get(name, name)

    taken = {argument.name for argument in signature.inputs}
    arguments = tuple(replace(argument, name=argument.name if argument.kind == "input" else new(argument.name))
                      for argument in signature.arguments)
    results = tuple(replace(result, name=new(result.name) if result.kind == "buffer_mutation" else result.name,
                            state=result.state if result.state is None or result.state in taken else new(result.state))
                    for result in signature.results)
    return replace(signature, arguments=arguments, results=results)


def _digest_weights(part: Part) -> Iterator[tuple[str, Any]]:
    """Yield the weights, each with a key by which equal ones are found: a digest, or for fake weights their name and shape."""
    for argument in part.signature.weights:
        if part.weights is None:
            yield argument.name, (argument.name, argument.dtype, argument.dims)
        else:
            tensor = part.weights[argument.name]
            yield argument.name, (types.dtype_name(tensor.dtype), tuple(tensor.shape), weights.digest_tensor(tensor))


def _is_uniform(part: Part, name: str) -> bool:
    """Return whether all elements of a weight are equal."""
    if part.weights is None or part.weights[name].numel() <= 1:
        return True
    return weight_values.is_uniform(part.weights[name])
