"""Models of the transformers library, built from a config with random weights: nothing is downloaded."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch._subclasses.fake_tensor import is_fake

from lowering.errors import LoadError, Problem, near_miss
from lowering.sources import weights

Attention = Literal["sdpa", "eager"]
Experts = Literal["eager", "batched_mm", "grouped_mm"]


def build(
    config: str, architecture: str, kwargs: Mapping[str, Any] | None = None, attention: Attention | None = None, dtype: str = "float32",
    experts: Experts | None = None,
) -> torch.nn.Module:  # fmt: skip
    """`architecture(config(**kwargs))` in eval mode, weights drawn from torch's current seed, none left constant (see `weights.spread`).

    attention: `sdpa` calls torch's fused op, `eager` the matmul-softmax form; None is the architecture's own choice (sdpa where it can).
    experts: how a mixture computes: `batched_mm` gathers the weights of each token's experts, `eager` loops over the experts that the data
    hit (which no export can follow), `grouped_mm` sorts the tokens by expert; None is the architecture's own choice.
    Under a FakeTensorMode the weights are fake. LoadError names each class or config key that transformers lacks, and its near miss.
    """
    from transformers.initialization import no_init_weights

    config_class = _class(config, "config", "Config")
    model_class = _class(architecture, "architecture", config.removesuffix("Config"))
    given = dict(kwargs or {})
    problems = _unknown_keys(config_class, given)
    expected = getattr(model_class, "config_class", None)
    if expected is not None and not issubclass(config_class, expected):
        problems.append(Problem("architecture", f"'{architecture}' takes a {expected.__name__}, not a {config}"))
    if problems:
        raise LoadError(problems)
    choices = {"attn_implementation": attention, "experts_implementation": experts}
    chosen = {name: choice for name, choice in choices.items() if choice is not None}

    def made() -> Any:
        return model_class._from_config(config_class(**given), dtype=getattr(torch, dtype), **chosen)

    with no_init_weights():
        module = made()
    module.tie_weights()  # part of the initialisation that was left out
    if not is_fake(torch.empty(0)) and not any(parameter.is_meta for parameter in module.parameters()):  # those have no values to draw
        module = module if _drawn(module) else made()
        weights.spread(module)
    module.eval()
    return cast("torch.nn.Module", module)


def _drawn(module: Any) -> bool:
    """Draw the weights of a module that has none yet; whether the architecture's own initialiser reached all of them.

    Once, and after tying: drawn as the constructors do it, most weights are drawn twice, and tied ones take memory of their own meanwhile.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(math.nan)
        module.init_weights()
        return not any(parameter.sum().isnan() for parameter in parameters)


def config_of(architecture: str) -> Any:
    """The config class that a model class of transformers is built from; LoadError when there is none of that name."""
    return _class(architecture, "architecture", architecture[:4]).config_class


def known_keys(config_class: Any) -> set[str]:
    """The keys that a config class reads: what its constructor names, the other names of these, and properties that can be set."""
    known = set(inspect.signature(config_class).parameters) | set(config_class.attribute_map)
    return known | {name for name, member in inspect.getmembers_static(config_class, lambda member: isinstance(member, property)) if member.fset}


def _class(name: str, key: str, like: str) -> Any:
    import transformers

    found = getattr(transformers, name, None)
    if found is not None:
        return found
    raise LoadError(Problem(key, f"transformers {transformers.__version__} has no '{name}'",
                            near_miss(name, [word for word in dir(transformers) if like in word] or dir(transformers))))


def _unknown_keys(config_class: Any, given: Mapping[str, Any]) -> list[Problem]:
    """A config keeps any keyword that it does not know as an attribute that nothing reads: refuse those."""
    known = known_keys(config_class)
    unknown = [key for key in given if key not in known]
    return [Problem(f"kwargs.{key}", f"{config_class.__name__} has no such key", near_miss(key, known)) for key in unknown]
