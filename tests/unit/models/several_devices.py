"""Programs on four virtual devices, in a process of their own, because XLA reads the number of devices once.

Prints the largest differences as JSON.
"""

from __future__ import annotations

import json
import os
from typing import Any

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import _functional_collectives as collectives

from examples.tensor_parallel import block
from lowering.ir import mlir, portable
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics.running import devices, xla
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from tests.unit.models import tiny_bert

X = Input("float32", ("batch", "seq", block.WIDTH))
SHARDINGS = {"x": ["data"], **{f"{name}.weight": ["tp"] for name in block.COLUMNS},
             **{f"{name}.weight": [None, "tp"] for name in block.ROWS}}  # fmt: skip

RESULT = ["data", None, "tp"]  # another than propagation would give


class Exchange(torch.nn.Module):
    """Each collective once, on (2 * rows, 3)."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        group = dist.group.WORLD
        assert group is not None
        mean, most = (collectives.all_reduce(x, how, group) for how in ("avg", "max"))
        rows = collectives.all_gather_tensor(x, 0, group)
        return mean, most, rows, collectives.reduce_scatter_tensor(rows * x.sum(), "sum", 0, group), \
            collectives.all_to_all_single(x, None, None, group)


def exchange() -> Exchange:
    block.build(2)  # for its process group
    return Exchange()


def lower(factory: dict[str, Any], x: Input, **options: Any) -> Program:
    symbols = {name: Symbol(1, 8) for name in x.shape if isinstance(name, str) and name.isidentifier()} or {"rows": Symbol(1, 8)}
    model = Model("model", factory, {"x": x}, symbols)
    return tiny_bert.lower(Program(Level.MODEL, model), Export(), ToTorchScript(), ToTorchDialect(), ToStableHLO(**options), ToMHLO())


def given(program: Program, weights: Any, x: Tensor) -> list[Tensor]:
    assert program.signature is not None
    return [x if argument.kind == "input" else weights[argument.name] for argument in program.signature.arguments]


def difference(left: Any, right: Any) -> float:
    return max((one - other).abs().max().item() if one.shape == other.shape else float("inf")
               for one, other in zip(left, right, strict=True))


def main() -> None:
    torch.manual_seed(0)
    found: dict[str, float] = {}
    whole, x = block.build(1), torch.randn(2, 5, block.WIDTH)
    want = [whole(x)]
    for ranks in (2, 4):
        program = lower({"_target_": "examples.tensor_parallel.block.build", "ranks": ranks}, X, mesh={"tp": ranks}, groups={"0": ["tp"]})
        assert mlir.count_ops(program.ir)["mhlo.all_reduce"] == 2
        results = devices.run_on_each(program.ir, [given(program, block.shard(whole, rank, ranks), x) for rank in range(ranks)])
        found[f"tensor parallel on {ranks}"] = max(difference(result, want) for result in results)
        dist.destroy_process_group()
    mesh = {"data": 2, "tp": 2}
    for partitioner in ("gspmd", "shardy"):
        program = lower({"_target_": "examples.tensor_parallel.block.build", "ranks": 1}, X, mesh=mesh, shardings=SHARDINGS,
                        result_shardings={"*": RESULT}, partitioner=partitioner)
        assert program.signature is not None
        whole_arguments, declared = (given(program, program.weights, x),
                                     [SHARDINGS.get(each.name, []) for each in program.signature.arguments])
        sharded = devices.run_sharded(program.ir, whole_arguments, mesh, declared, [RESULT])
        found[f"sharded by {partitioner}"] = difference(sharded, want)
        artifact, _ = portable.serialize(program.ir)
        sharded = devices.run_sharded(portable.deserialize(artifact), whole_arguments, mesh, declared, [RESULT])
        found[f"artifact sharded by {partitioner}"] = difference(sharded, want)
        found[f"{partitioner} on one device"] = difference(xla.Xla("cpu").run(mlir.text(program.ir, elide=None), whole_arguments), want)
    program = lower({"_target_": "tests.unit.models.several_devices.exchange"}, Input("float32", ("2*rows", 3)), mesh={"tp": 2},
                    groups={"0": ["tp"]})
    parts = [torch.randn(6, 3) for _ in range(2)]
    rows = torch.cat(parts)
    scattered = sum(rows * part.sum() for part in parts)
    assert isinstance(scattered, Tensor)
    for rank, results in enumerate(devices.run_on_each(program.ir, [[part] for part in parts])):
        expected = [sum(parts) / 2, torch.maximum(*parts), rows, scattered.chunk(2)[rank],
                    torch.cat([part.chunk(2)[rank] for part in parts])]
        found |= {f"output {number} on device {rank}": difference([result], [value])
                  for number, (result, value) in enumerate(zip(results, expected, strict=True))}  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()
