"""The float64 reference of a float32 module: what a widened copy computes, without the copy."""

from __future__ import annotations

import pytest
import torch

from lowering.eager import widening
from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol
from lowering.numerics.running.runner import Eager
from lowering.stage import Silent
from lowering.stages.export import Export


class Mixed(torch.nn.Module):
    """Parameters, a buffer that is written, a plain constant, a tensor that forward makes in float32, and a cast to a weight's dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(8, 16)
        self.norm = torch.nn.LayerNorm(16)
        self.register_buffer("seen", torch.zeros(16))
        self.offset = torch.full((16,), 1 / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.gelu(self.first(x)) + self.offset
        self.seen.add_(y.sum(0))
        y = y.to(self.first.weight.dtype) * torch.arange(16, dtype=torch.float32)
        return torch.nn.functional.linear(self.norm(y), self.first.weight.T)


class Checking(torch.nn.Module):
    """Layers that compare the dtypes of their weights and inputs before any op is run."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = torch.nn.LSTM(8, 4, batch_first=True)
        self.convolution = torch.nn.Conv1d(1, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(self.cells(x.unsqueeze(1))[0])


def eager(module: torch.nn.Module) -> Eager:
    model = Model("widened", {"_target_": f"{__name__}.{type(module).__name__}"}, {"x": Input("float32", ("batch", 8))},
                  {"batch": Symbol(2, 64)})
    exported = Export().apply(Program(Level.MODEL, model), Silent())
    top = exported.at(Level.MODEL)
    assert top is not None and isinstance(top.ir, Built) and exported.signature is not None
    return Eager(model, top.ir.module, exported.signature)


@pytest.mark.parametrize("module", [Mixed, Checking])
def test_it_gives_what_a_widened_copy_gives(module: type[torch.nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    reference, given = eager(module()), {"x": torch.randn(5, 8)}
    before = {name: value.clone() for name, value in reference.module.state_dict().items()}
    assert widening.can_widen(reference.module)
    lean = reference.double()(given)
    assert all(torch.equal(value, before[name]) for name, value in reference.module.state_dict().items())
    monkeypatch.setattr(widening, "can_widen", lambda module: False)
    whole = reference.double()(given)
    assert [value.dtype for value in lean] == [value.dtype for value in whole]
    for one, other in zip(lean, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("module", [Mixed, Checking])
def test_no_weight_is_copied(module: type[torch.nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    reference = eager(module())
    shared = widening.copy_sharing_parameters(reference.module, reference.model)
    assert all(one is other for one, other in zip(shared.parameters(), reference.module.parameters(), strict=True))
    assert all(buffer.dtype is torch.float64 for buffer in shared.buffers())
    assert all(buffer.dtype is torch.float32 for buffer in reference.module.buffers())
    monkeypatch.setattr(torch.nn.Module, "double", lambda module: pytest.fail("the module was copied"))
    reference.double()({"x": torch.randn(3, 8)})


def test_a_write_that_would_be_lost_is_refused() -> None:
    weight, wide = torch.ones(3), torch.ones(3, dtype=torch.float64)
    with widening.widen():
        wide.add_(weight)
        with pytest.raises(RuntimeError, match="writes to a tensor that is not widened"):
            weight.mul_(2)
        with pytest.raises(RuntimeError, match="writes to a tensor that is not widened"):
            weight *= 2
        with pytest.raises(RuntimeError, match="writes to a tensor that is not widened"):
            weight[0] = 2
    assert wide.tolist() == [2, 2, 2] and weight.tolist() == [1, 1, 1]


def test_a_row_that_is_looked_up_is_widened_alone() -> None:
    weight, places = torch.randn(1000, 4), torch.tensor([3, 999])
    with widening.widen():
        rows = torch.nn.functional.embedding(places, weight)
        doubled = rows + rows
    assert rows.dtype is torch.float32 and torch.equal(rows, weight[places])
    assert doubled.dtype is torch.float64


def test_modules_of_floats_of_a_byte_and_compiled_code_are_copied() -> None:
    assert widening.can_widen(torch.nn.Linear(2, 2).bfloat16())
    assert not widening.can_widen(torch.nn.Linear(2, 2).to(torch.float8_e5m2))
    assert not widening.can_widen(torch.nn.Sequential(torch.jit.script(torch.nn.Linear(2, 2))))


def test_training_in_halves_has_the_gradients_of_float64() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 4).double()

    def compute(casts: bool) -> list[torch.Tensor]:
        x = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(2, 8)
        y = layer(x.bfloat16() if casts else x).tanh()
        loss = y.float().square().sum() if casts else y.square().sum()
        return list(torch.autograd.grad(loss, list(layer.parameters())))

    with pytest.raises(RuntimeError, match="same dtype"):
        compute(casts=True)
    with widening.widen_dtypes():
        cast = compute(casts=True)
    for one, other in zip(cast, compute(casts=False), strict=True):
        assert one.dtype is torch.float64 and torch.equal(one, other)
