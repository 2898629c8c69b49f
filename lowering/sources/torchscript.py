"""TorchScript modules as models: a user's own scripted or traced `.pt`, with its weights by name and its dims made dynamic."""

from __future__ import annotations

import functools
import inspect
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from lowering.errors import LoadError, Problem, Unsupported
from lowering.interpreter.interpreter import Interpreter, refusals
from lowering.torchscript.nodes import place


def load(path: str) -> Interpreted:
    """The module of a TorchScript file; LoadError when there is none, Unsupported with every construct that has no lowering."""
    if not Path(path).is_file():
        raise LoadError(Problem(f"path: {path}", "there is no such file", "the path is taken from where the command runs"))
    try:
        module = torch.jit.load(path, map_location="cpu")
    except Exception as error:
        raise LoadError(Problem(f"path: {path}", f"is not a TorchScript file: {error}", "save it by torch.jit.save; a `.pt2` is not one")) from error
    return Interpreted(module)


def saved(module: torch.jit.ScriptModule) -> Interpreted:
    """A scripted or traced module as it comes back from its file: for modules that a factory scripts on the spot."""
    held = io.BytesIO()
    torch.jit.save(module, held)
    held.seek(0)
    return Interpreted(torch.jit.load(held, map_location="cpu"))


class Interpreted(torch.nn.Module):
    """A TorchScript module that computes by itself, and that torch.export sees node by node, with the file's own lines.

    Its parameters and buffers are the module's, by the same names. `module` is the loaded module: what the lowering is compared with.
    """

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        super().__init__()
        module.eval()
        object.__setattr__(self, "module", module)  # not a submodule: its weights are held once
        if problems := refusals(module.inlined_graph):
            raise Unsupported(problems)
        for name, parameter in module.named_parameters(remove_duplicate=False):
            # requires_grad is kept: where it is set, torch's own modules do not take their fused inference paths, which have no lowering
            _place(self, name, torch.nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad))
        for name, buffer in module.named_buffers(remove_duplicate=False):
            _place(self, name, buffer)
        read, self._assigned = _attributes(module.inlined_graph)
        if plain := [name for name in sorted(self._assigned) if not isinstance(_attribute(module, name), torch.Tensor)]:
            raise Unsupported([_unassignable(name) for name in plain])
        for name in sorted(read):
            if not _has(self, name) and isinstance(_attribute(module, name), torch.Tensor):  # neither parameter nor buffer
                _place(self, name, _attribute(module, name))
        self.watch = Watch()
        self._formals = module.forward.schema.arguments[1:]  # type: ignore[attr-defined]
        run = functools.partial(self._run)
        run.__signature__ = _signature(self._formals)  # type: ignore[attr-defined]
        object.__setattr__(self, "forward", run)

    def _run(self, *arguments: Any, **named: Any) -> Any:
        """As the module's own forward; while torch.export looks on, node by node."""
        if not torch.compiler.is_exporting():
            result = self.module(*arguments, **named)
            self._take_back()
            return result
        given = dict(zip((formal.name for formal in self._formals), arguments, strict=False)) | named
        values = [given.get(formal.name, formal.default_value) for formal in self._formals]
        self.watch.begin({name: value for name, value in given.items() if isinstance(value, torch.Tensor)})
        return Interpreter(self.module.inlined_graph, self._read, self._write, self.watch.after).run(values)

    def explain(self) -> list[Problem]:
        """Which lines of the module fixed a dim in the last export, and to what; empty when none did."""
        return list(self.watch.problems.values())

    def _read(self, name: str) -> Any:
        if _has(self, name):
            return _attribute(self, name)
        return _attribute(self.module, name)

    def _write(self, name: str, value: Any) -> None:
        if not _has(self, name) or not isinstance(value, torch.Tensor):
            raise Unsupported(_unassignable(name))
        owner, _, attribute = name.rpartition(".")
        setattr(_attribute(self, owner) if owner else self, attribute, value)

    def _take_back(self) -> None:
        """Buffers that forward assigned anew become the module's own again, with the new values."""
        for name in self._assigned:
            held, (owner, _, attribute) = _attribute(self, name), name.rpartition(".")
            held.copy_(_attribute(self.module, name))
            setattr(_attribute(self.module, owner) if owner else self.module, attribute, held)

    def double(self) -> Interpreted:
        """In float64; constants that the file holds in its code stay as they are."""
        super().double()
        self.module.double()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Interpreted:
        return saved(self.module)


