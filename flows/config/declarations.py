"""The declaration of a `_target_`, read from its source without importing it: checking a config must not load torch."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from flows.config.definitions import VOCABULARY, Undeclared, find_definition, find_origin, locate
from lowering.level import Level


@dataclass(frozen=True)
class Options:
    """The options of a target.

    types: by name (Any if unknown); required: names without a default; open: whether it accepts other names; least: the smallest values.
    """

    types: Mapping[str, Any]
    required: frozenset[str]
    open: bool = False
    least: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StageDeclaration:
    """A stage class: the levels it goes from and to, and its options."""

    source: Level
    target: Level
    options: Options


def load_stage(path: str) -> StageDeclaration:
    """Return the declaration of the stage class at a dotted path. Raises Undeclared if there is none."""
    return _read_stage(path) or _import_stage(path)


@lru_cache
def load_options(path: str) -> Options | None:
    """Return the arguments of the function or class at a dotted path; None if its source does not show them.

    Raises Undeclared if it does not exist.
    """
    node = find_definition(path)
    if isinstance(node, ast.ClassDef):
        bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
        if bases == ["NamedTuple"] or any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            return _read_fields(node, Any) if bases in ([], ["NamedTuple"]) else None  # fields of other bases are not read
        initializer = next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
        return _read_arguments(initializer, skip=1) if initializer else None
    return _read_arguments(node) if isinstance(node, ast.FunctionDef) else None


@lru_cache
def load_method(path: str, method: str) -> Options | None:
    """Return the arguments of a method of the class at a dotted path; None if its source does not show the function that a call runs.

    That is one that the class itself defines, without decorators, and assigns to nowhere. Raises Undeclared if there is no such class.
    """
    node = find_definition(path)
    if not isinstance(node, ast.ClassDef) or node.decorator_list or node.keywords:
        return None
    found = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name in (method, "__new__")]
    written = [item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store)]
    if method in written or [item.name for item in found] != [method] or found[0].decorator_list:
        return None
    return _read_arguments(found[0], skip=1)


def _read_stage(path: str) -> StageDeclaration | None:
    """Return the declaration of a stage class, from its source and its bases' sources; None if they do not show it."""
    levels: dict[str, Level | None] = {}
    types: dict[str, Any] = {}
    required: frozenset[str] = frozenset()
    least: dict[str, float] = {}
    for node in _find_lineage(path):
        options = _read_fields(node)
        if options is None:
            return None
        levels |= {name: _read_level(value) for name, value in _collect_assignments(node).items() if name in ("source", "target")}
        types |= options.types
        least |= _read_least(node)
        required = (required - options.types.keys()) | options.required
    source, target = levels.get("source"), levels.get("target")
    return StageDeclaration(source, target, Options(types, required, least=least)) if source and target else None


def _find_lineage(path: str) -> list[ast.ClassDef]:
    """Return the class at a dotted path, after its bases up to the direct subclass of Stage; empty if the source does not show them."""
    node = find_definition(path)
    if not isinstance(node, ast.ClassDef) or len(node.bases) != 1:
        return []
    base = ast.unparse(node.bases[0])
    if base == "Stage":
        return [node]
    above = _find_lineage(origin) if (origin := find_origin(path.rpartition(".")[0], base)) else []
    return [*above, node] if above else []


def _collect_assignments(node: ast.ClassDef) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for item in node.body:
        targets = item.targets if isinstance(item, ast.Assign) else [item.target] if isinstance(item, ast.AnnAssign) else []
        if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
            found |= {target.id: item.value for target in targets if isinstance(target, ast.Name)}
    return found


def _read_least(node: ast.ClassDef) -> Mapping[str, float]:
    """Return the smallest values of a stage's options that its class declares as a literal."""
    value = _collect_assignments(node).get("least")
    return ast.literal_eval(value) if isinstance(value, ast.Dict) else {}


def _read_level(node: ast.expr) -> Level | None:
    return Level.__members__.get(node.attr) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Level" else None


def _read_fields(node: ast.ClassDef, unknown: Any = None) -> Options | None:
    """Return the fields of a dataclass, without those of its bases.

    An annotation that uses names outside VOCABULARY is the type `unknown`; if there is none, return None.
    """
    declared = [item for item in node.body if isinstance(item, ast.AnnAssign) and "ClassVar" not in ast.unparse(item.annotation)]
    kinds: dict[str, Any] = {}
    for item in declared:
        try:
            kind = _read_annotation(item.annotation)
        except (NameError, TypeError, SyntaxError):
            if unknown is None:
                return None
            kind = unknown
        if isinstance(item.target, ast.Name):
            kinds[item.target.id] = kind
    needed = frozenset(item.target.id for item in declared if isinstance(item.target, ast.Name) and item.value is None)
    return Options(kinds, needed)


def _read_arguments(node: ast.FunctionDef, skip: int = 0) -> Options | None:
    positional = [*node.args.posonlyargs, *node.args.args][skip:]
    needed = positional[:len(positional) - len(node.args.defaults)]
    needed += [name for name, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if default is None]
    kinds: dict[str, Any] = {}
    for argument in [*positional, *node.args.kwonlyargs]:
        try:
            kinds[argument.arg] = _read_annotation(argument.annotation) if argument.annotation else Any
        except (NameError, TypeError, SyntaxError):
            kinds[argument.arg] = Any
    return Options(kinds, frozenset(argument.arg for argument in needed), node.args.kwarg is not None)


def _read_annotation(node: ast.expr) -> Any:
    """Return the type of an annotation that uses only names in VOCABULARY. Raises NameError for other names."""
    match node:
        case ast.Name(name) if name in VOCABULARY:
            return VOCABULARY[name]
        case ast.Constant(None):
            return None
        case ast.Constant(str(text)):  # an annotation in quotes
            return _read_annotation(ast.parse(text, mode="eval").body)
        case ast.BinOp(left, ast.BitOr(), right):
            return typing.Union[_read_annotation(left), _read_annotation(right)]  # noqa: UP007 - None has no |
        case ast.Subscript(ast.Name("Literal"), choices):
            return typing.Literal[ast.literal_eval(choices)]
        case ast.Subscript(origin, ast.Tuple(items)):
            return _read_annotation(origin)[tuple(
                ... if isinstance(item, ast.Constant) and item.value is ... else _read_annotation(item) for item in items)]
        case ast.Subscript(origin, item):
            return _read_annotation(origin)[_read_annotation(item)]
    raise NameError(ast.unparse(node))


def _import_stage(path: str) -> StageDeclaration:
    from lowering.stage import Stage

    found = locate(path)
    if not (inspect.isclass(found) and issubclass(found, Stage)):
        raise Undeclared("is not a stage", "a stage is a frozen dataclass that inherits lowering.stage.Stage")
    if not (hasattr(found, "source") and hasattr(found, "target")):
        raise Undeclared("does not declare its levels", "declare source and target as ClassVars of the stage")
    needed = {field.name for field in dataclasses.fields(found) if field.default is field.default_factory is dataclasses.MISSING}
    hints = typing.get_type_hints(found)
    options = Options({field.name: hints[field.name] for field in dataclasses.fields(found)}, frozenset(needed), least=found.least)
    return StageDeclaration(found.source, found.target, options)
