"""Classify a failed export: its kind, the model's line, what the code needs, and torch's suggested fixes."""

from __future__ import annotations

import re
import traceback
from typing import Any

import sympy
import torch
from torch.fx.experimental import symbolic_shapes
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError, GuardOnDataDependentSymNode
from torch.utils._sympy import interp

from lowering.errors import iterate_causes
from lowering.sizes.ranges import Bound
from lowering.sizes.spelling import spell_condition
from lowering.symbols.conditions import parts
from lowering.symbols.conditions.relations import Condition, is_true_where_tried, judge, read_condition_in_words
from lowering.symbols.failures.refinement import refine
from lowering.symbols.failures.violations import (
    ONLY,
    SOURCE,
    UNSATISFIED,
    explain,
    find_unequal,
    list_fixed,
    name_sources,
    read_sources,
    translate,
)
from lowering.symbols.schema import Failure, Fix, Line
from lowering.symbols.tracing.exporting import NAME, Export
from lowering.symbols.tracing.frames import convert_spot, filter_summary, is_model_code

_DATA = re.compile(r"(?:Could not guard on|Could not extract specialized integer from) data-dependent expression (.*?) \(unhinted: ")
_UNBACKED = re.compile(r"(?:u|zuf)\d+")
_SOLVERS = (symbolic_shapes.__file__, interp.__file__)  # they assert that they meet no condition that they cannot solve or write as code
_TRUTH = re.compile(r"Eq\((u\d+), 1\)")
_RELATION = re.compile(r"[<>=]|\b(?:Eq|Ne|And|Or|Not)\(")
_INCONSISTENT = re.compile(r"Cannot create Dim with inconsistent min=|Invalid ranges? \[|The following inconsistencies were found")
_NOISE = re.compile(r"\s*\(Size-like symbols: [^)]*\)|For more information, run with TORCH_LOGS=.*$")
_UNSOLVED = re.compile(r"Expected op to be '==', got \S+ for (.*)")
_RAISE = re.compile(r"\b(?:raise|assert)\b")
_LOOP = re.compile(r"\b(?:for|while)\b|\b(?:range|enumerate|zip|unbind)\(")
_MOST = 3  # conditions that a summary lists
_CHECK = re.compile(r"^\s*\d+\.\s+(torch\._check\(.*\))\s*$", re.MULTILINE)
_SNAKE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def classify_failure(export: Export) -> Failure | None:
    """Classify the error of an export. Return None if it did not fail."""
    error = export.error
    if error is None:
        return None
    message = str(error).split("\n\nThe error above occurred when calling torch.export")[0]
    kind = _name_kind(error)
    fixes = _read_fixes(message) or _suggest_checks(error)
    violations = [line.strip()[2:].split("Specializations unexpectedly required")[0] for line in message.splitlines()
                  if line.startswith("  - ")]
    if fixed := list_fixed(message):
        kind, violations = "constraint_violation", violations + fixed
    needs = tuple(translate(text, export) for text in violations)
    fixes = fixes or tuple(Fix(match["dim"], match["value"]) for need in needs if fixed and (match := ONLY.fullmatch(need)))
    if (unequal := find_unequal(message, export)) is not None:
        needs, fixes = unequal
    known = _read_violated(violations, export)
    if known and all(is_true_where_tried(condition, export) for condition in known):
        fixes = ()  # torch's leave out sizes that the code takes
    first = _NOISE.sub("", message.strip().partition("\n")[0])
    if match := _UNSOLVED.search(first):
        needs = (f"the code needs {spell_condition(match[1])}, which torch cannot solve for a range",)
    line = _find_line(export, error, kind, violations)
    if match := _DATA.search(first):
        said = _describe_line_on_data(match[1], line, export)
        needs, fixes = ((said,), ()) if said else ((_describe_data(match[1], export),), fixes)
    if _INCONSISTENT.search(first):
        needs = _list_broken(export) or ("torch.export cannot solve the conditions on sizes that the code needs",)
    if not needs and (explained := explain(first)):
        needs = (explained,)
    if not needs and _is_raised_by_model(error):
        sizes = ", ".join(f"{name} = {size}" for name, size in export.model.examples().items())
        at = f" at the traced sizes {sizes}: declare the range that the model takes, or an `example` inside it" if sizes else ""
        needs = (f"the model raised {type(error).__name__}{at}: {NAME.sub(lambda match: export.meanings.get(match[0], match[0]), first)}",)
    if not needs and (NAME.search(first) or SOURCE.search(first)):
        said = NAME.sub(lambda match: export.meanings.get(match[0], match[0]), name_sources(first, export))
        needs = (f"{type(error).__name__}: {said}",)
    if line is not None and _LOOP.search(line.code):
        needs = tuple(f"{need}: a loop over a size is traced as often as it runs there; compute with whole tensors, or declare that size"
                      if ONLY.fullmatch(need) else need for need in needs)
    return Failure(kind, f"{type(error).__module__}.{type(error).__qualname__}", message, line,
                   tuple(violations), fixes, _widen(refine(export.model, fixes), violations, export), needs)


