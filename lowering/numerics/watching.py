"""A dispatch mode that follows control flow: the ops of branches and loop bodies are dispatched to it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

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
        return self.watch(func, args, kwargs or {})

    def _follow(self, value: Any) -> Any:
        return self._inside(value) if callable(value) else value

    def _inside(self, body: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return body(*args, **kwargs)

        return run


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
