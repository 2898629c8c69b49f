"""MLIR of a job's level in the JSON format of Model Explorer (PyPI: ai-edge-model-explorer): one graph per function."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.report.dims import DimNames
from lowering.ir import mlir
from lowering.ir.annotations import read_lines, read_modules, read_values
from lowering.symbols.schema import SymbolRecord

_LINE = re.compile(r'"-":(\d+):')
_SHORT = 200  # characters of an attribute's text that are kept

Json = dict[str, Any]


def find_argument_dims(record: SymbolRecord | None, level: str) -> dict[int, dict[int, str]]:
    """Return the dynamic dims of the arguments at a level by their positions, in the symbols of the model."""
    found: dict[int, dict[int, str]] = {}
    for dim in record.requested if record is not None else ():
        for place in dim.levels:
            number = re.fullmatch(r"%arg(\d+)", place.value)
            if place.level == level and number and dim.dim >= 0 and not place.static:
                found.setdefault(int(number[1]), {})[dim.dim] = dim.expr or dim.asked
    return found


def build_collection(text: str, context: Any, label: str, names: Sequence[str] = (),
                     dims: Mapping[int, Mapping[int, str]] | None = None) -> Json:
    """Return a GraphCollection of the functions of an MLIR module, the entry first.

    text: of a file that a stage saved. context: of the build that reads it. names: of the entry's arguments. dims: see
    `find_argument_dims`. Raises StageFailed if the text does not parse.
    """
    with mlir.collect_diagnostics(context, label):
        module = mlir.parse(text, context)
    entry = mlir.find_entry(module)
    is_entry = [entry is not None and function.attributes["sym_name"] == entry.attributes["sym_name"]
                for function in mlir.walk_functions(module)]
    graphs = []
    for function, is_first in sorted(zip(mlir.walk_functions(module), is_entry, strict=True), key=lambda pair: not pair[1]):
        graphs.append(_Graph(text).build(function, names if is_first else (), (dims or {}) if is_first else {}))
    return {"label": label, "graphs": graphs}


@dataclass
class _Graph:
    """One function. sources: by value, the node and output that computes it."""

    text: str
    nodes: list[Json] = field(default_factory=list)
    sources: dict[Any, tuple[str, str]] = field(default_factory=dict)
    dims: DimNames = field(default_factory=DimNames)

    def __post_init__(self) -> None:
        self.lines, self.values, self.modules = read_lines(self.text), read_values(self.text), read_modules(self.text)

    def build(self, function: Any, names: Sequence[str], dims: Mapping[int, Mapping[int, str]]) -> Json:
        block = function.regions[0].blocks[0]
        for position, argument in enumerate(block.arguments):
            self.dims.name(argument, dims.get(position, {}))
            label = names[position] if position < len(names) else f"arg{position}"
            self._add(f"arg{position}", label, "arguments", [], [argument], {})
        for operation in block.operations:
            self._add_operation(operation.operation, "")
        return {"id": function.attributes["sym_name"].value, "nodes": self.nodes}

    def _add_operation(self, operation: Any, inside: str) -> None:
        """Add an op and those of its regions, which lie in a namespace of their own."""
        dialect, _, name = operation.name.partition(".")
        line = _LINE.search(str(operation.location))
        number = int(line[1]) if line else 0
        path = self.modules.get(number, "").replace(".", "/")
        namespace = inside or path
        identifier = str(len(self.nodes))
        keys = [key if isinstance(key, str) else key.name for key in operation.attributes]  # the two builds differ
        attributes = {key: str(operation.attributes[key]) for key in keys}
        if number in self.lines:
            attributes["code"] = "{}:{}".format(*self.lines[number])
        if number in self.values:
            attributes["exported value"] = self.values[number]
        results, operands = list(operation.results), list(operation.operands)
        if dialect in ("stablehlo", "mhlo", "chlo"):
            self.dims.infer(name, operands, results, attributes)
        is_end = operation.name == "func.return" and not inside
        self._add(identifier, "results" if is_end else operation.name, namespace, operands, results, attributes)
        for region in operation.regions:
            for block in region.blocks:
                within = "/".join(filter(None, (namespace, f"{operation.name} {identifier}")))
                for position, argument in enumerate(block.arguments):
                    self._add(f"{identifier}.arg{len(self.nodes)}", f"arg{position}", within, [], [argument], {})
                for inner in block.operations:
                    self._add_operation(inner.operation, within)

    def _add(self, identifier: str, label: str, namespace: str, operands: Sequence[Any], results: Sequence[Any],
             attributes: Mapping[str, str]) -> None:
        edges = []
        for position, operand in enumerate(operands):
            if operand in self.sources:
                node, output = self.sources[operand]
                edges.append({"sourceNodeId": node, "sourceNodeOutputId": output, "targetNodeInputId": str(position)})
        outputs = []
        for position, result in enumerate(results):
            self.sources[result] = (identifier, str(position))
            outputs.append({"id": str(position), "attrs": list(_list_pairs({"tensor_shape": self._describe(result)}))})
        shortened = {key: value if len(value) <= _SHORT else f"{value[:_SHORT]}…" for key, value in attributes.items()}
        self.nodes.append({"id": identifier, "label": label, "namespace": namespace, "attrs": list(_list_pairs(shortened)),
                           "incomingEdges": edges, "outputsMetadata": outputs,
                           "subgraphIds": [attributes["callee"].removeprefix("@")] if label == "func.call" else []})

    def _describe(self, value: Any) -> str:
        """Return the element type and dims of a value: `f32[batch, 16]`."""
        text = str(value.type)
        match = re.match(r"tensor<(?:(?:\?|\d+)x)*([^,>]+(?:<[^>]*>)?)", text) or re.match(r"!torch\.vtensor<\[[^\]]*\],([^>]+)>", text)
        return f"{match[1]}[{', '.join(self.dims.find(value))}]" if match else text


def _list_pairs(values: Mapping[str, str]) -> Iterator[Json]:
    return ({"key": key, "value": value} for key, value in values.items())
