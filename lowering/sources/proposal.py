"""Proposals for the file of a new model: its factory, its inputs and their dims, read from its class, program or MLIR."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from lowering.errors import LoadError, Problem, ShapelineError, Unsupported
from lowering.recipe import TARGET
from lowering.sources import exported, mlir, trials

MISSING = "???"  # a value that the author has to give
Tree = dict[str, Any]
SEQUENCE = 512  # the longest sequence that is proposed


@dataclass(frozen=True)
class Proposal:
    """The keys of a model's file. notes: advice to the author, such as values to fill in. refusal: why forward fails with these inputs."""

    factory: Tree
    inputs: Tree
    symbols: Tree
    notes: tuple[str, ...] = ()
    weights: str | None = None
    refusal: str = ""

    @property
    def complete(self) -> bool:
        """Whether no value is left for the author to give or correct."""
        return not self.refusal and MISSING not in repr((self.factory, self.inputs))

    def refuse(self, refusal: str) -> Proposal:
        """Return the proposal with the error that forward raised for its inputs."""
        return replace(self, notes=(*self.notes, f"forward fails with these inputs: {refusal}. Correct them."), refusal=refusal)


def fit_ranges(proposal: Proposal, module: torch.nn.Module, make: Callable[[], torch.nn.Module]) -> Proposal:
    """Return the proposal with the ranges that forward takes, as far as other sizes than those that were tried tell.

    Where it refuses twice the size that was tried, the dim has that size. Where it refuses the smallest size, the range begins at that one.
    """
    twice = {name: 2 * trials.TRIED[name] for name, span in proposal.symbols.items()
             if name in trials.TRIED and 2 * trials.TRIED[name] <= span.get("max", 0)}  # fmt: skip
    if trials.find_refusal(proposal.inputs, module, make, {**trials.TRIED, **twice}) is not None:
        refused = [name for name in twice
                   if trials.find_refusal(proposal.inputs, module, make, {**trials.TRIED, name: twice[name]}) is not None]  # fmt: skip
        notes = [f"forward refuses {name}={twice[name]}: the dim has the size that was tried." for name in refused]
        proposal = replace(_fix_dims(proposal, {name: trials.TRIED[name] for name in refused}), notes=(*proposal.notes, *notes))
    least = {name: span["min"] for name, span in proposal.symbols.items()}
    if trials.find_refusal(proposal.inputs, module, make, {**trials.TRIED, **least}) is None:
        return proposal
    refused = [name for name in least if name in trials.TRIED
               and trials.find_refusal(proposal.inputs, module, make, {**trials.TRIED, name: least[name]}) is not None]  # fmt: skip
    notes = [f"forward refuses {name}={least[name]}: the range begins at a size that was tried." for name in refused]
    raised = {name: {**proposal.symbols[name], "min": trials.TRIED[name]} for name in refused}
    return replace(proposal, symbols={**proposal.symbols, **raised}, notes=(*proposal.notes, *notes))


def _fix_dims(proposal: Proposal, sizes: Mapping[str, int]) -> Proposal:
    """Return the proposal with constant sizes in place of the symbols of that name."""
    inputs = {name: {**leaf, "shape": [sizes.get(dim, dim) for dim in leaf["shape"]]} for name, leaf in proposal.inputs.items()}
    return replace(proposal, inputs=inputs, symbols={name: span for name, span in proposal.symbols.items() if name not in sizes})


def make_leaf(dtype: str, shape: list[Any], fill: Any = None) -> Tree:
    """Return the declaration of a tensor. shape: sizes, names of dims, and MISSING."""
    return {"dtype": dtype, "shape": shape} | ({"fill": fill} if fill is not None else {})


def propose_callable(target: str) -> Proposal:
    """Propose the file of a model that the class or function `target` (package.module.name) makes. Raises LoadError if there is none."""
    made = _load(target)
    needed = _list_needed(inspect.signature(made))
    factory: Tree = {TARGET: target, **dict.fromkeys(needed, MISSING)}
    if needed:
        forward = getattr(made, "forward", None)
        names = _list_arguments(forward, bound=False) if forward else ["x"]
        return Proposal(factory, {name: make_leaf("float32", ["batch", MISSING]) for name in names}, {"batch": {"min": 1, "max": 8}},
                        (f"Give {', '.join(needed)} of the factory, and the shapes of the inputs.",))  # fmt: skip
    try:
        module = trials.build(made)
    except Exception as error:
        fix = "give it a factory that works without arguments"
        raise LoadError(Problem(target, f"raised {trials.describe_error(error)}", fix)) from error
    if not isinstance(module, torch.nn.Module):
        raise LoadError(Problem(target, f"returns a {type(module).__name__}", "name a class or function that returns a torch.nn.Module"))
    names = _list_arguments(module.forward, bound=True)
    guessed, symbols = _guess_input(module)
    inputs = {name: guessed if name == names[0] and guessed else make_leaf("float32", ["batch", MISSING]) for name in names}
    proposal = Proposal(factory, inputs, {"batch": {"min": 1, "max": 8}, **symbols})
    unknown = [name for name, leaf in inputs.items() if MISSING in leaf["shape"]]
    if unknown:
        return replace(proposal, notes=(f"Give the shape and dtype of {', '.join(unknown)}.",))
    refusal = trials.find_refusal(proposal.inputs, module, made)
    if refusal and (fixed := _fix_image(proposal, module)) and trials.find_refusal(fixed.inputs, module, made) is None:
        return fit_ranges(fixed, module, made)
    return proposal.refuse(refusal) if refusal else fit_ranges(proposal, module, made)


