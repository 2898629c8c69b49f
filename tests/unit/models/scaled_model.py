"""A model small enough to write its lower levels by hand: logits = relu(x @ weight), count = 2 * ids; and it at every level."""

from __future__ import annotations

from typing import Any

import torch

from lowering.eager import inputs
from lowering.eager.module import instantiate
from lowering.fx import exported
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol

SCRIPT = """graph(%weight : Float(16, 8), %x : Float(*, 16), %ids : Long(*)):
  %two : int = prim::Constant[value={factor}]()
  %product : Float(*, 8) = aten::matmul(%x, %weight)
  %logits : Float(*, 8) = aten::relu(%product)
  %count : Long(*) = aten::mul(%ids, %two)
  %both : (Float(*, 8), Long(*)) = prim::TupleConstruct(%logits, %count)
  return (%both)
"""

TORCH = """module {
  func.func @main(%weight: !torch.vtensor<[16,8],f32>, %x: !torch.vtensor<[?,16],f32>, %ids: !torch.vtensor<[?],si64>)
      -> (!torch.vtensor<[?,8],f32>, !torch.vtensor<[?],si64>) {
    %two = torch.constant.int 2
    %product = torch.aten.mm %x, %weight : !torch.vtensor<[?,16],f32>, !torch.vtensor<[16,8],f32> -> !torch.vtensor<[?,8],f32>
    %logits = torch.aten.relu %product : !torch.vtensor<[?,8],f32> -> !torch.vtensor<[?,8],f32>
    %count = torch.aten.mul.Scalar %ids, %two : !torch.vtensor<[?],si64>, !torch.int -> !torch.vtensor<[?],si64>
    return %logits, %count : !torch.vtensor<[?,8],f32>, !torch.vtensor<[?],si64>
  }
}
"""

ASSERTION = """
    %size_{way} = "{dialect}.get_dimension_size"(%x) <{{dimension = 0 : i64}}> : (tensor<?x16xf32>) -> tensor<i32>
    %bound_{way} = "{dialect}.constant"() <{{value = dense<{bound}> : tensor<i32>}}> : () -> tensor<i32>
    %inside_{way} = "{dialect}.compare"(%size_{way}, %bound_{way}) <{{comparison_direction = #{dialect}<comparison_direction {way}>}}>
      : (tensor<i32>, tensor<i32>) -> tensor<i1>
    "{dialect}.custom_call"(%inside_{way}) <{{call_target_name = "shape_assertion", has_side_effect = true}}>
      {{error_message = "{message}"}} : (tensor<i1>) -> ()
"""

EQUALITY = """
    %size_x = "{dialect}.get_dimension_size"(%x) <{{dimension = 0 : i64}}> : (tensor<?x16xf32>) -> tensor<i32>
    %size_ids = "{dialect}.get_dimension_size"(%ids) <{{dimension = 0 : i64}}> : (tensor<?xi64>) -> tensor<i32>
    %is_equal = "{dialect}.compare"(%size_x, %size_ids) <{{comparison_direction = #{dialect}<comparison_direction EQ>}}>
      : (tensor<i32>, tensor<i32>) -> tensor<i1>
    "{dialect}.custom_call"(%is_equal) <{{call_target_name = "shape_assertion", has_side_effect = true}}>
      {{error_message = "dim 0 of ids must be batch"}} : (tensor<i1>) -> ()
"""

HLO = """module {{
  func.func @main(%weight: tensor<16x8xf32>, %x: tensor<?x16xf32>, %ids: tensor<?xi64>) -> (tensor<?x8xf32>, tensor<?xi64>) {{{assertion}
    %product = "{dialect}.dot"(%x, %weight) : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %same = "{dialect}.compare"(%product, %product) <{{comparison_direction = #{dialect}<comparison_direction EQ>}}>
      : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xi1>
    %never = "{dialect}.xor"(%same, %same) : (tensor<?x8xi1>, tensor<?x8xi1>) -> tensor<?x8xi1>
    %none = "{dialect}.convert"(%never) : (tensor<?x8xi1>) -> tensor<?x8xf32>
    %logits = "{dialect}.{relu}"(%product, %none) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    %count = "{dialect}.{double}"(%ids, %ids) : (tensor<?xi64>, tensor<?xi64>) -> tensor<?xi64>
    return %logits, %count : tensor<?x8xf32>, tensor<?xi64>
  }}
}}
"""

MODEL = Model(
    "scaled", {"_target_": "tests.unit.models.scaled_model.Scaled"},
    {"x": Input("float32", ("batch", 16)), "ids": Input("int64", ("batch",), {"randint": [0, 100]})},
    {"batch": Symbol(1, 64)},
)  # fmt: skip


class Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(16, 8))

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": torch.relu(x @ self.weight), "count": 2 * ids}


def hlo(dialect: str, relu: str = "maximum", double: str = "add", bounds: tuple[str, ...] = ("LE", "GE", "EQ")) -> str:
    """The model as StableHLO or MHLO text, with assertions of the bounds of batch, and that it is the size of both inputs."""
    said = {"LE": (64, "batch must be at most 64"), "GE": (1, "batch must be at least 1")}
    lines = "".join(EQUALITY.format(dialect=dialect) if way == "EQ"
                    else ASSERTION.format(dialect=dialect, way=way, bound=said[way][0], message=said[way][1]) for way in bounds)
    return HLO.format(dialect=dialect, relu=relu, double=double, assertion=lines)


def program(
    model: Model = MODEL, *, factor: int = 2, torch_text: str = TORCH, stablehlo: str | None = None, mhlo: str | None = None
) -> Program:
    """The model at every level down to MHLO; `factor` and the texts replace what a correct lowering gives."""
    from torch.export import Dim, export

    module = instantiate(model)
    batch = Dim("batch", min=1, max=64)
    captured = export(module, (), inputs.make(model, model.examples()), dynamic_shapes={"x": {0: batch}, "ids": {0: batch}})
    top = Program(Level.MODEL, Built(model, module))
    top = top.replace_ir(Level.EXPORTED, captured, signature=exported.read_signature(exported.Exported(captured), model),
                         weights=exported.collect_weights(captured))
    context: Any = mlir.create_hlo_context()
    script = torch._C.parse_ir(SCRIPT.format(factor=factor))
    return (
        top.replace_ir(Level.TORCHSCRIPT, script)
        .replace_ir(Level.TORCH, torch_text)
        .replace_ir(Level.STABLEHLO, mlir.parse(stablehlo or hlo("stablehlo", bounds=()), context))
        .replace_ir(Level.MHLO, mlir.parse(mhlo or hlo("mhlo"), context))
    )
