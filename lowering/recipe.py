"""Objects described by plain data: `{"_target_": "package.module.name", **arguments}`.

The form is Hydra's, but it is resolved here without Hydra, so a job is one JSON file that any process can run.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from lowering.errors import ConfigError, Problem, suggest

TARGET = "_target_"


def locate(path: str) -> Any:
    """Return the object at a dotted path. Raises ConfigError if no prefix of the path can be imported, or an attribute is missing."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
                continue  # a shorter prefix may be the module, and the rest attributes
            raise
        for part in parts[cut:]:
            if not hasattr(found, part):
                fix = suggest(part, dir(found)) or f"is it in the version of {parts[0]} that is installed here?"
                raise ConfigError(Problem(f"{TARGET}: {path}", f"{module_name} has no '{part}'", fix))
            found = getattr(found, part)
        return found
    raise ConfigError(Problem(f"{TARGET}: {path}", f"no module named '{parts[0]}' can be imported", suggest_module(parts[0])))


def suggest_module(name: str) -> str:
    """Return the fix of a top-level module that cannot be found: the name that is meant, or how Python finds one."""
    return suggest(name, (module.name for module in pkgutil.iter_modules())) or (
        f"install the package that has it into this environment, or add the folder of {name}.py to PYTHONPATH")


def build(spec: Any) -> Any:
    """Replace every mapping in `spec` that has a `_target_` with the result of the call it describes, innermost first."""
    if isinstance(spec, Mapping):
        arguments = {key: build(value) for key, value in spec.items() if key != TARGET}
        return locate(spec[TARGET])(**arguments) if TARGET in spec else arguments
    if isinstance(spec, list | tuple):
        return [build(value) for value in spec]
    return spec


def describe(value: Any) -> Any:
    """Return the JSON form of a frozen dataclass of plain values. The inverse of `build` for such classes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {TARGET: f"{type(value).__module__}.{type(value).__qualname__}", **fields}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    return value
