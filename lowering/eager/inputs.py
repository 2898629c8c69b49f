"""A model brought to life: the seeded module, example inputs at any sizes, and what eager computes on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from lowering import recipe
from lowering.custom import libraries
from lowering.eager import training
from lowering.eager.outputs import Outputs, outputs_of
from lowering.errors import LoadError, Problem, Unsupported
from lowering.model import Input, Model
from lowering.sizes.dims import Affine
from lowering.sources import checkpoint
from lowering.types import DTYPES, NUMBERS

# Sizes of `null` dims: primes of their own, so that no flexible dim is traced at the size of a symbol (model.EXAMPLES) or of another.
FLEXIBLE = (41, 43, 47, 53, 59, 61, 67, 71)


def instantiate(model: Model) -> torch.nn.Module:
    """The module that the factory builds, weights drawn from `model.seed` or mapped from its checkpoint, in eval mode, or in train mode with
    its loss; LoadError names the factory and the cause."""
    place = f"models.{model.name}.factory ({model.factory.get(recipe.TARGET, f'no {recipe.TARGET}')})"
    libraries.load(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        try:
            with checkpoint.without_parameters() if model.weights == "lazy" else nullcontext():
                module = recipe.build(model.factory)
        except (LoadError, Unsupported):  # of a factory that says itself what is wrong
            raise
        except Exception as error:
            raise LoadError(libraries.explain(error, model) or Problem(place, f"raised {type(error).__name__}: {error}")) from error
    if not isinstance(module, torch.nn.Module):
        raise LoadError(Problem(place, f"returned a {type(module).__name__}", "a factory returns a torch.nn.Module"))
    if model.checkpoint is not None:
        checkpoint.fill(module, Path(model.checkpoint).expanduser())
    return with_numbers(training.prepared(module, model) if model.mode == "training" else module.eval(), model)


def with_numbers(module: torch.nn.Module, model: Model) -> torch.nn.Module:
    """`module`, called with the 0-d tensors that `make` gives for Python numbers, and given numbers: an int, float or bool, known or symbolic."""
    names = [name for name, declared in model.inputs.items() if declared.is_number]

    def unpack(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {name: value.item() if name in names and isinstance(value, torch.Tensor) else value for name, value in kwargs.items()}

    if names:
        module.register_forward_pre_hook(unpack, with_kwargs=True)
    return module


def flexible_sizes(model: Model) -> dict[str, int]:
    """The example size of every `null` dim, keyed `input[position]`: primes that no other dim is traced at."""
    dims = {f"{name}[{position}]": dim for name, declared in model.inputs.items() for position, dim in enumerate(declared.dims())}
    places = [place for place, dim in dims.items() if dim is None]
    if not places:
        return {}
    taken = set(model.examples().values())
    free = [prime for prime in FLEXIBLE if prime not in taken]
    return {place: free[index % len(free)] for index, place in enumerate(places)}


def shapes(model: Model, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every input at `sizes`: each symbol's size, and optionally `input[position]` for a `null` dim (else its example).

    ValueError names the symbols that `sizes` lacks, the keys that the model does not have, and dims below 0.
    """
    given = {**flexible_sizes(model), **sizes}
    missing = [symbol for symbol in model.symbols if symbol not in given]
    unknown = [key for key in sizes if key not in model.symbols and key not in flexible_sizes(model)]
    if missing or unknown:
        raise ValueError(f"sizes of model '{model.name}': missing {missing or 'none'}, unknown {unknown or 'none'}")
    found = {}
    for name, declared in model.inputs.items():
        found[name] = tuple(
            given[f"{name}[{position}]"] if dim is None else dim.at(given) if isinstance(dim, Affine) else dim
            for position, dim in enumerate(declared.dims())
        )
        if min(found[name], default=0) < 0:
            raise ValueError(f"input '{name}' of model '{model.name}' has shape {found[name]} at {dict(sizes)}")
    return found


def make(model: Model, sizes: Mapping[str, int], seed: int | None = None) -> dict[str, torch.Tensor]:
    """Inputs by name at `sizes` (see `shapes`), filled as declared; the same for equal seed (None: the model's), input name and shape.

    A Python number is a 0-d tensor here; that of a SymInt holds the size of its symbol.
    """
    seed = model.seed if seed is None else seed
    made = {name: _filled(model.inputs[name], shape, _generator(seed, name)) for name, shape in shapes(model, sizes).items()}
    return made | {name: torch.tensor(sizes[name]) for name in model.ints}


@contextmanager
def buffers_kept(module: torch.nn.Module) -> Iterator[None]:
    """What forward does to the module's buffers inside is undone."""
    before = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(before[name])


def run_eager(module: torch.nn.Module, model: Model, inputs: Mapping[str, torch.Tensor]) -> Outputs:
    """What `module` computes on `inputs` and the model's constants (in training, for autograd); LoadError when it raises, naming the shapes."""
    try:
        with torch.set_grad_enabled(model.mode == "training"):
            returned = module(**inputs, **model.constants)
    except LoadError:
        raise
    except Exception as error:
        at = ", ".join(f"{name}: {tuple(value.shape)}" for name, value in inputs.items())
        raise LoadError(libraries.explain(error, model) or Problem(f"models.{model.name}", f"eager raised {type(error).__name__} at {at}: {error}",
                                "check inputs, fills, constants and ranges; dims that must be equal share a symbol")) from error
    return outputs_of(returned)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _filled(declared: Input, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A tensor of the declared dtype: default randn for floats and complex, ones for bool, zeros for ints.

    randint [low, high) and uniform [low, high); arange counts along the last dim; padding is a mask over the last dim: each row a drawn
    number of ones, at least one, then zeros.
    """
    dtype = DTYPES[NUMBERS.get(declared.dtype, declared.dtype)].torch
    floating = dtype.is_floating_point or dtype.is_complex
    fill = declared.fill if declared.fill is not None else "randn" if floating else "ones" if dtype is torch.bool else "zeros"
    kind: str
    value: Any
    kind, value = (fill, None) if isinstance(fill, str) else next(iter(fill.items()))
    match kind:
        case "randn":
            drawn = torch.randn(shape, generator=generator, dtype=dtype if dtype.is_complex else torch.float32)
        case "randint":
            drawn = torch.randint(int(value[0]), int(value[1]), shape, generator=generator)
        case "uniform":
            drawn = torch.rand(shape, generator=generator) * (value[1] - value[0]) + value[0]
        case "arange":
            drawn = torch.arange(shape[-1] if shape else 1).expand(shape).clone()
        case "padding":
            lengths = torch.randint(1, max(2, shape[-1] + 1), (*shape[:-1], 1), generator=generator)
            drawn = torch.arange(shape[-1]) < lengths
        case "ones" | "zeros" | "constant":
            drawn = torch.full(shape, {"ones": 1, "zeros": 0}.get(kind, value), dtype=torch.float64 if isinstance(value, float) else None)
        case _:
            raise ValueError(f"'{kind}' is not a fill; Model.problems() tells beforehand")
    return drawn.to(dtype)
