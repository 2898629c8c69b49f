"""JSON Schemas of the configuration files, from the types that `validate` checks them against. Editors complete and check with them."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from flows.config import declarations, expectations
from flows.config.compose import PIPELINE, Folders, compose_tree
from flows.config.document import Cluster, Document, ModelConfig
from flows.config.suite import Suite
from lowering.fitting import MANDATORY, is_abstract, is_required
from lowering.model import Model
from lowering.plain import resolve_type_hints
from lowering.recipe import TARGET
from lowering.trees import REPEAT, TUPLE, Input, Tree
from lowering.types import DTYPES, NUMBERS

Schema = dict[str, Any]
FOLDER = "schema"  # in configs/
KINDS = ("model", "suite", "cluster", "stages", "pipeline", "expect")
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: Mapping[Any, Schema] = {
    int: {"type": "integer"}, float: {"type": "number"}, str: {"type": "string"}, bool: {"type": "boolean"}, type(None): {"type": "null"},
}  # fmt: skip
_LATER: Schema = {"type": "string", "pattern": rf"^\$\{{|^{re.escape(MANDATORY)}$"}  # an interpolation, or a value to be given elsewhere


def make_schemas() -> dict[str, Schema]:
    """Return the schema of each of KINDS."""
    stages = _make_stages()
    each = {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in stages.items()}
    options = {"type": "object", "description": "Options by stage, or null to drop one.", "properties": each,
               "additionalProperties": {"type": ["object", "null"]}}  # fmt: skip
    model = _make_record(ModelConfig)
    model["properties"]["stages"] = options
    pipeline = _make_record(Document)
    pipeline["properties"] |= {"stages": options, "hydra": {"type": "object", "description": "Hydra's own keys, such as searchpath."}}
    found = {
        "model": _allow_defaults(model),
        "suite": _allow_defaults(_make_record(Suite)),
        "cluster": _allow_defaults(_make_record(Cluster)),
        "stages": _allow_defaults(options) | {"type": ["object", "null"]},  # a file of no options is empty
        "pipeline": _allow_defaults(pipeline),
        "expect": _make_record(expectations.Expectations),
    }
    shared = {"$defs": {"tree": _make_tree()}}
    return {name: {"$schema": DRAFT, "title": f"Shapeline: {name}", **schema, **shared} for name, schema in found.items()}


def name_schema(file_in_configs: str) -> str:
    """Return the first line of a file of configs, with which editors find its schema."""
    *folders, _ = file_in_configs.split("/")
    kind = folders[0] if folders else PIPELINE.stem
    return f"# yaml-language-server: $schema={'../' * len(folders)}{FOLDER}/{kind}.json"


def _make_stages() -> dict[str, Schema]:
    """Return the options of each stage of the shipped pipeline. Another class, given as `_target_`, has options of its own."""
    tree, _ = compose_tree([], Folders())
    found: dict[str, Schema] = {}
    for name, spec in tree["stages"].items():
        target = (spec or {}).get(TARGET)
        if target is None:
            found[name] = {"type": "object"}
            continue
        options = declarations.load_stage(target).options
        own = {option: _make(kind) | ({"minimum": options.least[option]} if option in options.least else {})
               for option, kind in options.types.items()}
        found[name] = {"type": "object", "if": {"properties": {TARGET: {"const": target}}},
                       "then": {"properties": {TARGET: {"type": "string"}, **own}, "additionalProperties": False}}  # fmt: skip
    return found


def _allow_defaults(record: Schema) -> Schema:
    """Return the schema of a file that may derive from others, and then need not give what they give."""
    required = record.pop("required", [])
    files = {"type": "array", "description": "The files that this one derives from, in Hydra's form: [bert, _self_]."}
    record["properties"] = {"defaults": files, **record["properties"]}
    return record | ({"anyOf": [{"required": ["defaults"]}, {"required": required}]} if required else {})


def _make(kind: Any) -> Schema:
    """Return the schema of a type: what `fitting.find_misfits` accepts."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if kind is Tree:
        return {"$ref": "#/$defs/tree"}
    if dataclasses.is_dataclass(kind):
        return _allow_later(_make_record(kind))
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_make(argument) for argument in arguments]}
    if origin is Literal:
        return _allow_later({"enum": list(arguments)})
    if is_abstract(origin or kind, Sequence):
        return _allow_later({"type": "array", "items": _make(arguments[0]) if arguments else {}})
    if is_abstract(origin or kind, Mapping):
        return _allow_later({"type": "object", "additionalProperties": _make(arguments[1]) if arguments else {}})
    return _allow_later(_SCALARS[kind]) if kind in _SCALARS else {}


