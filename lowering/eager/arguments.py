"""The arguments of a module's forward: trees of tensors, built from the leaves by name."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from lowering import recipe
from lowering.eager import caches, pytrees
from lowering.errors import ConfigError, LoadError, Problem, suggest
from lowering.model import Model
from lowering.trees import Construction, Leaf


def assemble(model: Model, module: torch.nn.Module, leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of forward by name: the inputs, with `leaves` in the places of their names, and the model's constants.

    Raises LoadError for a class that cannot be built or that torch cannot flatten, and where its leaves are not the declared ones.
    """
    inputs = {name: _build(tree, module, leaves, model) for name, tree in model.trees.items()}
    for name, tree in model.trees.items():
        if not isinstance(tree, Leaf):
            _check_flattened(inputs[name], name, leaves, model)
    return {**inputs, **copy.deepcopy(dict(model.constants))}  # forward may write to one, such as an empty cache


def check_fit(model: Model, module: torch.nn.Module) -> None:
    """Raise LoadError for each argument that forward lacks, and each one without a default that the model does not declare."""
    try:
        formals = inspect.signature(module.forward).parameters
    except (TypeError, ValueError):  # a forward without a Python signature
        return
    named = {name for name, formal in formals.items() if formal.kind in (formal.POSITIONAL_OR_KEYWORD, formal.KEYWORD_ONLY)}
    is_open = any(formal.kind is formal.VAR_KEYWORD for formal in formals.values())
    given = {**dict.fromkeys(model.inputs, "inputs"), **dict.fromkeys(model.constants, "constants")}
    name = model.method.rpartition(".")[2] if "forward" in vars(module) else "forward"  # of a part of the module, `method` names that part
    place, method = model.place, f"{type(module).__name__}.{name}"
    problems = [Problem(f"{place}.{section}.{name}", f"{method} has no argument '{name}'",
                        suggest(name, named) or f"it takes {', '.join(named) or 'none'}")
                for name, section in given.items() if name not in named and not is_open]
    problems += [Problem(f"{place}.inputs", f"{method} needs '{name}'", f"declare inputs.{name}")
                 for name in sorted(named) if formals[name].default is inspect.Parameter.empty and name not in given]
    if problems:
        raise LoadError(problems)


def _build(tree: Any, module: torch.nn.Module, leaves: Mapping[str, Any], model: Model) -> Any:
    match tree:
        case Leaf(name):
            return leaves[name]
        case Construction(target, fields, _, place):
            made = {key: _build(item, module, leaves, model) for key, item in fields.items()}
            return _construct(target, made, module, f"models.{model.name}.{place}")
        case list():
            return [_build(item, module, leaves, model) for item in tree]
        case tuple():
            return tuple(_build(item, module, leaves, model) for item in tree)
        case Mapping():
            return {key: _build(item, module, leaves, model) for key, item in tree.items()}
    return tree


def _construct(target: str, fields: Mapping[str, Any], module: torch.nn.Module, place: str) -> Any:
    """Build an object of a class that torch's pytree knows."""
    try:
        kind = recipe.locate(target)
    except ConfigError as error:
        raise LoadError([Problem(place, problem.cause, problem.fix) for problem in error.problems]) from error
    if caches.is_cache(kind):
        caches.register(kind)
        return caches.build(kind, fields, module, place)
    is_named_tuple = isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
    if isinstance(kind, type) and kind not in pytree.SUPPORTED_NODES and not is_named_tuple:
        raise LoadError(Problem(place, f"{target} is not registered with torch's pytree, so torch.export cannot take it apart",
                                f"after the class: torch.export.register_dataclass({kind.__name__}), or for other classes "
                                "torch.utils._pytree.register_pytree_node with flatten_with_keys_fn"))
    try:
        return kind(**fields)
    except Exception as error:  # a constructor of the user
        raise LoadError(Problem(place, f"{target} raised {type(error).__name__}: {error}")) from error


def _check_flattened(built: Any, name: str, leaves: Mapping[str, Any], model: Model) -> None:
    """Raise LoadError unless the tensors of an argument are the declared ones, by the declared names."""
    declared = {id(value): path for path, value in leaves.items() if path == name or path.startswith(f"{name}.")}
    try:
        pytree.tree_flatten_with_path(built)  # which torch.export calls for arguments, and not for results
    except ValueError as error:  # a class without flatten_with_keys_fn
        fix = "register the class with flatten_with_keys_fn"
        raise LoadError(Problem(f"models.{model.name}.inputs.{name}", str(error), fix)) from error
    found = [(".".join(filter(None, (name, path))), leaf) for path, leaf in pytrees.flatten(built)]
    problems = list(_compare(found, declared, f"models.{model.name}.inputs.{name}"))
    if problems:
        raise LoadError(problems)


def _compare(found: list[tuple[str, Any]], declared: Mapping[int, str], place: str) -> Iterator[Problem]:
    for path, leaf in found:
        wanted = declared.get(id(leaf))
        if wanted is None and isinstance(leaf, torch.Tensor):
            shown = f"{str(leaf.dtype).removeprefix('torch.')}{list(leaf.shape)}"
            yield Problem(place, f"the object has a tensor '{path}' ({shown}) that is not declared", "declare it as a leaf of this name")
        elif wanted is not None and wanted != path:
            yield Problem(place, f"the leaf '{wanted}' is '{path}' in the object", "declare it by that name")
    kept = {id(leaf) for _, leaf in found}
    for identity, path in declared.items():
        if identity not in kept:
            yield Problem(place, f"the leaf '{path}' is not in the object that was built",
                          "the class drops or copies it: declare the tensors that it keeps, by the names of its attributes")
