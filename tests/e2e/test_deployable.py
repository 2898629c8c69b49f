"""The deployable module in a C++ program against libtorch: no Python in the process, the numbers of eager at two shapes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering.custom import compiler
from lowering.eager import inputs
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics.running import libtorch
from lowering.numerics.running.runner import Eager
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.torchscript import ToTorchScript

ROWS = Input("float32", ("batch", 3))
CASES: dict[str, tuple[str, dict[str, Input]]] = {
    "weights": ("lowering.sources.mlp.MLP", {"features": Input("float32", ("batch", 16))}),
    "branches": ("tests.unit.models.control_models.Everything", {"x": ROWS, "p": Input("float32", (4,))}),
    "foreign": ("lowering.sources.scripted.tagger", {"tokens": Input("int64", ("batch", "seq"), {"randint": [0, 50]})}),
}
OPTIONS: dict[str, dict[str, Any]] = {"weights": {"width_in": 16, "width_hidden": 32, "width_out": 8}}


@pytest.fixture(scope="module")
def program() -> Path:
    """The C++ program that runs a deployable module, which `verify` also uses as a consumer."""
    if not libtorch.is_available():
        pytest.skip("no C++ compiler on PATH")
    return compiler.build_program(libtorch.PLACE, [Path(libtorch.__file__).with_suffix(".cpp")])


@pytest.mark.parametrize("name", CASES)
def test_computes_what_eager_does(name: str, program: Path, tmp_path: Path) -> None:
    target, given = CASES[name]
    dims = {dim for declared in given.values() for dim in declared.shape if isinstance(dim, str)}
    model = Model(name, {"_target_": target, **OPTIONS.get(name, {})}, given, {dim: Symbol(2, 64) for dim in sorted(dims)})
    script = ToTorchScript().apply(Export().apply(Program(Level.MODEL, model), Silent()), Silent())
    _, module, optimized = ToTorchScript(optimized=True).save(script, tmp_path / "02-torchscript")
    top = script.at(Level.MODEL)
    assert top is not None and script.signature is not None
    names = [argument.name for argument in script.signature.inputs]
    wanted, files = [], []
    for batch in (3, 17):
        values = inputs.make(model, {dim: batch if dim == "batch" else batch + 1 for dim in dims})
        wanted.append(Eager(model, top.ir.module, script.signature)(values))
        files += [tmp_path / f"in{batch}", tmp_path / f"out{batch}"]
        torch.save([values[key] for key in names], files[-2])
    linked = subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True).stdout
    assert "libtorch_cpu" in linked and "python" not in linked.replace(str(Path(torch.__file__).parent), "")
    for deployed in (module, optimized):
        for want, given, out in zip(wanted, files[::2], files[1::2], strict=True):
            subprocess.run([str(program), str(deployed), str(given), str(out)], check=True, capture_output=True, text=True)
            got = torch.load(out)
            found = got if isinstance(got, tuple) else (got,)
            torch.testing.assert_close(tuple(torch.as_tensor(value) for value in found), want, check_dtype=False)
            out.unlink()
    assert not list(torch.jit.load(str(optimized)).parameters())
