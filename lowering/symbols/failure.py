"""Classify a failed export: its kind, the model's line, torch's suggested fixes, and the changes of the YAML that they imply."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import sympy
import torch
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError, GuardOnDataDependentSymNode

from lowering.fx.dynamic_shapes import PHANTOM
from lowering.model import Model
from lowering.sizes.dims import Affine, parse_dim
from lowering.sizes.ranges import Bound, round_down, round_up
from lowering.sizes.spelling import spelled
from lowering.symbols import parts
from lowering.symbols.exporting import NAME, Export
from lowering.symbols.frames import convert_spot, filter_summary
from lowering.symbols.relations import Condition, is_true_where_tried, judge, read_condition_in_words
from lowering.symbols.schema import Failure, Fix, Line
from lowering.trees import iterate

_DIM = re.compile(r"^Dim\('\w+'(?:, min=(?P<min>\d+))?(?:, max=(?P<max>\w+))?\)$")
_CHECK = re.compile(r"^\s*\d+\.\s+(torch\._check\(.*\))\s*$", re.MULTILINE)
_SNAKE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def classify_failure(export: Export) -> Failure | None:
    """Classify the error of an export. Return None if it did not fail."""
    error = export.error
    if error is None:
        return None
    message = str(error).split("\n\nThe error above occurred when calling torch.export")[0]
    kind = _kind(error)
    fixes = _fixes(message) or _checks(error)
    violations = [line.strip()[2:].split("Specializations unexpectedly required")[0] for line in message.splitlines()
                  if line.startswith("  - ")]
    needs = tuple(_translated(text, export) for text in violations)
    if (unequal := _unequal(message, export)) is not None:
        needs, fixes = unequal
    known = _violated(violations, export)
    if known and all(is_true_where_tried(condition, export) for condition in known):
        fixes = ()  # torch's leave out sizes that the code takes
    first = _NOISE.sub("", message.strip().partition("\n")[0])
    if match := _UNSOLVED.search(first):
        needs = (f"the code needs {spelled(match[1])}, which torch cannot solve for a range",)
    if match := _DATA.search(first):
        needs = (_told_data(match[1], export),)
    if _INCONSISTENT.search(first):
        needs = _broken(export) or ("torch.export cannot solve the conditions on sizes that the code needs",)
    if not needs and (NAME.search(first) or _SOURCE.search(first)):
        said = NAME.sub(lambda match: export.meanings.get(match[0], match[0]), _in_words(first, export))
        needs = (f"{type(error).__name__}: {said}",)
    return Failure(kind, f"{type(error).__module__}.{type(error).__qualname__}", message, _line(export, error, kind, violations),
                   tuple(violations), fixes, _widened(refined(export.model, fixes), violations, export), needs)


def _told_data(expr: str, export: Export) -> str:
    """Describe a condition or number that the code computes from values of tensors."""
    if _RELATION.search(expr):
        return f"the code needs to know {spelled(export.named(expr))}, which depends on data"
    return "the code uses a value of a tensor as a Python number, and it depends on data"


def _broken(export: Export) -> tuple[str, ...]:
    """List the conditions of the trace that some declared sizes break, each with its line."""
    found: dict[str, None] = {}
    for event in export.log.events:
        if event.kind == "guard" and "suppressed" not in str(event.data["prefix"]):
            expr = export.folded(str(event.data["expr"]))
            if judge(expr, export)[0] == "no":
                line = f" ({convert_spot(event.stack[-1])})" if event.stack else ""
                found[f"the code needs {export.named(expr)}{line}, which not all declared sizes satisfy"] = None
    return tuple(found)


def _violated(violations: list[str], export: Export) -> list[Condition]:
    """Return the guards that torch reports as violated, or none if it reports anything else as well."""
    guards = [match["guard"] for text in violations if (match := _UNSATISFIED.match(_read_sources(text, export)))]
    known = [condition for guard in guards if (condition := read_condition_in_words(guard, export)) is not None]
    return known if len(known) == len(violations) else []


def _widened(suggested: dict[str, Any], violations: list[str], export: Export) -> dict[str, Any]:
    """Return torch's suggestion for its violations, or the widest part of the ranges where they hold if that has more sizes."""
    known = _violated(violations, export)
    if not known or suggested.keys() - {"symbols"}:
        return suggested
    part = parts.widest(known, export)
    if not part or not part.keys() <= export.model.symbols.keys():
        return suggested
    declared = {name: Bound(symbol.min, symbol.max, symbol.multiple_of) for name, symbol in export.model.symbols.items()}
    torchs = {name: Bound(**{"multiple_of": 1, **span}) for name, span in suggested.get("symbols", {}).items()}
    if torchs and parts.share(torchs, declared) >= parts.share(part, declared):
        return suggested
    return {"symbols": {name: {"min": one.min, "max": one.max, **({"multiple_of": one.multiple_of} if one.multiple_of > 1 else {})}
                        for name, one in part.items()}}


