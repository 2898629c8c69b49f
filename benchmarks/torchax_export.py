"""Export a model with torchax: exported by torch, traced by JAX, as static StableHLO. A contender of `benchmarks.mhlo_quality`.

torchax 0.0.13 reads overloads of ops on named tensors while it is imported, and torch 2.13 has removed them. Until that is fixed,
placeholders that nothing here calls stand in for them. torchax also registers JAX as an accelerator. torch.compile then asks it for a
stream and fails. The registration is skipped, because nothing here runs on it. Install it beside the project's own packages: `pip install
--no-deps --target FOLDER torchax`, with FOLDER on PYTHONPATH.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch._ops import OpOverloadPacket

from lowering.model import Model


def export(module: torch.nn.Module, model: Model, given: Mapping[str, torch.Tensor]) -> tuple[str, list[torch.Tensor], int]:
    """Return static StableHLO for the shapes of `given`, its arguments in order, and the number of weights among them.

    Errors of torch, torchax and JAX pass through.
    """
    import jax

    with _importable():
        from torchax.export import exported_program_to_jax  # type: ignore[import-not-found]
    with torch.no_grad():
        program = torch.export.export(module, (), {**given, **model.constants}, strict=False)
    weights, function = exported_program_to_jax(program)
    with jax.enable_x64(True):
        text = jax.jit(function, keep_unused=True).lower(weights,
                                                         tuple(jax.numpy.asarray(value.numpy()) for value in given.values())).as_text()
    return text, [*(torch.from_numpy(numpy.array(weight)) for weight in weights), *given.values()], len(weights)


@contextmanager
def _importable() -> Iterator[None]:
    read = OpOverloadPacket.__getattr__
    registering = (torch.utils.rename_privateuse1_backend, torch._register_device_module)

    def lenient(packet: Any, key: str) -> Any:
        try:
            return read(packet, key)
        except AttributeError:
            if "names" in key or "imname" in key:
                return f"{packet}.{key}"
            raise

    OpOverloadPacket.__getattr__ = lenient  # type: ignore[method-assign]
    torch.utils.rename_privateuse1_backend = torch._register_device_module = lambda *given: None  # type: ignore[assignment]
    try:
        yield
    finally:
        OpOverloadPacket.__getattr__ = read  # type: ignore[method-assign]
        torch.utils.rename_privateuse1_backend, torch._register_device_module = registering  # type: ignore[assignment]
