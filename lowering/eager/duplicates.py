"""Copies of a module that may be written to; a module that cannot be copied is built again."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch

from lowering.eager import module as modules
from lowering.errors import LoadError, Problem
from lowering.model import Model


def duplicate(module: torch.nn.Module, model: Model, shared: bool = False) -> torch.nn.Module:
    """Return a module like `module`, with weights and buffers of its own, or with the parameters of `module` if `shared`.

    One that deepcopy refuses (an attribute is a lock, a generator, a Python module) is built by the model's factory and takes the state of
    `module`. LoadError when the two do not have the same state.
    """
    try:
        return deepcopy(module, {id(weight): weight for weight in module.parameters()} if shared else {})
    except Exception as error:  # noqa: BLE001 - __deepcopy__ and __reduce_ex__ of a user's object may raise anything
        return _rebuild(module, model, shared, error)


def _rebuild(module: torch.nn.Module, model: Model, shared: bool, cause: Exception) -> torch.nn.Module:
    built = modules.instantiate(model).train(module.training)
    ours, theirs = dict(_iterate_tensors(built)), dict(_iterate_tensors(module))
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        raise LoadError(Problem(f"models.{model.name}", f"cannot be copied ({type(cause).__name__}: {cause}), "
                                "and its factory builds another module the second time",
                                "define __deepcopy__, or let the factory always build the same module")) from cause
    with torch.no_grad():
        for (owner, name), (original, _) in zip(_iterate_owners(built), _iterate_owners(module), strict=True):
            held = original._parameters.get(name) if name in original._parameters else None
            if held is not None and shared:
                owner._parameters[name] = held
            elif (value := getattr(owner, name)) is not None:
                value.copy_(getattr(original, name))
    return built


def _iterate_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _iterate_owners(module: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, str]]:
    """Iterate over the owners of parameters and buffers, in one order for modules of equal structure."""
    for part in module.modules():
        yield from ((part, name) for held in (part._parameters, part._buffers) for name in held)
