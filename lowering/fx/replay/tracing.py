"""Decide, during a trace by torch.export, which calls of repeated modules are traced and which are replayed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import getattr_static
from typing import Any, Literal

import torch
from torch import nn
from torch.fx import Node
from torch.fx.experimental.proxy_tensor import _ModuleStackTracer
from torch.utils import _pytree as pytree

from lowering.errors import Problem, StageFailed
from lowering.fx.replay import agreement, likeness, marker
from lowering.fx.replay.occurrence import Given, Occurrence, Refused, read_arguments, record

Mode = Literal["auto", "off", "check"]

TAG = "shapeline_template"  # in the metadata of a template's nodes: its number, and the place of the input that they stand for afterwards
_MOST_TRACED = 4  # calls of one kind, before it is given up
_FEWEST_NODES = 4  # of a call that is worth copying
FEW = "it has few ops"  # the obstacle of modules that are not worth copying
_numbers = itertools.count()


class Disagreement(StageFailed):
    """Mode `check`: a call that would have been replayed has another graph."""


@dataclass(frozen=True)
class Template:
    """A traced call that others are copies of.

    places: the inputs that its graph uses; made: the tensors among its outputs that it computes, with their nodes.
    """

    number: int
    occurrence: Occurrence
    places: tuple[int, ...]
    made: list[torch.Tensor]
    nodes: list[Node]


@dataclass(frozen=True)
class Replay:
    """A call that was not traced. calls: how often each submodule, by its path below, had been called before it."""

    template: Template
    path: str
    calls: dict[str, int]


@dataclass
class Family:
    """The calls of modules that are alike, and the number of copies. obstacle: why they are all traced. last: why two calls differed.

    differing: the attributes that are not equal in all of them, once they were looked at (is_open).
    """

    name: str
    traced: int = 0
    replayed: int = 0
    obstacle: str = ""
    last: str = ""
    differing: set[likeness.Attribute] = field(default_factory=set)
    is_open: bool = False


class Replays:
    """The state of one trace. families: by number; replays: by the number of the call."""

    def __init__(self, root: nn.Module, mode: Mode):
        self.mode = mode
        self.members: dict[int, list[nn.Module]] = {}
        self.families: dict[int, Family] = {}
        kinds = self._find_families(root) if mode != "off" else {}
        modules = {id(module): module for module in root.modules()}
        for module, kind in kinds.items():
            self.members.setdefault(kind, []).append(modules[module])
        self.kinds = kinds
        self.traced: dict[Hashable, list[Occurrence]] = {}
        self.templates: dict[Hashable, Template] = {}
        self.replays: dict[int, Replay] = {}
        self.tracer: Any = None
        self.active: Occurrence | None = None
        self.reading: set[likeness.Attribute] | None = None

    def _find_families(self, root: nn.Module) -> dict[int, int]:
        try:
            return likeness.find_families(root)
        except Exception as error:  # noqa: BLE001 - modules may have anything in place of weights
            self.families[-1] = Family(type(root).__name__, obstacle=f"its modules cannot be compared: {type(error).__name__}: {error}")
            return {}

    def call(self, tracer: Any, original: Callable[..., Any], module: nn.Module, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Trace a call of a module, or replay it."""
        def trace() -> Any:
            return original(tracer, module, run, args, kwargs)

        self.tracer = self.tracer or tracer
        base = tracer.proxy_modules.get(module, module)
        kind = self.kinds.get(id(base))
        if kind is None or self.reading is not None or self.tracer is not tracer:
            return trace()
        family = self.families.setdefault(kind, Family(type(base).__name__))
        found = self._look_up(kind, family, base, module, args, kwargs) if not family.obstacle else None
        if found is None:
            family.traced += 1
            return trace()
        key, given, path, template = found
        if template is not None:
            if self.mode == "auto":
                return self._replay(template, given, path, family)
            made, result = self._record(base, path, given, args, kwargs, trace, family)
            if why := agreement.disagree(template.occurrence, made):
                raise Disagreement(Problem(path.removeprefix("_export_root."), f"is no copy of {template.occurrence.path}: {why}",
                                           "export it with repeat=off, and report this"))
            family.replayed += 1
            return result
        made, result = self._record(base, path, given, args, kwargs, trace, family)
        self.traced.setdefault(key, []).append(made)
        family.traced += 1
        if len(made.nodes) < _FEWEST_NODES:
            family.obstacle = FEW
        return result

    def _look_up(
        self, kind: int, family: Family, base: nn.Module, module: nn.Module, args: Any, kwargs: Any
    ) -> tuple[Hashable, Given, str, Template | None] | None:
        """Return the kind of a call, what it is given, the path of its module, and the template that it is a copy of, if there is one.

        None: calls of the family are not replayed, because they cannot be compared.
        """
        try:
            if not family.is_open:
                self._open(kind, family)
            given, path = read_arguments(base, args, kwargs), str(self.tracer.path_of_module(module))
            template = self._find_template((kind, given.key), family)
            if template is not None and not self._is_like(template, base, family):
                template = None
        except (Refused, NameError) as refused:
            family.obstacle = str(refused)
            return None
        except Exception as error:  # noqa: BLE001 - attributes may be objects of any kind, and a model need not be comparable
            family.obstacle = f"the calls cannot be compared: {type(error).__name__}: {error}"
            return None
        return (kind, given.key), given, path, template

    def _open(self, kind: int, family: Family) -> None:
        """Compare all members of a family. Their forward must not read an attribute that differs between them."""
        first, *others = self.members[kind]
        family.obstacle = likeness.find_obstacle(first)
        for other in others:
            family.differing |= set(likeness.find_differences(first, other))
        family.is_open = True

    def _find_template(self, key: Hashable, family: Family) -> Template | None:
        """Return the template of a kind of call, once two traced calls agree."""
        made = self.traced.get(key, [])
        if key in self.templates or len(made) < 2:
            return self.templates.get(key)
        second = made[-1]
        if read := made[-2].read | second.read:
            family.obstacle = f"forward reads {', '.join(sorted(name for _, name in read))}, which differs between the modules"
            return None
        family.last = agreement.disagree(made[-2], second)
        if family.last:
            if len(made) >= _MOST_TRACED:
                family.obstacle = family.last
            return None
        used = {place for node in second.nodes for leaf in node.all_input_nodes for place in second.inputs.get(leaf, ())[:1]}
        given = {id(tensor) for tensor in second.given.tensors}
        tensors = {id(leaf): (leaf, node) for leaf, node in zip(second.outputs, second.made_by, strict=True)
                   if node is not None and id(leaf) not in given}
        places = tuple(sorted(used.union(second.renamed.values())))
        template = Template(next(_numbers), second, places, [leaf for leaf, _ in tensors.values()], [node for _, node in tensors.values()])
        self.templates[key] = template
        return template

    def _is_like(self, template: Template, module: nn.Module, family: Family) -> bool:
        """Return whether a module still is like that of the template, which its forward, hooks or parents could have changed."""
        other = template.occurrence.module
        if why := likeness.find_obstacle(module):
            family.obstacle = why
        elif set(likeness.find_differences(other, module)) - family.differing:
            family.obstacle = "attributes were changed"
        return not family.obstacle

    def _record(self, module: nn.Module, path: str, given: Given, args: Any, kwargs: Any, trace: Callable[[], Any],
                family: Family) -> tuple[Occurrence, Any]:
        self.reading = set()
        try:
            with _watch(family.differing, self.reading):
                made, result = record(self.tracer, module, path, given, args, kwargs, trace)
            made.read = self.reading
        finally:
            self.reading = None
        return made, result

    def _replay(self, template: Template, given: Given, path: str, family: Family) -> Any:
        """Emit the op that represents a call, and return the results of the call."""
        occurrence = template.occurrence
        if template.number not in marker.outputs:
            marker.outputs[template.number] = [marker.Type.from_tensor(tensor) for tensor in template.made]
            self._mark(template)
        number = next(_numbers)
        counts = self.tracer.num_calls
        self.replays[number] = Replay(template, path, {below: counts.get(path + below, 0) for below in occurrence.calls})
        for below, (_, times) in occurrence.calls.items():
            counts[path + below] = counts.get(path + below, 0) + times
        made = marker.CALL([given.tensors[place] for place in template.places], template.number, number)
        family.replayed += 1
        results = {id(tensor): new for tensor, new in zip(template.made, made, strict=True)}
        results |= {id(tensor): new for tensor, new in zip(occurrence.given.tensors, given.tensors, strict=True)}
        leaves = [results.get(id(leaf), leaf) for leaf in occurrence.outputs]
        assert occurrence.spec is not None
        return pytree.tree_unflatten(leaves, occurrence.spec)

    def _mark(self, template: Template) -> None:
        """Mark the nodes of a template, and name its inputs and outputs by an op."""
        occurrence = template.occurrence
        nodes = {place: node for node, places in occurrence.inputs.items() for place in places}
        given = [nodes[place] for place in template.places]
        mark = self.tracer.graph.create_node("call_function", marker.TEMPLATE, (given, template.nodes, template.number), {})
        last = occurrence.nodes[-1].meta
        mark.meta = {"val": None} | {key: last[key] for key in ("nn_module_stack", "stack_trace") if key in last}
        for node in occurrence.nodes:
            node.meta[TAG] = template.number, occurrence.renamed.get(node)

    def close(self) -> None:
        for template in self.templates.values():
            marker.outputs.pop(template.number, None)


