"""Loops of TorchScript files over a dynamic dim or a tensor's values reach `mhlo.while` with the numbers of the file's module."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from lowering import pipeline
from lowering.interpreter import lists
from lowering.interpreter.lists import Rows
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.record.result import JobResult
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from lowering.symbols.schema import SymbolRecord
from tests.unit.models import loop_modules

STAGES = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO(),
          "verify": Verify(points=3)}  # fmt: skip


def lowered(name: str, folder: Path) -> JobResult:
    factory = {"_target_": "tests.unit.models.loop_modules.built", "name": name}
    model = Model(name, factory, {"x": Input("float32", ("batch", "seq", 8))}, {"batch": Symbol(1, 16), "seq": Symbol(1, 16)})
    return pipeline.run(Job(model, STAGES), folder)


@pytest.mark.parametrize("name", [
    "Carries", "Lists", "Layers", "Started", "Nested", "Writes", "Settles", "WhileOnData", "Breaks", "Returns", "Decoder", "Assigns",
    "Windows",
])
def test_a_loop_reaches_mhlo_with_its_length_dynamic(name: str, tmp_path: Path) -> None:
    """Compared with the file's own module at lengths 1, 16 and others, none of them the traced one."""
    result = lowered(name, tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
    ops = result.stages[4].ops
    assert "mhlo.while" in ops
    assert {op.partition(".")[0] for op in ops} == {"func", "mhlo"}
    argument = (tmp_path / "05-mhlo.mhlo.mlir").read_text().split("->")[0]
    assert "tensor<?x?x8xf32" in argument


@pytest.mark.parametrize(("name", "code", "words"), [
    ("Longer", "for _ in range", ("prim::Loop", "carries 'h", "before an iteration and", "give it its final shape")),
    ("Prefixes", "outs.append(x[:, : t + 1]", ("aten::slice", "whose size differs between iterations")),
    ("ReadsWhatItFills", "outs.append(outs[-1]", ("aten::__getitem__", "carry the element that is needed")),
    ("UnknownLength", "torch.stack(outs)", ("aten::stack", "depends on a tensor's values")),
    ("Uneven", "for t in range", ("appends tensors of different shapes", "append them to separate lists")),
    ("Aliases", "for t in range", ("shares memory with", "clone")),
])
def test_what_no_loop_can_carry_is_refused_with_its_line(name: str, code: str, words: tuple[str, ...], tmp_path: Path) -> None:
    lines, first = inspect.getsourcelines(getattr(loop_modules, name))
    wanted = first + next(number for number, line in enumerate(lines) if code in line)
    result = lowered(name, tmp_path)
    assert (result.outcome, result.stage) == ("unsupported", "export")
    text = "\n".join(map(str, result.problems))
    assert f"loop_modules.py:{wanted}" in text
    assert all(word in text for word in words), text


def test_an_attribute_that_is_no_buffer_is_assigned_within_a_call(tmp_path: Path) -> None:
    result = lowered("Counts", tmp_path)
    assert (result.outcome, result.stage) == ("ok", "verify")
    assert [remark.place for remark in result.warnings if remark.code == "attribute_forgotten"] == ["attribute 'count'"]


def test_in_training_a_loop_is_refused_with_its_line(tmp_path: Path) -> None:
    factory = {"_target_": "tests.unit.models.loop_modules.built", "name": "Loss"}
    model = Model("Loss", factory, {"x": Input("float32", ("batch", "seq", 8))}, {"batch": Symbol(2, 16), "seq": Symbol(2, 16)},
                  mode="training", loss="loss")
    result = pipeline.run(Job(model, {"export": Export(archive=False)}), tmp_path)
    assert (result.outcome, result.stage) == ("unsupported", "export")
    (problem,) = result.problems
    assert "while_loop at" in problem.place and "loop_modules.py" in problem.place
    assert "no gradient" in problem.cause and "static" in problem.fix


def test_the_length_is_in_the_symbol_log(tmp_path: Path) -> None:
    record = SymbolRecord.from_json(lowered("Lists", tmp_path).symbols)
    assert {dim.verdict for dim in record.requested} == {"dynamic"}
    assert {warning.code for warning in record.warnings} <= {"promised_wider_than_traced"}  # nothing that only this lowering asked for


A, B, C = torch.randn(2, 5), torch.randn(2, 5), torch.randn(3, 2, 5)


@pytest.mark.parametrize("runs", [[Rows(C)], [A, Rows(C)], [Rows(C), A, B], [A, Rows(C), B, Rows(C)]])
def test_a_list_with_runs_computes_as_one_without(runs: list[torch.Tensor | Rows]) -> None:
    plain = [row for value in runs for row in (value.tensor if isinstance(value, Rows) else [value])]
    assert lists.length(runs) == len(plain)
    for dim in (0, 1, 2, -1, -3):
        assert lists.stack(runs, dim).equal(torch.stack(plain, dim))
    for dim in (0, 1, -1, -2):
        assert lists.cat(runs, dim).equal(torch.cat(plain, dim))
    for place in range(-len(plain), len(plain)):
        assert lists.get_item(runs, place).equal(plain[place])
    assert lists.stack(lists.get_slice(runs, None, None, -1)).equal(torch.stack(plain[::-1]))
    assert lists.stack(lists.get_slice(runs, 1, -1, 2)).equal(torch.stack(plain[1:-1:2]))
