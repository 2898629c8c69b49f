"""The faults of benchmarks.planted, by kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.planted_contracts import CONTRACTS
from benchmarks.planted_entries import ENTRIES
from benchmarks.planted_ops import OPS
from benchmarks.planted_programs import PROGRAMS
from benchmarks.planting import Fault, both, clean, gelu_by_tanh, off, row, rule, swap, without
from lowering.ir import mlir, portable
from lowering.numerics.delivery import packaging
from lowering.ops import attention, division, indexing, reductions
from lowering.ops.images import padding
from lowering.ops.tables import decompositions
from lowering.store import weights
from lowering.torchscript import deployable

aten = torch.ops.aten


# Beside elements that are much larger, all of these are small in themselves or beside the others.
BESIDE_LARGE = (
    Fault("scores off by 1 beside finfo.min", "beside large", "causal", off(0, 1.0, only="small")),
    Fault("scores off by 1e-3 beside finfo.min", "beside large", "causal", off(0, 1e-3, only="small")),
    Fault("scores 1 % too large beside finfo.min", "beside large", "causal", off(0, times=1.01, only="small")),
    Fault("one column of scores off by 0.1 beside finfo.min", "beside large", "causal", off(0, 0.1, only="first")),
    Fault("rows of 1e-4 10 % too large beside rows of 1e6", "beside large", "sizes", off(0, times=1.1, only="tiny")),
    Fault("rows of 1e-6 are zero beside rows of 1", "beside large", "sizes", off(0, times=0.0, only="tiny")),
    Fault("elements of 1 off by 1e-3 beside 1e6", "beside large", "sizes", off(1, 1e-3, only="small")),
    Fault("elements of 1 0.1 % too large beside 1e6", "beside large", "sizes", off(1, times=1.001, only="small")),
    Fault("a sum of thousands off by 2", "beside large", "sizes", off(2, 2.0)),
    Fault("the small ones of mixed elements off by 0.01", "beside large", "sizes", off(3, 0.01, only="small")),
    Fault("tails of a softmax 30 % too large", "beside large", "causal", off(1, times=1.3, only="tiny")),
    Fault("gradients of the bias off by 1 % of the largest", "beside large", "training", off(3, times=1.01)),
    Fault("a loss of thousands 0.1 % too large", "beside large", "training", off(0, times=1.001)),
)

CORNERS = (
    Fault("one row, many columns", "corner", "attention", off(1, 0.5, when=("-2.0 EQ 1", "-2.1 GT 1")),
          classes=("b at its least, s larger",)),
    Fault("one row, most columns", "corner", "attention", off(1, 0.5, when=("-2.0 EQ 1", "-2.1 EQ 64")),
          classes=("b at its least, s = max",)),
    Fault("most rows, one column", "corner", "attention", off(1, 0.5, when=("-2.0 EQ 16", "-2.1 EQ 1"), by_arithmetic=True),
          classes=("s at its least, b = max",)),
    Fault("equal sizes", "corner", "attention", off(1, 0.5, when=("-2.0 EQ -2.1",)), classes=("b = s",)),
    Fault("equal sizes, by arithmetic", "corner", "causal", off(2, 0.5, when=("-1.0 EQ -1.1",), by_arithmetic=True), classes=("b = s",)),
    Fault("size 2", "corner", "attention", off(0, 0.5, when=("-2.1 EQ 2",), by_arithmetic=True), classes=("s = 2",)),
    Fault("size 2 of the batch", "corner", "scripted", off(0, 0.5, when=("-1.0 EQ 2",), by_arithmetic=True), classes=("b = 2",)),
    Fault("max - 1", "corner", "attention", off(1, 0.5, when=("-2.1 EQ 63",), by_arithmetic=True), classes=("s = max - 1",)),
    Fault("max - 1 of the batch", "corner", "fields", off(0, 0.5, when=("-5.0 EQ 15",), by_arithmetic=True), classes=("b = max - 1",)),
    Fault("the traced size", "corner", "index", off(0, 0.5, when=("-1.0 EQ 5",), by_arithmetic=True), classes=("n = traced",)),
    Fault("one multiple below the largest", "corner", "pictures", off(0, 0.5, when=("-1.2 EQ 28",), by_arithmetic=True),
          classes=("h = max - 1",)),
    Fault("size 1 alone", "corner", "sizes", off(4, 0.5, when=("-1.0 EQ 1",), by_arithmetic=True), classes=("n = 1",)),
    Fault("the largest n beyond the cap", "corner", "wide", off(0, 0.5, when=("-1.0 GT 200000",)), classes=("n = max",)),
    Fault("the largest m beyond the cap", "corner", "wide", off(0, 0.5, when=("-1.1 GT 4000",)), classes=("m = max",)),
    Fault("all sizes beyond the cap", "corner", "wide", off(0, 0.5, when=("-1.0 GT 16000", "-1.1 GT 1000")), classes=("m = max, n = max",)),
    Fault("size 3 of the batch, by comparison", "corner", "attention", off(1, 0.5, when=("-2.0 EQ 3",)), classes=("size condition",)),
    Fault("more than 40 columns, fewer than 60", "corner", "attention", off(1, 0.5, when=("-2.1 GT 40", "-2.1 LT 60")),
          classes=("size condition",)),
    Fault("more rows than columns by one", "corner", "causal", off(0, 0.5, when=("-1.0 GT -1.1", "-1.1 GT 7"), only="small"),
          classes=("size condition",)),
)

DTYPES = (
    Fault("bfloat16 results 3 % too large", "dtype", "casts", off(0, times=1.03)),
    Fault("bfloat16 results 1.5 % too large", "dtype", "casts", off(0, times=1.015)),
    Fault("bfloat16 results off by 0.02", "dtype", "casts", off(0, by=0.02)),
    Fault("float16 results 0.4 % too large", "dtype", "casts", off(1, times=1.004)),
    Fault("float16 results off by 4e-3", "dtype", "casts", off(1, by=4e-3)),
    Fault("float32 results of bfloat16 work off by 0.02", "dtype", "casts", off(2, by=0.02)),
    Fault("float32 results of float16 work off by 2e-3", "dtype", "casts", off(5, by=2e-3)),
    Fault("float64 computed in float32", "dtype", "casts", swap(r"(%\w+) = mhlo.exponential (%\w+) : (tensor<\?x64x)f64>",
          r"%p1 = mhlo.convert \2 : (\3f64>) -> \3f32>\n    %p2 = mhlo.exponential %p1 : \3f32>\n    \1 = mhlo.convert %p2 : (\3f32>) -> "
          r"\3f64>")),
    Fault("a bfloat16 product 2 steps too large", "dtype", "casts", off(4, times=1.016)),
    Fault("a bfloat16 sum off by 3 %", "dtype", "casts", off(6, times=1.03)),
    Fault("an integer off by one where it is 4", "dtype", "index", off(4, 1, only="first")),
)

BRANCHES = (
    Fault("the branch that the traced data does not take", "branch", "branches",
          swap(r"mhlo.multiply %arg0, (%\w+)", r"mhlo.add %arg0, \1")),
    Fault("the other branch", "branch", "branches", swap(r"mhlo.subtract %arg0, (%\w+)", r"mhlo.multiply %arg0, \1")),
    Fault("branches exchanged when the batch is 7", "branch", "branches", off(0, 1.0, when=("-2.0 EQ 7",)), classes=("size condition",)),
    Fault("a loop of 31 turns", "branch", "branches", off(1, 1.0, when=("-2.0 EQ 31",), by_arithmetic=True), classes=("n = max - 1",)),
    Fault("a loop of one turn", "branch", "scripted", off(0, 1.0, when=("-1.1 EQ 1",), by_arithmetic=True), classes=("s = 1",)),
    Fault("a threshold of 24 rows", "branch", "branches", off(1, 0.1, when=("-2.0 GE 24", "-2.0 LT 30")), classes=("size condition",)),
)

_MULTIPLE = "must be a multiple"
ASSERTIONS = (
    Fault("an equality dropped", "assertion", "pair", without("dim 0 of y")),
    Fault("an equality dropped that nothing computes with", "assertion", "fields", without("dim 1 of padding")),
    Fault("an equality of an expression dropped", "assertion", "pair", without("dim 0 of z")),
    Fault("two equalities of one input dropped", "assertion", "attention", without("dim 0 of mask", "dim 1 of mask")),
    Fault("a multiple dropped", "assertion", "pair", without(_MULTIPLE)),
    Fault("a multiple dropped that nothing needs", "assertion", "pictures", without(_MULTIPLE)),
    Fault("a guard dropped", "assertion", "threes", without("the exported program needs")),
    Fault("a minimum dropped", "assertion", "training", without("must be at least")),
    Fault("a maximum dropped", "assertion", "index", without("must be at most")),
    Fault("all assertions dropped", "assertion", "pair", without("must be", "needs")),
    Fault("an assertion that always holds", "assertion", "index",
          swap(r"shape_assertion\(%\w+, (%\w+)\) (\{error_message = \"n must be at most)",
               r"shape_assertion(%yes, \1) \2")),
)  # fmt: skip


def _always(text: str) -> str:
    return text.replace("    mhlo.custom_call @shape_assertion(%yes",
                        "    %yes = mhlo.constant dense<true> : tensor<i1>\n    mhlo.custom_call @shape_assertion(%yes", 1)


ASSERTIONS = (*ASSERTIONS[:-1], replace(ASSERTIONS[-1], edit=both(ASSERTIONS[-1].edit, _always)))  # type: ignore[arg-type]


def _remainder(left: Any, right: Any) -> Tensor:
    return torch.ops.prims.fmod(*division.to_pair(left, right, torch.result_type(left, right)))


def _layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float = 1e-5, enable: bool = True) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * (centred.square().mean(-1, keepdim=True) + eps * 2).rsqrt() * weight + bias


def _variance(tensor: Tensor, dim: Any, correction: Any, keepdim: bool,
              exact: Any = reductions._variance_and_mean) -> tuple[Tensor, Tensor]:
    return exact(tensor, dim, 0, keepdim)  # type: ignore[no-any-return]


def _attention(scores: Tensor) -> Tensor:
    return torch.softmax(torch.where(scores == -math.inf, -10.0, scores), -1)


def _pad(tensor: Tensor, pad: Sequence[Any], value: Any = 0) -> Tensor:
    swapped = [size for pair in zip(pad[1::2], pad[::2], strict=True) for size in pair]
    return padding.pad_constant(tensor, swapped, value)


def _pool(tensor: Tensor, size: Sequence[int]) -> Tensor:
    return tensor.sum((-1, -2), keepdim=True) / (tensor.shape[-1] * tensor.shape[-1])


def _index_add(tensor: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    return tensor.index_put([index], source * alpha)  # the last of equal indices wins


def _roll_two(tensor: Tensor, shifts: Sequence[Any], dims: Sequence[int] = (), exact: Any = indexing.roll) -> Tensor:
    return exact(tensor, [shift + 1 for shift in shifts], dims)  # type: ignore[no-any-return]


def _gradient(gradient: Tensor, x: Tensor, *rest: Any,
              exact: Any = decompositions.decomposition_table[aten.native_layer_norm_backward.default]) -> Any:
    found = exact(gradient, x, *rest)
    return found[0] + 1e-3, *found[1:]


RULES = (
    Fault("remainder with the sign of the dividend", "decomposition", "index", patch=row(aten.remainder.Scalar, _remainder)),
    Fault("roll by one too many", "decomposition", "index", patch=row(aten.roll.default, _roll_two)),
    Fault("layer norm with twice the epsilon", "decomposition", "attention", patch=row(aten.layer_norm.default, _layer_norm)),
    Fault("variance without correction", "decomposition", "pictures", patch=rule(reductions, "_variance_and_mean", _variance)),
    Fault("masked positions at -10", "decomposition", "causal", patch=rule(attention, "softmax_or_zeros", _attention)),
    Fault("gelu by tanh", "decomposition", "pictures", patch=row(aten.gelu.default, gelu_by_tanh)),
    Fault("padding on the other side", "decomposition", "pictures", patch=row(aten.constant_pad_nd.default, _pad)),
    Fault("a mean over width times width", "decomposition", "pictures", patch=row(aten.adaptive_avg_pool2d.default, _pool)),
    Fault("equal indices are not added", "decomposition", "index", patch=row(aten.index_add.default, _index_add)),
    Fault("the gradient of a norm off by 1e-3", "decomposition", "training", patch=row(aten.native_layer_norm_backward.default, _gradient)),
    Fault("a factor folded away", "fold", "branches", swap(r"mhlo.multiply (%iterArg_1), %\w+", r"mhlo.maximum \1, \1")),
    Fault("1 + x folded to x", "fold", "attention",
          swap(r"mhlo.subtract (%\d+), (%\d+) : tensor<\?x\?xf32>", r"mhlo.negate \2 : tensor<?x?xf32>")),
    Fault("x / 8 ** 0.5 folded to x", "fold", "attention", swap(r"mhlo.divide (%\d+), %\w+", r"mhlo.maximum \1, \1")),
    Fault("a constant off in its sixth digit", "import", "attention", swap(r"dense<2\.82842708>", "dense<2.82840>")),
    Fault("a constant of 1e6 off by 1e-4", "import", "sizes", swap(r"dense<1\.000000e\+06>", "dense<1.0001e+06>")),
    Fault("a transposed weight", "legalization", "attention",
          swap(r"(%arg\d, %arg\d|%\d+, %arg2)\) (<\{.*?rhs_contracting_dimensions = \[)1\]", r"\1) \g<2>0]")),
    Fault("the least taken off instead of the largest", "legalization", "causal",
          swap("applies mhlo.maximum across", "applies mhlo.minimum across")),
    Fault("a loop that runs a turn too often", "legalization", "branches",
          swap(r"mhlo.compare LT, (%\w+), (%\w+), SIGNED", r"mhlo.compare LE, \1, \2, SIGNED")),
    Fault("a slice read one element further", "legalization", "index", off(3, 0.01)),
)  # fmt: skip

_MASK = r"""    %pc = mhlo.constant dense<0> : tensor<i64>
    %pn = mhlo.reduce(%arg6 init: %pc) applies mhlo.add across dimensions = [1] : (tensor<?x?xi64>, tensor<i64>) -> tensor<?xi64>
    %pb = "mhlo.get_dimension_size"(%arg6) <{dimension = 0 : i64}> : (tensor<?x?xi64>) -> tensor<i32>
    %ps = "mhlo.get_dimension_size"(%arg6) <{dimension = 1 : i64}> : (tensor<?x?xi64>) -> tensor<i32>
    %pbr = mhlo.reshape %pb : (tensor<i32>) -> tensor<1xi32>
    %psr = mhlo.reshape %ps : (tensor<i32>) -> tensor<1xi32>
    %psh = "mhlo.concatenate"(%pbr, %psr) <{dimension = 0 : i64}> : (tensor<1xi32>, tensor<1xi32>) -> tensor<2xi32>
    %pi = "mhlo.dynamic_iota"(%psh) <{iota_dimension = 1 : i64}> : (tensor<2xi32>) -> tensor<?x?xi64>
    %pw = "mhlo.dynamic_broadcast_in_dim"(%pn, %psh) <{broadcast_dimensions = dense<0> : tensor<1xi64>}> :
      (tensor<?xi64>, tensor<2xi32>) -> tensor<?x?xi64>
    %pm = mhlo.compare LT, %pi, %pw, SIGNED : (tensor<?x?xi64>, tensor<?x?xi64>) -> tensor<?x?xi1>
