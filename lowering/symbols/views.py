"""Pages of a record: the outcome of every dim as text or Markdown, a timeline, and the model's source annotated with symbols."""

from __future__ import annotations

import re
import textwrap
import traceback
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lowering import files
from lowering.markdown import escape_item, escape_line, table
from lowering.sizes.ranges import Range
from lowering.symbols.schema import Line, Relation, Requested, SymbolEntry, SymbolRecord
from lowering.symbols.tracing.frames import find

PAGE, SOURCE = "symbols.md", "symbols.source.txt"
_DIM = ("dim", "asked", "promised", "example", "verdict", "where and why")
CONTEXT = 2  # source lines shown around an annotated one


def format_page(record: SymbolRecord, markdown: bool = False) -> str:
    """Format a record: warnings first, then the error, the requested dims, the symbols and the relations."""
    blocks = [_format_title(record, markdown)]
    if record.error is not None:
        error = record.error
        blocks.append(_format_section(f"Export failed: {error.kind}{_format_line(error.line)}", markdown))
        blocks.append(_format_list([*(error.needs or error.violations or error.message.splitlines()[:1]),
                                    *(f"fix: {f'{fix.name} = ' if fix.name else ''}{fix.spec}" for fix in error.fixes)], markdown))
        if error.refined:
            blocks.append("In the model's YAML:\n" + "\n".join(f"    {line}" for line in _format_yaml(error.refined, 0)))
    if len(record.attempts) > 1:
        tried = [(one.attempt, one.outcome, f"{one.seconds:.1f}", str(one.proved), one.why) for one in record.attempts]
        head = ("attempt", "outcome", "seconds", "proved", "why")
        blocks += [_format_section("Attempts", markdown), _format_table(head, tried, markdown)]
    if record.draft:
        blocks += [_format_section(f"All problems at once ({len(record.draft)}, by draft export)", markdown),
                   _format_list([f"{found.kind}{_format_line(found.line)}: {found.text}" for found in record.draft], markdown)]
    if record.warnings:
        blocks += [_format_section(f"Warnings ({len(record.warnings)})", markdown),
                   _format_list([f"{warned.code}: {warned.message}{_format_line(warned.line, ' (', ')')}" for warned in record.warnings],
                                markdown)]
    blocks += [_format_section("Requested dims", markdown), _format_table(_DIM, [_build_dim_row(dim) for dim in record.requested],
                                                                          markdown)]
    if any(dim.levels for dim in record.requested):
        blocks += [_format_section("Down the levels", markdown), _format_levels(record.requested, markdown)]
    if record.symbols:
        blocks += [_format_section("Symbols", markdown), _format_table(("symbol", "meaning", "source", "created", "traced", "promised",
                                                                        "code line"),
                                                        [_build_symbol_row(entry) for entry in record.symbols], markdown)]
    if record.relations:
        rows = [(one.kind, one.text, _format_holds(one), _format_checkers(one), str(one.line or "")) for one in record.relations]
        blocks += [_format_section("Relations", markdown), _format_table(("kind", "relation", "holds", "checked by", "code line"), rows,
                                                                         markdown)]
    return "\n\n".join(blocks) + "\n"


def format_suggestion(record: SymbolRecord) -> str:
    """Return the changes that would make a failed export pass, on one line: code that keeps a size, YAML keys, or torch's fixes.

    May be empty.
    """
    if record.error is None:
        return ""
    is_data = record.error.kind == "data_dependent"
    kept = _cut_code(record.error.line.code) if record.error.line is not None and not is_data else ""
    if record.error.refined:
        keys = f"in the model's YAML: {', '.join(f'{key}: {_format_flow(value)}' for key, value in record.error.refined.items())}"
        return f"{kept}; or {keys}" if kept else keys
    if kept:
        return kept
    said = " or ".join(f"{fix.name} = {fix.spec}" if fix.name else fix.spec for fix in record.error.fixes)
    made = [f"{entry.name} is the result of `{entry.line.code}` ({entry.line})" for entry in record.symbols
            if entry.kind == "unbacked" and entry.name in _split_words(said) and entry.line is not None]
    said = f"{said}, where {', '.join(made)}" if made else said
    if not is_data:
        return said
    return f"{_IN_TENSORS}; or, if it is always the same, {said}" if said else _IN_TENSORS


_IN_TENSORS = "keep the value in tensors, with torch.where, torch.cond or a mask"

# Python's functions that ask a size for its number, and what computes the same of a size that stays dynamic.
_KEEPING = {"math.sqrt": "size ** 0.5 or torch.sym_sqrt(size)", "math.pow": "size ** exponent", "float": "torch.sym_float(size)",
            "int": "math.trunc(size) or torch.sym_int(size)"}  # fmt: skip


