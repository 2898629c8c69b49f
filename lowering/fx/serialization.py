"""Serialize and deserialize exported programs as torch does, without the work that torch repeats for each node or drops."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch._export.serde import schema, serialize
from torch._export.serde.union import _Union, _UnionTag
from torch.export import ExportedProgram

from lowering.fx.tracing import fake_results, tracing_costs

_SHARED = (schema.TensorMeta, schema.SymInt)  # one object for equal tensors and sizes


def serialize_program(program: ExportedProgram, **options: bool) -> Any:
    """Return torch's SerializedArtifact of `program`, without its tensors.

    Garbage collection is off meanwhile: it took half of the time and found nothing to collect. So is torch's canonical form of the graph,
    which it computes only to see that there is one, and the text of the graph, which it writes for a log.
    """
    with ExitStack() as stack:
        stack.enter_context(_pause_garbage_collection())
        for name, replacement in _build_replacements().items():
            stack.enter_context(_replace(serialize, name, replacement))
        stack.enter_context(_replace(program.graph_module, "print_readable", lambda **_: ""))
        stack.enter_context(_replace(serialize.GraphModuleSerializer, "_serialize_from_node", _number_graphs()))
        return serialize.serialize(program, serialize_state_dict=False, serialize_constants=False, **options)


def _build_replacements() -> dict[str, Callable[..., Any]]:
    """Return functions of torch's serializer that cache their results for equal tensors and sizes."""
    describe, spell = serialize.serialize_tensor_meta, serialize._print_sympy
    described: dict[int, tuple[torch.Tensor, schema.TensorMeta]] = {}
    spelled: dict[Any, str] = {}

    def describe_once(tensor: torch.Tensor) -> schema.TensorMeta:
        if id(tensor) not in described:
            described[id(tensor)] = tensor, describe(tensor)
        return described[id(tensor)][1]

    def spell_once(size: Any) -> str:
        expr = size.node.expr if isinstance(size, torch.SymInt | torch.SymBool | torch.SymFloat) else size
        if expr not in spelled:
            spelled[expr] = spell(expr)
        return spelled[expr]

    return {"canonicalize": lambda *_: None, "serialize_tensor_meta": describe_once, "_print_sympy": spell_once, "_to_json_bytes": encode}


def _number_graphs() -> Callable[..., Any]:
    """Return torch's writer of the origins of nodes, with graphs numbered as they occur instead of named by their address in memory."""
    write = serialize.GraphModuleSerializer._serialize_from_node
    numbers: dict[int, int] = {}

    def number(origins: Any) -> Any:
        return origins and [{**origin, "graph_id": numbers.setdefault(origin["graph_id"], len(numbers)),
                             "from_node": number(origin["from_node"])} for origin in origins]

    def write_numbered(self: Any, from_node: Any) -> Any:
        return number(write(self, from_node))

    return write_numbered


def encode(tree: Any) -> bytes:
    """Return a tree of torch's schema as JSON."""
    return json.dumps(_convert(tree, {}), cls=serialize.EnumEncoder, allow_nan=False).encode()


def _convert(tree: Any, known: dict[int, Any]) -> Any:
    """Return a tree of torch's schema as plain data. known: data of shared objects by their ids."""
    kind = type(tree)
    if kind in (str, int, bool, type(None)):
        return tree
    if kind in (list, tuple):
        return [_convert(element, known) for element in tree]
    if kind is dict:
        return {key: _convert(value, known) for key, value in tree.items()}
    if kind is float:
        return tree if math.isfinite(tree) else "NaN" if math.isnan(tree) else "Infinity" if tree > 0 else "-Infinity"
    if id(tree) in known:
        return known[id(tree)]
    names = _list_fields(kind)  # type: ignore[arg-type]
    if names is None:
        return tree
    if isinstance(tree, _Union):
        name = str(object.__getattribute__(tree, "_type"))
        data = {name: _convert(object.__getattribute__(tree, name), known)}
    else:
        data = {name: _convert(getattr(tree, name), known) for name in names}
    if kind in _SHARED:
        known[id(tree)] = data
    return data


