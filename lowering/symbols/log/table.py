"""The symbol table: one entry per torch symbol, with its history and its binding in the graph. Retraces are folded in."""

from __future__ import annotations

from typing import Any

from lowering.sizes.ranges import Range
from lowering.symbols.schema import Change, Line, SymbolEntry
from lowering.symbols.tracing.events import Event
from lowering.symbols.tracing.exporting import Export, build_range, convert_range, parse_range
from lowering.symbols.tracing.frames import Spot, convert_spot, convert_spots

DECORATED = 40  # maximum number of lines of decorators


def build_symbol_table(export: Export) -> tuple[SymbolEntry, ...]:
    """Return all symbols in the order torch created them."""
    born: dict[str, Event] = {}
    for event in export.log.events:
        if event.kind in ("symbol", "unbacked"):
            name = str(event.data["symbol"])
            if name not in export.renamed:
                born.setdefault(name, event)
    binders = _find_binders(export)
    counts: dict[str, int] = {}
    return tuple(_build_entry(export, name, event, binders.get(name, ("", "", "")), counts) for name, event in born.items())


def _build_entry(export: Export, name: str, event: Event, binder: tuple[str, str, str], counts: dict[str, int]) -> SymbolEntry:
    backed = event.kind == "symbol"
    source = str(event.data["source"]) if backed else ""
    place = export.place(source) if backed else None
    live = event.data["symbol"]
    final = export.final(live)
    stack = convert_spots(event.stack)
    forward = find_forward_line(export.log.forward)
    line = forward if backed else stack[-1] if stack else None
    created = parse_range(str(event.data["range"])) if backed else build_range(event.data["lower"], event.data["upper"])
    detail = str(event.data["detail"]).strip() if name in export.log.settings.extended_debug else ""
    known = export.env.var_to_sources.get(live, ()) if export.env else ()
    sources = tuple(str(one.name) for one in known) or ((source,) if source else ())
    return SymbolEntry(
        id=_build_id(source, place, event, counts),
        name=name,
        kind="unbacked" if not backed else "backed" if place or not source.isidentifier() else "root",
        made_by="create_symbol" if backed else str(event.data["made_by"]),
        meaning=export.meanings.get(name, ""),
        sources=sources,
        example=int(event.data["value"]) if backed and str(event.data["value"]).isdigit() else None,
        line=line,
        stack=stack or ((forward,) if backed and forward else ()),
        created=created,
        traced=export.find_traced_range(live) or created,
        promised=export.find_given_range(live),
        history=tuple(_build_history(export, name, created, line)),
        became=str(final) if final != live else None,
        renamed=tuple(new for new, old in export.renamed.items() if old == name),
        node=binder[0], op=binder[1], module=binder[2], detail=detail,
    )


def _build_id(source: str, place: tuple[str, int] | None, event: Event, counts: dict[str, int]) -> str:
    if place is not None:
        return f"{place[0]}[{place[1]}]"
    if source:
        return source
    if event.stack:
        line = convert_spot(event.stack[-1])
        birth = f"{line.file}:{line.function}:{line.code}"
    else:
        birth = str(event.data["made_by"])
    counts[birth] = counts.get(birth, -1) + 1
    return f"{birth}#{counts[birth]}"


def _build_history(export: Export, name: str, created: Range, line: Line | None) -> list[Change]:
    changes = [Change("created", created, "its birth", line)]
    alive = False
    for event, guard in export.causes():
        if event.kind in ("symbol", "unbacked") and str(event.data["symbol"]) == name:
            alive = True
        if not alive or event.kind not in ("range", "replacement", "discarded"):
            continue
        if export.rename_retraced(str(event.data["symbol"])) != name:
            continue
        at = convert_spot(event.stack[-1]) if event.stack else None
        change = _describe_change(export, event, export.translate(str(guard.data["expr"])) if guard else "", at)
        if change is not None and change not in changes:
            changes.append(change)
    return changes


def _describe_change(export: Export, event: Event, cause: str, line: Line | None) -> Change | None:
    if event.kind == "range":
        return Change("range", convert_range(event.data["range"]), cause or "torch's own check of the op", line)
    if event.kind == "discarded":
        return Change("renamed", None, f"a retrace found {event.data['value']} instead of it", line)
    target, reason = event.data["target"], str(event.data["reason"])
    if reason == "rename_unbacked_to":
        return Change("renamed", None, f"{event.data['symbol']} of a retrace is {target}", line)
    what: Any = "specialized" if getattr(target, "is_number", False) else "replaced"
    return Change(what, None, f"= {export.translate(str(target))}: {cause or reason}", line)


def _find_binders(export: Export) -> dict[str, tuple[str, str, str]]:
    """Return the node, op and module that bind each symbol in the exported graph: a placeholder, or the op whose result has the size."""
    found: dict[str, tuple[str, str, str]] = {}
    if export.program is None:
        return found
    for node in export.program.graph.nodes:
        for symbol in node.meta.get("unbacked_bindings") or {}:
            found.setdefault(export.rename_retraced(str(symbol)), (node.name, str(node.target), _find_module(node.meta)))
        if node.op == "placeholder":
            for size in getattr(node.meta.get("val"), "shape", ()):
                for symbol in getattr(getattr(size, "node", None), "expr", None).free_symbols if hasattr(size, "node") else ():  # type: ignore[union-attr]
                    found.setdefault(str(symbol), (node.name, "placeholder", ""))
    return found


def _find_module(meta: dict[str, Any]) -> str:
    stack = list((meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).removeprefix("L['self'].").removeprefix("L['self']") if stack else ""


def find_forward_line(spot: Spot | None) -> Line | None:
    """Return the `def` line of the model's forward, after its decorators."""
    if spot is None:
        return None
    file, first, function = spot
    if not convert_spot(spot).code.startswith("@"):
        return convert_spot(spot)
    lines = (convert_spot((file, number, function)) for number in range(first, first + DECORATED))
    return next((line for line in lines if line.code.startswith("def ")), convert_spot(spot))
