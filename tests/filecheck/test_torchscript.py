"""FX in, TorchScript text out: each file of torchscript/ holds a module, its inputs and CHECK lines (or REFUSED lines)."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch

from lowering.eager import inputs
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics.running.runner import Eager, order_arguments
from lowering.ops.tables import decompositions
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.torchscript import ToTorchScript
from lowering.torchscript import deployable
from lowering.torchscript.text import parse
from tests.filecheck.matcher import check

CASES = sorted(path.stem for path in (Path(__file__).parent / "torchscript").glob("*.py"))


def case_of(name: str) -> tuple[ModuleType, str]:
    module = importlib.import_module(f"tests.filecheck.torchscript.{name}")
    return module, Path(str(module.__file__)).read_text()


def exported(name: str, case: ModuleType) -> Program:
    given = {key: Input(*declared) for key, declared in case.INPUTS.items()}
    used = {dim.symbol for declared in given.values() for dim in declared.dims() if hasattr(dim, "symbol")}
    model = Model(name, {"_target_": f"{case.__name__}.Case"}, given, {symbol: Symbol(2, 64) for symbol in sorted(used)})
    with mock.patch.object(decompositions, "choose", return_value=None):  # what is decomposed is none of these cases' business
        return Export().apply(Program(Level.MODEL, model), Silent())


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tmp_path: Path) -> None:
    """The text is as the case says, and parses back to itself. Graph and saved module compute what eager does at two shape points."""
    case, source = case_of(name)
    program = exported(name, case)
    stage = ToTorchScript()
    wanted = re.findall(r"#\s*REFUSED:\s*(.*)", source)
    found = [str(problem) for problem in stage.requires(program)]
    assert len(found) == len(wanted), found
    assert all(part in problem for part, problem in zip(wanted, found, strict=True)), found
    if wanted:
        return
    script = stage.apply(program, Silent())
    assert list(stage.ensures(script)) == []
    text = str(script.ir)
    check(text, source)
    assert str(parse(text)) == text
    deployable.build_module(script).save(str(tmp_path / "module.pt"))
    _compare(script, torch.jit.load(str(tmp_path / "module.pt")))


def _compare(script: Program, loaded: torch.jit.ScriptModule) -> None:
    top = script.at(Level.MODEL)
    assert top is not None and script.signature is not None
    model, function = top.ir.model, torch._C._create_function_from_graph("forward", script.ir)
    names = [argument.name for argument in script.signature.inputs]
    for size in (3, 7):
        given = inputs.make(model, {symbol: size + 2 * i for i, symbol in enumerate(model.symbols)})
        want = Eager(model, top.ir.module, script.signature)(given)
        taken = {name: given[name] for name in names}
        for got in (function(*order_arguments(script.signature, script.weights, taken)), loaded(*taken.values())):
            found = got if isinstance(got, tuple) else (got,)
            torch.testing.assert_close(tuple(torch.as_tensor(value) for value in found), want, check_dtype=False)
