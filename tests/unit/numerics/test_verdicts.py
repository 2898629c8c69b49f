"""Verdicts of the stage `verify` that numbers alone do not give: random results, equal elements, special values, rounding, copies, gaps."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering import files
from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Tolerance
from lowering.numerics.coverage import special_values
from lowering.numerics.judging import distribution
from lowering.numerics.running import tensor_files
from lowering.numerics.running.runner import Eager
from lowering.record.result import JobResult
from lowering.stage import Silent
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from tests.unit.models.verified_jobs import ROWS, Never, Random, codes, exported, lowered, model

pytestmark = pytest.mark.usefixtures("without_iree")


def test_random_results_are_compared_by_their_distribution_and_the_others_by_value(tmp_path: Path) -> None:
    result = lowered(model(Random), tmp_path)
    assert (result.outcome, codes(result)) == ("ok", {"results_random"})
    assert result.verify["random"] == ["noisy", "dropped"]
    assert result.unverified == ""


class Scaled(torch.nn.Module):
    """Draws numbers that are 1.5 times as far apart in eager as in the program."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x) * (1 if torch.compiler.is_exporting() else 1.5)


def test_random_results_of_another_distribution_are_a_mismatch(tmp_path: Path) -> None:
    result = lowered(model(Scaled), tmp_path)
    assert result.outcome == "mismatch"
    assert "random float32 numbers of another distribution" in result.problems[0].cause


