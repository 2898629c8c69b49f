"""Models of the transformers library, built from a config with random weights. Nothing is downloaded."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch._subclasses.fake_tensor import is_fake

from lowering.errors import LoadError, Problem, suggest
from lowering.sources import weights

Attention = Literal["sdpa", "eager"]
Experts = Literal["eager", "batched_mm", "grouped_mm"]


def build(
    config: str, architecture: str, kwargs: Mapping[str, Any] | None = None, attention: Attention | None = None, dtype: str = "float32",
    experts: Experts | None = None,
) -> torch.nn.Module:  # fmt: skip
    """Build `architecture(config(**kwargs))` in eval mode, with random weights from torch's current seed, none constant (see
    `weights.spread`).

    attention: `sdpa` uses torch's fused op, `eager` the matmul-softmax form; None: the architecture's default (sdpa if supported).
    experts: implementation of a mixture. `batched_mm` gathers the weights of each token's experts, `eager` loops over the experts that the
        data selects (which cannot be exported), `grouped_mm` sorts the tokens by expert; None: the architecture's default.
    Under a FakeTensorMode the weights are fake. Raises LoadError for each unknown class or config key, with the closest match.
    """
    from transformers.exporters.exporter_dynamo import register_cache_pytrees_for_model
    from transformers.initialization import no_init_weights

    config_class = _find_class(config, "config", "Config")
    model_class = _find_class(architecture, "architecture", config.removesuffix("Config"))
    given = dict(kwargs or {})
    problems = _report_unknown_keys(config_class, given)
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
    module.tie_weights()  # part of the skipped initialisation
    # Fake and meta tensors have no values to initialise.
    if not is_fake(torch.empty(0)) and not any(parameter.is_meta for parameter in module.parameters()):
        module = module if _initialise(module) else made()
        weights.spread(module)
    module.eval()
    register_cache_pytrees_for_model(module)  # a model may return a cache that it makes itself
    return cast("torch.nn.Module", module)


def _initialise(module: Any) -> bool:
    """Initialise the weights of a module. Return whether the architecture's own initialiser set all of them.

    Runs once, after tying. The constructors would initialise most weights twice, and allocate separate memory for tied weights meanwhile.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(math.nan)
        module.init_weights()
        return not any(parameter.sum().isnan() for parameter in parameters)


def find_config_class(architecture: str) -> Any:
    """Return the config class of a transformers model class. Raises LoadError if there is no such class."""
    return _find_class(architecture, "architecture", architecture[:4]).config_class


def list_known_keys(config_class: Any) -> set[str]:
    """Return the keys that a config class reads: parameters of its constructor, their aliases, and settable properties."""
    known = set(inspect.signature(config_class).parameters) | set(config_class.attribute_map)
    properties = inspect.getmembers_static(config_class, lambda member: isinstance(member, property))
    return known | {name for name, member in properties if member.fset}


def _find_class(name: str, key: str, like: str) -> Any:
    import transformers

    found = getattr(transformers, name, None)
    if found is not None:
        return found
    raise LoadError(Problem(key, f"transformers {transformers.__version__} has no '{name}'",
                            suggest(name, [word for word in dir(transformers) if like in word] or dir(transformers))))


def _report_unknown_keys(config_class: Any, given: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each unknown key: a config would store it as an attribute that nothing reads."""
    known = list_known_keys(config_class)
    unknown = [key for key in given if key not in known]
    return [Problem(f"kwargs.{key}", f"{config_class.__name__} has no such key", suggest(key, known)) for key in unknown]
