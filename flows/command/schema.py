"""`shapeline schema`: print or write the JSON Schemas of the configuration files, for editors and other validators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from flows.command.arguments import make_parser
from flows.command.exits import OK
from flows.config.json_schema import KINDS, make_schemas
from lowering import files


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("schema", "Print the JSON Schema of a kind of configuration file, or write all of them.")
    parser.add_argument("kind", nargs="?", choices=KINDS, default="model", help="the kind of file (default: model)")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write DIR/KIND.json for all kinds")
    options = parser.parse_args(arguments)
    schemas = make_schemas()
    if options.write is None:
        print(json.dumps(schemas[options.kind], indent=1, ensure_ascii=False))
        return OK
    options.write.mkdir(parents=True, exist_ok=True)
    for kind, schema in schemas.items():
        files.write(options.write / f"{kind}.json", schema)
        print(options.write / f"{kind}.json")
    return OK