_DATA = re.compile(r"(?:Could not guard on|Could not extract specialized integer from) data-dependent expression (.*?) \(unhinted: ")
_RELATION = re.compile(r"[<>=]|\b(?:Eq|Ne|And|Or|Not)\(")
_INCONSISTENT = re.compile(r"Cannot create Dim with inconsistent min=|Invalid ranges? \[|The following inconsistencies were found")
_MOST = 3  # conditions that a summary lists


_SOURCE = re.compile(r"L\['\w+'\](?:\[[^\]]*\]|\.(?!size\()\w+)*\.size\(\)\[\d+\]|L\['\w+'\](?!\[|\.)")
_UNSATISFIED = re.compile(
    r"^Not all values of (?P<names>.*?) in the specified range (?P<range>.*?) satisfy the generated guard (?P<guard>.*)$")
_SPECIALIZED = re.compile(r"^solving the guards generated for (?P<dim>.*?) resulted in a specialized value of (?P<value>\d+)$")
_MARKED = re.compile(r"^You marked (?P<dim>.*?) as dynamic but your code specialized it to be a constant \((?P<value>\d+)\)")
_SINGLE = re.compile(r"^(?P<value>\d+) <= (?P<dim>\w+) and (?P=dim) <= (?P=value)$")
_NOISE = re.compile(r"\s*\(Size-like symbols: [^)]*\)|For more information, run with TORCH_LOGS=.*$")
_UNSOLVED = re.compile(r"Expected op to be '==', got \S+ for (.*)")
_WORDS = (("The values of ", ""), (" must always be equal", " must be equal"),
          (" must always be related to the values of ", " must follow "),
          (" by ", " as "))
_UNEQUAL = (
    re.compile(r"size of tensor a \((?P<left>.*?)\) must match the size of tensor b \((?P<right>.*?)\) "
               r"at non-singleton dimension (?P<dim>\d+)"),
    re.compile(r"Expected (?P<left>.*?) in dimension (?P<dim>\d+) but got (?P<right>.*?) for tensor number \d+"),
)


def _in_words(text: str, export: Export) -> str:
    """Replace torch's sources, such as `L['x'].size()[0]`, with the symbols of their dims."""
    def word(match: re.Match[str]) -> str:
        place = export.place(match[0])
        dim = next((dim for dim in export.declared if place == (dim.argument, dim.position)), None)
        if dim is None:
            return match[0]
        meaning = dim.id if dim.dim is None else str(dim.dim)
        return meaning if dim.dim is None or meaning.isidentifier() else f"({meaning})"

    return _SOURCE.sub(word, text)


def _translated(text: str, export: Export) -> str:
    """Rewrite one of torch's violations in the author's words."""
    said = _read_sources(text, export)
    if match := _UNSATISFIED.match(said):
        if single := _SINGLE.match(match["guard"]):
            return f"the code takes {single['dim']} = {single['value']} only"
        condition = read_condition_in_words(match["guard"], export)
        is_true = condition is not None and is_true_where_tried(condition, export)
        only = "torch.export cannot prove for {}" if is_true else "not all of {} satisfy"
        return f"the code needs {_tidy(match['guard'])}, which {only.format(match['range'])}"
    if match := _SPECIALIZED.match(said) or _MARKED.match(said):
        return f"the code takes {match['dim']} = {match['value']} only"
    for torchs, ours in _WORDS:
        said = said.replace(torchs, ours)
    return said