def _is_raised_by_model(error: BaseException) -> bool:
    """Return whether a line of the model's code raised, and no function that it called."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and is_model_code(frames[-1].filename) and bool(_RAISE.search(frames[-1].line or ""))


def _describe_line_on_data(expr: str, line: Line | None, export: Export) -> str:
    """Describe a line that branches or loops on data by itself, so that torch's symbol for them has no name in the code; else empty."""
    if line is not None and line.code.startswith("for "):
        return f"a Python loop runs as often as data say, `{line.code}`"
    return f"the code branches on the data of a tensor, `{line.code}`" if line and _is_truth_of_tensor(expr, line, export) else ""


def _is_truth_of_tensor(expr: str, line: Line | None, export: Export) -> bool:
    """Return whether a condition is that a tensor is true, made and asked for by one line, as by `if x.sum() > 0:`."""
    match = _TRUTH.fullmatch(expr)
    return match is not None and line is not None and any(
        event.kind == "unbacked" and str(event.data["symbol"]) == match[1] and event.stack and convert_spot(event.stack[-1]) == line
        for event in export.log.events)  # fmt: skip


def _describe_data(expr: str, export: Export) -> str:
    """Describe a condition or number that the code computes from values of tensors."""
    if _RELATION.search(expr):
        return f"the code needs to know {spell_condition(export.translate(expr))}, which depends on data"
    return "the code uses a value of a tensor as a Python number, and it depends on data"


def _list_broken(export: Export) -> tuple[str, ...]:
    """List the conditions of the trace that some declared sizes break, each with its line."""
    found: dict[str, None] = {}
    for event in export.log.events:
        if event.kind == "guard" and "suppressed" not in str(event.data["prefix"]):
            expr = export.rename_retraced(str(event.data["expr"]))
            if judge(expr, export)[0] == "no":
                line = f" ({convert_spot(event.stack[-1])})" if event.stack else ""
                found[f"the code needs {export.translate(expr)}{line}, which not all declared sizes satisfy"] = None
    return tuple(found)


def _read_violated(violations: list[str], export: Export) -> list[Condition]:
    """Return the guards that torch reports as violated, or none if it reports anything else as well."""
    guards = [match["guard"] for text in violations if (match := UNSATISFIED.match(read_sources(text, export)))]
    known = [condition for guard in guards if (condition := read_condition_in_words(guard, export)) is not None]
    return known if len(known) == len(violations) else []


def _widen(suggested: dict[str, Any], violations: list[str], export: Export) -> dict[str, Any]:
    """Return torch's suggestion for its violations, or the widest part of the ranges where they hold if that has more sizes."""
    known = _read_violated(violations, export)
    if not known or suggested.keys() - {"symbols"}:
        return suggested
    part = parts.find_widest(known, export)
    if not part or not part.keys() <= export.model.symbols.keys():
        return suggested
    declared = {name: Bound(symbol.min, symbol.max, symbol.multiple_of) for name, symbol in export.model.symbols.items()}
    torchs = {name: Bound(**{"multiple_of": 1, **span}) for name, span in suggested.get("symbols", {}).items()}
    if torchs and parts.share(torchs, declared) >= parts.share(part, declared):
        return suggested
    return {"symbols": {name: {"min": one.min, "max": one.max, **({"multiple_of": one.multiple_of} if one.multiple_of > 1 else {})}
                        for name, one in part.items()}}


