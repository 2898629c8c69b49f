"""TorchScript modules as models: a user's scripted or traced `.pt`, with its weights by name and dynamic dims."""

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
from lowering.interpreter.interpreter import Interpreter, find_problems
from lowering.torchscript.nodes import place


def load(path: str) -> Interpreted:
    """Load the module of a TorchScript file.

    Raises LoadError if there is none, or Unsupported with every construct that cannot be lowered.
    """
    if not Path(path).is_file():
        raise LoadError(Problem(f"path: {path}", "file does not exist", "the path is relative to the working directory of the command"))
    try:
        module = torch.jit.load(path, map_location="cpu")
    except Exception as error:
        fix = "save it with torch.jit.save; a `.pt2` is not TorchScript"
        raise LoadError(Problem(f"path: {path}", f"is not a TorchScript file: {error}", fix)) from error
    return Interpreted(module)


def save_and_reload(module: torch.jit.ScriptModule) -> Interpreted:
    """Save and reload a scripted or traced module, for factories that script a module themselves."""
    held = io.BytesIO()
    torch.jit.save(module, held)
    held.seek(0)
    return Interpreted(torch.jit.load(held, map_location="cpu"))


class Interpreted(torch.nn.Module):
    """A TorchScript module that runs natively, but that torch.export sees node by node, with the code lines of the file.

    Its parameters and buffers are the module's, by the same names. `module` is the loaded module, which is the reference for the lowering.
    """

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        super().__init__()
        module.eval()
        object.__setattr__(self, "module", module)  # not a submodule, so that its weights exist only once
        if problems := find_problems(module.inlined_graph):
            raise Unsupported(problems)
        for name, parameter in module.named_parameters(remove_duplicate=False):
                        # Keep requires_grad: if it is set, torch's own modules avoid their fused inference paths, which cannot be lowered
            _set_tensor(self, name, torch.nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad))
        for name, buffer in module.named_buffers(remove_duplicate=False):
            _set_tensor(self, name, buffer)
        read, self._assigned = _list_attributes(module.inlined_graph)
        self._initial = self._list_forgotten()
        self._current: dict[str, Any] = {}  # the values of those that the present call has assigned
        for name in sorted(read):
            if not _has_attribute(self, name) and isinstance(_get_attribute(module, name), torch.Tensor):  # neither parameter nor buffer
                _set_tensor(self, name, _get_attribute(module, name))
        self.watch = Watch()
        self._formals = module.forward.schema.arguments[1:]  # type: ignore[attr-defined]
        run = functools.partial(self._run)
        run.__signature__ = _build_signature(self._formals)  # type: ignore[attr-defined]
        object.__setattr__(self, "forward", run)

    def _run(self, *arguments: Any, **named: Any) -> Any:
        """Run the module's own forward, or interpret it node by node during torch.export."""
        if not torch.compiler.is_exporting():
            try:
                result = self.module(*arguments, **named)
            finally:
                for name, value in self._initial.items():
                    self._set(name, value)
            self._take_back()
            return result
        self._current = {}
        given = dict(zip((formal.name for formal in self._formals), arguments, strict=False)) | named
        values = [given.get(formal.name, formal.default_value) for formal in self._formals]
        self.watch.begin({name: value for name, value in given.items() if isinstance(value, torch.Tensor)})
        return Interpreter(self.module.inlined_graph, self._read, self._write, self.watch.after).run(values)

    def explain(self) -> list[Problem]:
        """Return the lines of the module that fixed a dim in the last export, with its value. Empty if there are none."""
        return list(self.watch.problems.values())

    def _list_forgotten(self) -> dict[str, Any]:
        """Return the attributes that forward assigns, and that no call passes to the next one, with their values in the file.

        Assigned tensors are carried as buffers are, unless forward also assigns an attribute that is no tensor: what such an attribute says
        of them (the batch size of a state, that there is one) cannot be passed on.
        """
        buffers = {name for name, _ in self.module.named_buffers(remove_duplicate=False)}
        found = {name: _get_attribute(self.module, name) for name in sorted(self._assigned - buffers)}
        return found if any(not isinstance(value, torch.Tensor) for value in found.values()) else {}

    @property
    def forgotten(self) -> list[str]:
        """The attributes that forward assigns, and that have the values of the file at the start of every call."""
        return list(self._initial)

    def _read(self, name: str) -> Any:
        if name in self._current:
            return self._current[name]
        if _has_attribute(self, name):
            return _get_attribute(self, name)
        return _get_attribute(self.module, name)

    def _write(self, name: str, value: Any) -> None:
        if name in self._initial:
            self._current[name] = value
            return
        owner, _, attribute = name.rpartition(".")
        setattr(_get_attribute(self, owner) if owner else self, attribute, value)

    def _take_back(self) -> None:
        """Store the values that forward assigned to buffers back into the module's own buffers."""
        for name in self._assigned - self._initial.keys():
            held = _get_attribute(self, name)
            held.copy_(_get_attribute(self.module, name))
            self._set(name, held)

    def _set(self, name: str, value: Any) -> None:
        """Assign an attribute of the module."""
        owner, _, attribute = name.rpartition(".")
        setattr(_get_attribute(self.module, owner) if owner else self.module, attribute, value)

    def double(self) -> Interpreted:
        """Convert to float64. Constants in the file's code stay as they are."""
        super().double()
        self.module.double()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Interpreted:
        return save_and_reload(self.module)