def _cut_code(code: str) -> str:
    found = [f"{keeps} in the place of {name}(size)" for name, keeps in _KEEPING.items()
             if re.search(rf"(?<![\w.]){re.escape(name)}\(", code)]
    return f"to keep a size dynamic, {', '.join(found)}" if found else ""


def save(record: SymbolRecord, folder: Path) -> None:
    """Write symbols.md and symbols.source.txt (the annotated source). A page that cannot be formatted holds the error. Raises OSError."""
    for name, made in ((PAGE, partial(format_page, markdown=True)), (SOURCE, annotate_source)):
        try:
            text = made(record)
        except Exception:  # noqa: BLE001 - an error in a page must not fail the job
            text = f"This page could not be formatted:\n\n{traceback.format_exc()}"
        files.write_bytes(folder / name, files.encode(text), durable=False)


def format_timeline(record: SymbolRecord, symbol: str | None = None) -> str:
    """Format the events in order, with seconds and code lines. symbol: only events that name it (a torch name or an author's name)."""
    names = _find_names(record, symbol) if symbol else None
    lines = [f"{event.seconds:9.3f} s  {event.kind:<16} {event.text}{_format_line(event.line, '  (', ')')}" for event in record.events
             if names is None or event.symbol in names or names & _split_words(event.text)]
    return "\n".join(lines) + "\n" if lines else ""


def explain(record: SymbolRecord, symbol: str | None = None) -> str:
    """Format the page, or all about one symbol or dim (`s77`, `x[0]`, `batch`).

    Raises ValueError, with the known names, if it is unknown.
    """
    if symbol is None:
        return format_page(record)
    names = _find_names(record, symbol)
    dims = [dim for dim in record.requested if {dim.id, dim.symbol, dim.asked, *_split_words(dim.asked)} & {symbol, *names}]
    entries = [entry for entry in record.symbols if entry.name in names]
    if not entries and not dims:
        words = {word for entry in record.symbols for word in (entry.name, entry.meaning) if word}
        known = sorted(words | {dim.id for dim in record.requested})
        raise ValueError(f"'{symbol}' is not a symbol or dim of {record.model}; known: {', '.join(known) or 'none'}")
    blocks = [f"{symbol} in {record.model}"]
    blocks += ["\n".join(f"  {word}: {text}" for word, text in zip(_DIM, _build_dim_row(dim), strict=True) if text) for dim in dims]
    blocks += [_format_history(entry) for entry in entries]
    related = [relation for relation in record.relations if names & (_split_words(relation.expr) | _split_words(relation.text))]
    if related:
        blocks.append("relations:\n" + "\n".join(
            f"  {one.text} ({one.kind}; holds: {_format_holds(one)}; checked by {_format_checkers(one)}){_format_line(one.line)}"
            for one in related))
    found = format_timeline(record, symbol)
    return "\n\n".join([*blocks, *(["timeline:\n" + found.rstrip()] if found else [])]) + "\n"


def annotate_source(record: SymbolRecord) -> str:
    """Return the model's source around each line that created a symbol or relation, with these as margin comments."""
    notes: dict[str, dict[int, list[str]]] = {}
    for line, note in _list_births(record):
        said = notes.setdefault(line.file, {}).setdefault(line.line, [])
        if note not in said:
            said.append(note)
    return "\n".join(_annotate_file(file, born) for file, born in notes.items())


def _list_births(record: SymbolRecord) -> Iterator[tuple[Line, str]]:
    for entry in record.symbols:
        if entry.line is not None:
            word = f"{entry.meaning} ({entry.name})" if entry.meaning else entry.name
            yield entry.line, f"{entry.kind} symbol {word} in {entry.traced}"
    for dim in record.requested:
        if dim.line is not None and not dim.kept:
            yield dim.line, f"{dim.id} {dim.verdict}" + (f" = {dim.value}" if dim.value is not None else "")
    for relation in record.relations:
        if relation.line is not None:
            yield relation.line, f"{relation.kind} {relation.text}"


def _annotate_file(file: str, born: dict[int, list[str]]) -> str:
    path = find(file)
    source = files.read_text(path).splitlines() if path else []
    around = {near for line in born for near in range(line - CONTEXT, line + CONTEXT + 1)}
    shown = sorted(line for line in around | born.keys() if line in born or 1 <= line <= len(source))
    out, last = [f"{file}:"], 0
    for number in shown:
        if last and number > last + 1:
            out.append("      …")
        out.append(f"{number:5} | {source[number - 1] if number <= len(source) else '(source not found)'}")
        out += [f"      ^ {note}" for note in born.get(number, ())]
        last = number
    return "\n".join(out) + "\n"


