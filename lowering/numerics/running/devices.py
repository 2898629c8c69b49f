"""Programs on several devices of XLA: with collectives, or with shardings that XLA's partitioner reads.

On a CPU, `XLA_FLAGS=--xla_force_host_platform_device_count=4` makes the devices; it counts before jax is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lowering import meshes
from lowering.errors import Problem, StageFailed
from lowering.ir import mlir
from lowering.numerics.running import shape_refinement
from lowering.numerics.running.xla import to_numpy, to_tensor


def run_on_each(module: Any, arguments: Sequence[Sequence[torch.Tensor]]) -> list[tuple[torch.Tensor, ...]]:
    """Run a module with collectives on as many devices as there are lists of arguments. Return the results of each device.

    The shapes of the arguments are those of the first device. Raises Refused and StageFailed, see `shape_refinement.refine`.
    """
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = _find_devices(len(arguments))
    executable = _compile(module, arguments[0], devices)
    everywhere = NamedSharding(Mesh(np.array(devices), ("device",)), PartitionSpec())
    given = [jax.make_array_from_single_device_arrays(tuple(values[0].shape), everywhere, [
        jax.device_put(to_numpy(value), device) for value, device in zip(values, devices, strict=True)])
        for values in zip(*arguments, strict=True)]  # fmt: skip
    results = executable.execute_sharded(given).disassemble_into_single_device_arrays()
    return [tuple(_read(result[number]) for result in results) for number in range(len(devices))]


def run_sharded(module: Any, arguments: Sequence[torch.Tensor], mesh: meshes.Axes, shardings: Sequence[meshes.Sharding],
                result_shardings: Sequence[meshes.Sharding]) -> tuple[torch.Tensor, ...]:
    """Run a module with shardings of either partitioner on the devices of `mesh`, and return the whole results.

    shardings, result_shardings: of each argument and result, as they are written in the module. Raises Refused, and StageFailed too where
    XLA compiles to others.
    """
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = _find_devices(meshes.count_devices(mesh))
    executable = _compile(module, arguments, devices)
    placed = Mesh(np.array(devices).reshape(tuple(mesh.values())), tuple(mesh))
    declared = [*zip(shardings, [value.dim() for value in arguments], strict=True)]
    _check_shardings("argument", executable.get_parameter_shardings(), placed, declared)
    _check_shardings("result", executable.get_output_shardings(), placed, [*zip(result_shardings, _list_result_ranks(module), strict=True)])
    given = [jax.device_put(to_numpy(value), NamedSharding(placed, PartitionSpec(*dims)))
             for value, dims in zip(arguments, shardings, strict=True)]
    found = executable.execute_sharded(given).disassemble_into_single_device_arrays()
    whole = []
    for parts, dims in zip(found, result_shardings, strict=True):
        split = [*dims, *[None] * (parts[0].ndim - len(dims))]
        shape = tuple(size * (mesh[axis] if axis else 1) for size, axis in zip(parts[0].shape, split, strict=True))
        sharding = NamedSharding(placed, PartitionSpec(*dims))
        whole.append(_read(jax.make_array_from_single_device_arrays(shape, sharding, parts)))
    return tuple(whole)


def _check_shardings(kind: str, compiled: Sequence[Any] | None, mesh: Any, declared: Sequence[tuple[meshes.Sharding, int]]) -> None:
    """Raise StageFailed with each argument or result that XLA shards otherwise than its declared sharding, given with its rank."""
    from jax.sharding import NamedSharding, PartitionSpec
    from jaxlib import xla_client

    problems = []
    for number, (found, (dims, rank)) in enumerate(zip(compiled or [], declared, strict=True)):
        given = xla_client.HloSharding.from_proto(found)
        wanted = NamedSharding(mesh, PartitionSpec(*dims))._to_xla_hlo_sharding(rank)
        if given != wanted and not (given.is_replicated() and wanted.is_replicated()):
            problems.append(Problem(f"{kind} {number}", f"is sharded as {given} by XLA, and declared as {wanted}"))
    if problems:
        raise StageFailed(problems)


def _list_result_ranks(module: Any) -> list[int]:
    ir, main = mlir.get_ir(module.context), mlir.find_main(module.body.operations)
    return [ir.RankedTensorType(type_).rank for type_ in main.attributes["function_type"].value.results]


def _find_devices(count: int) -> list[Any]:
    import jax

    found = jax.local_devices(backend="cpu")
    if len(found) < count:
        fix = f"set XLA_FLAGS=--xla_force_host_platform_device_count={count} before jax is imported"
        raise StageFailed(Problem("devices", f"{count} are needed, and XLA has {len(found)} on cpu", fix))
    return list(found[:count])


def _compile(module: Any, arguments: Sequence[torch.Tensor], devices: Sequence[Any]) -> Any:
    """Compile a module of MHLO or StableHLO for the shapes of `arguments`, as one partition for each device."""
    import numpy as np
    from jaxlib import xla_client

    static = shape_refinement.refine(mlir.to_bytecode(module), [(value.dtype, tuple(value.shape)) for value in arguments], is_sharded=True)
    options = xla_client.CompileOptions()
    options.num_partitions = len(devices)
    build = options.executable_build_options
    build.num_partitions, build.num_replicas, build.use_spmd_partitioning = len(devices), 1, True
    build.use_shardy_partitioner = meshes.FRONTEND in module.operation.attributes
    build.device_assignment = xla_client.DeviceAssignment.create(np.arange(len(devices)).reshape(1, len(devices)))
    try:
        return devices[0].client.compile_and_load(static, xla_client.DeviceList(tuple(devices)), options)
    except Exception as error:  # noqa: BLE001 - jaxlib's errors have no common class
        raise StageFailed(Problem("XLA on several devices", f"cannot compile: {str(error).splitlines()[0]}"), str(error)) from None


def _read(array: Any) -> torch.Tensor:
    import numpy as np

    return to_tensor(np.array(array))
