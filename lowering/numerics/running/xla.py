"""XLA as a consumer: programs with dynamic dims are refined to the shapes of the arguments, compiled, and executed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import torch

from lowering import types
from lowering.custom import bridge, segments
from lowering.errors import Problem, StageFailed
from lowering.ir import mlir
from lowering.numerics.choices import PLATFORMS
from lowering.numerics.running import compilation
from lowering.numerics.running.compilation import Effort, Plan
from lowering.numerics.running.held import Held
from lowering.numerics.running.shape_refinement import context, refine
from lowering.store import executables
from lowering.store.sealed import Sealed

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else the first use takes most of a GPU's memory

_KEPT = 4  # executables: those of the levels at one point

@cache
def list_platforms() -> tuple[str, ...]:
    """Return the PLATFORMS that jaxlib can run on here."""
    return tuple(platform for platform in PLATFORMS if _find_device(platform) is not None)


@cache
def _find_device(platform: str) -> Any:
    import jax

    try:
        return jax.local_devices(backend=platform)[0]
    except RuntimeError:
        return None


@dataclass
class Xla:
    """One XLA device. Tensors on it are shared with torch where both see the memory, copied once otherwise.

    is_strict: switch off optimizations of XLA that change results.
    options: further options of the compiler, by XLA's names.
    effort: of a compilation by `run`: in the shortest time, without optimizations of the machine code, or with XLA's default options.
    may_lose_nan: whether a quick compilation may use kernels whose maxima and minima lose NaN.
    """

    platform: str = "cpu"
    is_strict: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    effort: Effort = "full"
    may_lose_nan: bool = False
    _held: Held = field(default_factory=Held)
    _compiled: dict[Any, Any] = field(default_factory=dict)
    _refined: dict[Any, bytes] = field(default_factory=dict)
    _planned: dict[Any, Plan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.platform not in list_platforms():
            raise ValueError(f"XLA has no '{self.platform}' device here; it has {', '.join(list_platforms())}")

    def hold(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Put weights on the device for good; every later `run` uses them from there."""
        self._held.hold(weights.values(), self._put)

    def run(self, module: str | bytes, arguments: Sequence[torch.Tensor],
            values: Mapping[int, int] = MappingProxyType({})) -> tuple[torch.Tensor, ...]:
        """Run `module`, compiled for the shapes of `arguments`, and return its results; the last few executables are kept for further runs.

        Raises Refused and StageFailed, see `refine`.
        """

        def whole(module: str | bytes, arguments: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
            return self.execute(self.prepare(module, arguments, values), arguments)

        return segments.run(module, arguments, whole, context())

    def repeat(self, module: str | bytes, arguments: Sequence[torch.Tensor], states: Mapping[int, int], steps: int,
               values: Mapping[int, int] = MappingProxyType({})) -> tuple[torch.Tensor, ...]:
        """Run a module several times on the device, each time with the states that the last run left. Return the last results.

        states: the position of the result that is the new value of an argument, by the argument's position. See `run` for the rest.
        """
        step = self.stepper(self.prepare(module, arguments, values), arguments, states)
        results: list[Any] = []
        for _ in range(steps):
            results = step()
        return self._read(results)

    def stepper(self, executable: Any, arguments: Sequence[torch.Tensor], states: Mapping[int, int]) -> Callable[[], list[Any]]:
        """Return a function that runs an executable, each time with the states that the last run left. Results are arrays of the device."""
        given = [self._put(tensor) if position in states else self._take(tensor) for position, tensor in enumerate(arguments)]

        def step() -> list[Any]:
            results = self._execute(executable, given)
            for argument, result in states.items():
                given[argument] = results[result]
            return results

        return step

    def prepare(self, module: str | bytes, arguments: Sequence[torch.Tensor], values: Mapping[int, int] = MappingProxyType({})) -> Any:
        """Return the executable of `module` for the shapes of `arguments`: one of the last few, or a new one."""
        key = self._describe(module, arguments, values)
        executable = self._compiled.pop(key, None) or self.compile(self._refine(key))
        _keep_last(self._compiled, key, executable)
        return executable

    def identify(self, module: str | bytes, arguments: Sequence[torch.Tensor],
                 values: Mapping[int, int] = MappingProxyType({})) -> str | None:
        """Return a digest of what `run` runs, whatever the effort of its compilation.

        It covers the program at these shapes, the compiler, its options, and the processor. Return None where more than that may run: ops
        outside of XLA, or on a GPU. Raises Refused and StageFailed, see `refine`.
        """
        if self.platform != "cpu" or bridge.may_call(module):
            return None
        static = self._refine(self._describe(module, arguments, values))
        return executables.compute_key(static, self._version, {**self.options, "is strict": self.is_strict})

    def _describe(self, module: str | bytes, arguments: Sequence[torch.Tensor], values: Mapping[int, int]) -> tuple[Any, ...]:
        shapes = tuple((tensor.dtype, tuple(tensor.shape)) for tensor in arguments)
        return module, shapes, tuple(sorted(values.items())), self.effort, self.may_lose_nan

    def _refine(self, key: tuple[Any, ...]) -> bytes:
        """Return the static module of a description: one of the last few, or a new one."""
        module, shapes, values, *_ = key
        static = self._refined.pop(key[:3], None) or refine(module, shapes, dict(values))
        _keep_last(self._refined, key[:3], static)
        return static

    def _plan(self, static: bytes) -> Plan:
        """Return how a static module is compiled: one of the last few plans, or a new one."""
        key = static, self.effort, self.may_lose_nan
        plan = self._planned.pop(key, None) or compilation.plan(static, self.platform, self._version, self.options, self.is_strict,
                                                                self.effort, self.may_lose_nan)
        _keep_last(self._planned, key, plan)
        return plan

    @property
    def _version(self) -> str:
        return str(_find_device(self.platform).client.platform_version)

    def compile(self, static: bytes) -> Any:
        """Compile a static StableHLO module to a loaded executable."""
        from jaxlib import xla_client

        plan, device = self._plan(static), _find_device(self.platform)
        options = xla_client.CompileOptions()
        options.env_option_overrides = list(plan.options.items())
        if plan.has_handlers:
            bridge.serve(mlir.parse(static, context()), self.platform)
        devices = xla_client.DeviceList((device,))
        build = partial(device.client.compile_and_load, plan.program, devices, options)
        kept = None if plan.has_handlers or self.platform != "cpu" else executables.find_folder()  # a process registers its own handlers
        try:
            if kept is None:
                return build()
            load = partial(device.client.deserialize_executable, executable_devices=devices, compile_options=options)
            return _find_or_build(kept, plan.key, load, build)
        except Exception as error:  # noqa: BLE001
            if not plan.is_full:
                return replace(self, effort="full").compile(static)
            raise StageFailed(Problem(f"XLA on {self.platform}", f"cannot compile: {str(error).splitlines()[0]}"), str(error)) from None

    def execute(self, executable: Any, arguments: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Run an executable once and return its results as CPU tensors."""
        return self._read(self._execute(executable, list(map(self._take, arguments))))

    def _execute(self, executable: Any, arguments: list[Any]) -> list[Any]:
        """Return the results of one run as arrays of the device. Arguments that are states are deleted: their memory is reused."""
        try:
            results = [array for (array,) in executable.execute_sharded(arguments).disassemble_into_single_device_arrays()]
            for array in results:
                array.block_until_ready()
        except Exception as error:  # noqa: BLE001
            raise StageFailed(Problem(f"XLA on {self.platform}", f"cannot run: {str(error).splitlines()[0]}"), str(error)) from None
        return results

    def _read(self, results: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """Return arrays of the device as CPU tensors."""
        from jaxlib import _jax

        try:
            return tuple(torch.utils.dlpack.from_dlpack(_jax.buffer_to_dlpack_managed_tensor(array)).cpu() for array in results)
        except Exception as error:  # noqa: BLE001
            raise StageFailed(Problem(f"XLA on {self.platform}", f"cannot run: {str(error).splitlines()[0]}"), str(error)) from None

    def _take(self, tensor: torch.Tensor) -> Any:
        """Return a tensor on the device: the one that `hold` put there, again if an executable took its memory, or a new one."""
        return self._held.take(tensor, self._put, is_lost=lambda array: array.is_deleted())

    def _put(self, tensor: torch.Tensor) -> Any:
        """Put a tensor on the device, as jax.device_put does after its checks, which take longer than a small model runs."""
        from jax.core import ShapedArray
        from jaxlib import _jax

        device, value = _find_device(self.platform), to_numpy(tensor)
        return _jax.batched_device_put(ShapedArray(value.shape, value.dtype), _place_on(self.platform), [value], [device], enable_x64=True)


def _keep_last(held: dict[Any, Any], key: Any, value: Any) -> None:
    """Add a value that is used now, and leave out the one that was not used for the longest time where there are too many."""
    held[key] = value
    if len(held) > _KEPT:
        del held[next(iter(held))]


def _find_or_build(kept: Sealed, key: str, load: Callable[[bytes], Any], build: Callable[[], Any]) -> Any:
    """Return the executable kept under `key`, or build it and keep it."""
    if (serialized := kept.find(key)) is not None:
        with suppress(Exception):  # another jaxlib wrote it, or none that can be read: it is built again
            return load(serialized)
    executable = build()
    with suppress(Exception):  # not every executable can be serialized
        kept.put(key, executable.serialize())
    return executable


@cache
def _place_on(platform: str) -> Any:
    from jax.sharding import SingleDeviceSharding

    return SingleDeviceSharding(_find_device(platform))


def to_numpy(tensor: torch.Tensor) -> Any:
    """Return a numpy view of a CPU tensor; dtypes that numpy lacks are ml_dtypes'."""
    import ml_dtypes

    tensor = tensor.detach().cpu().contiguous().resolve_conj().resolve_neg()
    word = types.find_row(tensor.dtype).numpy
    if hasattr(ml_dtypes, word):
        return tensor.view(torch.uint8 if tensor.element_size() == 1 else torch.int16).numpy().view(getattr(ml_dtypes, word))
    return tensor.numpy()


def to_tensor(array: Any) -> torch.Tensor:
    """Return a numpy array of any dtype of the table as a CPU tensor."""
    dtype = next(row for row in types.DTYPES.values() if row.numpy == array.dtype.name).torch
    if array.dtype.kind == "V":  # ml_dtypes'
        array = array.view("uint8" if array.dtype.itemsize == 1 else "int16")
    return torch.from_numpy(array).view(dtype)