def make_record_schema(kind: Any) -> Schema:
    """Return the schema of a record of the type `kind`: without what only configurations have, and open to keys of later versions."""
    return _open(_make_record(kind))  # type: ignore[no-any-return]


def _open(schema: Any) -> Any:
    """Return a schema without interpolations, and with objects that may have further keys."""
    if isinstance(schema, list):
        return [_open(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if _LATER in schema.get("anyOf", ()):
        (inner,) = [item for item in schema["anyOf"] if item != _LATER]
        return _open({**{key: value for key, value in schema.items() if key != "anyOf"}, **inner})
    return {key: _open(value) for key, value in schema.items() if (key, value) != ("additionalProperties", False)}


def _make_record(kind: Any) -> Schema:
    hints = resolve_type_hints(kind)
    text = (Model if kind is ModelConfig else kind).__doc__ or ""
    text = "" if text.startswith(f"{kind.__name__}(") else text  # the one that a dataclass without a docstring gets
    described = read_fields(text, [field.name for field in dataclasses.fields(kind)])
    properties, required = {}, []
    for field in dataclasses.fields(kind):
        properties[field.name] = _describe(_add_bounds(_make(hints[field.name]), field), described.get(field.name, ""))
        if is_required(field):
            required.append(field.name)
    head = {"description": " ".join(text.split("\n\n")[0].split())} if text else {}
    return head | {"type": "object", "properties": properties, "additionalProperties": False} | ({"required": required} if required else {})


def _add_bounds(schema: Schema, field: dataclasses.Field[Any]) -> Schema:
    """Return the schema of a field with its bounds, which JSON Schema applies to numbers only."""
    bounds = field.metadata.get("bounds")
    if bounds is None:
        return schema
    span = {"exclusiveMinimum" if bounds.strict else "minimum": bounds.least} | ({"maximum": bounds.most} if bounds.most < math.inf else {})
    return {"allOf": [schema, {"items": span} if str(field.type).startswith("tuple") else span]}


def _describe(schema: Schema, text: str) -> Schema:
    return {"description": text, **schema} if text else schema


def read_fields(docstring: str, names: Sequence[str]) -> dict[str, str]:
    """Return what a docstring says of each of the fields `names`: the text after `name: ` or `name, other: `, up to the next field."""
    known = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    starts = list(re.finditer(rf"(?:(?<=^)|(?<=\n)|(?<=[.;)] )) *((?:{known})(?:(?:, | and )(?:{known}))*): ", docstring)) if names else []
    found: dict[str, str] = {}
    for match, after in zip(starts, [*starts[1:], None], strict=False):
        text = docstring[match.end() : after.start() if after else len(docstring)].split("\n\n", 1)[0]
        found |= dict.fromkeys(re.split(", | and ", match[1]), " ".join(text.split()).rstrip(";"))
    return found


def _allow_later(schema: Schema) -> Schema:
    return {"anyOf": [schema, _LATER]}


def _make_tree() -> Schema:
    """Return the schema of a tree: a leaf if it has a dtype, else a structure or a constant."""
    leaf = _make_record(Input)
    known = {"anyOf": [{"enum": [*DTYPES, *NUMBERS]}, _LATER]}
    leaf["properties"]["dtype"] = {"description": "A torch dtype, or the kind of a Python number.", **known}
    again = {"$ref": "#/$defs/tree"}
    node = {"type": "object", "minProperties": 1, "properties": {TARGET: {"type": "string"}, REPEAT: {}, TUPLE: again},
            "additionalProperties": again}  # fmt: skip
    kinds: list[Schema] = [node, {"type": "array", "items": again}, {"type": ["null", "boolean", "number", "string"]}]
    has_dtype = {"type": "object", "properties": {"dtype": {"not": {"type": ["object", "array"]}}}, "required": ["dtype"]}
    return {"if": has_dtype, "then": leaf, "else": {"anyOf": kinds}}
