"""XLA: programs of any size are refined and run, wrong arguments are refused, and tensors keep their bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from lowering.errors import Refused, StageFailed
from lowering.ir import mlir, portable
from lowering.numerics.reference import Reference
from lowering.numerics.running import compilation, xla
from lowering.numerics.running.shape_refinement import context
from lowering.numerics.verifier import is_long_loop
from lowering.store import executables
from lowering.types import DTYPES
from tests.unit.models.scaled_model import hlo


@pytest.fixture(scope="module")
def cpu() -> xla.Xla:
    return xla.Xla("cpu")


def arguments(batch: int) -> list[torch.Tensor]:
    return [torch.randn(16, 8), torch.randn(batch, 16), torch.arange(batch)]


@pytest.mark.parametrize("dialect", ["stablehlo", "mhlo"])
def test_a_dynamic_module_runs_at_any_size(cpu: xla.Xla, dialect: str) -> None:
    for batch in (1, 3, 64):
        weight, x, ids = given = arguments(batch)
        logits, count = cpu.run(hlo(dialect), given)
        torch.testing.assert_close(logits, torch.relu(x @ weight))
        assert torch.equal(count, 2 * ids)


@pytest.mark.parametrize("dialect", ["stablehlo", "mhlo"])
def test_a_shape_assertion_refuses_with_its_own_message(cpu: xla.Xla, dialect: str) -> None:
    with pytest.raises(Refused, match="batch must be at most 64"):
        cpu.run(hlo(dialect), arguments(65))


def test_a_wrong_size_is_answered_by_the_assertion_not_by_the_op_that_it_breaks(cpu: xla.Xla) -> None:
    text = """func.func @main(%table: tensor<8xf32>, %x: tensor<?xf32>) -> (tensor<?xf32> {jax.result_info = "y"}) {
      %0 = stablehlo.get_dimension_size %x, dim = 0 : (tensor<?xf32>) -> tensor<i32>
      %1 = stablehlo.reshape %0 : (tensor<i32>) -> tensor<1xi32>
      %2 = stablehlo.constant dense<0> : tensor<1xi32>
      %3 = stablehlo.constant dense<1> : tensor<1xi32>
      %4 = stablehlo.real_dynamic_slice %table, %2, %1, %3 : (tensor<8xf32>, tensor<1xi32>, tensor<1xi32>, tensor<1xi32>) -> tensor<?xf32>
      %5 = stablehlo.add %4, %x : tensor<?xf32>
      %6 = stablehlo.constant dense<8> : tensor<i32>
      %7 = stablehlo.compare LE, %0, %6 : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.custom_call @shape_assertion(%7) {error_message = "x has at most 8", has_side_effect = true} : (tensor<i1>) -> ()
      return %5 : tensor<?xf32> }"""
    assert cpu.run(text, [torch.arange(8.0), torch.zeros(3)])[0].tolist() == [0, 1, 2]
    with pytest.raises(Refused, match="x has at most 8"):
        cpu.run(text, [torch.arange(8.0), torch.zeros(9)])
    with pytest.raises(StageFailed):
        cpu.run("\n".join(line for line in text.splitlines() if "shape_assertion" not in line), [torch.arange(8.0), torch.zeros(9)])


def test_wrong_static_dims_dtypes_and_counts_are_refused(cpu: xla.Xla) -> None:
    weight, x, ids = arguments(3)
    for given in ([weight, x[:, :15], ids], [weight, x, ids.int()], [weight, x]):
        with pytest.raises(Refused):
            cpu.run(hlo("mhlo"), given)


def test_an_assertion_that_the_sizes_do_not_decide_is_a_failure_not_a_refusal(cpu: xla.Xla) -> None:
    text = """func.func @main(%x: tensor<?xi1>, %ok: tensor<i1>) -> tensor<?xi1> {
      stablehlo.custom_call @shape_assertion(%ok) {error_message = "never", has_side_effect = true} : (tensor<i1>) -> ()
      return %x : tensor<?xi1> }"""
    with pytest.raises(StageFailed, match="expects static"):
        cpu.run(text, [torch.ones(3, dtype=torch.bool), torch.tensor(True)])


def test_text_that_does_not_parse_is_a_failure(cpu: xla.Xla) -> None:
    with pytest.raises(StageFailed, match=r"shape.nothing"):
        cpu.run("func.func @main(%x: tensor<?xf32>) { %0 = shape.nothing %x : index\n return }", [torch.ones(3)])


def test_bounded_dims_are_refined_like_others(cpu: xla.Xla) -> None:
    bounded = "tensor<?x16xf32, #mhlo.type_extensions<bounds = [64, ?]>>"
    text = hlo("mhlo").replace("tensor<?x16xf32>", bounded)
    assert cpu.run(text, arguments(3))[0].shape == (3, 8)
    with pytest.raises(Refused, match="at most 64"):
        cpu.run(text, arguments(65))


@pytest.mark.parametrize("name", list(DTYPES))
def test_every_dtype_goes_through_xla_and_back_bit_for_bit(cpu: xla.Xla, name: str) -> None:
    row = DTYPES[name]
    value = torch.tensor([[0.0, 1.0], [2.0, 0.5]]).to(row.torch)
    text = f"func.func @main(%x: tensor<?x2x{row.hlo}>) -> tensor<?x2x{row.hlo}> {{ return %x : tensor<?x2x{row.hlo}> }}"
    (back,) = cpu.run(text, [value])
    assert back.dtype is row.torch
    assert torch.equal(back.view(torch.uint8), value.view(torch.uint8))


@pytest.mark.parametrize("view", [lambda x: x[1:], lambda x: x.mT.contiguous().mT, lambda x: x[::2], lambda x: x.conj(), lambda x: x[:0]],
                         ids=["unaligned", "transposed", "strided", "conjugate", "empty"])
def test_views_come_to_xla_as_what_they_show(cpu: xla.Xla, view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    value = view(torch.randn(7, 3, dtype=torch.complex64))
    text = "func.func @main(%x: tensor<?x3xcomplex<f32>>) -> tensor<?x3xcomplex<f32>> { return %x : tensor<?x3xcomplex<f32>> }"
    (back,) = cpu.run(text, [value])
    assert torch.equal(back, value.resolve_conj())


def test_maximum_keeps_nan(cpu: xla.Xla) -> None:
    text = """func.func @main(%x: tensor<?xf32>, %y: tensor<?xf32>) -> tensor<?xf32> {
      %0 = mhlo.maximum %x, %y : tensor<?xf32>
      return %0 : tensor<?xf32> }"""
    (got,) = cpu.run(text, [torch.tensor([float("nan"), 1.0, 2.0]), torch.tensor([1.0, float("nan"), 1.0])])
    assert torch.isnan(got).tolist() == [True, True, False]


def test_a_quick_compilation_sorts_as_torch_does() -> None:
    text = """func.func @main(%x: tensor<3x40xf32>) -> (tensor<3x40xf32>, tensor<3x40xi64>) {
      %0 = stablehlo.iota dim = 1 : tensor<3x40xi64>
      %1:2 = "stablehlo.sort"(%x, %0) <{dimension = 1 : i64, is_stable = true}> ({
      ^bb0(%a: tensor<f32>, %b: tensor<f32>, %i: tensor<i64>, %j: tensor<i64>):
        %nan = stablehlo.compare NE, %b, %b : (tensor<f32>, tensor<f32>) -> tensor<i1>
        %number = stablehlo.compare EQ, %a, %a : (tensor<f32>, tensor<f32>) -> tensor<i1>
        %last = stablehlo.and %nan, %number : tensor<i1>
        %less = stablehlo.compare LT, %a, %b : (tensor<f32>, tensor<f32>) -> tensor<i1>
        %before = stablehlo.or %less, %last : tensor<i1>
        stablehlo.return %before : tensor<i1>
      }) : (tensor<3x40xf32>, tensor<3x40xi64>) -> (tensor<3x40xf32>, tensor<3x40xi64>)
      return %1#0, %1#1 : tensor<3x40xf32>, tensor<3x40xi64> }"""
    x = torch.arange(120.0).remainder(7).reshape(3, 40)  # ties
    x[:, ::5] = float("nan")
    values, places = xla.Xla("cpu", effort="quick").run(text, [x])
    wanted = x.sort(dim=1, stable=True)
    torch.testing.assert_close(values, wanted.values, equal_nan=True)
    assert torch.equal(places, wanted.indices)


@pytest.mark.parametrize(("effort", "dtype", "want"), [
    ("quick", "f32", (0, False)), ("unoptimized", "f32", (0, None)), ("full", "f32", (None, None)), ("quick", "bf16", (None, None)),
    ("unoptimized", "bf16", (None, None))])
def test_programs_of_usual_types_alone_are_compiled_with_less_effort(effort: compilation.Effort, dtype: str, want: object) -> None:
    text = f"""func.func @main(%x: tensor<4x{dtype}>) -> tensor<4x{dtype}> {{
      %0 = stablehlo.add %x, %x : tensor<4x{dtype}>
      return %0 : tensor<4x{dtype}> }}"""
    plan = compilation.plan(mlir.to_bytecode(mlir.parse(text, context())), "cpu", "1", {}, True, effort, may_lose_nan=False)
    assert (plan.options.get("xla_backend_optimization_level"), plan.options.get("xla_cpu_use_fusion_emitters")) == want
    assert plan.is_full == (want == (None, None))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16])
