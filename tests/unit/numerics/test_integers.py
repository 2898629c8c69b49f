"""Programs that round floats to integers are judged with their own integers: ties may go either way, and nothing else may."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.export import Dim

import shapeline
from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol
from lowering.numerics.bench import Bench
from lowering.numerics.judging.ancestry import converts, trace_results
from lowering.numerics.reference import Reference
from lowering.numerics.running.integers import Made, Recording, Replaying
from lowering.numerics.running.runner import make_runner
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.store.programs import Stored

DECOMPOSED = torch.ops.quantized_decomposed
VALUES = torch.tensor([[0.1, 0.2, 1.4, -2.3], [3.0, -0.4, 2.5, 1.5]])


class Quantized(torch.nn.Module):
    """Two layers with integers between, and these integers. change: what is done to the values before they are rounded."""

    change: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(8, 4, generator=generator))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = x * 2
        values = values if self.change is None else self.change(values)
        integers = torch.clamp(torch.round(values), -128, 127).to(torch.int8)
        return torch.nn.functional.linear(integers.float(), self.weight), integers


def export(module: torch.nn.Module) -> Program:
    declared = Model("quantized", {"_target_": f"{__name__}.Quantized"}, {"x": Input("float32", ("n", 4))}, {"n": Symbol(2, 64)})
    return Export(archive=False).apply(Program(Level.MODEL, Built(declared, module.eval())), Silent())


def build_bench(program: Program) -> Bench:
    top = program.at(Level.MODEL)
    assert program.signature is not None and top is not None
    return Bench(top.ir, program.signature, makings=trace_results(program.ir, program.signature), makes_integers=converts(program.ir))


def check(change: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> tuple[Bench, Any]:
    """Compare a program with `change` to the module without it."""
    changed = Quantized()
    changed.change = change
    bench = build_bench(export(Quantized()))
    found = bench.check(make_runner(export(changed), bench.devices["cpu"]), {"x": x}, Reference(bench.eager({"x": x})))
    return bench, found


def test_a_tie_may_be_rounded_to_either_side() -> None:
    bench, found = check(lambda values: values * (1 - 1e-6), torch.tensor([[0.75, 1.75, -2.75, 0.1], [3.0, -0.4, 0.8, 1.5]]))
    assert found.agrees and found.outputs["0"].max_abs > 0.1, found.outputs  # the record keeps the distance to eager
    noted = {place: message for code, place, message in bench.noted if code == "verify_integers"}
    assert sorted(noted) == ["0", "1"] and all("from the 3 of 8 integers on" in message for message in noted.values()), noted


@pytest.mark.parametrize(("change", "x"), [
    (lambda values: values + 1.0, VALUES),
    (lambda values: values + 0.02, torch.tensor([[0.745, 0.1, 0.2, 0.3]] * 2)),  # near a tie, but not within the tolerance
    (lambda values: -values, VALUES),
    (lambda values: values.flip(0), VALUES),
    (lambda values: torch.floor(values + 0.5), torch.tensor([[0.25, 1.25, -0.75, 0.1], [0.75, 1.75, 2.25, 1.6]])),  # ties by another rule
])
def test_wrong_integers_are_found(change: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> None:
    _, found = check(change, x)
    assert {name for name, compared in found.outputs.items() if not compared.agrees} == {"0", "1"}


def test_wrong_results_of_right_integers_are_found() -> None:
    x = torch.tensor([[0.75, 1.75, -2.75, 0.1], [3.0, -0.4, 0.8, 1.5]])
    changed = Quantized()
    changed.change = lambda values: values * (1 - 1e-6)
    with torch.no_grad():
        changed.weight[2, 1] += 0.01
    bench = build_bench(export(Quantized()))
    found = bench.check(make_runner(export(changed), bench.devices["cpu"]), {"x": x}, Reference(bench.eager({"x": x})))
    assert [name for name, compared in found.outputs.items() if not compared.agrees] == ["0"]
    assert "from the 3 of 8 integers on" in found.outputs["0"].detail


def test_integers_are_read_from_every_level() -> None:
    program = export(Quantized())
    form, device = program, build_bench(program).devices["cpu"]
    for stage in (ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        form = stage.apply(form, Silent())
    for level in (Level.EXPORTED, Level.TORCHSCRIPT, Level.STABLEHLO, Level.MHLO):
        at = form.at(level)
        assert at is not None
        stored = Stored(level, at.signature, at.above, partial(getattr, at, "ir"), partial(getattr, at, "weights"))  # as a later run has it
        results, found = make_runner(stored, device).run_with_integers({"x": VALUES})
        assert len(results) == 2 and any(torch.equal(made.reshape(-1), torch.round(VALUES * 2).reshape(-1)) for _, made in found), level


class Resized(torch.nn.Module):
    """Its sizes are rounded floats, of which the size of the result is computed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, scale_factor=1.7, mode="nearest-exact").round()


