"""Schema of the record of a model's symbols: frozen, to and from JSON, documented in docs/symbols.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lowering import files
from lowering.fitting import find_misfit
from lowering.plain import from_plain, to_plain
from lowering.sizes.ranges import Range
from lowering.symbols.reported import is_kept

SCHEMA = "shapeline/symbols/1"
FILE = "symbols.json"
ITSELF = -1  # the `dim` of an argument that is an int

Verdict = Literal["dynamic", "merged", "derived", "specialized", "never_symbol", "refused", "undecided"]


@dataclass(frozen=True)
class Line:
    """A line of the model's code. file: relative to the import path or the working directory if possible; code: the line, stripped."""

    file: str
    line: int
    function: str
    code: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True)
class Place:
    """A requested dim at one level. value: the argument there; size: `?`, an expression, or the int that replaced it."""

    level: str
    value: str
    size: str
    type: str = ""

    @property
    def static(self) -> bool:
        return self.size.isdecimal()


@dataclass(frozen=True)
class Requested:
    """A dim that was requested to be dynamic, and its outcome.

    dim: its position, or -1 for an argument that is an int.
    asked: the declared expression, or `null` for a flexible dim; promised: its declared range, of which `multiple_of` is the step.
    verdict: dynamic; merged (always equal to the dims in `related`); derived (`expr` of the symbols in `related`); specialized (to
        `value`); never_symbol (torch created none); refused (the export failed on it); undecided (the export failed before it was decided).
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
        """Whether the compiled program accepts any size here."""
        return is_kept(self.verdict, self.lost_at)


@dataclass(frozen=True)
class Change:
    """One change of a symbol. what: its kind; also the range from then on, and the code line and relation that caused it."""

    what: Literal["created", "range", "replaced", "specialized", "renamed"]
    range: Range | None
    cause: str
    line: Line | None = None


@dataclass(frozen=True)
class SymbolEntry:
    """A torch symbol.

    id: the same in every run of the same code (its source, or the code line that created it); name: torch's name in this run.
    kind: backed (the size of an input), unbacked (known only at run time), root (in no shape itself, but other dims derive from it).
    meaning: the author's name for it. line and stack: an input's forward, or the code that created an unbacked symbol, innermost last.
    created, traced, promised: ranges at creation, after tracing, and as promised to callers. became: the expression that replaced it.
    renamed: names in retraces, folded into this entry. node, op, module: where the exported graph binds it.
    detail: torch's extended report, if requested.
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
    """A relation between sizes that torch assumed.

    kind: guard, equality, divisibility (decided while tracing), runtime_assert (an assertion in the graph), assumption (not checked).
    expr: with torch's names; text: with the author's. fails_at: sizes in the promised ranges that break it. holds: `always` (for all
        sizes), `tried` (no sampled size breaks it), `compared` (the program is right where it is false), `implied` (by relations that the
        program asserts), `no` (see fails_at), `unknown` (it depends on data).
    checked_by: the levels whose program checks it at run time, and `signature` if the dims of the arguments express it.
    """

    id: str
    kind: Literal["guard", "equality", "divisibility", "runtime_assert", "assumption"]
    expr: str
    text: str
    line: Line | None
    times: int = 1
    holds: Literal["always", "tried", "compared", "implied", "no", "unknown"] = "unknown"
    fails_at: Mapping[str, int] = field(default_factory=dict)
    checked_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Happening:
    """An event, with its time in seconds since the capture began."""

    kind: str
    text: str
    symbol: str | None = None
    line: Line | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Fix:
    """A fix that torch suggests: `name` = `spec` as torch writes it, or a line of code to insert (empty name)."""

    name: str
    spec: str


@dataclass(frozen=True)
class Failure:
    """Reason why the export failed. kind: constraint_violation, data_dependent, or the snake_case name of the error.

    violations: torch's; needs: the same in the author's words.
    refined: the `symbols` and `inputs` of the model's YAML after applying the fixes, only where they differ. Empty if no fix could be read.
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
    def text(self) -> str:
        """The message with the code line."""
        return f"{self.message} ({self.line})" if self.line and str(self.line) not in self.message else self.message


@dataclass(frozen=True)
class Drafted:
    """A problem that a draft export found. kind: data_dependent, guard, missing_fake_kernel, mismatched_fake_kernel, or failed."""

    kind: str
    text: str
    line: Line | None = None


@dataclass(frozen=True)
class Attempted:
    """One call of torch.export. outcome: `taken`, `refused`, or `set aside` for one that takes more sizes.

    why: what it refused for, or the conditions that some declared sizes break; proved: how many deferred conditions hold for all declared
    sizes; carried: those that the program would assert.
    """

    attempt: str
    outcome: Literal["taken", "set aside", "refused"]
    seconds: float
    why: str = ""
    proved: int = 0
    carried: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repeated:
    """Calls of modules that are alike. module: their class; replayed: how many calls are copies of a traced one; why: why no more are."""

    module: str
    traced: int
    replayed: int
    why: str = ""


@dataclass(frozen=True)
class SymbolRecord:
    """The outcome of every dynamic dim of one model in one export."""

    model: str
    requested: tuple[Requested, ...] = ()
    symbols: tuple[SymbolEntry, ...] = ()
    relations: tuple[Relation, ...] = ()
    events: tuple[Happening, ...] = ()
    error: Failure | None = None
    warnings: tuple[Warned, ...] = ()
    draft: tuple[Drafted, ...] = ()
    attempts: tuple[Attempted, ...] = ()
    repeat: tuple[Repeated, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    schema: str = SCHEMA

    @property
    def lost(self) -> tuple[Requested, ...]:
        """The requested dims that accept only one size, which `strict_dims` rejects."""
        return tuple(dim for dim in self.requested if dim.verdict in ("specialized", "never_symbol") or dim.lost_at)

    @property
    def fails_on_shapes(self) -> bool:
        """Whether the export failed because of sizes."""
        return self.error is not None and self.error.kind in ("constraint_violation", "data_dependent")

    def to_json(self) -> dict[str, Any]:
        data = dict(to_plain(self))
        return {"schema": data.pop("schema"), **data}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SymbolRecord:
        """Build a record from JSON data. Raises ValueError if `data` does not have this schema."""
        if not isinstance(data, Mapping):
            raise ValueError("is not a mapping")
        if data.get("schema") != SCHEMA:
            raise ValueError(f"not a symbol record of schema {SCHEMA}: schema is {data.get('schema')!r:.80}")
        if misfit := find_misfit(SymbolRecord, data):
            raise ValueError(misfit)
        return from_plain(SymbolRecord, data)

    def save(self, folder: Path) -> Path:
        """Write symbols.json. Raises OSError."""
        files.write(folder / FILE, self.to_json())
        return folder / FILE

    @staticmethod
    def load(path: Path) -> SymbolRecord:
        """Load a symbols.json, or the one in a job's folder. Raises OSError or ValueError."""
        return SymbolRecord.from_json(files.read(path / FILE if path.is_dir() else path))
