"""Loop state as trees: the values that an iteration reads, with tensors and numbers as leaves, and how it changed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lowering.interpreter.lists import Growing, Rows


@dataclass(frozen=True)
class Leaf:
    """A tensor or number, by its index among the leaves of a state."""
    index: int


@dataclass(frozen=True)
class Branch:
    """A list, dict or tuple. `number` identifies containers that can be changed in place."""

    kind: type
    keys: tuple[Any, ...]
    children: tuple[Leaf | Branch, ...]
    number: int


Tree: TypeAlias = Leaf | Branch


class Changed(Exception):  # holds the root, and its structure before and after
    """An iteration gave a value another structure than it had."""

    def __init__(self, root: int, before: str, after: str) -> None:
        super().__init__(root, before, after)
        self.root, self.before, self.after = root, before, after


@dataclass
class StateChanges:
    """The changes of an iteration to a state.

    leaves: the new values. added: the values appended to each list. kept: the lists and dicts that are still the same objects.
    """

    leaves: dict[int, Any] = field(default_factory=dict)
    added: dict[int, list[Any]] = field(default_factory=dict)
    kept: set[int] = field(default_factory=set)


class State:
    """The values that a loop carries or reads, in order: `roots`. A list that occurs twice is one list."""

    def __init__(self, roots: Sequence[Any]) -> None:
        self.roots = list(roots)
        self.leaves: list[Any] = []
        self.owners: list[int] = []  # the first root that contains each leaf
        self.containers: list[Any] = []
        self._known: dict[int, Branch] = {}
        self.trees = [self._tree(root, position) for position, root in enumerate(roots)]

    def _tree(self, value: Any, owner: int) -> Tree:
        if not isinstance(value, list | tuple | dict | Rows):
            self.leaves.append(value)
            self.owners.append(owner)
            return Leaf(len(self.leaves) - 1)
        if id(value) in self._known:
            return self._known[id(value)]
        number = len(self.containers)
        self.containers.append(value)
        children = tuple(self._tree(child, owner) for child in _list_children(value))
        self._known[id(value)] = Branch(type(value), tuple(value) if isinstance(value, dict) else (), children, number)
        return self._known[id(value)]

    def fill(self, leaves: Sequence[Any], growing: Sequence[int] = (),
             made: dict[int, Any] | None = None) -> tuple[list[Any], dict[int, Any]]:
        """Return the roots with other leaves, and the containers in them.

        `made` are containers that exist already. Lists in `growing` can be appended to, but not read.
        """
        made = {} if made is None else made
        return [_fill(tree, leaves, growing, made) for tree in self.trees], made

    def find_changes(self, values: Sequence[Any], given: dict[int, Any]) -> StateChanges:
        """Return the changes from the roots, whose containers were `given`, to `values`.

        Raises Changed if a value has another structure.
        """
        result = StateChanges()
        for position, (tree, value) in enumerate(zip(self.trees, values, strict=True)):
            _read(tree, value, given, position, result)
        return result


def _list_children(value: Any) -> list[Any]:
    if isinstance(value, Rows):
        return [value.tensor]
    return list(value.values()) if isinstance(value, dict) else list(value)


def _fill(tree: Tree, leaves: Sequence[Any], growing: Sequence[int], made: dict[int, Any]) -> Any:
    if isinstance(tree, Leaf):
        return leaves[tree.index]
    if tree.number in made:
        return made[tree.number]
    children = [_fill(child, leaves, growing, made) for child in tree.children]
    if tree.number in growing:
        made[tree.number] = Growing()
    elif tree.kind is Rows:
        made[tree.number] = Rows(*children)
    else:
        made[tree.number] = dict(zip(tree.keys, children, strict=True)) if tree.kind is dict else tree.kind(children)
    return made[tree.number]


def _read(tree: Tree, value: Any, given: dict[int, Any], root: int, result: StateChanges) -> None:
    if isinstance(tree, Leaf):
        if isinstance(value, list | tuple | dict | Rows | Growing):
            raise Changed(root, "a single value", f"a {type(value).__name__}")
        result.leaves[tree.index] = value
        return
    if value is given[tree.number] and tree.kind in (list, dict):
        result.kept.add(tree.number)
    if isinstance(value, Growing):
        result.added[tree.number] = value.added
        return
    if not isinstance(value, tree.kind) or (isinstance(value, dict) and tuple(value) != tree.keys):
        raise Changed(root, _describe(tree), "another structure")
    children = _list_children(value)
    if len(children) < len(tree.children) or (len(children) > len(tree.children) and tree.kind is not list):
        raise Changed(root, _describe(tree), f"{len(children)} elements")
    for child, element in zip(tree.children, children, strict=False):
        _read(child, element, given, root, result)
    if len(children) > len(tree.children):
        result.added[tree.number] = children[len(tree.children) :]


def _describe(tree: Branch) -> str:
    return f"a {tree.kind.__name__} of {', '.join(map(str, tree.keys)) or len(tree.children)}"
