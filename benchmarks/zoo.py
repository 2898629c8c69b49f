"""The zoo: transformers architectures as models with dynamic dims, generated from one table, and the page of their results.

python -m benchmarks.zoo [--check]           write configs/model/zoo/*.yaml and configs/suite/zoo.yaml from benchmarks/zoo.yaml
python -m benchmarks.zoo --page RUN...       write docs/zoo.md from runs of `shapeline run suite=zoo`; later runs replace earlier results
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks import zoo_page
from flows.config import expectations, yaml_files
from flows.config.json_schema import name_schema
from lowering.errors import ConfigError, Problem
from lowering.sources import huggingface
from lowering.sources.huggingface_sizes import filter_known

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks" / "zoo.yaml"
MODELS = Path("configs/model/zoo")
SUITE = Path("configs/suite/zoo.yaml")
EXPECTED = Path("configs/expect/zoo.yaml")
PAGE = Path("docs/zoo.md")
HEAD = "# Written by `python -m benchmarks.zoo` from benchmarks/zoo.yaml; not to be edited by hand.\n"

# What an architecture may say beside its class: keys of a model's file that replace or extend its family's.
MERGED = ("inputs", "symbols", "constants", "tolerances", "stages")
OWN = ("architecture", "kwargs", "experts", "note", *MERGED)

Tree = dict[str, Any]


def files(table: Mapping[str, Any]) -> dict[Path, str]:
    """Return the text of each generated file by its path in the project. ConfigError lists every wrong row."""
    found, problems = {}, []
    names = families(table)
    for name, family in names.items():
        said = table["families"][family]
        row = said["architectures"][name]
        row = {"architecture": row} if isinstance(row, str) else row
        unknown = [key for key in row if key not in OWN]
        if unknown or "architecture" not in row:
            problems.append(Problem(f"benchmarks/zoo.yaml {family}.{name}",
                                    f"unknown keys {unknown}" if unknown else "names no architecture", f"its keys are {', '.join(OWN)}"))
            continue
        found[MODELS / f"{name}.yaml"] = (f"{name_schema('model/zoo/name')}\n{HEAD}" + _comment(row.get("note", ""))
                                          + yaml_files.render_sections(model(said, row)))
    if problems:
        raise ConfigError(problems)
    title = (f"# {len(names) + len(table['listed'])} architectures of transformers, each at small depth, with the dims of its inputs "
             "dynamic: see docs/zoo.md.\n")
    models = "".join(f"  {name}:{f' {{model: zoo/{name}}}' if name in names else ''}\n" for name in sorted([*names, *table["listed"]]))
    return {**found, SUITE: f"{name_schema('suite/zoo')}\n{HEAD}{title}models:\n{models}"}


def families(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the family of each architecture in the table. ConfigError if two architectures have one name."""
    found: dict[str, str] = {}
    for family, said in table["families"].items():
        for name in said["architectures"]:
            if name in found or name in table["listed"]:
                raise ConfigError(Problem(f"benchmarks/zoo.yaml {family}.{name}", "stands twice", "name each architecture once"))
            found[name] = family
    return found


def model(family: Mapping[str, Any], row: Mapping[str, Any]) -> Tree:
    """Return the model file of an architecture: that of its `family`, with `row` merged over it."""
    config = huggingface.find_config_class(row["architecture"])
    given = merge(filter_known(config, family.get("kwargs", {})), row.get("kwargs", {}))
    factory = {"_target_": "lowering.sources.huggingface.build", "config": config.__name__, "architecture": row["architecture"],
               "kwargs": given}
    experts = row.get("experts", family.get("experts"))
    tree: Tree = {"factory": factory | ({"experts": experts} if experts else {})}
    for key in MERGED:
        values = merge(family.get(key, {}), row.get(key, {}))
        tree |= {key: values} if values else {}
    return tree


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Merge `over` into `under`, mapping by mapping. null removes a key; a fill replaces the whole value."""
    found: Tree = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping) and key != "fill"
        found[key] = merge(found[key], value) if both else value
    return {key: value for key, value in found.items() if value is not None}


def _comment(note: str) -> str:
    return "".join(f"# {line}\n" for line in note.splitlines())


def find_stale(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Return the generated files that differ from `wanted`, are missing, or should not exist."""
    there = {path.relative_to(root) for path in (root / MODELS).glob("*.yaml")}
    return (sorted(there - set(wanted))
            + [path for path, text in wanted.items() if not (root / path).is_file() or (root / path).read_text() != text])


def write(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Write `wanted` to the files and return the files that changed."""
    changed = find_stale(root, wanted)
    for path in changed:
        if path in wanted:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(wanted[path], encoding="utf-8")
        else:
            (root / path).unlink()
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs from the table")
    parser.add_argument("--page", type=Path, nargs="+", metavar="RUN", help="write docs/zoo.md from these runs' folders")
    options = parser.parse_args()
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    if options.page:
        (ROOT / PAGE).write_text(zoo_page.page(options.page, families(table), expectations.read(ROOT / EXPECTED)), encoding="utf-8")
        print(PAGE)
        return 0
    wanted = files(table)
    changed = find_stale(ROOT, wanted) if options.check else write(ROOT, wanted)
    print("\n".join([*map(str, changed), f"{len(changed)} of {len(wanted)} files {'differ' if options.check else 'written'}"]))
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