"""
_PLACES = "".join(line + "\n" for line in _MASK.replace("%arg6", "%arg4").splitlines()[2:8])
_ZERO = "    %pz = mhlo.subtract %arg3, %arg3 : tensor<?x?xi64>\n"

VALUES = (
    Fault("the mask ignored", "never varies", "attention", swap(r"dense<-1\.000000e\+09>", "dense<0.000000e+00>")),
    Fault("the mask of -1e9 is -1", "never varies", "attention", swap(r"dense<-1\.000000e\+09>", "dense<-1.000000e+00>")),
    Fault("the bool mask ignored", "never varies", "fields",
          swap(r"mhlo\.select (%\w+), (%\w+), (%arg2 : tensor<\?x\?x8xi1>)", r"mhlo.select \1, %arg2, \3")),
    Fault("token types ignored", "never varies", "fields", swap(r'( +%\w+ = "mhlo\.gather"\(%arg0, )%arg3', _ZERO + r"\1%pz")),
    Fault("positions counted instead of read", "never varies", "fields",
          swap(r'( +%\w+ = "mhlo\.gather"\(%arg1, )%arg4', _PLACES + r"\1%pi")),
    Fault("left padding read as right padding", "never varies", "fields", swap(r"( +%\w+ = mhlo\.convert )%arg6 : \(tensor<\?x\?xi64>\)",
          _MASK + r"\1%pm : (tensor<?x?xi1>)")),
    Fault("NaN becomes 0", "values", "sizes", clean(3, "nan")),
    Fault("infinity becomes the largest float", "values", "sizes", clean(3, "inf")),
    Fault("0 becomes 1", "values", "sizes", clean(3, "zero")),
)


def _serialize(module: Any, *rest: Any, exact: Callable[..., Any] = portable.serialize) -> Any:
    text = mlir.text(module, elide=None).replace("2.82842708", "2.80")
    return exact(mlir.parse(text.replace("mhlo.subtract %arg0", "mhlo.add %arg0").replace("mhlo.multiply %arg0", "mhlo.add %arg0"),
                            mlir.create_hlo_context()), *rest)


def _write(held: Mapping[str, Tensor], store: Path, exact: Callable[..., str] = weights.write) -> str:
    key = exact(held, store)
    path = weights.locate(store, key)
    tensors = load_file(path)
    name = max(tensors, key=lambda name: tensors[name].numel())
    path.unlink()
    save_file({**tensors, name: tensors[name] * 1.1}, path, metadata={"aliases": "{}"})
    return key


def _register(module: Any, path: list[str], kind: str, tensor: Tensor, exact: Callable[..., None] = deployable._register) -> None:
    exact(module, path, kind, tensor * 1.01 if tensor.is_floating_point() else tensor)


def _forward(program: Any, exact: Callable[[Any], str] = deployable._forward_source) -> str:
    return exact(program).replace("lowered(x, y", "lowered(y, x")


def _signature(value: Any, exact: Callable[[Any], Any] = packaging.to_plain) -> Any:
    plain = exact(value)
    if isinstance(plain, dict) and "results" in plain:
        plain["results"] = plain["results"][::-1]
    return plain


def _build(program: Any, exact: Callable[[Any], Any] = deployable.build_module) -> Any:
    module = exact(program)
    parameter = next(module.parameters())
    changed = parameter.detach().clone()
    changed.view(-1)[0] += 1
    parameter.data = changed  # the original shares its memory with the model
    return module


DELIVERED = (
    Fault("a constant of program.stablehlo", "delivered", "attention", patch=rule(portable, "serialize", _serialize)),
    Fault("an op of program.stablehlo", "delivered", "branches", patch=rule(portable, "serialize", _serialize)),
    Fault("the stored weights", "delivered", "index", patch=rule(weights, "write", _write)),
    Fault("the results' order in signature.json", "delivered", "index", patch=rule(packaging, "to_plain", _signature)),
    Fault("all weights of the .pt", "delivered", "causal", patch=rule(deployable, "_register", _register)),
    Fault("one number in the .pt", "delivered", "attention", patch=rule(deployable, "build_module", _build)),
    Fault("the arguments' order in the .pt", "delivered", "pair", patch=rule(deployable, "_forward_source", _forward)),
)

FAULTS = (*BESIDE_LARGE, *CORNERS, *DTYPES, *BRANCHES, *ASSERTIONS, *RULES, *VALUES, *DELIVERED, *CONTRACTS, *OPS, *PROGRAMS, *ENTRIES)
