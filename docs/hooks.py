"""Hooks of the documentation site: the reference pages are written from the types, options and commands themselves."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PLACE = "reference"
sys.path.insert(0, str(ROOT))


def on_pre_build(config: Any) -> None:
    """Write docs/reference/*.md."""
    folder = Path(config["docs_dir"]) / PLACE
    folder.mkdir(exist_ok=True)
    for name, text in make_pages().items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to files outside of docs/ to their copies in the site, or name the file where there is no copy."""
    copied = markdown.replace("](../benchmarks/RESULTS.md)", f"]({PLACE}/benchmarks.md)")
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#]+)\)", r"\1 (`\2` in the repository)", copied)


def make_pages() -> dict[str, str]:
    """Return the text of each reference page by its name."""
    from flows.config.json_schema import make_schemas
    from flows.report.record_schemas import make_record_schemas

    schemas, records = make_schemas(), make_record_schemas()
    return {
        "commands": "\n".join(_commands()),
        "model": "\n".join(_schema_page("The model file", schemas["model"], "A file of `configs/model/`, or of a folder of your own.")),
        "suite": "\n".join(_schema_page("The suite file", schemas["suite"], "A file of `configs/suite/`.")),
        "pipeline": "\n".join(_schema_page("The pipeline", schemas["pipeline"], "`pipeline.yaml`, and every key of a command line.")),
        "cluster": "\n".join(_schema_page("The cluster file", schemas["cluster"], "A file of `configs/cluster/`.")),
        "stages": "\n".join(_stages()),
        "records": "\n".join(_records(records)),
        "benchmarks": (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"),
    }


def _commands() -> Iterator[str]:
    from flows.command.verbs import USAGE, VERBS, read_help

    yield from ("# Commands", "", "```text", USAGE.rstrip(), "```")
    for verb in VERBS:
        yield from ("", f"## {verb}", "", "```text", read_help(verb), "```")


def _schema_page(title: str, schema: Mapping[str, Any], intro: str) -> Iterator[str]:
    yield from (f"# {title}", "", intro, "", schema.get("description", ""), "")
    yield from _table(schema.get("properties", {}))


def _table(properties: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    yield from ("| key | value | meaning |", "| --- | --- | --- |")
    yield from _rows(properties, prefix)


def _rows(properties: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, schema in properties.items():
        text = _cell(schema.get("description") or _find_record(schema).get("description", ""))
        yield f"| `{prefix}{name}` | {_describe(schema)} | {text} |"
        inner = _find_record(schema).get("properties")
        if inner and name != "stages" and prefix.count(".") < 2:
            yield from _rows(inner, f"{prefix}{name}.{_key_of(schema)}")


def _key_of(schema: Mapping[str, Any]) -> str:
    """Return the placeholder of a key that the author chooses, if the schema is a mapping of records."""
    return "NAME." if any("additionalProperties" in one and "properties" not in one for one in _alternatives(schema)) else ""


def _alternatives(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for key in ("anyOf", "allOf"):
        for one in schema.get(key, ()):
            yield from _alternatives(one)


def _find_record(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    for one in _alternatives(schema):
        if "properties" in one:
            return one
        if isinstance(one.get("additionalProperties"), Mapping):
            return _find_record(one["additionalProperties"])
    return {}


def _describe(schema: Mapping[str, Any]) -> str:
    found: list[str] = []
    for one in _alternatives(schema):
        if "enum" in one:
            found += [f"`{value}`" for value in one["enum"]]
        elif one.get("pattern"):
            continue  # an interpolation, which may stand anywhere
        elif isinstance(kind := one.get("type"), str):
            found.append({"object": "mapping", "array": "list"}.get(kind, kind))
        elif "$ref" in one:
            found.append("[tree](../inputs.md)")
    bounds = [f"{word} {one[key]}" for one in _alternatives(schema) for key, word in
              (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤")) if key in one]  # fmt: skip
    return _cell(" or ".join(dict.fromkeys(found)) + (f", {', '.join(bounds)}" if bounds else ""))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _stages() -> Iterator[str]:
    """Yield the options of each stage of the pipeline, with the docstring of its class."""
    import yaml

    from flows.config.json_schema import make_schemas, read_fields

    properties = make_schemas()["stages"]["properties"]
    pipeline = yaml.safe_load((ROOT / "pipeline.yaml").read_text(encoding="utf-8"))["stages"]
    yield from ("# Stages", "", "An option is set for all jobs by `stages.STAGE.OPTION=VALUE`, and for one model by `stages` in its file.")
    for name, spec in pipeline.items():
        if not spec:
            continue
        module, _, kind = spec["_target_"].rpartition(".")
        text = getattr(importlib.import_module(module), kind).__doc__ or ""
        first = text.split("\n\n", 1)[0]
        (record,) = [one for one in properties[name]["anyOf"] if "then" in one]
        texts = read_fields(_read_docs(getattr(importlib.import_module(module), kind)), list(record["then"]["properties"]))
        options = {option: {**schema, "description": texts.get(option, "")} for option, schema in record["then"]["properties"].items()
                   if option != "_target_"}  # fmt: skip
        yield from ("", f"## {name}", "", " ".join(first.split()), "")
        if options:
            yield from _table(options, f"stages.{name}.")
        else:
            yield "It has no options."


def _read_docs(kind: type) -> str:
    """Return the docstrings of a class and of the classes that it extends: each documents its own options."""
    own = [one.__doc__ or "" for one in reversed(kind.__mro__) if one.__module__.startswith("lowering.")]
    return re.sub(r"^ +", "", "\n\n".join(own), flags=re.MULTILINE)


def _records(records: Mapping[str, Any]) -> Iterator[str]:
    yield from ("# Records", "", "`shapeline schema NAME` prints the JSON Schema of a record. Ignore keys that you do not know.")
    for name, schema in records.items():
        yield from ("", f"## {name}.json", "", schema.get("description", ""), "")
        yield from _table(schema["properties"])
