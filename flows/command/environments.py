"""`shapeline environments`: list the environments that jobs were run in on this machine, and remove them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flows.command import printing
from flows.command.arguments import make_parser, parse_size
from flows.command.exits import OK, UNEXPECTED
from flows.command.printing import format_age, format_size
from lowering import environment_cache
from lowering.environment_cache import Installed
from lowering.errors import ConfigError, Problem


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if an environment to remove is being installed or used. Raises ConfigError for one that is not there."""
    parser = make_parser("environments", "List the environments of jobs on this machine (`environments:` of a suite), and remove them.")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--remove", nargs="+", metavar="NAME", help="remove these, by name or folder, whenever they were used")
    limit.add_argument("--max-bytes", type=parse_size, metavar="SIZE",
                       help="remove the least recently used until the rest has at most SIZE: 500M, 20G; none that was used today")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.remove:
        return _remove(options.remove, options.json)
    if options.max_bytes is not None:
        _report(environment_cache.evict(options.max_bytes), (), options.json)
        return OK
    _list(environment_cache.list_installed(), options.json)
    return OK


def _remove(words: Sequence[str], as_json: bool) -> int:
    chosen, unknown = environment_cache.choose(words)
    if unknown:
        cause = f"{environment_cache.get_root()} has no such environment"
        raise ConfigError([Problem(f"--remove {word}", cause, "shapeline environments lists them") for word in unknown])
    gone = [one for one in chosen if environment_cache.remove(one)]
    _report(gone, [one for one in chosen if one not in gone], as_json)
    return OK if len(gone) == len(chosen) else UNEXPECTED


def _report(removed: Sequence[Installed], busy: Sequence[Installed], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"removed": list(map(_to_json, removed)), "busy": list(map(_to_json, busy))}, indent=1, ensure_ascii=False))
        return
    for one in removed:
        print(f"{one.name or one.folder.name}: {format_size(one.bytes)}")
    print(f"freed {format_size(sum(one.bytes for one in removed))}")
    for one in busy:
        print(f"{one.folder} is being installed or used, and stays")


def _to_json(one: Installed) -> dict[str, Any]:
    return {"folder": str(one.folder), "name": one.name, "requirements": one.requirements, "bytes": one.bytes,
            "used": datetime.fromtimestamp(one.used, UTC).isoformat(timespec="seconds")}  # fmt: skip


def _list(found: Sequence[Installed], as_json: bool) -> None:
    if as_json:
        print(json.dumps(list(map(_to_json, found)), indent=1, ensure_ascii=False))
        return
    rows = [(one.name or "(not complete)", format_size(one.bytes), format_age(one.used), " ".join(one.requirements) or "-", one.folder.name)
            for one in found]
    print("\n".join(printing.render_table(("NAME", "SIZE", "USED", "REQUIREMENTS", "FOLDER"), rows)))
    total = format_size(sum(one.bytes for one in found))
    print(f"\n{len(found)} environments, {total}; in {environment_cache.get_root()}")
