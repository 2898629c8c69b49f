"""The record of a model's symbols, as data: frozen, JSON both ways, documented in docs/symbols.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lowering import files
from lowering.plain import plain, structured
from lowering.sizes.ranges import Range

SCHEMA = "shapeline/symbols/1"
FILE = "symbols.json"
ITSELF = -1  # the `dim` of an argument that is an int: it has none

Verdict = Literal["dynamic", "merged", "derived", "specialized", "never_symbol", "refused", "undecided"]


@dataclass(frozen=True)
class Line:
    """A line of the model's code. file: relative to the import path or the working directory where possible; code: the line, stripped."""

    file: str
    line: int
    function: str
    code: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True)
class Place:
    """Where a requested dim stands at one level. value: the argument there; size: `?`, an expression, or the int it was lost to."""

    level: str
    value: str
    size: str
    type: str = ""

    @property
    def static(self) -> bool:
        return self.size.isdecimal()


@dataclass(frozen=True)
class Argument:
    """An input of the entry function at one level, in that level's own words."""

    value: str
    type: str
    dims: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """What a program at one level says of its inputs, by name. asserted: messages of its shape assertions; None where there can be none."""

    level: str
    arguments: Mapping[str, Argument]
    asserted: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Requested:
    """One dim that was asked to be dynamic, and what became of it.

    dim: its position, -1 for an argument that is an int itself.
    asked: the declared expression, or `null` for a flexible dim; promised: the sizes declared for it, every `multiple_of`-th.
    verdict: dynamic; merged (always equal to the dims named in `related`); derived (`expr` of the symbols in `related`); specialized
    (to `value`); never_symbol (torch made none); refused (export failed on it); undecided (export failed before it was decided).
    lost_at: the first level where the dim is static, or asserted to be one size, although it was dynamic above.
    """

    id: str
    argument: str
    dim: int
    asked: str
    promised: Range
    multiple_of: int
    example: int | None
    symbol: str | None
    verdict: Verdict
    expr: str = ""
    value: int | None = None
    related: tuple[str, ...] = ()
    why: str = ""
    line: Line | None = None
    levels: tuple[Place, ...] = ()
    lost_at: str | None = None

    @property
    def kept(self) -> bool:
        """Whether the compiled program takes any size here."""
        return self.verdict in ("dynamic", "merged", "derived") and self.lost_at is None


@dataclass(frozen=True)
class Change:
    """One step in a symbol's life: `what` happened, the range from then on, and the code line and relation that caused it."""

    what: Literal["created", "range", "replaced", "specialized", "renamed"]
    range: Range | None
    cause: str
    line: Line | None = None


@dataclass(frozen=True)
class SymbolEntry:
    """One symbol of torch. id: the same in every run of the same code (source, or code line of birth); name: torch's in this run.

    kind: backed (the size of an input), unbacked (known only at run time), root (stands in no shape, others derive from it).
    meaning: what the model's author calls it. line and stack: an input's forward, or the code that made an unbacked symbol, innermost last.
    created, traced, promised: ranges at birth, after tracing, and as given to callers. became: the expression that replaced it.
    renamed: names of retraces, folded into this entry. node, op, module: what binds it in the exported graph.
    detail: torch's extended report, when asked for.
    """

    id: str
    name: str
    kind: Literal["backed", "unbacked", "root"]
    made_by: str
    meaning: str
    sources: tuple[str, ...]
    example: int | None
    line: Line | None
    stack: tuple[Line, ...]
    created: Range
    traced: Range
    promised: Range | None
    history: tuple[Change, ...] = ()
    became: str | None = None
    renamed: tuple[str, ...] = ()
    node: str = ""
    op: str = ""
    module: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Relation:
    """Something torch took for granted about sizes.

    kind: guard, equality, divisibility (decided while tracing), runtime_assert (an assertion in the graph), assumption (checked by nobody).
    expr: in torch's names; text: in the author's. fails_at: sizes inside the promised ranges that break it. holds: `always` (for all of
    them), `tried` (no sampled size breaks it), `no` (fails_at does), `unknown` (it depends on data).
    checked_by: the levels whose program checks it at run time, and `signature` when the dims of the arguments say it.
    """

    id: str
    kind: Literal["guard", "equality", "divisibility", "runtime_assert", "assumption"]
    expr: str
    text: str
    line: Line | None
    times: int = 1
    holds: Literal["always", "tried", "no", "unknown"] = "unknown"
    fails_at: Mapping[str, int] = field(default_factory=dict)
    checked_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Happening:
    """One event in order; seconds since the capture began."""

    kind: str
    text: str
    symbol: str | None = None
    line: Line | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Fix:
    """One of torch's suggested fixes: `name` = `spec` as torch writes it, or a line of code to insert (name empty)."""

    name: str
    spec: str


@dataclass(frozen=True)
class Failure:
    """Why the export failed. kind: constraint_violation, data_dependent, or the snake_case name of the error.

    violations: torch's; needs: the same in the author's words.
    refined: the `symbols` and `inputs` of the model's YAML that the fixes lead to, only where they differ; empty when no fix was read.
    """

    kind: str
    error: str
    message: str
    line: Line | None
    violations: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()
    refined: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Warned:
    """A warning of the record. code: see docs/symbols.md; place: requested dim, symbol or user line; value: the size it is about."""

    code: str
    message: str
    place: str
    value: int | None = None
    line: Line | None = None

    @property
    def told(self) -> str:
        """The message with the code line."""
        return f"{self.message} ({self.line})" if self.line and str(self.line) not in self.message else self.message


@dataclass(frozen=True)
class Drafted:
    """What a draft export said of one problem. kind: data_dependent, guard, missing_fake_kernel, mismatched_fake_kernel, or failed."""

    kind: str
    text: str
    line: Line | None = None


@dataclass(frozen=True)
class SymbolRecord:
    """What became of every dynamic dim of one model, in one export."""

    model: str
    requested: tuple[Requested, ...] = ()
    symbols: tuple[SymbolEntry, ...] = ()
    relations: tuple[Relation, ...] = ()
    events: tuple[Happening, ...] = ()
    error: Failure | None = None
    warnings: tuple[Warned, ...] = ()
    draft: tuple[Drafted, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    schema: str = SCHEMA

    @property
    def lost(self) -> tuple[Requested, ...]:
        """The requested dims that take one size only: what `strict_dims` refuses."""
        return tuple(dim for dim in self.requested if dim.verdict in ("specialized", "never_symbol") or dim.lost_at)

    @property
    def fails_on_shapes(self) -> bool:
        """Whether the export failed on what it found out about sizes."""
        return self.error is not None and self.error.kind in ("constraint_violation", "data_dependent")

    def to_json(self) -> dict[str, Any]:
        data = dict(plain(self))
        return {"schema": data.pop("schema"), **data}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SymbolRecord:
        """Raises ValueError when `data` is not of this schema."""
        if data.get("schema") != SCHEMA:
            raise ValueError(f"not a symbol record of schema {SCHEMA}: schema is {data.get('schema')!r}")
        return structured(SymbolRecord, data)

    def save(self, folder: Path) -> Path:
        """Write symbols.json; raises OSError."""
        files.write(folder / FILE, self.to_json())
        return folder / FILE

    @staticmethod
    def load(path: Path) -> SymbolRecord:
        """Read a symbols.json, or the one in a job's folder; raises OSError or ValueError."""
        return SymbolRecord.from_json(files.read(path / FILE if path.is_dir() else path))
