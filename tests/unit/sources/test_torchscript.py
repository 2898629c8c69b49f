"""TorchScript files as models, down to MHLO with a dynamic batch; what cannot be dynamic is refused with the user's line."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

import shapeline
from lowering import pipeline, recipe
from lowering.errors import LoadError, Unsupported
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.record.result import JobResult
from lowering.sources import scripted, torchscript
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from tests.unit.models import foreign_modules

STAGES = {"export": Export(explain=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO(), "verify": Verify(points=3)}  # fmt: skip
CUBE = {"x": Input("float32", ("batch", 3, 4))}


def lowered(factory: str, given: dict[str, Input], folder: Path) -> JobResult:
    used = {dim: Symbol(1, 32) for declared in given.values() for dim in declared.shape if isinstance(dim, str)}
    model = Model(factory.rpartition(".")[2], {"_target_": factory}, given, used)
    return pipeline.run(Job(model, STAGES), folder)


@pytest.mark.parametrize(("name", "given"), [
    ("tagger", {"tokens": Input("int64", ("batch", 6), {"randint": [0, 50]})}),
    ("beam_step", {"hidden": Input("float32", ("batch", 8)), "scores": Input("float32", ("batch",))}),
    ("pictures", {"pixels": Input("float32", ("batch", 3, 16, 16))}),
])
def test_a_users_module_reaches_mhlo(name: str, given: dict[str, Input], tmp_path: Path) -> None:
    result = lowered(f"lowering.sources.scripted.{name}", given, tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
    line = inspect.getsourcelines({"tagger": scripted.Tagger, "beam_step": scripted.BeamStep, "pictures": scripted.Pictures}[name])[1]
    text = (tmp_path / "02-torchscript.ts").read_text()
    assert any(f"scripted.py:{number}:" in text for number in range(line, line + 30))


@pytest.mark.parametrize("name", ["branch_on_data", "counting", "frozen", "dynamic_loop", "loop_on_data"])
def test_what_scripts_do(name: str, tmp_path: Path) -> None:
    """An `if` on data is computed both ways; assignments of buffers, in-place ops, defaults and plain attributes are followed."""
    result = lowered(f"tests.unit.models.foreign_modules.{name}", CUBE, tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())


class Cut(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x[2:], x[:-2]


def test_a_slice_of_one_traced_element_makes_no_size_a_constant() -> None:
    module = torchscript.save_and_reload(torch.jit.script(Cut()))
    program = shapeline.lower(module, (torch.ones(3, 4),), dynamic_shapes={"x": {0: "n"}}, symbols={"n": (3, 9)}, until="exported")
    assert not program.signature.guards


def test_attributes_that_no_call_passes_on(tmp_path: Path) -> None:
    """Each call, of the program and of the module that it is compared with, starts with their values in the file."""
    result = lowered("tests.unit.models.foreign_modules.voice", CUBE, tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
    forgotten = {warning.place for warning in result.warnings if warning.code == "attribute_forgotten"}
    assert forgotten == {"attribute 'hidden'", "attribute 'last_batch'", "attribute 'memory'"}
    module = foreign_modules.voice()
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(module(x), module(x), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "shape"),
                         [("recurrent", ("batch", 3, 4)), ("encoder", ("batch", "seq", 8)), ("traced_encoder", ("batch", "seq", 8))])
def test_torchs_own_layers(name: str, shape: tuple[str | int, ...], tmp_path: Path) -> None:
    """Recurrent and attention layers, which have fused forms that must not be taken."""
    result = lowered(f"tests.unit.models.foreign_modules.{name}", {"x": Input("float32", shape)}, tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())


@pytest.mark.parametrize(("name", "owner", "code", "words"), [
    ("burned_view", "BurnedView", "view(len(x)", ("aten::view", "12*x.size(0), 5", "script the module")),
    ("burned_addend", "BurnedAddend", "x + torch.ones", ("aten::add", "x.size(0), 5")),
    ("append_in_branch_on_data", "AppendInBranchOnData", "append", ("aten::append", "move it out of the branch")),
])
def test_what_cannot_be_dynamic_is_refused_with_its_line(name: str, owner: str, code: str, words: tuple[str, ...], tmp_path: Path) -> None:
    lines, first = inspect.getsourcelines(getattr(foreign_modules, owner))
    wanted = first + next(number for number, line in enumerate(lines) if code in line)
    result = lowered(f"tests.unit.models.foreign_modules.{name}", CUBE, tmp_path)
    assert (result.outcome, result.stage) == ("unsupported", "export")
    text = "\n".join(map(str, result.problems))
    assert f"foreign_modules.py:{wanted}" in text
    assert all(word in text for word in words), text


def test_a_file_loads_with_its_names(tmp_path: Path) -> None:
    path = tmp_path / "counting.pt"
    torch.jit.save(torch.jit.script(foreign_modules.Counting()), path)
    module = torchscript.load(str(path))
    assert sorted(dict(module.named_buffers())) == ["calls", "shift"]
    x = torch.randn(2, 3, 4)
    wanted = x * 2 + torch.arange(4.0)  # before the module writes to x
    first = module(x)["first"]
    assert int(module.calls) == 1
    torch.testing.assert_close(first, wanted)
    assert list(inspect.signature(module.forward).parameters) == ["x", "times"]


def test_no_file_and_no_torchscript_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="file does not exist"):
        recipe.build({"_target_": "lowering.sources.torchscript.load", "path": str(tmp_path / "none.pt")})
    (tmp_path / "text.pt").write_text("no archive")
    with pytest.raises(LoadError, match="is not a TorchScript file"):
        torchscript.load(str(tmp_path / "text.pt"))


def test_all_constructs_without_a_lowering_are_named_at_once() -> None:
    class Forks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            one = torch.jit.fork(torch.sin, x)
            two = torch.jit.fork(torch.cos, x)
            return torch.jit.wait(one) + torch.jit.wait(two)

    with pytest.raises(Unsupported) as caught:
        torchscript.save_and_reload(torch.jit.script(Forks()))
    assert len({problem.place for problem in caught.value.problems}) == 2
    assert [problem.place.partition(" ")[0] for problem in caught.value.problems] == ["prim::fork", "prim::fork"]
