"""Why an export failed: the kind of error, the user's line, torch's suggested fixes, and the model's YAML that they lead to."""

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
from lowering.sizes.ranges import round_down, round_up
from lowering.symbols.exporting import NAME, Export
from lowering.symbols.frames import line_of, of_summary
from lowering.symbols.schema import Failure, Fix, Line

_DIM = re.compile(r"^Dim\('\w+'(?:, min=(?P<min>\d+))?(?:, max=(?P<max>\w+))?\)$")
_CHECK = re.compile(r"^\s*\d+\.\s+(torch\._check\(.*\))\s*$", re.MULTILINE)
_SNAKE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def failure_of(export: Export) -> Failure | None:
    """The classified error of an export; None when it did not fail."""
    error = export.error
    if error is None:
        return None
    message = str(error).split("\n\nThe error above occurred when calling torch.export")[0]
    kind = _kind(error)
    fixes = _fixes(message) or _checks(error)
    violations = tuple(line.strip()[2:] for line in message.splitlines() if line.startswith("  - "))
    return Failure(kind, f"{type(error).__module__}.{type(error).__qualname__}", message, _line(export, error, kind, violations),
                   violations, fixes, refined(export.model, fixes))


def _checks(error: BaseException) -> tuple[Fix, ...]:
    """For a condition on data that torch suggests no fix for: the condition, or its opposite, as a check."""
    for link in _chain(error):
        condition = getattr(link, "cond", None)
        if isinstance(link, GuardOnDataDependentSymNode) and isinstance(condition, sympy.logic.boolalg.Boolean):
            return Fix("", f"torch._check({condition})"), Fix("", f"torch._check({sympy.Not(condition)})")
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


def _line(export: Export, error: BaseException, kind: str, violations: tuple[str, ...]) -> Line | None:
    """Where the model's code raised; for a constraint, which torch checks after tracing, where its symbol was tied down."""
    if kind == "constraint_violation":
        accused = _accused(export, "\n".join(violations))
        guards = [event for event in export.log.events if event.kind == "guard" and event.stack
                  and "suppressed" not in str(event.data["prefix"]) and accused & set(NAME.findall(str(event.data["expr"])))]
        return line_of(guards[-1].stack[-1]) if guards else None
    frames = traceback.extract_tb(error.__traceback__)
    starts = [number for number, frame in enumerate(frames) if frame.filename == torch.export.__file__]
    inside = of_summary(frames[starts[0] :]) if starts else of_summary(frames)
    return line_of(inside[-1]) if inside else None


def _accused(export: Export, violations: str) -> set[str]:
    """The torch symbols that violations name, by their source or in the author's words."""
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
    """The `symbols` and `inputs.*.shape` that the fixes lead to, where they differ from the model's; nothing when a fix cannot be read."""
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
    """The model's symbol behind a Dim's name: its own, or the one that the root of a `multiple_of` stands for."""
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
    """The shapes in which a symbol became an int or an expression of another."""
    changed = {}
    for name, declared in model.inputs.items():
        shape = [_substituted(dim, words) if isinstance(parsed, Affine) and parsed.symbol in words else dim
                 for dim, parsed in zip(declared.shape, declared.dims(), strict=True)]
        if shape != list(declared.shape):
            changed[name] = {"shape": shape}
    return changed


def _substituted(dim: int | str | None, words: Mapping[str, int | str]) -> int | str:
    text = re.sub(r"[A-Za-z_]\w*", lambda match: f"({words[match[0]]})" if match[0] in words else match[0], str(dim))
    parsed = parse_dim(text)
    return parsed if isinstance(parsed, int) else str(parsed)
