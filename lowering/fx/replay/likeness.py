"""Compare modules by structure: their classes, attributes, and the shapes and dtypes of their weights."""

from __future__ import annotations

import enum
import functools
import types
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as modules

_OWN = frozenset(vars(nn.Module()))  # attributes that every module has
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format, enum.Enum)
_WEIGHTS = (torch.Tensor, nn.Parameter, FakeTensor)
_MOST_LEVELS = 4  # of nested objects that are compared

Attribute = tuple[type, str]  # a class of modules, and the name of an attribute of its instances


def find_families(root: nn.Module) -> dict[int, int]:
    """Return the family of each module that has at least two others like it, by the module's id.

    Modules of one family have equal classes, names of attributes, weights of equal shape and dtype, and submodules alike.
    """
    known: dict[Hashable, int] = {}
    kinds: dict[int, int] = {}

    def digest(module: nn.Module) -> int:
        if id(module) not in kinds and isinstance(module, torch.jit.ScriptModule):  # has other attributes than modules have
            kinds[id(module)] = known.setdefault(("script", id(module)), len(known))
        if id(module) not in kinds:
            children = tuple((name, None if child is None else digest(child)) for name, child in module._modules.items())
            weights = tuple((name, _describe(weight)) for held in (module._parameters, module._buffers) for name, weight in held.items())
            transient = tuple(sorted(module._non_persistent_buffers_set))
            key = (type(module), module.training, tuple(sorted(set(vars(module)) - _OWN)), weights, transient, children)
            kinds[id(module)] = known.setdefault(key, len(known))
        return kinds[id(module)]

    digest(root)
    members = Counter(kinds.values())
    return {module: kind for module, kind in kinds.items() if members[kind] > 2}


def find_differences(first: nn.Module, second: nn.Module) -> Iterator[Attribute]:
    """Yield each attribute of two modules of a family whose values may differ."""
    for name, value in vars(first).items():
        if name not in _OWN and not (name in vars(second) and _is_same(value, vars(second)[name], first, second)):
            yield type(first), name
    for name, child in first._modules.items():
        other = second._modules[name]
        if child is not None and other is not None and child is not other:
            yield from find_differences(child, other)


def find_obstacle(module: nn.Module) -> str:
    """Return why calls of a module are never replayed, or an empty text."""
    if any(getattr(modules, f"_global{hooks}") for hooks in _HOOKS):
        return "all modules have hooks"
    for part in module.modules():
        if any(vars(part)[hooks] for hooks in _HOOKS):
            return f"{type(part).__name__} has hooks"
        if type(part).__getattribute__ is not nn.Module.__getattribute__:
            return f"{type(part).__name__} looks up its attributes itself"
    return ""


def snapshot(module: nn.Module) -> list[Any]:
    """Return the mutable state of a module: its attributes, and the elements of containers among them."""
    found: list[Any] = []
    for part in module.modules():
        for name, value in vars(part).items():
            elements = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
            found.append((name, id(value), type(value), [id(element) for element in elements]))
    return found


def _describe(weight: torch.Tensor | None) -> Hashable:
    if weight is None:
        return None
    if type(weight) not in _WEIGHTS or weight.layout is not torch.strided:  # of a lazy module, quantized, sparse: like no other
        return type(weight), id(weight)
    return type(weight), tuple(weight.shape), weight.dtype, weight.device, weight.requires_grad, weight.stride()


def _is_same(value: Any, other: Any, first: nn.Module, second: nn.Module, levels: int = _MOST_LEVELS) -> bool:
    """Return whether two attributes of modules are surely equal. Objects of unknown classes are if their attributes are."""
    if value is other or (value is first and other is second):
        return True
    if type(value) is not type(other) or levels == 0:
        return False

    def same(one: Any, another: Any) -> bool:
        return _is_same(one, another, first, second, levels - 1)

    if isinstance(value, _PLAIN):
        return repr(value) == repr(other)  # nan equals nan, and 0.0 is not -0.0
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, dict):
        return list(value) == list(other) and all(same(value[key], other[key]) for key in value)
    if isinstance(value, set | frozenset):
        return bool(value == other) and all(isinstance(element, _PLAIN) for element in value)
    if isinstance(value, types.MethodType):
        return value.__func__ is other.__func__ and same(value.__self__, other.__self__)
    if isinstance(value, functools.partial):
        return same((value.func, value.args, value.keywords), (other.func, other.args, other.keywords))
    if isinstance(value, torch.Tensor | nn.Module | types.FunctionType | type) or not hasattr(value, "__dict__"):
        return False
    return hasattr(type(value), "__slots__") is False and same(vars(value), vars(other))
