"""A model as torchax hands it to XLA: exported by torch, traced by JAX, as static StableHLO; a contender of `benchmarks.mhlo_quality`.

torchax 0.0.13 reads overloads of ops on named tensors, which torch 2.13 has removed, while it is imported: names that nothing here
calls stand for them until then. It also makes an accelerator of JAX, of which torch.compile then asks a stream and gets an error: nothing
here runs on it, so it is left unmade. It is looked for beside the project's own packages: `pip install --no-deps --target FOLDER torchax`, FOLDER on PYTHONPATH.
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
    """Static StableHLO for the shapes of `given`, its arguments in order, and how many of them are weights. Raises what torch, torchax or JAX raises."""
    import jax

    with _importable():
        from torchax.export import exported_program_to_jax  # type: ignore[import-not-found]
    with torch.no_grad():
        program = torch.export.export(module, (), {**given, **model.constants}, strict=False)
    weights, function = exported_program_to_jax(program)
    with jax.enable_x64(True):
        text = jax.jit(function, keep_unused=True).lower(weights, tuple(jax.numpy.asarray(value.numpy()) for value in given.values())).as_text()
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