def _format_history(entry: SymbolEntry) -> str:
    bound = f", bound by {entry.node} ({entry.op})" + (f" in {entry.module}" if entry.module else "") if entry.node else ""
    lines = [f"{entry.name} ({entry.kind}, {entry.made_by}{_format_line(entry.line)}{bound})"]
    lines += [f"  stack: {line} | {line.code}" for line in entry.stack]
    lines += [f"  {' '.join(filter(None, (change.what, _format_range(change.range), change.cause)))}{_format_line(change.line)}"
              for change in entry.history]
    lines += [f"  promised {entry.promised}"] if entry.promised else []
    lines += [f"  retraced as {', '.join(entry.renamed)}"] if entry.renamed else []
    return "\n".join(lines + ([textwrap.indent(entry.detail, "  ")] if entry.detail else []))


def _find_names(record: SymbolRecord, symbol: str) -> set[str]:
    """Return the torch names and author's names that match a reader's query."""
    found = {symbol}
    for entry in record.symbols:
        if symbol in (entry.name, entry.meaning, entry.id, entry.meaning.removeprefix("_")) or symbol in entry.renamed:
            found |= {entry.name} | ({entry.meaning} if entry.meaning.isidentifier() else set())
    return found


def _split_words(text: str) -> set[str]:
    return set("".join(letter if letter.isalnum() or letter == "_" else " " for letter in text).split())


def _build_dim_row(dim: Requested) -> tuple[str, ...]:
    step = f", multiple of {dim.multiple_of}" if dim.multiple_of > 1 else ""
    verdict = {"merged": f"merged with {', '.join(dim.related)}", "specialized": f"specialized to {dim.value}",
               "derived": f"derived: {dim.expr}", "never_symbol": f"never a symbol: {dim.value}"}.get(dim.verdict, dim.verdict)
    verdict += f", lost at {dim.lost_at}" if dim.lost_at else ""
    why = "; ".join(part for part in (dim.why, str(dim.line or "")) if part)
    return dim.id, dim.asked, f"{dim.promised}{step}", "" if dim.example is None else str(dim.example), verdict, why


def _build_symbol_row(entry: SymbolEntry) -> tuple[str, ...]:
    name = f"{entry.name} = {entry.became}" if entry.became else entry.name
    spans = tuple(map(_format_range, (entry.created, entry.traced, entry.promised)))
    return name, entry.meaning, ", ".join(entry.sources) or entry.op, *spans, str(entry.line or "")


def _format_levels(dims: Iterable[Requested], markdown: bool) -> str:
    rows = [(dim.id, place.level, place.value, place.size, place.type) for dim in dims for place in dim.levels]
    return _format_table(("dim", "level", "value", "size", "type"), rows, markdown)


def _format_holds(relation: Relation) -> str:
    sizes = ", ".join(f"{name}={size}" for name, size in relation.fails_at.items())
    return f"not at {sizes}" if relation.holds == "no" else relation.holds


def _format_checkers(relation: Relation) -> str:
    return ", ".join(relation.checked_by) or "nobody"


def _format_line(line: Line | None, before: str = " at ", after: str = "") -> str:
    return "" if line is None else f"{before}{line}{after}"


def _format_range(span: Range | None) -> str:
    return "" if span is None else str(span)


def _format_title(record: SymbolRecord, markdown: bool) -> str:
    kept = sum(dim.kept for dim in record.requested)
    head = f"# Symbols of {escape_line(record.model)}" if markdown else f"Symbols of {record.model}"
    return f"{head}: {kept} of {len(record.requested)} requested dims are dynamic"


def _format_section(text: str, markdown: bool) -> str:
    return f"## {escape_line(text)}" if markdown else f"{text}\n{'-' * len(text)}"


def _format_list(items: Iterable[str], markdown: bool) -> str:
    return "\n".join(f"- {escape_item(item) if markdown else item}" for item in items)


def _format_table(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> str:
    if markdown:
        return "\n".join(table([dict(zip(head, row, strict=True)) for row in rows] or [dict.fromkeys(head)]))
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows))


def _format_yaml(data: object, depth: int) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            if isinstance(value, dict) and depth < 1:
                yield f"{'  ' * depth}{key}:"
                yield from _format_yaml(value, depth + 1)
            else:
                yield f"{'  ' * depth}{key}: {_format_flow(value)}"


def _format_flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_format_flow(held)}" for key, held in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_format_flow(held) for held in value) + "]"
    return "null" if value is None else str(value)
