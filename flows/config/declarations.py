"""The declaration of a `_target_`, read from its source without importing it: checking a config must not load torch."""

from __future__ import annotations

import ast
import dataclasses
import importlib.machinery
import importlib.util
import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lowering import recipe
from lowering.errors import ConfigError, suggest
from lowering.level import Level

# The names that annotations of options may use.
VOCABULARY: dict[str, Any] = {
    kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, object, list, tuple, dict, Mapping, Sequence)
}
VOCABULARY |= {"Any": Any, "Optional": typing.Optional, "Union": typing.Union}


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


class Undeclared(Exception):
    """Error of a target that does not exist or is of the wrong kind. The text is the cause; `fix` suggests a remedy."""

    def __init__(self, cause: str, fix: str = ""):
        self.fix = fix
        super().__init__(cause)


@lru_cache
def load_stage(path: str) -> StageDeclaration:
    """Return the declaration of the stage class at a dotted path. Raises Undeclared if there is none."""
    return _read_stage(path) or _import_stage(path)


@lru_cache
def load_options(path: str) -> Options | None:
    """Return the arguments of the function or class at a dotted path; None if its source does not show them.

    Raises Undeclared if it does not exist.
    """
    node = _find_definition(path)
    if isinstance(node, ast.ClassDef):
        bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
        if bases == ["NamedTuple"] or any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            return _read_fields(node, Any) if bases in ([], ["NamedTuple"]) else None  # fields of other bases are not read
        initializer = next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
        return _read_arguments(initializer, skip=1) if initializer else None
    return _read_arguments(node) if isinstance(node, ast.FunctionDef) else None


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
    node = _find_definition(path)
    if not isinstance(node, ast.ClassDef) or len(node.bases) != 1:
        return []
    base = ast.unparse(node.bases[0])
    if base == "Stage":
        return [node]
    above = _find_lineage(origin) if (origin := _find_origin(path.rpartition(".")[0], base)) else []
    return [*above, node] if above else []


def _find_origin(module: str, name: str) -> str | None:
    """Return the dotted path of `name` in a module: its import or the module's own class; None if it is neither."""
    for node in _parse_module(module) or ():
        if isinstance(node, ast.ImportFrom) and not node.level:
            imported = next((item.name for item in node.names if (item.asname or item.name) == name), None)
            if imported:
                return f"{node.module}.{imported}"
        elif isinstance(node, ast.ClassDef) and node.name == name:
            return f"{module}.{name}"
    return None


def _find_definition(path: str) -> ast.stmt | None:
    """Return the statement that defines the last name of `path` in its module; None if the source does not show it."""
    module, name = path.rpartition(".")[::2]
    body = _parse_module(module)
    if body is None:
        _locate(path)
        return None
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return _InlineAliases(module).visit(node)  # type: ignore[no-any-return]  # again and again: what is inlined stays
    try:
        _locate(path)
    except Undeclared as error:
        defined = [node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        raise Undeclared(str(error), suggest(name, defined)) from None
    return None


class _InlineAliases(ast.NodeTransformer):
    """Replaces names in annotations that stand for a Literal, here or in the module that they are imported from, by the Literal."""

    def __init__(self, module: str):
        self.module = module

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = self._inline(node.annotation)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = node.annotation and self._inline(node.annotation)
        return node

    def _inline(self, node: ast.expr) -> ast.expr:
        match node:
            case ast.Subscript(ast.Name("Literal")):
                return node
            case ast.Name(name) if name not in VOCABULARY:
                origin = _find_origin(self.module, name) or f"{self.module}.{name}"
                return _find_literal(*origin.rpartition(".")[::2]) or node
            case ast.Attribute(ast.Name(name), attribute):
                return _find_literal(_find_origin(self.module, name) or "", attribute) or node
            case ast.Subscript(_, ast.Tuple(items)):
                node.slice.elts = list(map(self._inline, items))  # type: ignore[attr-defined]
            case ast.Subscript(_, item):
                node.slice = self._inline(item)
            case ast.BinOp(left, _, right):
                node.left, node.right = self._inline(left), self._inline(right)
        return node


def _find_literal(module: str, name: str) -> ast.expr | None:
    """Return the Literal that a module assigns to a name; None if it assigns none, or its source cannot be read."""
    try:
        body = _parse_module(module) or ()
    except Undeclared:
        return None
    values = (node.value for node in body if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name])
    return next((value for value in values if isinstance(value, ast.Subscript) and ast.unparse(value.value) == "Literal"), None)


def _parse_module(module: str) -> list[ast.stmt] | None:
    """Return the statements of a module; None if it is not a plain source file. Raises Undeclared if it cannot be parsed."""
    file = _find_module_file(module)
    try:
        return _parse_file(file, file.stat().st_mtime_ns) if file else None
    except SyntaxError as error:
        at = f" in line {error.lineno}" if error.lineno else ""
        raise Undeclared(f"{module} has a syntax error{at}: {error.msg}") from None


@lru_cache(maxsize=256)
def _parse_file(file: Path, modified: int) -> list[ast.stmt]:  # noqa: ARG001 - part of the cache key: a changed file is read again
    return ast.parse(file.read_bytes()).body  # as bytes, so that Python honours the file's coding line


def _find_module_file(module: str) -> Path | None:
    """Return the source file of a module, found without importing its packages; None if it is not a plain source file."""
    if not module:
        raise Undeclared("is not a dotted path", "write package.module.name")
    search: list[str] | None = None
    spec = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        # Look up only the first name through all import hooks (an editable install has one): for the others that imports their parents.
        name = ".".join(parts[:depth])
        try:
            spec = importlib.util.find_spec(name) if depth == 1 else importlib.machinery.PathFinder.find_spec(name, search)
        except KeyError:  # a nested package without __init__.py: only an import finds it
            return None
        if spec is None and depth == 1:
            return None
        if spec is None:
            beside = [entry for folder in search or () for entry in Path(folder).iterdir()]
            known = [entry.stem for entry in beside if entry.suffix == ".py" or entry.is_dir()]
            raise Undeclared(f"there is no module {name}", suggest(parts[depth - 1], known))
        search = [str(entry) for entry in spec.submodule_search_locations or ()]  # transformers, once imported, lists a Path
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _locate(path: str) -> Any:
    try:
        return recipe.locate(path)
    except ConfigError as error:
        raise Undeclared("; ".join(problem.cause for problem in error.problems)) from None
    except Exception as error:  # noqa: BLE001 - an import runs arbitrary code
        raise Undeclared(f"importing it fails: {type(error).__name__}: {error}") from None


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

    found = _locate(path)
    if not (inspect.isclass(found) and issubclass(found, Stage)):
        raise Undeclared("is not a stage", "a stage is a frozen dataclass that inherits lowering.stage.Stage")
    if not (hasattr(found, "source") and hasattr(found, "target")):
        raise Undeclared("does not declare its levels", "declare source and target as ClassVars of the stage")
    needed = {field.name for field in dataclasses.fields(found) if field.default is field.default_factory is dataclasses.MISSING}
    hints = typing.get_type_hints(found)
    options = Options({field.name: hints[field.name] for field in dataclasses.fields(found)}, frozenset(needed), least=found.least)
    return StageDeclaration(found.source, found.target, options)
