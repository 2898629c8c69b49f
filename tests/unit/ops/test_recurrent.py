"""Recurrent layers reach MHLO with dynamic lengths and batches, as loops that write one row a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.record.result import JobResult
from lowering.sources import torchscript
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

STAGES = {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO(),
          "verify": Verify(points=2, values=())}  # fmt: skip
SYMBOLS = {"b": Symbol(1, 4), "t": Symbol(1, 12)}


class Batched(nn.Module):
    """(b, t, 5), batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, 2, batch_first=True, bidirectional=True, dropout=0.3)
        self.gru = nn.GRU(8, 4, batch_first=True, bias=False)
        self.rnn = nn.RNN(4, 3, batch_first=True, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> Any:
        first, states = self.lstm(x)
        second, last = self.gru(first)
        return first, states, second, last, self.rnn(second)


class Stated(nn.Module):
    """(t, b, 5), with given states, of which a projection makes the hidden one narrower."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, 2, proj_size=3, bias=False)
        self.gru = nn.GRU(5, 4)
        self.rnn = nn.RNN(5, 4)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:
        return self.lstm(x, (h, c)), self.gru(x, c[:1]), self.rnn(x, c[1:])


class Unbatched(nn.Module):
    """(t, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, proj_size=2)
        self.gru = nn.GRU(5, 4, bidirectional=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.lstm(x), self.gru(x)


class Retraced(nn.Module):
    """In a region without gradients, amid writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> Any:
        self.calls.add_(1)
        x = x.clone()
        x[:1].mul_(3)
        with torch.no_grad():
            y, last = self.gru(x)
        y[:1].mul_(2)
        return y, last


class Loss(nn.Module):
    """Every kind of layer, one after the other, with a given state; the loss depends on outputs and last states."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, bidirectional=True, proj_size=3)
        self.gru = nn.GRU(6, 4, batch_first=True)
        self.rnn = nn.RNN(4, 3, nonlinearity="relu", bias=False)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Any:
        first, (hidden, cell) = self.lstm(x)
        second, last = self.gru(first.transpose(0, 1), h)
        third = self.rnn(second.transpose(0, 1))[0]
        return {"loss": third.square().mean() + hidden.sum() + cell.square().sum() + last.mean()}


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4)

    def forward(self, x: torch.Tensor) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.full((x.shape[1],), 1), enforce_sorted=False)
        return {"loss": nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0])[0].sum()}


def build(name: str, script: bool = False) -> nn.Module:
    module: nn.Module = globals()[name]().eval()
    return torchscript.save_and_reload(torch.jit.script(module)) if script else module


def lower(name: str, inputs: dict[str, tuple[Any, ...]], folder: Path, script: bool = False, **model: Any) -> JobResult:
    symbols = {dim: SYMBOLS[dim] for shape in inputs.values() for dim in shape if isinstance(dim, str)}
    declared = Model(name, {"_target_": f"{__name__}.build", "name": name, "script": script},
                     {key: Input("float32", shape) for key, shape in inputs.items()}, symbols, **model)  # fmt: skip
    return pipeline.run(Job(declared, STAGES), folder)


@pytest.mark.parametrize(("name", "inputs", "script", "layers", "products"), [
    ("Batched", {"x": ("b", "t", 5)}, False, 6, 12),
    ("Stated", {"x": ("t", "b", 5), "h": (2, "b", 3), "c": (2, "b", 4)}, False, 4, 10),
    ("Unbatched", {"x": ("t", 5)}, False, 3, 7),
    ("Unbatched", {"x": ("t", 5)}, True, 3, 7),
    ("Retraced", {"x": ("t", "b", 5)}, False, 1, 2),
])  # fmt: skip
def test_lengths_and_batches_are_dynamic(name: str, inputs: Any, script: bool, layers: int, products: int, tmp_path: Path) -> None:
    """Compared with eager at lengths 1 and 12, none of them the traced one."""
    result = lower(name, inputs, tmp_path, script)
    assert (result.outcome, result.problems) == ("ok", ())
    ops = result.stages[4].ops
    assert ops["mhlo.while"] == layers
    writes = 2 if name == "Retraced" else 0  # to slices
    assert ops["mhlo.dynamic_update_slice"] == layers + writes
    assert ops["mhlo.dot_general"] == products  # one for all inputs of a layer, one a step, one for a projection
    assert ops.get("mhlo.select", 0) <= layers  # an index counted from the end, not a mask


def test_a_long_constant_length_is_a_loop_and_a_short_one_unrolls(tmp_path: Path) -> None:
    for name in ("long", "short"):
        (tmp_path / name).mkdir()
    long = lower("Unbatched", {"x": (30, 5)}, tmp_path / "long")
    assert long.outcome == "ok"
    assert long.stages[4].ops["mhlo.while"] == 3
    short = lower("Unbatched", {"x": (3, 5)}, tmp_path / "short")
    assert short.outcome == "ok"
    assert "mhlo.while" not in short.stages[4].ops


def test_in_training_gradients_go_back_through_the_loop(tmp_path: Path) -> None:
    result = lower("Loss", {"x": ("t", "b", 5), "h": (1, "b", 4)}, tmp_path, mode="training", loss="loss")
    assert (result.outcome, result.problems) == ("ok", ())
    assert result.stages[4].ops["mhlo.while"] == 8  # four layers and directions, forward and back
    assert {label.partition(".")[2].partition(".")[0] for point in result.verify["points"] for label in point["levels"]["mhlo"]["outputs"]
            if label.startswith("grad.")} == {"lstm", "gru", "rnn"}


def test_training_on_a_packed_sequence_is_refused_with_its_line(tmp_path: Path) -> None:
    result = lower("Packed", {"x": ("t", "b", 5)}, tmp_path, mode="training", loss="loss")
    assert (result.outcome, result.stage) == ("unsupported", "export")
    (problem,) = result.problems
    assert "test_recurrent.py:" in problem.place
    assert "packed sequence" in problem.cause and "padded tensor" in problem.fix
