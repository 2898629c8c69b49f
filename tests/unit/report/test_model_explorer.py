"""Graphs for Model Explorer: nodes in layers by module, edges, and dims in the model's symbols."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.command import show
from flows.report.model_explorer import build_collection, find_argument_dims
from lowering import files
from lowering.errors import ConfigError, StageFailed
from lowering.ir import mlir
from lowering.record.folder import JOB
from lowering.sizes.ranges import Range
from lowering.symbols.schema import Place, Requested, SymbolRecord

PROGRAM = """module {
  func.func private @act(%arg0: tensor<?x4xf32>) -> tensor<?x4xf32> {
    %0 = stablehlo.tanh %arg0 : tensor<?x4xf32> loc("encoder.layers.1"("model.py":9:1))
    return %0 : tensor<?x4xf32>
  }
  func.func @main(%arg0: tensor<8x4xf32>, %arg1: tensor<?x?x8xf32>) -> (tensor<?x4xf32>, tensor<?x?xf32>) {
    %c = stablehlo.constant dense<8> : tensor<1xi32>
    %zero = stablehlo.constant dense<0.0> : tensor<f32>
    %b = stablehlo.get_dimension_size %arg1, dim = 0 : (tensor<?x?x8xf32>) -> tensor<i32>
    %s = stablehlo.get_dimension_size %arg1, dim = 1 : (tensor<?x?x8xf32>) -> tensor<i32>
    %bs = stablehlo.multiply %b, %s : tensor<i32>
    %bs1 = stablehlo.reshape %bs : (tensor<i32>) -> tensor<1xi32>
    %shape = stablehlo.concatenate %bs1, %c, dim = 0 : (tensor<1xi32>, tensor<1xi32>) -> tensor<2xi32>
    %flat = stablehlo.dynamic_reshape %arg1, %shape : (tensor<?x?x8xf32>, tensor<2xi32>) -> tensor<?x8xf32>
    %dot = stablehlo.dot_general %flat, %arg0, contracting_dims = [1] x [0] : (tensor<?x8xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
      loc("encoder.layers.0"("model.py":7:1))
    %act = call @act(%dot) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %t = stablehlo.transpose %arg1, dims = [1, 0, 2] : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %sum = stablehlo.reduce(%t init: %zero) applies stablehlo.add across dimensions = [2] :
      (tensor<?x?x8xf32>, tensor<f32>) -> tensor<?x?xf32>
    return %act, %sum : tensor<?x4xf32>, tensor<?x?xf32>
  }
}
"""


@pytest.fixture(scope="module")
def collection() -> dict[str, Any]:
    context = mlir.create_torch_context()
    text = mlir.print_annotated(mlir.parse(PROGRAM, context))
    return build_collection(text, context, "net stablehlo", ["weight", "x"], {1: {0: "batch", 1: "2*seq"}})


def find(graph: dict[str, Any], label: str) -> dict[str, Any]:
    return next(node for node in graph["nodes"] if node["label"] == label)


def shape(node: dict[str, Any]) -> str:
    return str(node["outputsMetadata"][0]["attrs"][0]["value"])


def test_dims_follow_from_the_arguments_and_are_unknown_elsewhere(collection: dict[str, Any]) -> None:
    main, act = collection["graphs"]
    assert [main["id"], act["id"]] == ["main", "act"]
    assert shape(find(main, "x")) == "f32[batch, 2*seq, 8]"
    assert shape(find(main, "stablehlo.dynamic_reshape")) == "f32[batch*2*seq, 8]"
    assert shape(find(main, "stablehlo.dot_general")) == "f32[batch*2*seq, 4]"
    assert shape(find(main, "stablehlo.transpose")) == "f32[2*seq, batch, 8]"
    assert shape(find(main, "stablehlo.reduce")) == "f32[2*seq, batch]"
    assert shape(find(main, "func.call")) == "f32[?, 4]"  # no rule: no name


def test_nodes_have_the_layers_of_their_modules_and_their_operands(collection: dict[str, Any]) -> None:
    main, act = collection["graphs"]
    dot = find(main, "stablehlo.dot_general")
    assert dot["namespace"] == "encoder/layers/0" and find(act, "stablehlo.tanh")["namespace"] == "encoder/layers/1"
    assert {"key": "code", "value": "model.py:7"} in dot["attrs"]
    sources = {edge["targetNodeInputId"]: edge["sourceNodeId"] for edge in dot["incomingEdges"]}
    assert sources == {"0": find(main, "stablehlo.dynamic_reshape")["id"], "1": find(main, "weight")["id"]}
    assert find(main, "func.call")["subgraphIds"] == ["act"]
    body = [node for node in main["nodes"] if node["namespace"].startswith("stablehlo.reduce ")]
    assert {node["label"] for node in body} == {"arg0", "arg1", "stablehlo.add", "stablehlo.return"}
    assert len({node["id"] for node in main["nodes"]}) == len(main["nodes"])


@pytest.mark.parametrize(("constant", "named"), [("[8, 4]", "f32[8, 4]"), ("8", "f32[8, 8]")])
def test_constants_are_shapes_too(constant: str, named: str) -> None:
    text = f"""func.func @main(%x: tensor<f32>) -> tensor<?x?xf32> {{
      %s = stablehlo.constant dense<{constant}> : tensor<2xi64>
      %y = stablehlo.dynamic_broadcast_in_dim %x, %s, dims = [] : (tensor<f32>, tensor<2xi64>) -> tensor<?x?xf32>
      return %y : tensor<?x?xf32>
    }}"""
    (graph,) = build_collection(text, mlir.create_torch_context(), "net")["graphs"]
    assert shape(find(graph, "stablehlo.dynamic_broadcast_in_dim")) == named


def test_argument_dims_are_those_of_the_record_at_the_level() -> None:
    places = (Place("stablehlo", "%arg3", "?"), Place("mhlo", "%arg4", "?"))
    dim = Requested("x[1]", "x", 1, "2*seq", Range(2, 8), 2, 6, "s0", "derived", "2*seq", levels=places)
    record = SymbolRecord("net", (dim,))
    assert find_argument_dims(record, "mhlo") == {4: {1: "2*seq"}} and find_argument_dims(record, "torch") == {}
    assert find_argument_dims(None, "mhlo") == {}


def test_text_that_does_not_parse_is_reported() -> None:
    with pytest.raises(StageFailed, match="net"):
        build_collection("func.func @main(", mlir.create_torch_context(), "net")


def test_show_prints_the_graph_of_a_level_in_mlir_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write(tmp_path / JOB, {})
    (tmp_path / "01-export.py").write_text("def forward(): ...")
    (tmp_path / "02-stablehlo.stablehlo.mlir").write_text(PROGRAM)
    assert show.main([str(tmp_path), "stablehlo", "--format", "model-explorer"]) == 0
    assert [graph["id"] for graph in json.loads(capsys.readouterr().out)["graphs"]] == ["main", "act"]
    with pytest.raises(ConfigError, match="is not MLIR"):
        show.main([str(tmp_path), "export", "--format", "model-explorer"])
