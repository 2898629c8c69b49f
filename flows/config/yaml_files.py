"""YAML files, checked before anything composes them: UTF-8, of bounded size and depth, with anchors that neither recurse nor explode."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from lowering import files

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's takes a tenth of the time


class Loader(_BASE):  # type: ignore[misc]
    """Reads scalars as OmegaConf does, so that a file means the same with and without Hydra."""

    yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers


class UniqueLoader(Loader):
    """Refuses duplicate keys, as OmegaConf does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if key.tag == yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"found duplicate key {key.value}", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


LARGEST = 4 << 20  # bytes of a file
DEEPEST = 60  # nested collections; deeper ones exhaust the stacks of YAML's and OmegaConf's readers
MOST = 200_000  # values of a file, counting those that an alias repeats
WIDTH = 140  # columns of a line that is written


class Unreadable(Exception):
    """A file cannot be read as YAML. line: where, or 0."""

    def __init__(self, cause: str, line: int = 0):
        self.line = line
        super().__init__(cause)


def read(file: Path, unique: bool = True) -> Any:
    """Return the content of a file, which must not be changed: it is cached. Raises Unreadable.

    unique: refuse duplicate keys; else the last one counts.
    """
    try:
        stamp = file.stat()
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    found = _read(file, unique, stamp.st_mtime_ns, stamp.st_size)
    if isinstance(found, Unreadable):
        raise Unreadable(str(found), found.line)
    return found


def read_text(file: Path) -> str:
    """Return the text of a file. Raises Unreadable if it is no regular file, too large, or not UTF-8."""
    try:
        with files.open_regular(file.resolve()) as opened:
            content = opened.read(LARGEST + 1)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    if len(content) > LARGEST:
        raise Unreadable(f"is larger than {LARGEST >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8: {error.reason} {content[error.start]:#04x}", content[: error.start].count(b"\n") + 1) from None


def load(text: str, loader: Any = UniqueLoader) -> Any:
    """Return the content of a YAML text. Raises Unreadable."""
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        raise Unreadable(f"is not valid YAML: {error.problem}", error.problem_mark.line + 1 if error.problem_mark else 0) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError) as error:  # also of constructors: dates, long numbers
        raise Unreadable(f"is not valid YAML: {str(error).splitlines()[0]}") from None


@lru_cache(maxsize=4096)
def _read(file: Path, unique: bool, _modified: int, _size: int) -> Any:
    """Return the content of a file, or the error."""
    try:
        text = read_text(file)
        _count(text)
        return load(text, UniqueLoader if unique else Loader)
    except Unreadable as error:
        return error


def _count(text: str) -> None:
    """Check the depth and the number of values of a text. Raises Unreadable."""
    sizes: dict[str, int | None] = {}  # of anchors; None: not complete
    open_ones: list[tuple[str | None, int]] = []
    total = 0
    for event in _parse(text):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_ones) >= DEEPEST:
                raise Unreadable(f"nests deeper than {DEEPEST} levels", line)
            if event.anchor:
                sizes[event.anchor] = None
            open_ones.append((event.anchor, total))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_ones.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor or "", 1)
            if size is None:
                raise Unreadable(f"the alias '*{event.anchor}' contains itself", line)
            total += size
        elif isinstance(event, yaml.ScalarEvent) and event.anchor:
            sizes[event.anchor] = 1
        total += 1
        if total > MOST:
            raise Unreadable(f"has more than {MOST} values, with those that aliases repeat", line)


def _parse(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_BASE)
    except yaml.MarkedYAMLError as error:
        raise Unreadable(f"is not valid YAML: {error.problem}", error.problem_mark.line + 1 if error.problem_mark else 0) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Unreadable(f"is not valid YAML: {str(error).splitlines()[0]}") from None


def render_sections(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of a file with a row for each key of each section, in the form of the shipped models."""
    return "".join(f"{key}:\n" + "".join(map(_render_row, section, section.values())) for key, section in sections.items())


def _render_row(key: str, value: Any) -> str:
    """Return `key: value` in flow style, broken after commas at WIDTH columns: YAML reads a line break in a flow value as a space."""
    text = str(yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True))
    lines = [f"  {key}:"]
    for part in re.split(r"(?<=,) ", text.removesuffix("...\n").strip()):
        fits = len(lines[-1]) + 1 + len(part) <= WIDTH or lines == [f"  {key}:"]
        lines[-1:] = [f"{lines[-1]} {part}"] if fits else [lines[-1], f"    {part}"]
    return "\n".join(lines) + "\n"
