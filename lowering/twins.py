"""Twins of models without weights: small models of the same architecture that are verified in their place.

The module of a factory may define `make_twin(model)`, which returns the declaration of the twin and what is different in its config, and
raises ShapelineError if there is no twin.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from lowering import recipe
from lowering.errors import LoadError, Problem
from lowering.model import Model


def make(model: Model) -> tuple[Model, Mapping[str, Any]]:
    """Return the twin of a model and the changes of its config. Raises ShapelineError if there is none."""
    target = model.factory[recipe.TARGET]
    rule = getattr(sys.modules.get(recipe.locate(target).__module__), "make_twin", None)
    if rule is None:
        raise LoadError(Problem("twin", f"no rule makes a small model of {target}", "define make_twin(model) in the factory's module"))
    twin: tuple[Model, Mapping[str, Any]] = rule(model)
    return twin