def _read_sources(text: str, export: Export) -> str:
    return re.sub(r"\b(\w+) = \1\b", r"\1", _in_words(text.removesuffix("."), export))


def _tidy(guard: str) -> str:
    """Write a guard such as `((-1) + m) != 1` as Python code."""
    try:
        return spelled(guard)
    except ValueError:
        return guard


def _unequal(message: str, export: Export) -> tuple[tuple[str, ...], tuple[Fix, ...]] | None:
    """Return which two sizes must be equal, and the symbol to declare for both. Return None for any other message."""
    match = next((match for pattern in _UNEQUAL if (match := pattern.search(message))), None)
    if match is None or not NAME.search(f"{match['left']} {match['right']}"):
        return None
    left, right = (export.named(re.sub(r": hint = \d+", "", match[side])) for side in ("left", "right"))
    said = (f"{left} and {right} must be equal at dim {match['dim']}",)
    for name, spec in ((right, left), (left, right)):
        if name in export.model.symbols:
            return said, (Fix(name, spec),)
    return said, ()


def summarize(failure: Failure | None, error: BaseException | None) -> str:
    """Describe on one line, in the author's words, why an export failed."""
    if failure is None:
        return f"{type(error).__name__}: {error}"
    needs = [*failure.needs[:_MOST], *([f"and {len(failure.needs) - _MOST} more"] if len(failure.needs) > _MOST else [])]
    said = "; ".join(needs) or f"{failure.error.rpartition('.')[2]}: {failure.message.strip().partition(chr(10))[0]}"
    return f"{said} ({failure.line})" if failure.line is not None else said


def _checks(error: BaseException) -> tuple[Fix, ...]:
    """Return a condition on data, and its opposite, as checks to add where torch suggests none."""
    for link in _chain(error):
        condition = getattr(link, "cond", None)
        if isinstance(link, GuardOnDataDependentSymNode) and isinstance(condition, sympy.core.relational.Relational):
            return Fix("", f"torch._check({spelled(str(condition))})"), Fix("", f"torch._check({spelled(str(sympy.Not(condition)))})")
    return ()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _kind(error: BaseException) -> str:
    from torch._dynamo.exc import UserError, UserErrorType  # most of a second, which a process that exports nothing does without

    for link in _chain(error):
        if isinstance(link, GuardOnDataDependentSymNode):
            return "data_dependent"
        if isinstance(link, ConstraintViolationError):
            return "constraint_violation"
        if isinstance(link, UserError) and link.error_type == UserErrorType.CONSTRAINT_VIOLATION:
            return "constraint_violation"
    return _SNAKE.sub("_", type(error).__name__).lower()


def _line(export: Export, error: BaseException, kind: str, violations: list[str]) -> Line | None:
    """Return the line of the model that raised. For a constraint, which torch checks after tracing, it is the line of the guard."""
    if kind == "constraint_violation":
        accused = _accused(export, "\n".join(violations))
        guards = [event for event in export.log.events if event.kind == "guard" and event.stack
                  and "suppressed" not in str(event.data["prefix"]) and accused & set(NAME.findall(str(event.data["expr"])))]
        return convert_spot(guards[-1].stack[-1]) if guards else None
    frames = traceback.extract_tb(error.__traceback__)
    starts = [number for number, frame in enumerate(frames) if frame.filename == torch.export.__file__]
    inside = filter_summary(frames[starts[0] :]) if starts else filter_summary(frames)
    return convert_spot(inside[-1]) if inside else None


def _accused(export: Export, violations: str) -> set[str]:
    """Return the torch symbols that violations name, by source or by the author's name."""
    by_source = {str(symbol) for source, symbol in (export.env.source_to_var.items() if export.env else ()) if source in violations}
    words = set(re.findall(r"\w+", violations))
    return by_source | {name for name, meaning in export.meanings.items() if meaning in words}


