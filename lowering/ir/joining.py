"""Modules of several entries as one module with a function per entry, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, count
from typing import Any

from lowering.errors import Problem, StageFailed
from lowering.ir import mlir
from lowering.ir.annotations import Origin, annotate, read_lines, read_modules, read_values

_JOINED = "joined"  # the file of locations in a joined text
_NAMES = ("sym_name", "torch.debug_module_name")  # attributes of a module that are those of the first one
_CONTINUED = ("cond {", "reducer(")  # lines that continue the op of the line above


def join(modules: Mapping[str, Any]) -> Any:
    """Return one module in which the entry function of each of `modules`, all of one build, has the name of its key.

    Functions and other symbols that are equal in several modules are kept once; those that differ get the name of the entry as a prefix.
    The modules stay as they are. Raises StageFailed if a module has no entry function, or their attributes differ.
    """
    first = next(iter(modules.values()))
    joined = mlir.copy(first)
    for operation in list(joined.body.operations):
        operation.operation.erase()
    texts: dict[str, str] = {}  # of each symbol that is joined
    with joined.context:
        for name, module in modules.items():
            _add(joined, texts, name, mlir.copy_to(module, joined.context), set(modules))
    mlir.verify(joined, "joined module")
    return joined


def extract(module: Any, name: str) -> Any:
    """Return a module with the function `name` as its `@main`, and the functions that it uses. Raises StageFailed if there is none."""
    copy = mlir.copy(module)
    table = {operation.attributes["sym_name"].value: operation.operation for operation in _list_symbols(copy)}
    if name not in table:
        public = [symbol for symbol, operation in table.items() if mlir.is_public(operation)]
        raise StageFailed(Problem(f"entry '{name}'", "is not a function of the program", f"its entries: {', '.join(public)}"))
    ir = mlir.get_ir(copy.context)
    with copy.context:
        if name != mlir.ENTRY and mlir.ENTRY in table:
            _rename(copy, table.pop(mlir.ENTRY), f"{mlir.ENTRY}_1", set(table))
        for symbol, operation in table.items():
            if symbol != name and operation.name == "func.func":
                operation.attributes["sym_visibility"] = ir.StringAttr.get("private")
        _rename(copy, table[name], mlir.ENTRY, set(table))
    mlir.run(copy, "builtin.module(symbol-dce)", "entry")
    return copy


def join_texts(texts: Mapping[str, str], context: Any) -> str:
    """Join the saved texts of a level, by entry, with the comments that name their code lines. Raises StageFailed if one does not parse."""
    lines: dict[tuple[str, int], Origin] = {}
    parsed, above = {}, 0
    for name, text in texts.items():
        code, computed, paths = read_lines(text), read_values(text), read_modules(text)
        for first, last in _find_ends(text).items():  # comments stand at the last line of an op, MLIR's locations at its first
            if last in code or last in computed or last in paths:
                lines[_JOINED, above + first] = Origin(code.get(last), computed.get(last), paths.get(last))
        with mlir.collect_diagnostics(context, f"entry '{name}'"):  # blank lines keep the lines of the texts apart
            parsed[name] = mlir.parse("\n" * above + text, context)
        above += text.count("\n") + 1
    traced = join(parsed).operation.get_asm(large_elements_limit=mlir.ELIDE, enable_debug_info=True, pretty_debug_info=False)
    return annotate(traced.replace('loc("-":', f'loc("{_JOINED}":'), lines)


def _find_ends(text: str) -> dict[int, int]:
    """Return the last line of the op that begins at each line of a printed module."""
    ends: dict[int, int] = {}
    open_lines: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        first = open_lines.pop() if word.startswith("}") and open_lines else number - 1 if word.startswith(_CONTINUED) else number
        if word.endswith("{"):
            open_lines.append(first)
        else:
            ends[first] = number
    return ends


def _add(joined: Any, texts: dict[str, str], name: str, module: Any, entries: set[str]) -> None:
    """Move the symbols of `module` to the end of `joined`."""
    entry = mlir.find_entry(module)
    if entry is None:
        raise StageFailed(Problem(f"entry '{name}'", "has no entry function"))
    _check_attributes(joined, name, module)
    _rename(module, entry, f"{mlir.ENTRY}.{name}", entries)  # so that no other symbol of the module has to make room
    symbols = {operation.attributes["sym_name"].value: operation.operation for operation in _list_symbols(module)}
    while clashes := [symbol for symbol, operation in symbols.items()
                      if symbol in entries or texts.get(symbol, text := _print(operation)) != text]:
        for symbol in clashes:  # which changes the texts of those that use it
            operation = symbols.pop(symbol)
            symbols[_rename(module, operation, f"{name}_{symbol}", entries | texts.keys() | symbols.keys())] = operation
    _rename(module, entry, name, set())
    for operation in [operation.operation for operation in _list_symbols(module)]:
        symbol = operation.attributes["sym_name"].value
        if symbol not in texts:
            texts[symbol] = _print(operation)
            operation.detach_from_parent()
            joined.body.append(operation)


def _check_attributes(joined: Any, name: str, module: Any) -> None:
    """Give `joined` the attributes of `module` that it lacks."""
    held, given = joined.operation.attributes, module.operation.attributes
    for attribute in [given[index] for index in range(len(given))]:  # the builds iterate over different things
        if attribute.name in _NAMES:
            continue
        if attribute.name in held and held[attribute.name] != attribute.attr:
            cause = f"has {attribute.name} = {attribute.attr}, where another has {held[attribute.name]}"
            raise StageFailed(Problem(f"module of entry '{name}'", cause, "lower all entries with the same options"))
        held[attribute.name] = attribute.attr



def _rename(module: Any, operation: Any, wanted: str, taken: set[str]) -> str:
    """Rename a symbol and its uses in `module` to `wanted`, with a number where it is taken, and return the name."""
    names = chain((wanted,), (f"{wanted}_{number}" for number in count(1)))
    new = next(name for name in names if name not in taken)
    ir = mlir.get_ir(module.context)
    ir.SymbolTable.replace_all_symbol_uses(operation.attributes["sym_name"].value, new, module.operation)
    ir.SymbolTable.set_symbol_name(operation, new)
    return new


def _print(operation: Any) -> str:
    return str(operation.get_asm(large_elements_limit=None, enable_debug_info=False))


def _list_symbols(module: Any) -> Iterator[Any]:
    return (operation for operation in module.body.operations if "sym_name" in operation.attributes)