class Watch:
    """Looks at a symbolic run behind every node: a guard that makes a dim one number, or a multiple of it, is that node's doing."""

    def __init__(self) -> None:
        self.problems: dict[str, Problem] = {}
        self._env: Any = None
        self._seen = 0
        self._names: dict[str, str] = {}

    def begin(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Watch a run on these inputs; what an earlier one did is forgotten."""
        self.problems.clear()
        sizes = {f"{name}.size({position})": size for name, value in inputs.items() for position, size in enumerate(value.shape)}
        dims = {name: size for name, size in sizes.items() if isinstance(size, torch.SymInt)}
        self._names = {str(dim.node.expr): name for name, dim in reversed(dims.items())}
        self._env = next((dim.node.shape_env for dim in dims.values()), None)
        self._seen = len(self._guards())

    def after(self, node: torch._C.Node) -> None:
        guards = self._guards()
        for guard in guards[self._seen :]:
            where = place(node)
            words = re.sub(r"\b\w+\b", lambda match: self._names.get(match[0], match[0]), guard)
            cause = f"computes only where {words}: a size of the example that it was traced with is a constant here"
            self.problems.setdefault(where, Problem(where, cause, "script the module, or take the size from the tensor: x.size(0)"))
        self._seen = len(guards)

    def _guards(self) -> list[str]:
        """The guards so far that say that a dim is a number or a multiple of one."""
        if not isinstance(self._env, ShapeEnv):
            return []
        return [text for guard in self._env.guards if "Eq(" in (text := str(guard.expr)) and "Ne(" not in text]


def _unassignable(name: str) -> Problem:
    return Problem(f"attribute '{name}'", "forward assigns to it, and it is no buffer", "make it a buffer or a local")


def _place(root: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    *path, last = name.split(".")
    for step in path:
        if step not in root._modules:
            root.add_module(step, torch.nn.Module())
        root = root._modules[step]  # type: ignore[assignment]
    if isinstance(tensor, torch.nn.Parameter):
        root.register_parameter(last, tensor)
    else:
        root.register_buffer(last, tensor)


def _attributes(graph: torch._C.Graph) -> tuple[set[str], set[str]]:
    """The full names of what a graph reads from its module, and of what it assigns."""
    paths, read, assigned = {next(graph.inputs()).debugName(): ""}, set(), set()
    pending = [graph.nodes()]
    while pending:
        for node in pending.pop(0):
            pending += [block.nodes() for block in node.blocks()]
            if node.kind() not in ("prim::GetAttr", "prim::SetAttr"):
                continue
            owner = paths[node.inputsAt(0).debugName()]
            name = f"{owner}.{node.s('name')}" if owner else node.s("name")
            if node.kind() == "prim::SetAttr":
                assigned.add(name)
            else:
                paths[node.output().debugName()] = name
                read.add(name)
    return {name for name in read if not any(other.startswith(f"{name}.") for other in read)}, assigned


def _has(root: Any, name: str) -> bool:
    for step in name.split("."):
        if step not in root._modules and step not in root._parameters and step not in root._buffers:
            return False
        root = getattr(root, step)
    return True


def _attribute(root: Any, name: str) -> Any:
    for step in name.split("."):
        root = getattr(root, step)
    return root


def _signature(formals: list[Any]) -> inspect.Signature:
    """What forward takes, by the names that the file's own forward has."""
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    return inspect.Signature([
        inspect.Parameter(formal.name, kind, default=formal.default_value if formal.has_default_value() else empty) for formal in formals
    ])  # fmt: skip
