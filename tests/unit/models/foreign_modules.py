"""TorchScript modules of a user: what loads, and what is refused with its line."""

from __future__ import annotations

import torch

from lowering.sources.torchscript import Interpreted, save_and_reload

Tensor = torch.Tensor


class BurnedView(torch.nn.Module):
    """A view by `len`, which tracing turns into the number 5."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.relu().view(len(x), -1))


class BurnedAddend(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(len(x), 3, 4)


class DynamicLoop(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.size(0)):
            x = x + 1
        return x


class LoopOnData(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while bool(x.sum() < 100.0):
            x = x.abs() * 2 + 1
        return x


class BranchOnData(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0) and x.dim() == 3:
            y = x.relu()
        else:
            y = x - 1
        return y


class AppendInBranchOnData(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        if bool(x.sum() > 0):
            found.append(x + 1)
        return torch.stack(found)


class Counting(torch.nn.Module):
    """Assigns a buffer, writes in place, reads a tensor that is neither parameter nor buffer, a list and a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.shift = torch.arange(4.0)
        self.scales = [1.0, 2.0]

    def forward(self, x: Tensor, times: int = 2) -> dict[str, Tensor]:
        self.calls = self.calls + 1
        y = x * self.scales[1]
        y += self.shift
        for _ in range(times):
            y.mul_(self.calls)
        x[:, 0] = self.calls
        return {"first": y, "second": x[:, 0]}


class Voice(torch.nn.Module):
    """Remembers its last batch size, and states of that size, in attributes that are no buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last_batch, self.hidden, self.memory = torch.nn.LSTMCell(12, 6), 0, torch.zeros(0), torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        if self.last_batch != x.size(0):
            self.hidden, self.memory = torch.zeros(x.size(0), 6), torch.zeros(x.size(0), 6)
        hidden, memory = self.cell(x.flatten(1), (self.hidden, self.memory))
        self.hidden, self.memory, self.last_batch = hidden, memory, x.size(0)
        return self.hidden * 2


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 6, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs, (hidden, _) = self.lstm(x)
        return outputs, hidden


class Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).mean(1)


EXAMPLE = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))


def burned_view() -> Interpreted:
    return save_and_reload(torch.jit.trace(BurnedView().eval(), EXAMPLE))


def burned_addend() -> Interpreted:
    return save_and_reload(torch.jit.trace(BurnedAddend(), EXAMPLE))


def dynamic_loop() -> Interpreted:
    return save_and_reload(torch.jit.script(DynamicLoop()))


def loop_on_data() -> Interpreted:
    return save_and_reload(torch.jit.script(LoopOnData()))


def branch_on_data() -> Interpreted:
    return save_and_reload(torch.jit.script(BranchOnData()))


def append_in_branch_on_data() -> Interpreted:
    return save_and_reload(torch.jit.script(AppendInBranchOnData()))


def counting() -> Interpreted:
    return save_and_reload(torch.jit.script(Counting()))


def voice() -> Interpreted:
    return save_and_reload(torch.jit.script(Voice()))


def frozen() -> Interpreted:
    return save_and_reload(torch.jit.freeze(torch.jit.script(BurnedView().eval())))


def recurrent() -> Interpreted:
    return save_and_reload(torch.jit.script(Recurrent().eval()))


def encoder() -> Interpreted:
    return save_and_reload(torch.jit.script(Encoder().eval()))


def traced_encoder() -> Interpreted:
    return save_and_reload(torch.jit.trace(Encoder().eval(), torch.randn(2, 5, 8), check_trace=False))
