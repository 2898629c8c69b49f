"""Modules in training: the loss as one of their outputs, and the gradients of eager autograd."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch.utils.checkpoint import CheckpointFunction

from lowering import recipe
from lowering.eager.outputs import Outputs, flatten_outputs
from lowering.eager.pytrees import LONE
from lowering.errors import ConfigError, LoadError, Problem, Unsupported, suggest
from lowering.model import GRADIENT, LOSS, Model


class WithLoss(torch.nn.Module):
    """A module whose forward also takes the targets, and returns a dict of the loss and the outputs of `module` by name.

    Parameters, buffers and submodules are those of `module`, by the same names. loss: of a model (see `Model.loss`); place: names it in
    errors.
    """

    def __init__(self, module: torch.nn.Module, loss: Mapping[str, Any], place: str) -> None:
        super().__init__()
        self.__dict__["module"] = module  # not a submodule, so that names of weights do not change
        for held in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[held] = module.__dict__[held]
        self._place = place
        try:
            self._compute = recipe.locate(loss[recipe.TARGET])
        except ConfigError as error:
            raise LoadError([Problem(place, problem.cause, problem.fix) for problem in error.problems]) from error
        self._outputs, self._targets = loss["outputs"], loss.get("targets", {})
        self._constants = {name: value for name, value in loss.items() if name not in (recipe.TARGET, "outputs", "targets")}
        run = functools.partial(self._run)
        run.__signature__ = _build_signature(module, self._targets.values())  # type: ignore[attr-defined]
        self.__dict__["forward"] = run

    def _run(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        targets = {argument: named.pop(name) for argument, name in self._targets.items()}
        leaves = flatten_outputs(self.module(*arguments, **named)).leaves
        if unknown := [name for name in self._outputs.values() if name not in leaves]:
            raise LoadError([_report_missing(f"{self._place}.outputs", name, leaves) for name in unknown])
        outputs = {argument: leaves[name] for argument, name in self._outputs.items()}
        return {LOSS: self._compute(**outputs, **targets, **self._constants), **leaves}


def prepare(module: torch.nn.Module, model: Model) -> torch.nn.Module:
    """Return `module` in train mode, with its loss as an output."""
    module.train()
    return module if isinstance(model.loss, str) else WithLoss(module, model.loss, f"models.{model.name}.loss")


def unwrap(module: torch.nn.Module) -> torch.nn.Module:
    """Return the original module of the model's author."""
    return module.module if isinstance(module, WithLoss) else module  # type: ignore[return-value]


def name_loss(model: Model, outputs: Iterable[str]) -> str:
    """Return the name of the output that is the loss. A module that returns one tensor need not name it."""
    name = model.loss if isinstance(model.loss, str) else LOSS
    return LONE if name == LOSS and list(outputs) == [LONE] else name


def find_loss(outputs: Outputs, model: Model) -> torch.Tensor:
    """Return the loss of a module's outputs. Raises LoadError if it cannot be differentiated."""
    place, name = f"models.{model.name}.loss", name_loss(model, outputs.leaves)
    if name not in outputs.leaves:
        raise LoadError(_report_missing(place, name, outputs.leaves))
    loss = outputs.leaves[name]
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        shown = f"{loss.dtype} of shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else f"a {type(loss).__name__}"
        raise LoadError(Problem(place, f"output '{name}' is {shown}", "a loss must be one floating-point number: reduce it by mean or sum"))
    if not loss.requires_grad:
        raise LoadError(Problem(place, f"output '{name}' depends on no trainable parameter", "set requires_grad=True on the parameters"))
    return loss


def refuse_reentrant_checkpoints(model: Model) -> AbstractContextManager[Any]:
    """Return a context in which `torch.utils.checkpoint` with `use_reentrant=True` raises Unsupported.

    It runs a module without gradients and again in the backward, which neither a capture nor `torch.autograd.grad` follows.
    """
    def refuse(*_: Any) -> Any:
        cause = "the module checkpoints a part with use_reentrant=True, whose gradients no capture sees"
        fix = "pass use_reentrant=False to torch.utils.checkpoint: it gives the same values"
        raise Unsupported(Problem(f"models.{model.name}", cause, fix))

    return mock.patch.object(CheckpointFunction, "forward", staticmethod(refuse)) if model.mode == "training" else nullcontext()


def compute_gradients(module: torch.nn.Module, model: Model, outputs: Outputs) -> dict[str, torch.Tensor]:
    """Compute the gradient of every trainable parameter with autograd, by `grad.<name>`; zeros if the loss does not depend on it.

    Sparse gradients are returned as dense ones.

    Raises LoadError if the module cannot be trained.
    """
    trained = {name: parameter for name, parameter in module.named_parameters(remove_duplicate=False) if parameter.requires_grad}
    loss = find_loss(outputs, model)
    try:
        found = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
    except RuntimeError as error:
        problem = Problem(f"models.{model.name}", f"eager's backward raised {error}", "the module itself cannot be trained at these sizes")
        raise LoadError(problem) from error
    return {f"{GRADIENT}{name}": gradient.to_dense() for name, gradient in zip(trained, found, strict=True)}


def _build_signature(module: torch.nn.Module, targets: Any) -> inspect.Signature:
    """Return the signature of forward, with the targets added by name."""
    taken = list(inspect.signature(module.forward).parameters.values())
    last = len(taken) - any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken)
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in targets]
    return inspect.Signature([*taken[:last], *added, *taken[last:]])


def _report_missing(place: str, name: str, leaves: Mapping[str, Any]) -> Problem:
    known = [name for name, leaf in leaves.items() if isinstance(leaf, torch.Tensor)]
    return Problem(place, f"the module has no output '{name}'", suggest(name, known) or f"outputs: {', '.join(known)}")