def _fix_image(proposal: Proposal, module: torch.nn.Module) -> Proposal | None:
    """Return the proposal with images of the one size that a layer says it takes; None if no layer does."""
    given = (getattr(layer, name, None) for layer in module.modules() for name in ("img_size", "image_size"))
    size = next((size for size in given if isinstance(size, int) or (isinstance(size, list | tuple) and len(size) == 2)), None)
    if size is None or "height" not in proposal.symbols:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return _fix_dims(proposal, {"height": height, "width": width})


def propose_exported(path: str) -> Proposal:
    """Propose the file of a model that is a .pt2 file, with the dims that it was exported with. Raises LoadError if it is none.

    The file is read, which runs code of its maker: call it for a trusted one only.
    """
    _, args, kwargs, dims, symbols = exported.take_apart(exported.read(path, trusted=True))
    values = {**dict(zip(dims, args, strict=False)), **kwargs}
    inputs = {name: _describe(value, dims.get(name)) for name, value in values.items()}
    spans = {name: {"min": symbol.min} | ({"max": symbol.max} if symbol.max is not None else {}) for name, symbol in symbols.items()}
    factory = {TARGET: "lowering.sources.exported.load", "path": path, "trusted": True}
    return Proposal(factory, inputs, spans, ("trusted: torch runs code of the file's author when it reads the file.",))


def propose_mlir(path: str) -> Proposal:
    """Propose the file of a model that is a file of MLIR, with the inputs of its entry. Raises LoadError if no level takes the file."""
    module, refusals = None, []
    for level in ("stablehlo", "torch", "mhlo"):
        try:
            module = mlir.load(path, level)
            break
        except ShapelineError as error:
            refusals.append(error)
    if module is None:  # the level that gets furthest says why: a file that parses names its foreign ops
        best = next((error for error in refusals if not isinstance(error, Unsupported)), refusals[0])
        raise LoadError(best.problems)
    inputs: Tree = {}
    symbols: Tree = {}
    for name, kind in mlir.list_arguments(mlir.parse(module)):
        dtype, dims = mlir.describe_type(kind, module.level) or (MISSING, ())
        shape = [f"{name}_d{position}" if dim == "?" else int(dim) for position, dim in enumerate(dims)]
        symbols |= {dim: {"min": 1, "max": 64} for dim in shape if isinstance(dim, str)}
        inputs[name] = make_leaf(dtype, shape)
    notes = ("Each dynamic dim has a symbol of its own: give those that are equal one, and each its range.",) if symbols else ()
    return Proposal({TARGET: "lowering.sources.mlir.load", "path": path, "level": module.level.word}, inputs, symbols, notes)


def _describe(value: Any, dims: Any) -> Any:
    """Return the tree of an example argument. dims: its dynamic dims, in a tree of the same form."""
    if isinstance(value, torch.Tensor):
        shape = [(dims or {}).get(position, size) for position, size in enumerate(value.shape)]
        is_int = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool) and value.numel()
        fill = {"randint": [int(value.min()), int(value.max()) + 1]} if is_int else None
        return make_leaf(str(value.dtype).removeprefix("torch."), shape, fill)
    if isinstance(value, Mapping):
        return {key: _describe(item, (dims or {}).get(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(item, dims[index] if dims else None) for index, item in enumerate(value)]
    return value


def _load(target: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # also of the code of the module
        is_own = not isinstance(error, ModuleNotFoundError) or f"{module}.".startswith(f"{error.name}.")
        is_name = is_own and isinstance(error, ImportError | AttributeError | ValueError)
        fix = "write it as package.module:Class" if is_name else f"import {module} in Python, and install or repair what it needs"
        raise LoadError(Problem(target, f"cannot be imported: {trials.describe_error(error)}", fix)) from error
    if not callable(found):
        raise LoadError(Problem(target, "is not callable", "name a class or a function that returns a module"))
    return found


def _list_arguments(forward: Any, bound: bool) -> list[str]:
    """Return the names of the arguments that `forward` needs."""
    return _list_needed(inspect.signature(forward))[0 if bound else 1 :]


def _list_needed(signature: inspect.Signature) -> list[str]:
    """Return the names of the parameters without a default."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, one in signature.parameters.items() if one.default is one.empty and one.kind not in several]


def _guess_input(module: torch.nn.Module) -> tuple[Tree | None, Tree]:
    """Return the first input, and its symbols besides the batch, as the first layer takes it."""
    spans = {name: {"min": 32, "max": 256} for name in ("height", "width", "length")}
    for layer in _list_layers(module):
        if isinstance(layer, torch.nn.Embedding):
            return make_leaf("int64", ["batch", "seq"], {"randint": [0, layer.num_embeddings]}), {"seq": {"min": 1, "max": SEQUENCE}}
        if isinstance(layer, torch.nn.Conv2d):
            image = make_leaf("float32", ["batch", layer.in_channels, "height", "width"])
            return image, {name: spans[name] for name in ("height", "width")}
        if isinstance(layer, torch.nn.Conv1d):
            return make_leaf("float32", ["batch", layer.in_channels, "length"]), {"length": spans["length"]}
        if isinstance(layer, torch.nn.RNNBase):
            shape = ["batch", "seq", layer.input_size] if layer.batch_first else ["seq", "batch", layer.input_size]
            return make_leaf("float32", shape), {"seq": {"min": 1, "max": 128}}
        if isinstance(layer, torch.nn.Linear):
            return make_leaf("float32", ["batch", layer.in_features]), {}
    return None, {}


def _list_layers(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    return (layer for layer in module.modules() if not list(layer.children()))