def summarize(failure: Failure | None, error: BaseException | None) -> str:
    """Describe on one line, in the author's words, why an export failed."""
    if failure is None:
        return f"{type(error).__name__}: {error}"
    needs = [*failure.needs[:_MOST], *([f"and {len(failure.needs) - _MOST} more"] if len(failure.needs) > _MOST else [])]
    said = "; ".join(needs) or f"{failure.error.rpartition('.')[2]}: {failure.message.strip().partition(chr(10))[0]}"
    return f"{said} ({failure.line})" if failure.line is not None else said


def _suggest_checks(error: BaseException) -> tuple[Fix, ...]:
    """Return a condition on data, and its opposite, as checks to add where torch suggests none."""
    for link in iterate_causes(error):
        condition = getattr(link, "cond", None)
        if isinstance(link, GuardOnDataDependentSymNode) and isinstance(condition, sympy.core.relational.Relational):
            return tuple(Fix("", f"torch._check({spell_condition(str(one))})") for one in (condition, sympy.Not(condition)))
    return ()


def _name_kind(error: BaseException) -> str:
    from torch._dynamo.exc import UserError, UserErrorType  # most of a second, which a process that exports nothing does without

    for link in iterate_causes(error):
        if isinstance(link, GuardOnDataDependentSymNode):
            return "data_dependent"
        if isinstance(link, ConstraintViolationError):
            return "constraint_violation"
        if isinstance(link, UserError) and link.error_type == UserErrorType.CONSTRAINT_VIOLATION:
            return "constraint_violation"
    return _SNAKE.sub("_", type(error).__name__).lower()


def _find_line(export: Export, error: BaseException, kind: str, violations: list[str]) -> Line | None:
    """Return the line of the model that raised. For a constraint, which torch checks after tracing, it is the line of the guard."""
    if kind == "constraint_violation":
        accused = _find_accused(export, "\n".join(violations))
        guards = [event for event in export.log.events if event.kind == "guard" and event.stack
                  and "suppressed" not in str(event.data["prefix"]) and accused & set(NAME.findall(str(event.data["expr"])))]
        return convert_spot(guards[-1].stack[-1]) if guards else None
    frames = traceback.extract_tb(error.__traceback__)
    starts = [number for number, frame in enumerate(frames) if frame.filename == torch.export.__file__]
    inside = filter_summary(frames[starts[0] :]) if starts else filter_summary(frames)
    return convert_spot(inside[-1]) if inside else None


def _find_accused(export: Export, violations: str) -> set[str]:
    """Return the torch symbols that violations name, by source or by the author's name."""
    by_source = {str(symbol) for source, symbol in (export.env.source_to_var.items() if export.env else ()) if source in violations}
    words = set(re.findall(r"\w+", violations))
    return by_source | {name for name, meaning in export.meanings.items() if meaning in words}


def _read_fixes(message: str) -> tuple[Fix, ...]:
    _, found, suggested = message.partition("Suggested fixes:\n")
    fixes = []
    for line in suggested.split("\n\n")[0].splitlines() if found else ():
        name, equals, spec = line.strip().partition(" = ")
        if equals:
            fixes.append(Fix(name, spec))
    return (*fixes, *(Fix("", check) for check in _CHECK.findall(message)))


def is_about_sizes(error: BaseException) -> bool:
    """Return whether an export failed on sizes of inputs, which another attempt may treat differently.

    A condition on data alone is the same in all attempts.
    """
    from torch._dynamo.exc import UserError, UserErrorType  # most of a second, which a process that exports nothing does without

    for link in iterate_causes(error):
        if isinstance(link, GuardOnDataDependentSymNode):
            return not all(map(_UNBACKED.fullmatch, NAME.findall(str(getattr(link, "cond", "")))))
        if isinstance(link, ConstraintViolationError) or (isinstance(link, UserError)
                                                          and link.error_type == UserErrorType.CONSTRAINT_VIOLATION):
            return True
        if any(frame.f_code.co_filename in _SOLVERS for frame, _ in traceback.walk_tb(link.__traceback__)):
            return True
    return any(not _UNBACKED.fullmatch(name) for name in NAME.findall(str(error)))