class Watch:
    """Checks a symbolic run after every node: a guard that makes a dim a number, or a multiple of one, is attributed to that node."""

    def __init__(self) -> None:
        self.problems: dict[str, Problem] = {}
        self._env: Any = None
        self._seen = 0
        self._names: dict[str, str] = {}

    def begin(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Start to watch a run on these inputs, and forget the previous run."""
        self.problems.clear()
        sizes = {f"{name}.size({position})": size for name, value in inputs.items() for position, size in enumerate(value.shape)}
        dims = {name: size for name, size in sizes.items() if isinstance(size, torch.SymInt)}
        self._names = {str(dim.node.expr): name for name, dim in reversed(dims.items())}
        self._env = next((dim.node.shape_env for dim in dims.values()), None)
        self._seen = len(self._list_guards())

    def after(self, node: torch._C.Node) -> None:
        guards = self._list_guards()
        for guard in guards[self._seen :]:
            where = place(node)
            words = re.sub(r"\b\w+\b", lambda match: self._names.get(match[0], match[0]), guard)
            cause = f"works only if {words}: the size of an example from tracing is a constant here"
            self.problems.setdefault(where, Problem(where, cause, "script the module, or take the size from the tensor: x.size(0)"))
        self._seen = len(guards)

    def _list_guards(self) -> list[str]:
        """Return the guards so far that require a dim to be a number or a multiple of one.

        Those on a size of 0 or 1 are left out: torch takes any other traced size for an example of all, and another attempt may not guard.
        """
        if not isinstance(self._env, ShapeEnv):
            return []
        texts = [str(guard.expr) for guard in self._env.guards]
        return [text for text in texts if "Eq(" in text and "Ne(" not in text and not text.endswith((", 0)", ", 1)"))]


def _set_tensor(root: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    *path, last = name.split(".")
    for step in path:
        if step not in root._modules:
            root.add_module(step, torch.nn.Module())
        root = root._modules[step]  # type: ignore[assignment]
    if isinstance(tensor, torch.nn.Parameter):
        root.register_parameter(last, tensor)
    else:
        root.register_buffer(last, tensor)


def _list_attributes(graph: torch._C.Graph) -> tuple[set[str], set[str]]:
    """Return the full names that a graph reads from its module, and those that it assigns."""
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


def _has_attribute(root: Any, name: str) -> bool:
    for step in name.split("."):
        if step not in root._modules and step not in root._parameters and step not in root._buffers:
            return False
        root = getattr(root, step)
    return True


def _get_attribute(root: Any, name: str) -> Any:
    for step in name.split("."):
        root = getattr(root, step)
    return root


def _build_signature(formals: list[Any]) -> inspect.Signature:
    """Return the signature of forward, with the argument names of the file."""
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    return inspect.Signature([
        inspect.Parameter(formal.name, kind, default=formal.default_value if formal.has_default_value() else empty) for formal in formals
    ])  # fmt: skip
