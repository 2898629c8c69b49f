"""A model as an `nn.Module`, built with its seed and run in eager mode."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from lowering import paths, recipe, tracking
from lowering.custom import libraries
from lowering.eager import checkpoint, quantized, training
from lowering.eager.arguments import assemble, check_fit
from lowering.eager.missing_items import find_missing_item
from lowering.eager.outputs import Outputs, flatten_outputs
from lowering.errors import LoadError, Problem, Unsupported, suggest
from lowering.model import Model

read: dict[str, list[tracking.Reads]] = {}  # by model: what its factory read in this process


def instantiate(model: Model) -> torch.nn.Module:
    """Build the module with the factory, weights drawn from `model.seed` or mapped from its checkpoint, in the model's mode.

    That is eval mode, or train mode with its loss. Raises LoadError with the factory and the cause.
    """
    place = f"models.{model.name}.factory ({model.factory.get(recipe.TARGET, f'no {recipe.TARGET}')})"
    libraries.load(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        try:
            with checkpoint.skip_parameters() if model.weights == "lazy" else nullcontext(), tracking.track() as reads:
                module = recipe.build(model.factory)
        except (LoadError, Unsupported):  # raised by a factory that explains the error itself
            raise
        except Exception as error:
            raise LoadError(libraries.explain(error, model) or Problem(place, f"raised {type(error).__name__}: {error}")) from error
    read.setdefault(model.name, []).append(reads)
    if not isinstance(module, torch.nn.Module):
        raise LoadError(Problem(place, f"returned a {type(module).__name__}", "a factory must return a torch.nn.Module"))
    if model.checkpoint is not None:
        checkpoint.fill(module, paths.expand(model.checkpoint))
    if model.dtype is not None:
        _convert(module, getattr(torch, model.dtype))
    if model.method != "forward":
        module = _enter(module, model)
    prepared = training.prepare(module, model) if model.mode == "training" else to_eval_mode(module)
    check_fit(model, prepared)
    if model.quantization is not None:
        with torch.random.fork_rng(devices=[]), tracking.track() as reads:
            prepared = quantized.quantize(prepared, model)
        read[model.name].append(reads)
    return unpack_numbers(prepared, model)


def _convert(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Convert floating parameters and buffers in place, as `Module.to` does, which fails on those without bytes."""
    if not any(isinstance(value, FakeTensor) for value in (*module.parameters(), *module.buffers())):
        module.to(dtype)
        return
    made: dict[int, torch.nn.Parameter] = {}  # tied parameters stay tied
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None and value.is_floating_point():
                converted = torch.nn.Parameter(value.detach().to(dtype), value.requires_grad)
                part._parameters[name] = made.setdefault(id(value), converted)
        part._buffers.update({name: value.to(dtype) for name, value in part._buffers.items()
                              if value is not None and value.is_floating_point()})


def _enter(module: torch.nn.Module, model: Model) -> torch.nn.Module:
    """Return the part of `module` that the model's method names: a submodule, or the owner of a method, whose calls then run that method.

    Raises LoadError if there is no such method or submodule.
    """
    *path, last = model.method.split(".")
    owner: Any = module
    for name in path:
        owner = getattr(owner, name, None)
    method = getattr(owner, last, None)
    if isinstance(method, torch.nn.Module):
        return method
    if not inspect.ismethod(method) or not isinstance(owner, torch.nn.Module):
        own = [name for name in dir(type(module)) if not name.startswith("_") and not hasattr(torch.nn.Module, name)]
        own += [name for name, _ in module.named_modules() if name]
        raise LoadError(Problem(f"{model.place}.method",
                                f"{type(module).__name__} has no method '{model.method}'",
                                suggest(model.method, own) or f"its methods and parts: {', '.join(own[:20]) or 'forward'}"))
    owner.__dict__["forward"] = method
    return owner


def unpack_numbers(module: torch.nn.Module, model: Model) -> torch.nn.Module:
    """Wrap `module` so that the 0-d tensors of `make` for Python numbers become an int, float or bool, known or symbolic."""
    names = [name for name, declared in model.leaves.items() if declared.is_number]

    def unpack(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {name: value.item() if name in names and isinstance(value, torch.Tensor) else value for name, value in kwargs.items()}

    if names:
        module.register_forward_pre_hook(unpack, with_kwargs=True)
    return module


def to_eval_mode(module: torch.nn.Module) -> torch.nn.Module:
    """Put `module` into eval mode, and return it.

    The module of an exported program, such as PT2E's, computes in the mode of its export and raises in `eval()`: only its flags are set.
    """
    try:
        return module.eval()
    except NotImplementedError:
        for part in module.modules():
            part.training = False
        return module


@contextmanager
def in_eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Put the module into eval mode for the block, and each of its submodules back into its own mode after it."""
    modes = [(part, part.training) for part in module.modules()]
    if any(mode for _, mode in modes):
        to_eval_mode(module)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def restore_buffers(module: torch.nn.Module) -> Iterator[None]:
    """Restore the module's buffers at the end of the block."""
    before = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(before[name])


def run_eager(module: torch.nn.Module, model: Model, inputs: Mapping[str, torch.Tensor]) -> Outputs:
    """Run `module` on `inputs`, the leaves by name, and the model's constants (in training, with autograd).

    Raises LoadError, with the shapes, if it fails.
    """
    arguments = assemble(model, module, inputs)
    try:
        with torch.set_grad_enabled(model.mode == "training"):
            returned = module(**arguments)
    except LoadError:
        raise
    except Exception as error:
        at = ", ".join(f"{name}: {tuple(value.shape)}" for name, value in inputs.items())
        fix = "check inputs, fills, constants and ranges; dims that must be equal need the same symbol"
        said = str(error).partition(" (Could this error message be improved?")[0]
        found = _find_frame(error)
        line = f" in {Path(found[1].filename).name}:{found[1].lineno}" if found else ""
        problem = Problem(f"models.{model.name}", f"eager raised {type(error).__name__}{line} at {at}: {said}", fix)
        missing = find_missing_item(error, *found, arguments, model) if found else None
        raise LoadError(libraries.explain(error, model) or missing or problem) from error
    return flatten_outputs(returned)


def _find_frame(error: Exception) -> tuple[FrameType, traceback.FrameSummary] | None:
    """Return the innermost frame that is neither torch's nor this package's, and its line."""
    outside = (str(Path(torch.__file__).parent), str(tracking.OWN), "<")
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    lines = traceback.extract_tb(error.__traceback__)
    return next((found for found in reversed(list(zip(frames, lines, strict=True))) if not found[1].filename.startswith(outside)), None)
