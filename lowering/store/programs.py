"""Serialization of programs without their weights, so that a stage can continue from a stored program in another process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowering.level import Level, Program
from lowering.signature import Signature
from lowering.store import guard

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

TEXT = b"text\n"  # prefix of an IR that is plain text


def dump(program: Program, written: Sequence[Path] = ()) -> bytes | None:
    """Serialize the IR of `program`. Equal IRs give equal bytes in every process. Return None for IR that cannot be deserialized.

    written: the files of the stage that made it; a graph in a `.pt2` among them is not serialized again.
    """
    if isinstance(program.ir, str):
        return TEXT + program.ir.encode("utf-8", "surrogatepass")
    if program.level is Level.EXPORTED:
        return _dump_exported(program.ir, next((path for path in written if path.suffix == Level.EXPORTED.suffix), None))
    if program.level is Level.TORCHSCRIPT:
        return _dump_graph(program.ir)
    if program.level is Level.MODEL:
        return None
    code = io.BytesIO()
    program.ir.operation.write_bytecode(code)
    return code.getvalue()


def load(level: Level, data: bytes, weights: Mapping[str, torch.Tensor]) -> Any:
    """Deserialize the output of `dump`. Raises any error of the level's reader if the bytes are not such a program.

    Nothing in the bytes is executed: raises guard.Unsafe if the reader would.
    """
    if data.startswith(TEXT):
        return data.removeprefix(TEXT).decode("utf-8", "surrogatepass")
    if level is Level.EXPORTED:
        return _load_exported(data, weights)
    if level is Level.TORCHSCRIPT:
        return _load_graph(json.loads(data))
    return _load_module(data, level)


class Stored(Program):
    """A program whose IR and weights are read on first access."""

    _read_ir: Callable[[], Any]
    _read_weights: Callable[[], Mapping[str, torch.Tensor]]

    def __init__(self, level: Level, signature: Signature | None, above: Program | None, read_ir: Callable[[], Any],
                 read_weights: Callable[[], Mapping[str, torch.Tensor]]):
        self.__dict__.update(level=level, signature=signature, above=above, _read_ir=read_ir, _read_weights=read_weights)  # it is frozen

    @cached_property
    def ir(self) -> Any:
        return self._read_ir()

    @cached_property
    def weights(self) -> Mapping[str, torch.Tensor]:  # type: ignore[override]
        return self._read_weights()

    def replace_ir(self, level: Level, ir: Any, **changes: Any) -> Program:
        return Program(level, ir, **{"signature": self.signature, "weights": self.weights, "above": self, **changes})


def _dump_exported(program: ExportedProgram, written: Path | None) -> bytes | None:
    """Serialize with torch.export's own format, without the bytes of tensors."""
    from lowering.fx import archive, serialization

    try:
        graph = (archive.read_graph(written) if written
                 else serialization.serialize_program(program, serialize_example_inputs=False).exported_program)
    except Exception:  # noqa: BLE001 - torch raises many kinds for programs that it cannot serialize
        return None
    try:
        guard.check_graph(graph)
    except guard.Unsafe:  # it could not be read back
        return None
    import torch

    parameters = [name for name, tensor in program.state_dict.items() if isinstance(tensor, torch.nn.Parameter)]
    buffers = [name for name in program.state_dict if name not in parameters]
    head = json.dumps({"parameters": parameters, "buffers": buffers, "constants": list(program.constants)}).encode()
    return head + b"\n" + graph


def _load_exported(data: bytes, weights: Mapping[str, torch.Tensor]) -> ExportedProgram:
    import torch

    from lowering.eager import caches
    from lowering.fx import serialization

    head, _, saved = data.partition(b"\n")
    guard.check_graph(saved)
    names = json.loads(head)
    caches.register_all(saved.decode("utf-8", "surrogatepass"))
    held = {part: {name: weights[name] for name in names[part] if name in weights} for part in names}
    state = {name: torch.nn.Parameter(tensor, requires_grad=False) for name, tensor in held["parameters"].items()} | held["buffers"]
    return serialization.deserialize_program(saved, state, held["constants"])


def _load_module(data: bytes, level: Level) -> Any:
    from lowering.ir import mlir

    if level is Level.MHLO:
        from jaxlib.mlir import ir

        context = mlir.create_hlo_context()
    else:
        from torch_mlir import ir

        context = mlir.create_torch_context()
    with context:
        return ir.Module.parse(data)


def _dump_graph(graph: torch._C.Graph) -> bytes | None:
    """Return the graph's text, and the parts that its parser drops: the names of values and the source ranges."""
    from lowering.ir import source_lines
    from lowering.torchscript.nodes import blocks, nodes, outputs

    found = []
    for node in nodes(graph):
        line = source_lines.find_script_line(node)
        found.append({"names": [value.debugName() for value in outputs(node)],
                      "line": line and [line.file, line.line, line.code, line.module],
                      "blocks": [[value.debugName() for value in block.inputs()] for block in blocks(node)]})
    data = {"text": str(graph), "inputs": [value.debugName() for value in graph.inputs()], "nodes": found}
    try:
        held = str(_load_graph(data)) == data["text"]
    except (RuntimeError, guard.Unsafe):  # `nan`, complex numbers and inline tensors have no text that can be parsed
        held = False
    return json.dumps(data).encode() if held else None


def _load_graph(data: Mapping[str, Any]) -> torch._C.Graph:
    from lowering.ir import source_lines
    from lowering.torchscript import text
    from lowering.torchscript.nodes import blocks, nodes, outputs

    graph = text.parse_unnamed(data["text"])
    guard.check_script(graph)
    _restore_names(graph.inputs(), data["inputs"])
    for node, saved in zip(nodes(graph), data["nodes"], strict=True):
        _restore_names(outputs(node), saved["names"])
        for block, names in zip(blocks(node), saved["blocks"], strict=True):
            _restore_names(block.inputs(), names)
        if saved["line"]:
            node.copyMetadata(source_lines.build_script_prototype(source_lines.SourceLine(*saved["line"])))
    return graph


def _restore_names(values: Any, names: list[str]) -> None:
    for value, name in zip(values, names, strict=True):
        if not name.isdigit():
            value.setDebugName(name)