def _fixes(message: str) -> tuple[Fix, ...]:
    _, found, suggested = message.partition("Suggested fixes:\n")
    fixes = []
    for line in suggested.split("\n\n")[0].splitlines() if found else ():
        name, equals, spec = line.strip().partition(" = ")
        if equals:
            fixes.append(Fix(name, spec))
    return (*fixes, *(Fix("", check) for check in _CHECK.findall(message)))


def refined(model: Model, fixes: tuple[Fix, ...]) -> dict[str, Any]:
    """Return the `symbols` and `inputs.*.shape` that the fixes change, or nothing if a fix cannot be read."""
    named = {fix.name: fix.spec for fix in fixes if fix.name}
    symbols: dict[str, dict[str, int | None]] = {}
    words: dict[str, int | str] = {}
    for name, spec in named.items():
        symbol = _symbol_of(model, name)
        if symbol is None:
            continue  # a root that torch invented; the fix that uses it is read below
        step = model.symbols[symbol].multiple_of if name.startswith(PHANTOM) and name not in model.symbols else 1
        match = _DIM.match(spec)
        if match:
            symbols[symbol] = _ranged(model, symbol, match, step)
            continue
        try:
            dim = parse_dim(spec)
        except ValueError:
            return {}
        if isinstance(dim, int):
            words[symbol] = dim * step
        elif isinstance(dim, Affine) and dim.symbol in model.symbols:
            words[symbol] = str(dim)
        elif isinstance(dim, Affine) and not dim.offset:
            symbols[symbol] = _multiple(model, symbol, dim, named.get(dim.symbol, ""))
        else:
            return {}
    return {key: value for key, value in (("symbols", symbols), ("inputs", _shapes(model, words))) if value}


def _symbol_of(model: Model, name: str) -> str | None:
    """Return the model's symbol for the name of a Dim, which may be the root of a `multiple_of`."""
    if name in model.symbols:
        return name
    root = name.removeprefix(PHANTOM)
    return root if root in model.symbols and model.symbols[root].multiple_of > 1 else None


def _ranged(model: Model, symbol: str, match: re.Match[str], step: int) -> dict[str, int | None]:
    now = model.symbols[symbol]
    lower = int(match["min"]) * step if match["min"] else now.min
    upper = int(match["max"]) * step if (match["max"] or "").isdigit() else now.max
    return {"min": lower, "max": upper, **({"multiple_of": now.multiple_of} if now.multiple_of > 1 else {})}


def _multiple(model: Model, symbol: str, dim: Affine, root: str) -> dict[str, int | None]:
    now, match = model.symbols[symbol], _DIM.match(root)
    step = dim.scale * now.multiple_of
    lowest = int(match["min"]) * dim.scale if match and match["min"] else now.min
    return {"min": max(lowest, round_up(now.min, step)), "max": None if now.max is None else round_down(now.max, step), "multiple_of": step}


def _shapes(model: Model, words: Mapping[str, int | str]) -> dict[str, Any]:
    """Return the shapes in which a symbol became an int or an expression of another symbol."""
    changed: dict[str, Any] = {}
    for leaf in iterate(model.trees):
        declared = leaf.declared
        shape = [_substituted(dim, words) if isinstance(parsed, Affine) and parsed.symbol in words else dim
                 for dim, parsed in zip(declared.shape, declared.dims(), strict=True)]
        if shape != list(declared.shape):
            *outer, last = leaf.place.split(".")[1:]
            inner = changed
            for key in outer:
                inner = inner.setdefault(key, {})
            inner[last] = {"shape": shape}
    return changed


def _substituted(dim: int | str | None, words: Mapping[str, int | str]) -> int | str:
    text = re.sub(r"[A-Za-z_]\w*", lambda match: f"({words[match[0]]})" if match[0] in words else match[0], str(dim))
    parsed = parse_dim(text)
    return parsed if isinstance(parsed, int) else str(parsed)
