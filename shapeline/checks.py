"""Checks of what is passed to `shapeline.lower`, before anything is traced: each names the argument, the cause and the fix."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram

from lowering.eager import pytrees
from lowering.errors import ConfigError, Problem
from lowering.fitting import find_misfits, join_keys
from lowering.model import Symbol

_WRAP = "class Wrapped(torch.nn.Module) with a forward that calls it"


def unwrap(module: Any) -> torch.nn.Module | ExportedProgram:
    """Return the module that torch.compile wraps, and others as they are. Raises ConfigError for what torch.export does not take."""
    place = "module"
    if isinstance(module, torch._dynamo.eval_frame.OptimizedModule):
        return unwrap(module._orig_mod)
    if isinstance(module, torch.jit.ScriptModule):
        fix = "pass the nn.Module that it was made from, or lower the saved file: lowering.sources.torchscript.load in a model's YAML"
        raise ConfigError(Problem(place, f"is a {type(module).__name__}, and torch.export takes no TorchScript", fix))
    if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        cause = f"is a {type(module).__name__}, which splits a batch over devices"
        raise ConfigError(Problem(place, cause, "pass its module: model.module"))
    if isinstance(module, torch.nn.Module):
        _check_values(module, place)
        return module
    if isinstance(module, ExportedProgram):
        return module
    if inspect.isclass(module):
        raise ConfigError(Problem(place, f"is the class {module.__name__}", f"pass an instance: {module.__name__}(...)"))
    if isinstance(module, str):
        raise ConfigError(Problem(place, f"is the text '{module}'", "build the module, or read the file: torch.export.load(path)"))
    if callable(module):
        name = getattr(module, "__name__", type(module).__name__)
        raise ConfigError(Problem(place, f"is the function {name}, and torch.export takes modules", f"wrap it: {_WRAP}"))
    raise ConfigError(Problem(place, f"is a {type(module).__name__}", "pass a torch.nn.Module or an ExportedProgram"))


def _check_values(module: torch.nn.Module, place: str) -> None:
    """Raise ConfigError if weights have no values."""
    named = [*module.named_parameters(), *module.named_buffers()]
    if empty := [name for name, value in named if value.is_meta]:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        fix = "build it on the CPU; a model without weights is lowered from its YAML file, with weights: none"
        raise ConfigError(Problem(place, f"'{empty[0]}'{more} on the device meta has no values", fix))


def check_arguments(args: Any, kwargs: Any) -> None:
    """Raise ConfigError if `args` is no sequence of arguments, or `kwargs` no mapping by name."""
    if isinstance(args, torch.Tensor):
        raise ConfigError(Problem("args", "is a tensor", "pass a tuple of the arguments: (x,)"))
    if isinstance(args, Mapping):
        raise ConfigError(Problem("args", "is a mapping", "pass arguments by name as kwargs: lower(module, (), {'x': x})"))
    if not isinstance(args, Sequence) or isinstance(args, str):
        raise ConfigError(Problem("args", f"is a {type(args).__name__}", "pass a tuple of the arguments: (x,)"))
    check_mapping("kwargs", kwargs, "pass arguments by name: {'mask': mask}")


def check_mapping(name: str, value: Any, fix: str) -> None:
    """Raise ConfigError if a parameter of `lower` that is a mapping by name is none."""
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(Problem(name, f"is a {type(value).__name__}, and a mapping is expected", fix))


def check_leaves(arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError for each array and tensor among the arguments that no program can take."""
    problems = []
    for key, value in arguments.items():
        for path, leaf in pytrees.flatten(value):
            if found := _explain_leaf(leaf):
                problems.append(Problem(f"argument '{key}.{path}'" if path else f"argument '{key}'", *found))
    if problems:
        raise ConfigError(problems)


def _explain_leaf(leaf: Any) -> tuple[str, str] | None:
    """Return cause and fix if a leaf is an array, or a tensor without values or of a layout that cannot be lowered; else None."""
    if not isinstance(leaf, torch.Tensor):
        kind = type(leaf)
        is_array = hasattr(leaf, "__array__") or hasattr(leaf, "__dlpack__")
        return (f"is a {kind.__module__}.{kind.__name__}", "pass a tensor: torch.as_tensor(...)") if is_array else None
    if leaf.is_meta:
        return "is on the device meta and has no values", "pass a tensor of the CPU: its values are the range of later inputs"
    if leaf.is_nested:
        return "is a NestedTensor, which torch.export cannot trace", "pass its values and its offsets or lengths"
    if leaf.layout != torch.strided:
        return f"is a tensor of layout {leaf.layout}, which torch.export cannot trace", "pass its indices and values, or x.to_dense()"
    return None


def check_dims(spec: Any, rank: int, name: str) -> Iterator[Problem]:
    """Yield a problem for each entry of a tensor's spec that names none of its dims."""
    if spec is None or isinstance(spec, list | tuple):
        return
    if not isinstance(spec, Mapping):
        yield Problem(f"dynamic_shapes of '{name}'", f"{spec!r} is no mapping of dims", "write {0: Dim(...)}, or one entry for each dim")
        return
    for key in spec:
        if isinstance(key, int) and 0 <= key < rank:
            continue
        known = f"its dims are 0 to {rank - 1}" if rank else "remove it"
        fix = f"write {key + rank}" if isinstance(key, int) and -rank <= key < 0 else known
        yield Problem(f"dynamic_shapes of '{name}'", f"{key!r} is not a dim of a tensor of rank {rank}", fix)


def read_symbol(name: str, value: Any) -> Symbol:
    """Return a symbol from a Symbol, a pair (min, max), or a mapping with the keys of a model's file. Raises ConfigError."""
    place = f"symbols['{name}']"
    value = dataclasses.asdict(value) if isinstance(value, Symbol) else value
    if isinstance(value, list | tuple) and len(value) == 2:
        value = {"min": value[0], "max": value[1]}
    if not isinstance(value, Mapping):
        keys = ", ".join(sorted(field.name for field in dataclasses.fields(Symbol)))
        raise ConfigError(Problem(place, f"{value!r} is not a range", f"(min, max), or a mapping with {keys}"))
    if misfits := list(find_misfits(Symbol, value)):
        raise ConfigError([Problem(f"{place}.{join_keys(misfit.keys)}", misfit.cause, misfit.fix) for misfit in misfits])
    return Symbol(**value)


def build_stage(kind: type[Any], name: str, options: Any) -> Any:
    """Return a stage with its options. Raises ConfigError with every option that does not fit."""
    place = f"stages['{name}']"
    if misfits := list(find_misfits(kind, options)):
        raise ConfigError([Problem(".".join(filter(None, (place, join_keys(keys)))), cause, fix) for keys, cause, fix in misfits])
    return kind(**options)