def test_a_quick_compilation_of_narrow_integers_computes_as_torch_does(dtype: torch.dtype) -> None:
    word = f"tensor<4x64x{DTYPES[str(dtype).removeprefix('torch.')].hlo}>"
    row = word.replace("4x64", "64")
    text = f"""func.func @main(%x: {word}, %y: {word}) -> ({word}, {word}, {word}, {word}, {row}, tensor<4x64xf32>) {{
      %0 = stablehlo.add %x, %y : {word}
      %1 = stablehlo.multiply %x, %y : {word}
      %2 = stablehlo.maximum %x, %y : {word}
      %3 = stablehlo.subtract %x, %y : {word}
      %4 = stablehlo.constant dense<0> : {word.replace("4x64x", "")}
      %5 = stablehlo.reduce(%x init: %4) applies stablehlo.add across dimensions = [0] : ({word}, {word.replace("4x64x", "")}) -> {row}
      %6 = stablehlo.convert %x : ({word}) -> tensor<4x64xf32>
      return %0, %1, %2, %3, %5, %6 : {word}, {word}, {word}, {word}, {row}, tensor<4x64xf32> }}"""
    least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    x, y = (torch.randint(least, most + 1, (4, 64), generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in range(2))
    device = xla.Xla("cpu", effort="quick")
    found = device.run(text, [x, y])
    assert not device._plan(next(iter(device._refined.values()))).is_full
    wanted = (x + y, x * y, torch.maximum(x, y), x - y, x.sum(0, dtype=dtype), x.float())
    assert all(torch.equal(got, want) for got, want in zip(found, wanted, strict=True))


def test_products_of_narrow_integers_are_compiled_with_full_effort() -> None:
    text = """func.func @main(%x: tensor<4x4xi8>) -> tensor<4x4xi8> {
      %0 = stablehlo.dot %x, %x : (tensor<4x4xi8>, tensor<4x4xi8>) -> tensor<4x4xi8>
      return %0 : tensor<4x4xi8> }"""
    assert compilation.plan(mlir.to_bytecode(mlir.parse(text, context())), "cpu", "1", {}, True, "quick", may_lose_nan=False).is_full


def test_a_quick_compilation_loops_and_branches_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """func.func @main(%x: tensor<4xf32>, %n: tensor<i32>) -> tensor<4xf32> {
      %one = stablehlo.constant dense<1> : tensor<i32>
      %zero = stablehlo.constant dense<0> : tensor<i32>
      %0:2 = stablehlo.while(%i = %zero, %y = %x) : tensor<i32>, tensor<4xf32>
        cond { %more = stablehlo.compare LT, %i, %n : (tensor<i32>, tensor<i32>) -> tensor<i1>
               stablehlo.return %more : tensor<i1> }
        do { %next = stablehlo.add %i, %one : tensor<i32>
             %is_first = stablehlo.compare EQ, %i, %zero : (tensor<i32>, tensor<i32>) -> tensor<i1>
             %z = "stablehlo.if"(%is_first) ({ %a = stablehlo.multiply %y, %y : tensor<4xf32>
                                              stablehlo.return %a : tensor<4xf32> },
                                            { %b = stablehlo.maximum %y, %x : tensor<4xf32>
                                              stablehlo.return %b : tensor<4xf32> }) : (tensor<i1>) -> tensor<4xf32>
             stablehlo.return %next, %z : tensor<i32>, tensor<4xf32> }
      return %0#1 : tensor<4xf32> }"""
    used: list[Mapping[str, object]] = []
    compute = executables.compute_key

    def record(program: bytes, compiler: str, options: Mapping[str, object]) -> str:
        used.append(options)
        return compute(program, compiler, options)

    monkeypatch.setattr(executables, "compute_key", record)
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path))
    x, device = torch.tensor([0.5, -2.0, 3.0, float("nan")]), xla.Xla("cpu", effort="quick")
    with executables.keep():
        for count, want in ((0, x), (1, x * x), (3, torch.maximum(x * x, x))):
            (got,) = device.run(text, [x, torch.tensor(count, dtype=torch.int32)])
            torch.testing.assert_close(got, want, equal_nan=True)
    assert used[0]["xla_cpu_use_fusion_emitters"] is False
    is_long = [is_long_loop(form, Reference((), seconds)) for form in (text, hlo("mhlo")) for seconds in (0.01, 0.4)]
    assert is_long == [False, True, False, False]


def test_held_weights_share_their_memory_with_the_device() -> None:
    device, weight = xla.Xla("cpu"), torch.randn(64, 64)
    device.hold({"w": weight})
    held = device._held.take(weight, pytest.fail)
    assert held.unsafe_buffer_pointer() == weight.data_ptr()


def test_chlo_runs_too(cpu: xla.Xla) -> None:
    text = """func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> {
      %0 = chlo.erf %x : tensor<?xf32> -> tensor<?xf32>
      return %0 : tensor<?xf32> }"""
    value = torch.linspace(-2, 2, 5)
    torch.testing.assert_close(cpu.run(text, [value])[0], torch.erf(value))


def test_a_stablehlo_program_still_runs_after_it_was_handed_on_to_the_other_build(cpu: xla.Xla) -> None:
    module = mlir.parse(hlo("stablehlo"), mlir.create_torch_context())
    before = mlir.text(module)
    portable.to_hlo(module)
    assert mlir.text(module) == before
    assert cpu.run(before, arguments(3))[0].shape == (3, 8)