def test_sizes_that_are_rounded_are_no_integers_of_the_program() -> None:
    lowered = shapeline.lower(Resized(), (VALUES[None],), dynamic_shapes=({2: Dim("n", min=2, max=64)},))
    form = lowered.program.at(Level.MHLO)
    assert form is not None
    results, found = make_runner(form,
                                 build_bench(lowered.program.at(Level.EXPORTED)).devices["cpu"]).run_with_integers({"x": VALUES[None]})
    assert torch.equal(results[0], Resized()(VALUES[None]))
    assert [made.shape for _, made in found if made.dim() == 3] == [results[0].shape] and all(made.dim() for _, made in found)


class Linear(torch.nn.Module):
    """A linear layer of quantized operands, as PT2E writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randint(-128, 128, (8, 4), generator=torch.Generator().manual_seed(0)).to(torch.int8))
        self.register_buffer("scales", torch.linspace(0.01, 0.02, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        limits = (-128, 127, torch.int8)
        given = DECOMPOSED.dequantize_per_tensor(DECOMPOSED.quantize_per_tensor(x, 0.5, 3, *limits), 0.5, 3, *limits)
        weight = DECOMPOSED.dequantize_per_channel(self.weight, self.scales, None, 0, *limits)
        return torch.nn.functional.linear(given, weight)


def test_quantized_ops_as_composites_compute_what_the_arithmetic_does_and_show_their_integers() -> None:
    forms = {"quantize": "pytorch.quantize", "dequantize": "pytorch.dequantize"}
    dims = ({0: torch.export.Dim("n", min=2, max=64)},)
    plain = shapeline.lower(Linear(), (VALUES,), dynamic_shapes=dims)
    named = shapeline.lower(Linear(), (VALUES,), dynamic_shapes=dims, stages={"export": {"composites": forms}})
    text = str(named.mlir["mhlo"])
    assert text.count('mhlo.composite "pytorch.quantize"') == 1 and text.count('mhlo.composite "pytorch.dequantize"') == 2
    assert "scale = 5.000000e-01 : f64, zero_point = 3 : i64" in text and "xi8>) -> tensor<?x8xi32>" in str(plain.mlir["mhlo"])
    torch.testing.assert_close(named(VALUES), plain(VALUES), rtol=1e-6, atol=1e-6)
    named.verify(points=2)
    _, found = make_runner(named.program, build_bench(export(Quantized())).devices["cpu"]).run_with_integers({"x": VALUES})
    assert any(torch.equal(made.reshape(-1), torch.round(VALUES * 2).reshape(-1)) for _, made in found)


def test_subclasses_and_quantized_ops_show_their_integers() -> None:
    x = torch.tensor([[0.3, 0.74, 12.0]])

    def quantize() -> torch.Tensor:
        return DECOMPOSED.quantize_per_tensor(x, 0.5, 3, -128, 127, torch.int8)

    with Recording() as recording:
        quantize()
    (found,) = recording.found
    assert found.integers.tolist() == [[1, 1, 24]]
    with Replaying([found], {}, None) as same:
        assert quantize().tolist() == [[4, 4, 27]]
    with Replaying([Made(found.operand, found.integers + torch.tensor([0, 1, 0]))], {}, None) as other:  # 1.48 is no tie
        assert quantize().tolist() == [[4, 4, 27]]
    assert not same.moved and not same.unmatched
    assert not other.moved and other.unmatched == ["round of [1, 3]"]
