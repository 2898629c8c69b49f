"""`shapeline schema`: print or write the JSON Schemas of configuration files and of records, for editors and other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from flows.command.arguments import make_parser
from flows.command.exits import OK
from flows.config.json_schema import KINDS, make_schemas
from flows.report.record_schemas import RECORDS, make_record_schemas
from lowering import files


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("schema", "Print the JSON Schema of a kind of configuration file or record, or write all of a sort.")
    parser.add_argument("kind", nargs="?", choices=(*KINDS, *RECORDS), default="model", help="the kind of file (default: model)")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write DIR/KIND.json for all configuration files")
    parser.add_argument("--records", action="store_true", help="with --write: those of the records instead")
    options = parser.parse_args(arguments)
    if options.records and options.write is None:
        parser.error("--records needs --write DIR; name one to print it: shapeline schema report")
    schemas = make_record_schemas() if options.records or options.kind in RECORDS else make_schemas()
    if options.write is None:
        print(json.dumps(schemas[options.kind], indent=1, ensure_ascii=False))
        return OK
    options.write.mkdir(parents=True, exist_ok=True)
    for kind, schema in schemas.items():
        files.write(options.write / f"{kind}.json", schema)
        print(options.write / f"{kind}.json")
    return OK
