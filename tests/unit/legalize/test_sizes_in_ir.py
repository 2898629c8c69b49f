"""Expressions of sizes written into the IR give what Python computes, and what is folded for XLA's shape refinement is the same."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lowering.ir import mlir
from lowering.legalize.emitter import Emitter, Origin
from lowering.numerics.running.shape_refinement import refine
from lowering.numerics.running.xla import Xla
from lowering.sizes import normal, operations
from lowering.sizes.evaluation import evaluate
from lowering.sizes.parsing import Term, Unknown, parse
from lowering.sizes.ranges import Bound
from lowering.sizes.real import Real
from lowering.sizes.spelling import spell
from tests.unit.sizes import terms

NAMES = sorted(terms.RANGES)
POINTS = [{"a": 1, "b": 1, "c": 2}, {"a": 9, "b": 64, "c": 5}, {"a": 2, "b": 33, "c": 3}, {"a": 7, "b": 49, "c": 4},
          {"a": 3, "b": 8, "c": 2}]


def module_of(found: Sequence[Term]) -> str:
    """A module that takes the sizes as 0-d tensors and gives the value of each term: an i64, an f64, or an i1."""
    from torch_mlir import ir

    with mlir.create_torch_context(), ir.Location.unknown():
        module = ir.Module.parse(f"func.func @main({', '.join(f'%{name}: tensor<i64>' for name in NAMES)}) {{ return }}")
        function = module.body.operations[0]
        block = function.regions[0].blocks[0]
        emitter = Emitter(block)
        symbols = normal.symbols({name: Bound(*bounds) for name, bounds in terms.RANGES.items()})
        for name, argument in zip(NAMES, block.arguments, strict=True):
            emitter.origins[next(iter(symbols[name].atoms()))] = Origin(argument, is_argument=True)
        results = []
        for term in found:
            value = normal.number(spell(term), symbols)
            if term.op in ("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not"):
                results.append(emitter.condition(operations.truth(value)))
            else:
                results.append(emitter.size(value, "f64" if isinstance(value, Real) else "i64"))
        emitter.close()
        list(block.operations)[-1].operation.erase()
        with ir.InsertionPoint(block):
            ir.Operation.create("func.return", operands=results)
        types = ir.FunctionType.get([argument.type for argument in block.arguments], [value.type for value in results])
        function.attributes["function_type"] = ir.TypeAttr.get(types)
        assert module.operation.verify()
        stream = io.StringIO()
        module.operation.print(file=stream)
        return stream.getvalue()


def check(found: Sequence[Term], tolerance: float = 0.0) -> None:
    """Compare in StableHLO's interpreter at every point, and by XLA at one, where the sizes are constants and everything is folded."""
    xla, module = Xla(), module_of(found)
    for point in POINTS:
        compare(found, point, interpreted(module, point), tolerance)
    fixed = refine(module, [(torch.int64, ())] * len(NAMES), {index: POINTS[2][name] for index, name in enumerate(NAMES)})
    values = xla.execute(xla.compile(fixed), [torch.tensor(POINTS[2][name]) for name in NAMES])
    compare(found, POINTS[2], values, max(tolerance, 1e-15))  # XLA multiplies by the inverse of a constant


def interpreted(module: str, point: dict[str, int]) -> list[Any]:
    from torch_mlir import ir
    from torch_mlir._mlir_libs import _stablehlo

    with mlir.create_torch_context() as context:
        given = [ir.Attribute.parse(f"dense<{point[name]}> : tensor<i64>") for name in NAMES]
        return [_element(value) for value in _stablehlo.eval_module(mlir.parse(module, context), given)]


def _element(value: Any) -> Any:
    from torch_mlir import ir

    kind = ir.DenseFPElementsAttr if "f64" in str(value.type) else ir.DenseIntElementsAttr
    return kind(value)[0]


def compare(found: Sequence[Term], point: dict[str, int], got: Sequence[Any], tolerance: float) -> None:
    for term, value in zip(found, got, strict=True):
        try:
            wanted = evaluate(term, point) + 0  # a bool as an int
        except Unknown:
            continue
        assert (value.item() if isinstance(value, torch.Tensor)
                else value) + 0 == pytest.approx(wanted, rel=tolerance, abs=0), f"{spell(term)} at {point}"


@given(st.lists(st.one_of(terms.ints(2), terms.floats(2), terms.conditions(1)), min_size=60, max_size=60, unique_by=spell))
@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_random_expressions_give_what_python_computes(found: list[Term]) -> None:
    check(found)


def test_powers_and_functions_are_those_of_python_up_to_a_rounding() -> None:
    texts = ["a ** 0.5", "b ** 1.5", "math.log(b)", "math.exp(a)", "math.cos(b)", "math.sin(a)", "math.tanh(a / b)", "a ** -2", "2.0 ** c",
             "math.log2(b)", "math.floor(math.log2(b))", "math.tan(c)", "math.trunc(2 ** (b / 7))"]

    check([parse(text) for text in texts], tolerance=1e-15)
