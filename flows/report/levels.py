"""The IR files of a job, with a digest of each that is independent of names and locations."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowering import files
from lowering.fitting import find_misfit
from lowering.ir import text_files
from lowering.ir.annotations import strip
from lowering.plain import from_plain, to_plain
from lowering.record.folder import LEVELS as LEVELS
from lowering.record.folder import MANIFEST

IR = (".py", ".ts", ".mlir")
_STAGE_FILE = re.compile(r"\d\d-")
_VALUE = re.compile(r"%[\w$.-]+")
_LOCATION = re.compile(r" loc\((?:[^()\"]|\"[^\"]*\"|\([^()]*\))*\)$")
_SCRIPT_LINE = re.compile(r" # \S+:\d+:\d+$")
_DEFINED = re.compile(r"^\s*(\w+)(?:: \"[^\"]*\")? = ", re.MULTILINE)
_PARAMETER = re.compile(r"[(,]\s*(\w+)(?=: \"|\s*[,)])")


@dataclass(frozen=True)
class LevelFile:
    """An IR file of a job. stem: `04-stablehlo`; size: bytes of its text; digest: of its text without SSA names, locations and comments."""

    stem: str
    file: str
    lines: int
    size: int
    digest: str


def list_files(folder: Path) -> list[Path]:
    """Return the IR files in a job's folder, plain or compressed, in the order in which they were written."""
    if not folder.is_dir():
        return []
    files_here = (path for path in folder.iterdir() if not path.is_symlink() and path.is_file())
    return sorted(path for path in files_here if text_files.text_suffix(path) in IR and _STAGE_FILE.match(path.name))


def describe_files(folder: Path) -> list[LevelFile]:
    """Return the metadata of a job's IR files. It is stored in levels.json, so that it outlives the files. Raises OSError."""
    record, manifest = folder / LEVELS, folder / MANIFEST
    try:
        if record.stat().st_mtime_ns >= manifest.stat().st_mtime_ns:
            rows = files.read(record)
            if not find_misfit(tuple[LevelFile, ...], rows):
                return list(from_plain(tuple[LevelFile, ...], rows))
    except (OSError, ValueError):
        pass  # missing, older than the job's result, or of another version: rebuild it
    found = [_measure(path) for path in list_files(folder)]
    if folder.is_dir():
        files.write_bytes(record, files.encode(files.encode_json(to_plain(found)) + "\n"), durable=False)  # a truncated file is rebuilt
    return found


def to_json(folder: Path) -> list[dict[str, Any]]:
    return [to_plain(level) for level in describe_files(folder)]


def read_text(path: Path) -> str:
    """Return the text of an IR file, or an error line if the file is damaged. Raises OSError."""
    try:
        return text_files.read_text(path)
    except ValueError as error:
        return f"{error}\n"


def measure_text(path: Path) -> int:
    """Return the bytes of the text of an IR file, or of the file itself if it is damaged. Raises OSError."""
    try:
        return text_files.text_size(path)
    except ValueError:
        return path.stat().st_size


def normalize(text: str, suffix: str) -> str:
    """Return IR text with its names numbered in order, without locations, comments and blank lines, so that equal programs are equal."""
    if suffix == ".py":
        return _normalize_python(text)
    lines = strip(text).splitlines()
    kept = [_SCRIPT_LINE.sub("", _LOCATION.sub("", line)).rstrip() for line in lines if not line.startswith(("#loc", "//"))]
    names: dict[str, str] = {}
    return _VALUE.sub(lambda found: names.setdefault(found[0], f"%{len(names)}"), "\n".join(line for line in kept if line))


def _normalize_python(text: str) -> str:
    """Return FX code with its parameters and the names it defines renamed."""
    body = "\n".join(line.rstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    head, _, rest = body.partition("):\n")
    defined = dict.fromkeys([*_PARAMETER.findall(head), *_DEFINED.findall(rest)])
    names = {name: f"v{number}" for number, name in enumerate(defined) if name not in ("self", "torch")}
    return re.sub(r"(?<![\w.\"])[A-Za-z_]\w*", lambda found: names.get(found[0], found[0]), body)


def _measure(path: Path) -> LevelFile:
    content = read_text(path)
    digest = hashlib.sha256(normalize(content, text_files.text_suffix(path)).encode()).hexdigest()[:16]
    return LevelFile(path.name.split(".", 1)[0], path.name, content.count("\n"), measure_text(path), digest)
