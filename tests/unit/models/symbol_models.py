"""A model per phenomenon of dynamic dims. A comment `# line: name` marks the code line that a record must name."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import guard_or_false

from lowering.eager import inputs
from lowering.fx import dynamic_shapes
from lowering.model import Input, Model, Symbol
from lowering.symbols import SymbolRecord
from lowering.symbols.log.recording import record
from lowering.symbols.tracing.capture import Settings, capture

FILE = "tests/unit/models/symbol_models.py"


class Shared(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # line: shared
        return x + y


class Derived(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # line: derived
        return x[:, 1:].sum() + y.sum()


class Fixed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.ones(41)  # line: fixed


class Plain(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # line: plain
        return x + 1


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y  # line: sum


class Tail(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x[1:] + y  # line: tail


class Branch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 3:  # line: branch
            return x * 2
        return x


class Pairs(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(-1, 2)  # line: pairs


class Chunks(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chunks = torch.nn.functional.pad(x, (0, (4 - x.shape[0] % 4) % 4)).reshape(-1, 4)
        total = torch.zeros(4)
        for index in range(chunks.shape[0]):  # line: chunks
            total = total + chunks[index]
        return total


class ManyChunks(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chunks = torch.nn.functional.pad(x, (0, (4 - x.shape[0] % 4) % 4)).reshape(-1, 4)
        return chunks * 2 if chunks.shape[0] > 2 else chunks


class Selecting(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x.nonzero().squeeze(1)]  # line: nonzero


class Guessing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = x.nonzero()
        return found * 2 if guard_or_false(found.shape[0] == 3) else found  # line: guess


class Sliced(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[: x.sum().long()].relu() + 1


class Counting(torch.nn.Module):
    def forward(self, n: torch.Tensor) -> torch.Tensor:
        count = n.item()  # line: item
        torch._check(count >= 2)  # line: at least
        torch._check(count < 20)  # line: below
        return torch.zeros(count) + 1


class Deciding(torch.nn.Module):
    def forward(self, n: torch.Tensor) -> torch.Tensor:
        count = n.item()  # line: decided
        return n * 2 if count > 3 else n  # line: deciding


def spin() -> torch.nn.Module:
    """Never return, using the CPU."""
    while True:
        pass


@dataclass(frozen=True)
class Captured:
    record: SymbolRecord
    log: Any
    program: torch.export.ExportedProgram | None


def line(mark: str) -> int:
    """The number of the line that `# line: mark` marks."""
    lines = inspect.getsource(sys.modules[__name__]).splitlines()
    return next(number for number, text in enumerate(lines, 1) if text.endswith(f"# line: {mark}"))


def model(module: type[torch.nn.Module], symbols: dict[str, Symbol] | None = None, **shapes: Any) -> Model:
    """A declaration of `module` whose inputs are given as shapes; a shape of () is an int64 scalar of value 7."""
    declared = {name: Input("float32", tuple(shape)) if shape else Input("int64", (), {"constant": 7}) for name, shape in shapes.items()}
    return Model(module.__name__.lower(), {"_target_": f"{module.__module__}.{module.__name__}"}, declared, symbols or {})


def export(module: type[torch.nn.Module], declared: Model, settings: Settings | None = None, example: Any = None, dims: Any = None,
           decompose: bool = False, strict: bool = False) -> Captured:
    """Export under capture, as the pipeline does, and make the record. example, dims: what to export with instead of the model's own."""
    built, program, error = module(), None, None
    arguments = example or inputs.make(declared, declared.examples())
    with capture(built, settings) as log:
        try:
            program = torch.export.export(built, (), arguments, dynamic_shapes=dims or dynamic_shapes.build_dynamic_shapes(declared),
                                          strict=strict)
            if decompose:
                program.run_decompositions({})
        except Exception as raised:  # noqa: BLE001 - a failed export is what some of these models are for
            error = raised
    return Captured(record(log, declared, program, error), log, program)
