"""A repeated layer is traced twice and copied; whatever a copy could get wrong is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

import shapeline
from lowering.fx.replay import expansion, likeness, tracing

torch.manual_seed(0)


class Block(nn.Module):
    """A layer with a residual, whose forward can be replaced by a function of the module and its input."""

    def __init__(self, number: int, body: Callable[..., Any] | None = None):
        super().__init__()
        self.number = number
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)
        self.register_buffer("scale", torch.rand(8))
        self.body = body

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        if self.body is not None:
            return self.body(self, x)
        made = self.down(torch.nn.functional.gelu(self.up(self.norm(x).to(torch.float32)))).reshape(x.shape[0], -1, 8)
        return x + made * self.scale * (1 if mask is None else mask)


class Stack(nn.Module):
    def __init__(self, depth: int = 5, body: Callable[..., Any] | None = None, **options: Any):
        super().__init__()
        self.blocks = nn.ModuleList(Block(number, body) for number in range(depth))
        self.seen: list[torch.Tensor] = []
        for name, value in options.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> Any:
        for block in self.blocks:
            x = block(x)
        return x.sum(-1) if not self.seen else torch.stack(self.seen).sum(0)


def export(module: nn.Module, mode: tracing.Mode = "auto") -> tuple[ExportedProgram, tracing.Replays]:
    shapes = ({0: Dim("batch", max=64), 1: Dim("rows", max=64)},)
    with tracing.replay_calls(module.eval(), mode) as replays:
        program = torch.export.export(module, (torch.rand(3, 5, 8),), dynamic_shapes=shapes, strict=False)
    expansion.expand(program, replays)
    return program, replays


def describe(program: ExportedProgram) -> list[Any]:
    return [(node.name, node.target, str(node.args), str(node.meta.get("val")), node.meta.get("nn_module_stack"),
             node.meta.get("stack_trace"))
            for node in program.graph.nodes]


def family(replays: tracing.Replays, name: str = "Block") -> tracing.Family:
    return next(one for one in replays.families.values() if one.name == name)


def test_copies_are_what_a_trace_makes() -> None:
    module = Stack()
    copied, replays = export(module)
    traced, nothing = export(module, "off")
    assert (family(replays).traced, family(replays).replayed) == (3, 2)  # the first call has another argument: it takes no gradient
    assert not nothing.families
    assert describe(copied) == describe(traced) and copied.graph_module.code == traced.graph_module.code
    assert copied.graph_signature == traced.graph_signature and str(copied.range_constraints) == str(traced.range_constraints)
    for sizes in ((3, 5), (2, 2), (7, 4)):
        x = torch.rand(*sizes, 8)
        torch.testing.assert_close(copied.module()(x), module(x))
    assert family(export(module, "check")[1]).replayed == 2


class Shared(nn.Module):
    """Passes each block a mask as well, and uses the results of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(number) for number in range(4))
        self.odd = nn.ModuleList(Block(number) for number in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask, states = x > 0.5, [x]
        for even, odd in zip(self.blocks, self.odd, strict=True):
            states.append(odd(even(states[-1], mask=mask)))
        return torch.cat(states, -1)


def test_calls_with_other_arguments_have_templates_of_their_own() -> None:
    module = Shared()
    copied, replays = export(module)
    assert (family(replays).traced, family(replays).replayed) == (5, 3)
    assert describe(copied) == describe(export(module, "off")[0])


def by_number(block: Block, x: torch.Tensor) -> torch.Tensor:
    y = block.down(torch.relu(block.up(x)))
    return x - y if block.number == 4 else x + y


def counted(block: Block, x: torch.Tensor) -> torch.Tensor:
    block.calls = getattr(block, "calls", 0) + 1
    return x + block.down(torch.relu(block.up(x)))


def in_place(block: Block, x: torch.Tensor) -> torch.Tensor:
    x.add_(block.down(torch.relu(block.up(x))))
    return x + 1


def view(block: Block, x: torch.Tensor) -> torch.Tensor:
    torch.relu(block.down(torch.relu(block.up(x))))
    return x.transpose(0, 1).transpose(0, 1)


def constant(block: Block, x: torch.Tensor) -> torch.Tensor:
    return x + block.down(torch.relu(block.up(x))) * torch.tensor([0.5] * 8)


def without_gradient(block: Block, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = torch.relu(block.up(x))
    return x + block.down(y)


def from_data(block: Block, x: torch.Tensor) -> torch.Tensor:
    rows = block.down(torch.relu(block.up(x))).reshape(-1, 8)
    return x + rows[rows.sum(-1) > 0].sum(0)


@pytest.mark.parametrize(("body", "why"), [
    (by_number, "reads number"), (counted, "changes attributes"), (in_place, "writes to an argument"), (view, "is a view"),
    (constant, "constant"), (without_gradient, "is not an op"), (from_data, "sizes"),
])  # fmt: skip
def test_a_doubt_is_traced(body: Callable[..., Any], why: str) -> None:
    module = Stack(6, body)
    copied, replays = export(module)
    assert why in (family(replays).obstacle or family(replays).last) and (family(replays).traced, family(replays).replayed) == (6, 0)
    assert copied.graph_module.code == export(Stack(6, body), "off")[0].graph_module.code


def test_hooks_are_traced() -> None:
    module = Stack()
    handle = module.blocks[3].up.register_forward_hook(lambda *_: None)
    assert "hooks" in family(export(module)[1]).obstacle
    handle.remove()
    module.blocks[3].up.register_forward_hook(lambda _, given, made: made * 2)
    x = torch.rand(3, 5, 8)
    torch.testing.assert_close(export(module)[0].module()(x), module(x))


def test_blocks_that_differ_are_no_copies() -> None:
    module = Stack(6)
    module.blocks[2].up.bias = None
    module.blocks[4].body = lambda block, x: x - block.down(torch.relu(block.up(block.norm(x))))
    copied, replays = export(module)
    x = torch.rand(2, 3, 8)
    torch.testing.assert_close(copied.module()(x), module(x))
    assert family(replays).replayed == 0 and "reads body" in family(replays).obstacle


def test_a_tensor_that_leaks_ends_the_copies() -> None:
    seen: list[torch.Tensor] = []

    def leak(block: Block, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(block.up(x))
        seen.append(y)
        return x + block.down(y) * block.scale

    module = Stack(body=leak)
    object.__setattr__(module, "seen", seen)
    with pytest.raises(expansion.Escaped, match="used outside"):
        export(module)


def test_check_finds_a_call_that_is_no_copy() -> None:
    turns = iter(range(9))

    def third_differs(block: Block, x: torch.Tensor) -> torch.Tensor:
        y = block.down(torch.relu(block.up(x)))
        return x - y if next(turns) == 3 else x + y

    with pytest.raises(tracing.Disagreement, match=r"blocks\.3.*is no copy of"):
        export(Stack(body=third_differs), "check")


def test_modules_of_other_kinds_are_like_no_others() -> None:
    def build() -> list[nn.Module]:
        sparse = nn.Linear(4, 4)
        sparse.weight = nn.Parameter(torch.eye(4).to_sparse_csr(), requires_grad=False)
        return [nn.LazyLinear(3), torch.jit.script(nn.Linear(4, 4)), sparse, nn.ModuleList()]

    odd = nn.ModuleList(nn.ModuleList(build()) for _ in range(4))
    kinds = likeness.find_families(odd)
    assert {type(module) for module in odd.modules() if id(module) in kinds} == {nn.ModuleList}  # the empty ones
    assert not any(id(group) in kinds for group in odd)


class Odd:
    """An object that cannot be compared."""

    @property
    def __dict__(self) -> Any:
        raise ZeroDivisionError


def test_modules_that_cannot_be_compared_are_traced() -> None:
    module = Stack(3)
    for block in module.blocks:
        block.odd = Odd()
    copied, replays = export(module)
    assert "cannot be compared: ZeroDivisionError" in family(replays).obstacle and family(replays).traced == 3
    x = torch.rand(2, 3, 8)
    torch.testing.assert_close(copied.module()(x), module(x))


def test_arguments_keep_their_names_even_those_of_builtins() -> None:
    class Named(torch.nn.Module):
        def forward(self, input: torch.Tensor, type: torch.Tensor) -> torch.Tensor:  # noqa: A002
            return input * 2 + type

    args = (torch.randn(3, 2), torch.randn(3, 2))
    lowered = shapeline.lower(Named(), args, dynamic_shapes=({0: "n"}, {0: "n"}), symbols={"n": (1, 8)})
    assert list(lowered.exported.graph_signature.user_inputs) == ["input", "type"]


def test_the_input_of_a_body_is_no_part_of_a_template() -> None:
    graph = torch.fx.Graph()
    outer = graph.placeholder("outer")
    inner = graph.call_function(torch.relu, (outer,))
    for node in (outer, inner):
        node.meta[tracing.TAG] = (0, None)  # torch gives the input of a body the record of the value outside
    assert expansion._list_templates(graph) == {0: [inner]}
