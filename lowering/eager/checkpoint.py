"""Weights mapped from safetensors files: a module is built without memory for its parameters, which are then mapped from disk, unread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch.nn.modules.module import register_module_parameter_registration_hook

from lowering import types
from lowering.errors import LoadError, Problem, suggest

SUFFIX = ".safetensors"
NAMED = 20  # maximum number of problems of one kind in an error


@contextmanager
def skip_parameters() -> Iterator[None]:
    """Create parameters of modules on the meta device inside the block, as soon as they are assigned. Buffers are computed as usual."""

    def empty(_module: torch.nn.Module, _name: str, parameter: torch.nn.Parameter) -> torch.nn.Parameter:
        return parameter if parameter.is_meta else torch.nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(empty)
    try:
        yield
    finally:
        handle.remove()


def fill(module: torch.nn.Module, path: Path) -> None:
    """Assign the tensor of the same name to every parameter and persistent buffer of `module`, mapped from `path` (a file or a folder).

    Raises LoadError with all that are missing or differ in shape or dtype. Tied parameters stay tied: one of their names is enough.
    """
    where = locate_tensors(path)
    owners: dict[int, list[str]] = {}
    held = module.state_dict(keep_vars=True)
    for name, tensor in held.items():
        owners.setdefault(id(tensor), []).append(name)
    stored = {names[0]: next((name for name in names if name in where), None) for names in owners.values()}
    missing = [Problem(f"weight '{name}'", f"is not in {path}",
                       suggest(name, where) or "the factory must build the module that was saved")
               for name, found in stored.items() if found is None]
    if missing:
        raise LoadError([*missing[:NAMED], *_count_more(missing)])
    mapped = _map_tensors({found: where[found] for found in stored.values() if found is not None})
    wrong = [problem for name, found in stored.items() if found for problem in _list_misfits(name, held[name], mapped[found])]
    if wrong:
        raise LoadError([*wrong[:NAMED], *_count_more(wrong)])
    for names in owners.values():
        tensor = mapped[stored[names[0]] or ""]
        _set_tensor(module, names, held[names[0]], tensor)
    if left := [name for name, parameter in module.named_parameters(remove_duplicate=False) if parameter.is_meta]:
        cause = "is not part of the module's state dict, so a checkpoint cannot contain it"
        raise LoadError([Problem(f"weight '{name}'", cause) for name in left])


def list_unused(module: torch.nn.Module, path: Path) -> list[str]:
    """List the names in the files that the module does not have."""
    return sorted(locate_tensors(path).keys() - module.state_dict().keys())


def locate_tensors(path: Path) -> dict[str, Path]:
    """Map each tensor name to its file. Raises LoadError if a file cannot be read, or if two files contain the same name."""
    paths = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not paths:
        raise LoadError(Problem(str(path), f"has no *{SUFFIX} file", "give a file or folder of a safetensors checkpoint"))
    found: dict[str, Path] = {}
    for file in paths:
        try:
            with safe_open(file, framework="pt") as opened:
                names = list(opened.keys())
        except (OSError, SafetensorError) as error:
            raise LoadError(Problem(str(file), f"cannot be read as safetensors: {error}")) from error
        if twice := sorted(found.keys() & set(names)):
            raise LoadError(Problem(str(file), f"contains '{twice[0]}', and so does {found[twice[0]].name}", "give only one of the files"))
        found |= dict.fromkeys(names, file)
    return found


def _map_tensors(where: Mapping[str, Path]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in dict.fromkeys(where.values()):
        with safe_open(file, framework="pt") as opened:
            tensors |= {name: opened.get_tensor(name) for name, place in where.items() if place == file}
    return tensors


def _list_misfits(name: str, wanted: torch.Tensor, stored: torch.Tensor) -> Iterator[Problem]:
    if wanted.shape != stored.shape:
        yield Problem(f"weight '{name}'", f"has shape {list(stored.shape)} in the file and {list(wanted.shape)} in the module")
    if wanted.dtype != stored.dtype:
        yield Problem(f"weight '{name}'",
                          f"is {types.dtype_name(stored.dtype)} in the file and {types.dtype_name(wanted.dtype)} in the module",
                      f"build the module in {types.dtype_name(stored.dtype)}: a conversion would read the whole tensor")


def _set_tensor(module: torch.nn.Module, names: list[str], old: torch.Tensor, tensor: torch.Tensor) -> None:
    parameter = isinstance(old, torch.nn.Parameter)
    value = torch.nn.Parameter(tensor, requires_grad=old.requires_grad) if parameter else tensor
    for name in names:
        owner, _, leaf = name.rpartition(".")
        part = module.get_submodule(owner)
        (part._parameters if parameter else part._buffers)[leaf] = value  # type: ignore[index]


def _count_more(problems: list[Problem]) -> list[Problem]:
    return [Problem("and", f"{len(problems) - NAMED} more")] if len(problems) > NAMED else []