@cache
def _list_fields(kind: Any) -> tuple[str, ...] | None:
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def deserialize_program(saved: bytes, state: dict[str, torch.Tensor], constants: dict[str, Any]) -> ExportedProgram:
    """Deserialize a program from the bytes of its graph and its tensors. Raises torch's errors. The bytes must have been checked.

    Results of ops with equal types are one fake tensor, which takes half of the time to make. Each argument has its own: a trace would
    take two arguments that are one tensor for the same.
    """
    reader = serialize.GraphModuleDeserializer
    parse, make = reader._parse_sym_expr, reader.deserialize_tensor_meta
    parsed: dict[tuple[Any, ...], Any] = {}
    made: dict[tuple[int, int], torch.Tensor] = {}

    def parse_once(self: Any, expr: Any, hint: Any = None) -> Any:
        if not isinstance(expr, str):
            return parse(self, expr, hint)
        key = id(self), expr, hint
        if key not in parsed:
            parsed[key] = parse(self, expr, hint)
        return parsed[key]

    def make_once(self: Any, described: Any) -> torch.Tensor:
        key = id(self.fake_tensor_mode), id(described)
        if key not in made:
            made[key] = make(self, described)
        return made[key]

    replaced = _replace(reader, "_parse_sym_expr", parse_once), _replace(reader, "deserialize_tensor_meta", make_once)
    with _pause_garbage_collection(), fake_results.skip_cache(), tracing_costs.defer_code(), replaced[0], replaced[1]:
        tree = decode(schema.ExportedProgram, saved)
        program = serialize.ExportedProgramDeserializer().deserialize(tree, state, constants)
    _restore_lists(program)
    return program


def _restore_lists(program: ExportedProgram) -> None:
    """Make lists of the values of ops that return lists, as a trace does: torch makes tuples of them, which are several results."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            value = node.meta.get("val")
            if isinstance(value, tuple) and isinstance(node.target, torch._ops.OpOverload) and len(node.target._schema.returns) == 1:
                node.meta["val"] = list(value)


def decode(kind: Any, saved: bytes) -> Any:
    """Return the tree of torch's schema that JSON describes."""
    return _build_reader(kind)(json.loads(saved))


@cache
def _build_reader(kind: Any) -> Callable[[Any], Any]:
    """Build the function that reads plain data as a type of torch's schema, which torch looks up again for each value."""
    kind = serialize._resolve_schema_cls(kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _build_reader(kind.__origin__)
    if origin in (typing.Union, types.UnionType):
        (some,) = (one for one in inner if one is not type(None))
        read_some = _build_reader(some)
        return lambda data: None if data is None else read_some(data)
    if origin is list:
        read_element = _build_reader(inner[0])
        return lambda data: list(map(read_element, data))
    if origin is dict:
        read_value = _build_reader(inner[1])
        return lambda data: {key: read_value(value) for key, value in data.items()}
    if dataclasses.is_dataclass(kind):
        return _read_graph if kind is schema.Graph else partial(_read_object, kind)
    return float if kind is float else _keep


def _keep(data: Any) -> Any:
    return data


def _read_object(kind: Any, data: dict[str, Any]) -> Any:
    readers = _build_field_readers(kind)
    read = {name: readers[name](value) for name, value in data.items() if name in readers}  # as torch, ignore fields of later schemas
    return _make_union(kind, read) if issubclass(kind, _Union) else kind(**read)


def _read_graph(data: dict[str, Any]) -> Any:
    """Read a graph in which equal types of tensors are one object. Each argument has an object of its own."""
    arguments = {argument["as_tensor"]["name"] for argument in data["inputs"] if "as_tensor" in argument}
    known: dict[str, Any] = {}

    def read(name: str, described: dict[str, Any]) -> Any:
        key = name if name in arguments else json.dumps(described)
        if key not in known:
            known[key] = _read_object(schema.TensorMeta, described)
        return known[key]

    graph = _read_object(schema.Graph, {**data, "tensor_values": {}})
    graph.tensor_values.update((name, read(name, described)) for name, described in data["tensor_values"].items())
    return graph


def _make_union(kind: Any, read: dict[str, Any]) -> Any:
    """Return a faster equivalent of `kind.create`, which does not inspect all fields of the class for each object."""
    if len(read) != 1 or not read.keys() <= _list_blank(kind).keys():
        return kind.create(**read)
    made = object.__new__(kind)
    made.__dict__.update(_list_blank(kind), **read, _type=_make_tag(next(iter(read)), kind))
    return made


@cache
def _list_blank(kind: Any) -> dict[str, None]:
    return {field.name: None for field in dataclasses.fields(kind)}


@cache
def _make_tag(name: str, kind: Any) -> Any:
    return _UnionTag.create(name, kind)


@cache
def _build_field_readers(kind: Any) -> dict[str, Callable[[Any], Any]]:
    """Build the reader of each field, once an object is read: types of the schema contain themselves."""
    hints = typing.get_type_hints(kind, globalns=vars(schema), include_extras=True)
    return {field.name: _build_reader(hints[field.name]) for field in dataclasses.fields(kind)}


@contextmanager
def _replace(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute inside the block."""
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """Disable garbage collection inside the block."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
