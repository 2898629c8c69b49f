"""Which attempt of `stages.export.policy` exports each of some 100 small models, which sizes its program takes, and whether it is right.

    python -m benchmarks.export_policy [-k WORDS] [--attempts NAMES] [--mhlo] [--json FILE] [--markdown FILE]

Each form is exported with every attempt alone, and then with the default policy, in a process of its own. What exports is compared with
eager at several sizes of its ranges, and may refuse sizes only by an assertion that it has. With --mhlo, the program of the default policy
is lowered to MHLO, and that is compared too. A cell is `all` if all declared sizes are taken, the widest part of them (`n: 2..24`) if some
are, `-` if torch.export fails, `wrong` if the numbers are, and `failed` if a form crashes or takes more than two minutes. The exit code is
1 if any is wrong.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from benchmarks.apart import run_apart
from benchmarks.export_forms import FORMS, Form
from lowering import files
from lowering.level import Level, Program
from lowering.numerics.verifier import Settings, verify
from lowering.stage import Silent, Stage
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.symbols.attempts import Attempt

MOST_SECONDS = 120
BELOW: tuple[Stage, ...] = (ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO())
Row = dict[str, Any]


class Notes(Silent):
    """Keeps the warnings by code, and the symbol record."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.symbols: Mapping[str, Any] = {}

    def __call__(self, code: str, message: str, place: str = "") -> None:
        self.said.setdefault(code, message)

    def report(self, key: str, data: Any) -> None:
        self.symbols = data if key == "symbols" else self.symbols


def export(form: Form, policy: Sequence[Attempt] | None, to_mhlo: bool = False) -> Row:
    """Export a form and compare the program with eager. policy: None for the default one."""
    notes, start = Notes(), time.process_time()
    options: dict[str, Any] = {} if policy is None else {"policy": tuple(policy)}
    try:
        program = Export(explain=False, archive=False, repeat="off", **options).apply(Program(Level.MODEL, form.model), notes)
    except Exception as error:  # noqa: BLE001 - the row says so
        return {"cell": "-", "why": str(error), "seconds": time.process_time() - start}
    seconds = time.process_time() - start
    for stage in BELOW if to_mhlo else ():
        try:
            program = stage.apply(program, notes)
        except Exception as error:  # noqa: BLE001 - as above
            return {"cell": f"- at {stage.target.word}", "why": str(error), "seconds": seconds}
    winner = next((one["attempt"] for one in notes.symbols.get("attempts", ()) if one["outcome"] == "taken"), "")
    wrong = _compare(program)
    return {
        "cell": "wrong" if wrong else _find_cell(notes, program),
        "winner": winner,
        "seconds": seconds,
        "why": wrong or "; ".join(notes.said.values()),
    }


def _find_cell(notes: Notes, program: Program) -> str:
    """Return which sizes a program takes, by its warnings."""
    lost = [f"{dim['id']} = {dim['value']}" for dim in notes.symbols.get("requested", ()) if dim["verdict"] == "specialized"]
    part = notes.said.get("part_of_ranges", "")
    if lost:
        return ", ".join(lost)
    if part:
        return part.split("symbols: ")[1].split("}, and")[0] + "}" if "symbols: " in part else "single sizes"
    if "guard_within_range" not in notes.said:
        return "all"
    assert program.signature is not None
    return " and ".join(program.signature.guards)


def _compare(program: Program) -> str:
    """Return what is wrong with a program, or nothing."""
    levels = (Level.EXPORTED, Level.MHLO) if program.level is Level.MHLO else (Level.EXPORTED,)
    found, _ = verify(program, Settings(levels=levels))
    wrong = [*map(str, found.mismatches), *map(str, found.failures), *map(str, found.answers.accepted)]
    return "; ".join(wrong)


def try_form(form: Form, attempts: Sequence[Attempt], to_mhlo: bool) -> Row:
    row: Row = {attempt: export(form, (attempt,)) for attempt in attempts}
    return {**row, "default": export(form, None, to_mhlo)}


def format_table(rows: Mapping[str, Row], attempts: Iterable[str]) -> str:
    """Format the rows as a table in Markdown, with the attempts as columns."""
    heads = [*attempts, "default"]
    lines = [f"| form | {' | '.join(heads)} | taken by |", f"|---|{'---|' * (len(heads) + 1)}"]
    for name, row in rows.items():
        winner = row["default"].get("winner", "")
        lines.append(f"| `{name}` | {' | '.join(row[head]['cell'].replace('|', chr(92) + '|') for head in heads)} | {winner} |")
    return "\n".join(lines)


def format_kinds(rows: Mapping[str, Row]) -> str:
    """Format the default policy by kind of form, as a table in Markdown: how many forms each attempt takes, or takes in part."""
    order = [attempt for attempt in get_args(Attempt) if any(row["default"].get("winner") == attempt for row in rows.values())]
    lines = [f"| kind | forms | {' | '.join(order)} | in part | refused |", f"|---|{'---:|' * (len(order) + 3)}"]
    for kind in dict.fromkeys(form.kind for form in FORMS.values()):
        mine = [row["default"] for name, row in rows.items() if FORMS[name].kind == kind]
        winners, kinds = Counter(row.get("winner") for row in mine), Counter(_classify(row["cell"]) for row in mine)
        lines.append(f"| {kind} | {len(mine)} | {' | '.join(str(winners[attempt] or '') for attempt in order)} | {kinds['part'] or ''} | "
                     f"{kinds['refused'] or ''} |")
    return "\n".join(lines)


def count(rows: Mapping[str, Row], heads: Iterable[str]) -> str:
    """Count the forms that each attempt takes whole, in part, wrongly, and not at all."""
    lines = []
    for head in heads:
        kinds = Counter(_classify(row[head]["cell"]) for row in rows.values())
        lines.append(
            f"{head:<18} whole {kinds['whole']:>3}, part {kinds['part']:>3}, refused {kinds['refused']:>3}, wrong {kinds['wrong']:>3}"
        )
    return "\n".join(lines)


def _classify(cell: str) -> str:
    if cell.startswith("-") or cell == "failed":
        return "refused"
    return {"all": "whole", "wrong": "wrong"}.get(cell, "part")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", default="", metavar="WORDS", help="only forms whose name or kind contains one of these, separated by commas")
    parser.add_argument("--attempts", default=",".join(get_args(Attempt)), help="those that are tried alone, separated by commas")
    parser.add_argument("--mhlo", action="store_true", help="lower what the default policy exports to MHLO, and compare that too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there after each form")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    attempts: list[Any] = [attempt for attempt in options.attempts.split(",") if attempt]
    rows: dict[str, Row] = {}
    for form in FORMS.values():
        if not any(word in form.name or word == form.kind for word in options.k.split(",")):
            continue
        rows[form.name] = row = run_apart(lambda form=form: try_form(form, attempts, options.mhlo), MOST_SECONDS)  # type: ignore[misc]
        if "failed" in row:
            rows[form.name] = row = {key: {"cell": "failed", "why": row["failed"]} for key in (*attempts, "default")}
        print(
            f"{form.name:<28} {row['default']['cell']:<32} {row['default'].get('winner', ''):<18} "
            f"{'' if row['default']['cell'] == 'all' else row['default']['why'][:200]}",
            flush=True,
        )
        if options.json:
            files.write(options.json, rows)
    if options.markdown:
        options.markdown.write_text(f"{format_kinds(rows)}\n\n{format_table(rows, attempts)}\n", encoding="utf-8")
    print(count(rows, [*attempts, "default"]))
    return 1 if any(one["cell"] == "wrong" for row in rows.values() for one in row.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
