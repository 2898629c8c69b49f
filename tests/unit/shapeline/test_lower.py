"""`shapeline.lower`: torch.export's own argument forms in, a program with dynamic dims out that computes what the module does."""

from __future__ import annotations

import re
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import AdditionalInputs, Dim, ShapesCollection, export
from torch.utils import _pytree as pytree

import shapeline
from flows.__main__ import main
from lowering.errors import ConfigError
from shapeline import Lowered

BATCH = Dim("batch", max=64)
Pair = namedtuple("Pair", ["first", "second"])


@dataclass
class State:
    hidden: torch.Tensor
    steps: list[torch.Tensor]


torch.export.register_dataclass(State)


class Net(torch.nn.Module):
    """Reads a tensor, a mapping, a tuple, an object and numbers; drops out in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 8)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, extra: Any = None, scale: float = 2.0, *, ids: torch.Tensor | None = None) -> dict[str, Any]:
        y = self.drop(self.layer(x)).relu() * scale
        if extra is not None:
            y = y + sum(leaf.sum() for leaf in pytree.tree_leaves(extra) if isinstance(leaf, torch.Tensor))
        picked = None if ids is None else self.layer.weight.T[ids]
        return {"y": y, "rest": (y.sum(0), None, [picked])}


def compare(lowered: Lowered, module: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
    got, want = lowered(*args, **kwargs), module.eval()(*args, **kwargs)
    assert pytree.tree_structure(got) == pytree.tree_structure(want)
    for ours, theirs in zip(pytree.tree_leaves(got), pytree.tree_leaves(want), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def lowered(net: Net) -> Lowered:
    extra = {"pair": Pair(torch.randn(5, 2), torch.randn(3)), "state": State(torch.randn(5), [torch.randn(2)]), "mode": "add"}
    shapes = {"x": {0: BATCH}, "extra": {"pair": ({0: BATCH}, None), "state": [{0: BATCH}, [None]], "mode": None},
              "ids": {0: Dim("count", min=1, max=9)}}  # fmt: skip
    return shapeline.lower(net, (torch.randn(5, 16), extra), {"ids": torch.tensor([3, 0, 15, 7])}, dynamic_shapes=shapes)


def test_every_level_is_there_with_dynamic_dims(lowered: Lowered) -> None:
    assert "tensor<?x16xf32>" in str(lowered.mlir["mhlo"])
    assert list(lowered.mlir) == ["torch", "stablehlo", "mhlo"]
    assert "aten::linear" in str(lowered.torchscript) or "aten::addmm" in str(lowered.torchscript)
    assert isinstance(lowered.exported, torch.export.ExportedProgram)
    assert [argument.name for argument in lowered.signature.inputs] == [
        "x", "extra.pair.first", "extra.pair.second", "extra.state.hidden", "extra.state.steps.0", "ids"]  # fmt: skip
    assert {name: (bound.min, bound.max) for name, bound in lowered.signature.symbols.items()} == {"batch": (1, 64), "count": (1, 9)}
    lines = str(lowered.signature).splitlines()
    assert lines[0] == "x: float32[batch, 16]" and "-> y: float32[batch, 8]" in lines and "count in [1, 9]" in lines
    assert "4 of 4 requested dims are dynamic" in repr(lowered.symbols)


@pytest.mark.parametrize(("batch", "count"), [(1, 1), (7, 4), (64, 9)])
def test_a_call_returns_what_the_module_returns(lowered: Lowered, net: Net, batch: int, count: int) -> None:
    extra = {"pair": Pair(torch.randn(batch, 2), torch.randn(3)), "state": State(torch.randn(batch), [torch.randn(2)]), "mode": "add"}
    compare(lowered, net, torch.randn(batch, 16), extra, ids=torch.randint(0, 16, (count,)))


def test_sizes_outside_the_ranges_are_refused(lowered: Lowered) -> None:
    extra = {"pair": Pair(torch.randn(65, 2), torch.randn(3)), "state": State(torch.randn(65), [torch.randn(2)]), "mode": "add"}
    with pytest.raises(shapeline.Refused, match="batch must be at most 64"):
        lowered(torch.randn(65, 16), extra, ids=torch.tensor([1]))


def test_verification_and_the_saved_folder(lowered: Lowered, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verification = lowered.verify(3)
    assert len(verification.points) >= 3
    assert re.match(r"(\d+) of \1 points agree; largest difference .*\n  compared at batch=1, count=1 \(lower\)\n", repr(verification))
    assert "  refused: batch must be at least 1, got 0" in repr(verification)
    assert {path.name for path in lowered.save(tmp_path / "net")} >= {"mhlo.mlir", "exported.py", "torchscript.ts", "signature.json"}
    assert main(["exec", str(tmp_path / "net"), "--size", "batch=3", "--size", "count=2"]) == 0
    assert "float32[3, 8]" in capsys.readouterr().out


def test_the_module_keeps_its_modes() -> None:
    net = Net().train()
    net.drop.eval()
    shapeline.lower(net, (torch.randn(5, 16),), until="exported")
    assert (net.training, net.layer.training, net.drop.training) == (True, True, False)


def test_a_notebook_shows_the_levels_with_hostile_names_as_text(lowered: Lowered) -> None:
    assert "<details><summary>mhlo</summary>" in lowered._repr_html_()
    assert "tensor&lt;?x16xf32&gt;" in lowered.mlir["mhlo"]._repr_html_()


class Double(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def collect() -> ShapesCollection:
    found = ShapesCollection()
    found[X] = {0: Dim("n", min=2, max=32)}
    return found


def add() -> AdditionalInputs:
    found = AdditionalInputs()
    found.add((torch.randn(9, 4),), {})
    return found


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("shapes", "symbols", "dims", "ranges"), [
    (({0: Dim("n", min=2, max=32)},), {}, ("n", 4), {"n": (2, 32)}),
    ([(Dim("n"), None)], {}, ("n", 4), {"n": (1, None)}),
    ({"x": {0: Dim.DYNAMIC}}, {}, ("x_d0", 4), {"x_d0": (1, None)}),
    ({"x": {0: Dim.DYNAMIC(min=2, max=8), 1: Dim.STATIC}}, {}, ("x_d0", 4), {"x_d0": (2, 8)}),
    ({"x": {0: 2 * Dim("half", min=1, max=16)}}, {}, ("2*half", 4), {"half": (1, 16)}),
    ({"x": ["3*n", 4]}, {"n": (1, 5)}, ("3*n", 4), {"n": (1, 5)}),
    ({"x": {0: "n"}}, {"n": {"min": 2, "max": 30, "multiple_of": 2}}, ("n", 4), {"n": (2, 30)}),
    (collect, {}, ("n", 4), {"n": (2, 32)}),
    (None, {}, (6, 4), {}),
])  # fmt: skip
def test_dims_are_taken_in_all_of_torchs_forms(shapes: Any, symbols: Any, dims: tuple[Any, ...], ranges: dict[str, Any]) -> None:
    shapes = shapes() if callable(shapes) else shapes
    found = shapeline.lower(Double(), (X,), dynamic_shapes=shapes, symbols=symbols, until="exported").signature
    assert found.inputs[0].dims == dims
    assert {name: (bound.min, bound.max) for name, bound in found.symbols.items()} == ranges


def test_automatic_dims_are_related_as_torch_export_relates_them() -> None:
    class Multiply(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            return (x + y) @ weight

    automatic = {0: Dim.AUTO, 1: Dim.AUTO}
    lowered = shapeline.lower(Multiply(), (torch.rand(3, 5), torch.rand(3, 5), torch.rand(5, 2)),
                              dynamic_shapes=(automatic, automatic, None))
    assert [argument.dims for argument in lowered.signature.inputs] == [("x_0", 5), ("x_0", 5), (5, 2)]
    compare(lowered, Multiply(), torch.rand(7, 5), torch.rand(7, 5), torch.rand(5, 2))


def test_additional_inputs_say_which_dims_differ() -> None:
    assert shapeline.lower(Double(), (X,), dynamic_shapes=add(), until="exported").signature.inputs[0].dims[1] == 4


def test_an_exported_program_is_lowered_at_its_own_dims(net: Net) -> None:
    program = export(net.eval(), (torch.randn(6, 16),), dynamic_shapes={"x": {0: 2 * Dim("half", min=2, max=32)}})
    lowered = shapeline.lower(program)
    assert lowered.signature.inputs[0].dims == ("2*x_d0", 16)
    assert {name: (bound.min, bound.max) for name, bound in lowered.signature.symbols.items()} == {"x_d0": (2, 32)}
    compare(lowered, net, torch.randn(10, 16))


@pytest.mark.parametrize(("arguments", "said"), [
    ({"dynamic_shapes": {"y": {0: "n"}}}, r"dynamic_shapes\['y'\]: names no argument"),
    ({"dynamic_shapes": {"x": {0: "n"}}}, "symbol 'n' is not declared"),
    ({"dynamic_shapes": {"x": {0: "n +"}}, "symbols": {"n": (1, 4)}}, r"dynamic_shapes of x\[0\]"),
    ({"dynamic_shapes": {"x": {0: "4*n"}}, "symbols": {"n": (1, 4)}}, "the argument has 6 there"),
    ({"dynamic_shapes": {"x": {0: 1.5}}}, "1.5 is not a dim"),
    ({"dynamic_shapes": ()}, "has 0 entries, and 1 arguments were passed"),
    ({"symbols": {"n": 3}}, "3 is not a range"),
    ({"fills": {"z": "ones"}}, r"fills\['z'\]: names no tensor"),
    ({"until": "mlho"}, "did you mean 'mhlo'"),
    ({"stages": {"exprt": {}}}, "did you mean 'export'"),
    ({"stages": {"export": {"polcy": []}}}, "polcy"),
    ({"kwargs": {"z": 1}}, "do not fit forward"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_runs(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        shapeline.lower(Double(), (X,), **arguments)


@pytest.mark.parametrize(("given", "said"), [
    (torch.nested.nested_tensor_from_jagged(torch.ones(3, 4), torch.tensor([0, 1, 3])),
     "NestedTensor.*pass its values and its offsets or lengths"),
    (torch.eye(3).to_sparse(), r"torch\.sparse_coo.*pass its indices and values"),
])  # fmt: skip
def test_a_tensor_that_is_not_dense_is_refused_with_what_to_pass(given: torch.Tensor, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        shapeline.lower(Double(), (given,))


def test_what_cannot_be_lowered_is_refused_by_name() -> None:
    class Picks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.nonzero()

    with pytest.raises(shapeline.Unsupported, match="nonzero"):
        shapeline.lower(Picks(), (X,), dynamic_shapes={"x": {0: "n"}}, symbols={"n": (1, 9)})


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(text.split("```python\n")[1].split("```")[0], {})  # noqa: S102 - the code that readers are told to run
    assert "mhlo.dot" in capsys.readouterr().out
    assert (tmp_path / "out" / "mhlo.mlir").is_file()
