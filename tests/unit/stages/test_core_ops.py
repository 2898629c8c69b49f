"""Programs of core ATen ops (`decompose=core`): every op of the set has a way down, and its numbers are eager's."""

from __future__ import annotations

import warnings

import pytest
import torch

from lowering.level import Level
from lowering.model import Built, Input, Model, Symbol
from lowering.numerics.running import runner
from lowering.numerics.running.xla import Xla
from lowering.ops.tables import decompositions
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript

aten = torch.ops.aten
OTHER_WAYS = {
    aten._local_scalar_dense.default: "an item, which data decide",
    aten.atan2.out: "writes in place, and no functional program does",
    aten._native_batch_norm_legit.default: "writes its statistics in place: functional programs have _native_batch_norm_legit_functional",
    **dict.fromkeys((aten.sym_size.int, aten.sym_numel.default, aten.sym_stride.int, aten.sym_storage_offset.default), "sizes"),
}


class Core(torch.nn.Module):
    """Ops of core ATen that torch-mlir does not know, or that it lowers to wrong numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(6)
        with torch.no_grad():
            for tensor in (self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias):
                assert tensor is not None
                tensor.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.norm(x), x[places], torch.remainder(x, -3), torch.squeeze(x[None, :, None], (0, 2)), torch.cumsum(x, 0),
                torch.pdist(x), torch.nn.functional.max_pool1d(x, 2, ceil_mode=True),
                torch.nn.functional.instance_norm(x[None].transpose(1, 2)), torch.fft.rfft(x).abs(), torch.topk(x, 2).values,
                x.shape[0] - x, torch.empty_permuted(x.shape, (1, 0)).fill_(2) + x)


def _list_core_ops() -> list[torch._ops.OpOverload]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packets = [getattr(aten, name) for name in dir(aten)]
    for packet in packets:
        if isinstance(packet, torch._ops.OpOverloadPacket):
            found += [op for op in (getattr(packet, name) for name in packet.overloads()) if torch.Tag.core in op.tags]
    return found


def _is_lowered(op: torch._ops.OpOverload) -> bool:
    return op in decompositions.TABLE or decompositions.is_registered(op) or decompositions.find_decomposition(op) is not None


def test_no_core_op_is_unknown() -> None:
    core = _list_core_ops()
    assert len(core) > 150
    assert [str(op) for op in core if op not in OTHER_WAYS and not _is_lowered(op)] == []
    assert set(OTHER_WAYS) <= set(core)


@pytest.mark.parametrize("depth", ["core", "lazy"])
def test_the_numbers_of_a_program_of_core_ops_are_those_of_eager(depth: str) -> None:
    torch.manual_seed(0)
    module = Core().eval()
    declared = {"x": Input("float32", ("rows", 6)), "places": Input("int64", ("picked",))}
    model = Model("core", {"_target_": "core"}, declared, {"rows": Symbol(2, 64), "picked": Symbol(1, 64)})
    traced = {"x": torch.randn(5, 6) * 10, "places": torch.tensor([-1, 2, -3])}
    program = Export(explain=False, archive=False, decompose=depth).export(Built(model, module), traced, Silent())  # type: ignore[arg-type]
    for stage in (ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        assert not list(stage.requires(program))
        program = stage.apply(program, Silent())
        assert not list(stage.ensures(program))
    run = runner.make_runner(program.at(Level.MHLO), Xla("cpu", effort="quick"))  # type: ignore[arg-type]
    for given in (traced, {"x": torch.randn(9, 6) * 10, "places": torch.tensor([-9, 8, 0, -2])}):
        for got, want in zip(run(given), module(**given), strict=True):
            torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
