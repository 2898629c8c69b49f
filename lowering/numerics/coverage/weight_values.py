"""Other values for weights whose elements are all equal: a new norm scales by one and adds zero, and so does a program that drops both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from lowering.level import Program

WORD = "weights"  # of the set, among `special_values.SETS`
_LEAST = 0.1  # the size of a weight that was not 0: a layer scaled by 1e-6 hides what is wrong in it
_LARGEST = 1e3  # larger numbers mask elements
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Varied:
    """Other values of weights by name. fixed: weights that a program could drop unnoticed and that keep their values, with the reason."""

    values: dict[str, torch.Tensor] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)


def vary(module: torch.nn.Module, forms: Iterable[Program]) -> Varied:
    """Return other values for each weight of `module` whose elements are all one number, and which every one of `forms` takes as it is.

    Numbers keep their sign: a variance stays above 0. Weights that a form lacks or has changed stay fixed, and so do scalars, from which
    modules compute constants of the graph.
    """
    forms = list(forms)
    varied = Varied()
    drawn: dict[int, torch.Tensor] = {}  # by the id of the weight: tied ones stay equal
    for number, (name, weight) in enumerate(_list_weights(module).items()):
        if not _may_hide(weight):
            continue
        if reason := _explain_fixed(name, weight, forms):
            varied.fixed[name] = reason
            continue
        if id(weight) not in drawn:
            drawn[id(weight)] = _draw(weight.detach(), torch.Generator().manual_seed(7919 + number))
        varied.values[name] = drawn[id(weight)]
    return varied


@contextmanager
def hold(module: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Give the weights of `module` other values for the block. Before it, the elements of each are equal."""
    held = _list_weights(module)
    before = {name: held[name].detach().reshape(-1)[0].clone() for name in values}
    with torch.no_grad():
        try:
            for name, value in values.items():
                held[name].copy_(value)
            yield
        finally:
            for name, value in before.items():
                held[name].copy_(value)


def _list_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}


def _may_hide(weight: torch.Tensor) -> bool:
    """Return whether all elements of a weight are the same number of usual size. Of single numbers only 0 and 1 change nothing."""
    if type(weight) not in (torch.Tensor, torch.nn.Parameter) or weight.dtype not in _DTYPES:
        return False
    if weight.device.type != "cpu" or weight.numel() == 0:
        return False
    number = float(weight.detach().reshape(-1)[0].abs())
    return is_uniform(weight) and (number <= _LARGEST if weight.numel() > 1 else number in (0.0, 1.0))


def _explain_fixed(name: str, weight: torch.Tensor, forms: Iterable[Program]) -> str:
    """Explain why a weight cannot have other values; empty if it can."""
    if weight.numel() == 1:
        return "is a single number, of which a module may have made constants"
    if not weight.is_contiguous():
        return "its elements share memory"
    lacking = [form.level.word for form in forms if not _takes(form, name, weight)]
    return f"the {lacking[0]} level does not take it, or takes other numbers" if lacking else ""


def is_uniform(weight: torch.Tensor) -> bool:
    """Return whether all elements of a weight, which has one at least, are equal."""
    flat = weight.detach().reshape(-1)
    return bool(flat[0] == flat[-1]) and bool((flat == flat[0]).all())


def _takes(form: Program, name: str, weight: torch.Tensor) -> bool:
    assert form.signature is not None
    if not any(argument.name == name and argument.kind in ("parameter", "buffer") for argument in form.signature.arguments):
        return False
    own = form.weights.get(name)
    return own is not None and own.dtype is weight.dtype and torch.equal(own, weight.detach())


def _draw(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return numbers around that of `weight`, or around 0, smaller in a matrix than in a vector, so that sums keep their size."""
    drawn = torch.rand(weight.shape, generator=generator)
    number = float(weight.reshape(-1)[0])
    if number == 0:
        return ((drawn - 0.5) / max(1, weight[0].numel()) ** 0.5).to(weight.dtype)
    return ((drawn + 0.5) * max(abs(number), _LEAST) * (1 if number > 0 else -1)).to(weight.dtype)