@contextmanager
def replay_calls(root: nn.Module, mode: Mode) -> Iterator[Replays]:
    """Replay calls of repeated modules inside the block, which exports `root`."""
    state = Replays(root, mode)
    if not state.kinds:
        yield state
        return
    original = _ModuleStackTracer.call_module

    def call_module(tracer: Any, module: nn.Module, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return state.call(tracer, original, module, run, args, kwargs)

    _ModuleStackTracer.call_module = call_module  # type: ignore[method-assign, assignment]
    try:
        yield state
    finally:
        _ModuleStackTracer.call_module = original  # type: ignore[method-assign]
        state.close()


class _Watched:
    """An attribute of a class whose reads on instances are recorded."""

    def __init__(self, kind: type, name: str, read: set[likeness.Attribute], default: Any):
        self.kind, self.name, self.read, self.default = kind, name, read, default

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is not None and self.name in vars(instance):
            self.read.add((self.kind, self.name))
            return vars(instance)[self.name]
        if self.default is _ABSENT:
            raise AttributeError(self.name)
        return self.default.__get__(instance, owner) if hasattr(self.default, "__get__") else self.default

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self.name] = value

    def __delete__(self, instance: Any) -> None:
        del vars(instance)[self.name]


@contextmanager
def _watch(attributes: set[likeness.Attribute], read: set[likeness.Attribute]) -> Iterator[None]:
    """Add to `read` the attributes that are read inside the block."""
    before = [(kind, name, vars(kind).get(name, _ABSENT)) for kind, name in sorted(attributes, key=str)]
    for kind, name, _ in before:
        setattr(kind, name, _Watched(kind, name, read, getattr_static(kind, name, _ABSENT)))
    try:
        yield
    finally:
        for kind, name, value in before:
            if value is _ABSENT:
                delattr(kind, name)
            else:
                setattr(kind, name, value)


_ABSENT = object()