class Constant(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        drawn = torch.zeros_like(x) if torch.compiler.is_exporting() else torch.rand_like(x) * 0
        return drawn + torch.rand_like(x) * 0 + (1 if torch.compiler.is_exporting() else 2)


def test_elements_of_random_results_that_never_vary_are_compared_by_value(tmp_path: Path) -> None:
    assert "does not vary, and is not what eager always gives" in lowered(model(Constant), tmp_path).problems[0].cause


def test_elements_of_random_results_that_vary_by_rounding_are_compared_by_value() -> None:
    runs = [430 + 1e-4 * torch.rand(8, generator=torch.Generator().manual_seed(seed)) for seed in range(32)]
    tolerance = Tolerance(1e-5, 1e-4)
    assert distribution.compare([run + 1e-4 for run in runs[:16]], runs[16:], tolerance).agrees
    assert distribution.compare([run + 1 for run in runs[:16]], runs[16:], tolerance).wrong == "values"


class Uninitialized(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + (0 if torch.compiler.is_exporting() else torch.rand(1))


def test_results_that_vary_without_a_random_op_in_the_program_are_the_models_fault(tmp_path: Path) -> None:
    result = lowered(model(Uninitialized), tmp_path)
    assert result.outcome == "load_error"
    assert "eager disagrees with itself in 'output'" in result.problems[0].cause


class NoNan(torch.nn.Module):
    def forward(self, x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return torch.where(x == x, x, 0.0) if torch.compiler.is_exporting() else x


class Zeros(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x != 0) if not torch.compiler.is_exporting() else torch.where(x == 0, 1.0, x)


class Lookup(torch.nn.Module):
    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return x.relu().sum() + x[ids]


class Whole(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 3).long()


def test_nan_and_zeros_are_among_what_is_compared(tmp_path: Path) -> None:
    for name, kind, inputs in (("a", NoNan, ROWS | {"table": Input("float32", (2,), "ones")}), ("b", Zeros, None)):
        (tmp_path / name).mkdir()
        result = lowered(model(kind, inputs), tmp_path / name)
        assert result.outcome == "mismatch"
        assert all(f"{'non-finite' if kind is NoNan else 'edges'} values" in problem.place for problem in result.problems)
    (tmp_path / "c").mkdir()
    assert lowered(model(Zeros), tmp_path / "c", values=()).outcome == "ok"


def test_special_values_keep_indices_valid_and_are_run_at_a_point_that_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowering.numerics.running.xla import Xla

    compiled: list[bytes] = []
    compile_ = Xla.compile

    def counted(self: Xla, static: bytes) -> Any:
        compiled.append(static)
        return compile_(self, static)

    monkeypatch.setattr(Xla, "compile", counted)
    declared = model(Lookup, {"x": Input("float32", (64, 64)), "ids": Input("int64", ("n",), {"randint": [0, 64]})})
    result = lowered(declared, tmp_path)
    assert result.outcome == "ok", result.problems
    assert [point["note"] for point in result.verify["special"]] == ["edges values", "non-finite values"]
    assert len(compiled) == len(result.verify["points"]) == 5


class Spectrum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x).abs()


class Kernel(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv1d(x.reshape(-1, 1, x.shape[1]), x[:1, None, :3], padding=1)


class Frequent(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mode(1).values


class Solved(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve_triangular(x @ x.mT + torch.eye(x.shape[0]), x, upper=True)


@pytest.mark.parametrize(("module", "reason"), [
    (Whole, "converts floats to integers"), (Spectrum, "takes a Fourier transform"), (Kernel, "kernel of a convolution is not finite"),
    (Frequent, "most frequent elements"), (Solved, "factored or solved")])  # fmt: skip
def test_values_that_cannot_be_compared_are_left_out_and_recorded(module: type[torch.nn.Module], reason: str, tmp_path: Path) -> None:
    result = lowered(model(module), tmp_path)
    assert result.outcome == "ok", result.problems
    assert reason in result.verify["left_out"]["non-finite"]


class Counted(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        return x.half() * 2, x.shape[0]


def test_a_size_is_compared_beside_a_tensor(tmp_path: Path) -> None:
    result = lowered(model(Counted), tmp_path)
    assert result.outcome == "ok", result.problems


class Locked(torch.nn.Module):
    """Has an attribute that deepcopy refuses, and rounds to more than the tolerance in eager only."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros(3))
        self.lock, self.files, self.drawn = threading.Lock(), files, (number for number in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) if torch.compiler.is_exporting() else (self.linear(x) + 1e5) - 1e5


def test_a_module_that_cannot_be_copied_is_built_again_with_the_same_state(tmp_path: Path) -> None:
    result = lowered(model(Locked), tmp_path)
    assert (result.outcome, codes(result)) == ("ok", {"verify_arbitrated"}), result.problems
    program = exported(model(Locked))
    top = program.at(Level.MODEL)
    assert top is not None and isinstance(top.ir, Built) and program.signature is not None
    with torch.no_grad():
        top.ir.module.linear.weight.fill_(2)
    eager = Eager(top.ir.model, top.ir.module, program.signature)
    given = {"x": torch.ones(2, 6)}
    torch.testing.assert_close(eager.double()(given)[0].float(), eager(given)[0], rtol=1e-3, atol=1e-2)


class Complex(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def test_results_that_safetensors_cannot_hold_are_kept_as_pairs(tmp_path: Path) -> None:
    result = lowered(model(Complex, {"x": Input("complex128", ("n", 3))}), tmp_path)
    assert result.outcome == "ok", result.problems
    (kept,) = tmp_path.glob("*-verify.safetensors")
    held = tensor_files.read(kept, "0/")
    assert held["0/eager/output"].dtype is torch.complex128
    assert torch.equal(held["0/eager/output"], held["0/input/x"] * 2)


def test_every_dtype_comes_back_from_a_file(tmp_path: Path) -> None:
    given = {word: torch.ones(2, 3).to(dtype)[:, ::2] for word, dtype in
             {"a": torch.complex128, "b": torch.complex64, "c": torch.float8_e5m2,
              "d": torch.bool}.items()} | {"e": torch.tensor(1 + 2j).conj()}
    tensor_files.write(given, tmp_path / "file.safetensors")
    back = tensor_files.read(tmp_path / "file.safetensors")
    assert all(back[name].dtype is value.dtype and torch.equal(back[name].to(torch.complex64), value.to(torch.complex64))
               for name, value in given.items())


def guarded(*guards: str) -> Program:
    """A program down to MHLO whose signature has these guards, and is traced at n = 5."""
    program = exported(model(Never, high=10_000))
    assert program.signature is not None
    program = replace(program, signature=replace(program.signature, guards=guards))
    for stage in (ToTorchScript(deployable=False), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        program = stage.apply(program, Silent())
    return program


def test_missing_points_are_reported() -> None:
    from lowering.errors import StageFailed

    heard: list[str] = []

    class Heard(Silent):
        def __call__(self, code: str, message: str, place: str = "") -> None:
            heard.append(code)

    program = guarded("Eq(n, 100_000)")
    with pytest.raises(StageFailed, match=r"nothing was compared: Eq\(n, 100_000\)"):
        Verify(platforms=("cpu",)).apply(program, Heard())
    program = guarded("Eq(n, 5)")
    heard.clear()
    Verify(platforms=("cpu",), levels=("mhlo",)).apply(program, Heard())
    assert "few_points" in heard


def test_what_was_not_verified_says_so(tmp_path: Path) -> None:
    (tmp_path / "levels").mkdir()
    assert lowered(model(Never), tmp_path / "levels", levels=()).unverified == "no level was compared with eager"
    dropped = JobResult("a--b", "a", "b", "ok")
    assert dropped.unverified and dropped.to_json()["unverified"] == dropped.unverified
    assert JobResult("a--b", "a", "b", "mismatch").unverified == ""
    point: dict[str, Any] = {"levels": {"mhlo": {}}}
    assert "float32 (a table)" in replace(dropped, verify={"points": [point], "weakened": {"float32": "a table"}}).unverified
    assert replace(dropped, verify={"points": [point]}).unverified == ""


class Conditional(torch.nn.Module):
    """Takes a branch by its data, in which it is off by 1 when it is exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wrong = 1.0 if torch.compiler.is_exporting() else 0.0
        return torch.cond(x.sum() > 0, lambda value: value.sin() + wrong, lambda value: value.cos(), (x,))


def test_wrong_numbers_in_a_branch_are_a_mismatch_that_float64_judges(tmp_path: Path) -> None:
    result = lowered(model(Conditional), tmp_path, values=())
    assert result.outcome == "mismatch", result.problems
    assert "float64 sides with eager" in result.problems[0].cause


def test_a_single_index_takes_the_last_of_its_range() -> None:
    inputs = {"row": Input("int64", (1,), {"randint": [0, 16]}), "place": Input("int64", (), {"randint": [0, 4]})}
    declared = Model("slots", {"_target_": "torch.nn.Identity"}, inputs, {})
    ((_, changed),) = special_values.list_sets(declared, {"row": torch.tensor([3]), "place": torch.tensor(1)}, ("edges",))
    assert {name: value.tolist() for name, value in changed.items()} == {"row": [15], "place": 3}
