"""A dispatch mode that follows control flow: the ops of branches and loop bodies are dispatched to it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from lowering.errors import LoadError


class Watching(TorchDispatchMode):
    """Calls `watch` for every op, those in the bodies of cond, while_loop, scan and map included."""

    supports_higher_order_operators = True

    def watch(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run one op and return its result."""
        raise NotImplementedError

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if isinstance(func, HigherOrderOperator):
            return func(*tree_map(self._follow, tuple(args)), **tree_map(self._follow, dict(kwargs or {})))
        given = tuple(args), dict(kwargs or {})
        if not any(value.alias_info is not None for value in (*func._schema.arguments, *func._schema.returns)):
            given = tree_map(_resolve, given)
        return self.watch(func, *given)

    def _follow(self, value: Any) -> Any:
        return self._inside(value) if callable(value) else value

    def _inside(self, body: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return body(*args, **kwargs)

        return run


def _resolve(value: Any) -> Any:
    """Apply the conjugation or negation that a view only marks: inside a mode, arithmetic on such a view ignores the mark."""
    return value.resolve_conj().resolve_neg() if isinstance(value, torch.Tensor) and (value.is_conj() or value.is_neg()) else value


def meets(run: Callable[[], Any], is_sought: Callable[[Any, Sequence[Any]], bool]) -> bool:
    """Call `run` and return whether it dispatches an op for which `is_sought(op, args)` holds, be it before `run` raises LoadError."""
    finder = _Finder(is_sought)
    with finder, suppress(LoadError):
        run()
    return finder.found


class _Finder(Watching):
    def __init__(self, is_sought: Callable[[Any, Sequence[Any]], bool]) -> None:
        super().__init__()
        self.is_sought, self.found = is_sought, False

    def watch(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self.found = self.found or self.is_sought(op, args)
        return op(*args, **kwargs)
