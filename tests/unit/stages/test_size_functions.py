"""Functions that would make a size a number keep it dynamic, and compute what eager does."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from lowering import pipeline
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

aten = torch.ops.aten


class Functions(nn.Module):
    """Scales and tensors that are computed from sizes, none of them a dim of a result beyond the input's."""

    def forward(self, x: torch.Tensor, start: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows, columns = x.shape
        whole, rest = divmod(columns, 3)
        scales = x / math.sqrt(columns) * math.exp(-rows / 10) + math.pow(columns, 0.3) + whole * rest
        numbers = torch.numel(x) + aten.size(x, 0) + aten.size.int(x, 1) * aten.add(rows, columns)
        lines = torch.linspace(0, rows - 1, columns), torch.logspace(0, 1, columns), torch.arange(0, columns, 0.5)
        tensors = torch.tensor([[rows, 2], [columns, 3.5]]), torch.as_tensor(columns, dtype=torch.float32), torch.tensor(x.shape)
        scales = scales * math.log(rows + 1) / math.log(columns, 3) + math.log10(rows) * math.tanh(rows / columns) + math.isqrt(columns)
        scales = scales * torch.div(columns, 2, rounding_mode="floor") + torch.div(-columns, 2, rounding_mode="trunc")
        return (scales, x * numbers, *lines, *tensors, torch.narrow(x, 1, start, 2), torch.take_along_dim(x, start.reshape(1, 1), 1),
                x * round(10 * columns, -2) * aten.size(x)[0])


class Converted(nn.Module):
    """Sizes that Python makes ints and floats, beside functions that torch composes by looking at sizes or data."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        columns = x.shape[1]
        return (x[:, : int(columns * 0.7)], x.new_ones(int(math.sqrt(columns)), len(x)), x.new_ones(int(math.log2(columns))),
                x * float(columns), torch.cov(x.T, correction=0), torch.kron(x, x[:1]))


class Composed(nn.Module):
    """Functions that torch composes by sizes, or by the data of a mask."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.bias = nn.Parameter(torch.randn(6, 2, 3, 3)), nn.Parameter(torch.randn(6))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1)

    def forward(self, x: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        samples, columns = x.shape
        rows = torch.cat([x.t(), x.t() + 1])  # up to 38 rows: torch's cdist multiplies matrices from 26
        weights = (x[:, :1, None, None, None] * self.weight).reshape(samples * 6, 2, 3, 3)
        flat = image.reshape(1, samples * 2, columns, 4)
        convolved = functional.conv2d(flat, weights, self.bias.repeat(samples), stride=(1, 2), padding=(1, 2), groups=samples)
        weights = weights.reshape(samples * 2, 6, 3, 3)
        grown = functional.conv_transpose2d(flat, weights, None, (2, 1), 1, (1, 0), samples, 2)
        mask = nn.Transformer.generate_square_subsequent_mask(columns)
        encoded = self.encoder(image[:, 0], mask)
        return torch.cdist(rows, rows), torch.cdist(rows, x.t(), p=1.0), convolved, grown, encoded


class Rounded(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[Any, ...]:
        size = x.shape[0]
        return tuple(round(size / 40, digits) for digits in (0, 1, 2, 3)), round(size / 0.7, -1), round(size, -1)


class Padded(nn.Module):
    """The size of a transform: the next power of 2. Logarithms are factors beside it."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows, columns = x.shape
        whole = torch.cat([x, x.new_zeros(rows, 2 ** math.ceil(math.log2(columns)) - columns)], 1)
        return whole, x.new_ones(1 << (columns - 1).bit_length()), x * (math.log2(columns) + 1 / math.log(columns + 1, 3))


class Logarithms(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[Any, ...]:
        size = x.shape[0]
        log2 = math.log2(size)
        return (math.ceil(log2), math.floor(log2), round(log2), 2 ** math.ceil(log2), (size - 1).bit_length(), (size - 9).bit_length(),
                math.floor(math.log10(size)), math.ceil(math.log(size)), math.trunc(math.log(size, 3)))


class Branch(nn.Module):
    def __init__(self, condition: str) -> None:
        super().__init__()
        self.condition = condition

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if eval(self.condition, {"math": math, "n": x.shape[0]}) else x  # noqa: S307 - of this file


def _model(module: Callable[[], nn.Module], **inputs: Input) -> Model:
    symbols = {"n": Symbol(1, 8), "m": Symbol(2, 19)}
    used = {dim for declared in inputs.values() for dim in declared.shape}
    return Model(module.__name__, {"_target_": f"{__name__}.{module.__name__}"}, inputs,
                 {name: symbols[name] for name in symbols if name in used})


@pytest.mark.parametrize(("module", "further", "attempt"), [
    (Functions, {"start": Input("int64", (), {"randint": [0, 1]})}, ""), (Converted, {}, "exported as strict_oblivious"),
    (Composed, {"image": Input("float32", ("n", 2, "m", 4))}, ""), (Padded, {}, "exported as deferred"),
])
def test_sizes_stay_dynamic(module: Callable[[], nn.Module], further: dict[str, Input], attempt: str, tmp_path: Path) -> None:
    stages = {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
              "mhlo": ToMHLO(), "verify": Verify(points=3)}  # fmt: skip
    result = pipeline.run(Job(_model(module, x=Input("float32", ("n", "m")), **further), stages), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
    policies = [warning.message for warning in result.warnings if warning.code == "export_policy"]
    assert all(message.startswith(attempt) for message in policies) and bool(policies) == bool(attempt)
    assert not any(warning.code in ("guard_within_range", "point_declined") for warning in result.warnings)


def test_round_to_digits_is_pythons() -> None:
    """size / 40 meets ties that its products with powers of ten only seem to be, as 2.675 * 100 does."""
    model = Model("rounded", {"_target_": f"{__name__}.Rounded"}, {"x": Input("float32", ("n",))}, {"n": Symbol(1, 4000)})
    program = Program(Level.MODEL, model)
    for stage in (Export(archive=False), ToTorchScript(deployable=False)):
        program = stage.apply(program, Silent())
    script = torch._C._create_function_from_graph("forward", program.ir)
    for size in (*range(1, 800), 2333, 4000):
        *found, tens, whole = script(torch.zeros(size))
        assert found == [round(size / 40, digits) for digits in (0, 1, 2, 3)], size
        assert (tens, whole) == (round(size / 0.7, -1), round(size, -1)), size


def test_rounded_logarithms_are_pythons() -> None:
    """math.log(243, 3) is 4.999…: what matters is what Python rounds."""
    model = Model("logarithms", {"_target_": f"{__name__}.Logarithms"}, {"x": Input("float32", ("n",))}, {"n": Symbol(1, 5000)})
    program = Program(Level.MODEL, model)
    for stage in (Export(archive=False), ToTorchScript(deployable=False)):
        program = stage.apply(program, Silent())
    script = torch._C._create_function_from_graph("forward", program.ir)
    for size in (*range(1, 300), 511, 512, 513, 999, 1000, 1001, 4095, 4096, 4097, 5000):
        assert script(torch.zeros(size)) == Logarithms()(torch.zeros(size)), size


@pytest.mark.parametrize(("condition", "part"), [
    ("math.log(n) > 1.5", ["n >= 5"]), ("math.log2(n) <= 3", ["n < 9"]), ("math.log2(n) == 2", ["not (n >= 4 and n < 5)"]),
    ("len(range(math.ceil(math.log2(n)))) == 3", ["n >= 5", "n < 9"]),
])
def test_a_branch_on_a_logarithm_takes_a_range_of_sizes(condition: str, part: list[str]) -> None:
    factory = {"_target_": f"{__name__}.Branch", "condition": condition}
    model = Model("branch", factory, {"x": Input("float32", ("n",))}, {"n": Symbol(2, 64, example=7)})
    program = Export(archive=False).apply(Program(Level.MODEL, model), Silent())
    assert program.signature is not None and [str(guard) for guard in program.signature.guards] == part
