"""Provenance of results: the source files that code may run, found by static imports, and the versions of the packages it uses.

Files are read as text and nothing is imported, so a process that loads no compiler can tell whether a result is still valid.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from lowering.custom.sources import SUFFIXES, add_headers
from lowering.store import distributions, imports, memory
from lowering.store.stamps import Stamps
from lowering.tracking import INSTALLED

OWN = Path(__file__).resolve().parents[1]
MOST_FILES = 1000  # of a folder that a model names
UNTRACKED = "untracked"  # in place of a digest
MISSING = "missing"  # in place of the digest of a file that was found, and is gone
IMPORTS = "imports"  # kind of facts that processes remember
DATA_SUFFIXES = (".cpp", ".cc", ".h", ".hpp", ".cu", ".mlir")  # files beside code that may affect its behaviour
_loaded: dict[Path, str] = {}  # digests of the files of modules that were loaded when `freeze_loaded` was called
_imported: dict[tuple[Path, str], tuple[str, ...]] = {}  # by file and package, what it imported when it was last read
stamps = Stamps()  # of the own files and folders that were looked at: while they are the same, so is what follows from them
_frozen: dict[str, object] = {}  # by name, the specs of those modules: a reloaded module has a different spec
_inherited: tuple[int, int, str] | None = None  # process that froze modules to be inherited, their number, and the one loaded last


def freeze_for_forks(*names: str) -> None:
    """Record the source of every loaded module, and of all that `names` import, for all processes that are forked from this one."""
    global _inherited
    freeze_loaded()
    digest_sources(*names)  # cached, so that forked processes need not find it again
    _inherited = os.getpid(), *_mark_loaded()


def _mark_loaded() -> tuple[int, str]:
    return len(sys.modules), next(reversed(sys.modules))


def freeze_loaded() -> None:
    """Record the source of every loaded module. Later edits change neither the loaded code nor the keys of its results."""
    if _inherited is not None and _inherited[0] != os.getpid() and _inherited[1:] == _mark_loaded():
        return  # forked from the process that did it, and nothing was loaded since: a look at every module would copy its memory
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        spec = getattr(module, "__spec__", None) or module
        if _frozen.get(name) is spec or not isinstance(file, str) or not file.endswith(".py") or not Path(file).is_absolute():
            continue  # some modules of torch claim files that do not exist
        _frozen[name] = spec
        path = Path(file).resolve()
        if not _is_own(path):
            continue
        with suppress(OSError):  # it is gone already
            digest = _compute_digest(path.read_bytes())
            if _loaded.setdefault(path, digest) != digest:  # it was loaded again
                _loaded[path] = digest
                stamps.renew()


def digest_sources(*names: str) -> dict[str, str]:
    """Return the digest of every own file that the modules `names` import, directly or not, by path.

    Excludes installed packages (see `list_versions`). A file that moves or vanishes while a run is on is that of the loaded module, or
    MISSING if there is none.
    """
    return dict(sorted(_merge(found for found, _ in _find_all(names)).items()))


def list_versions(*names: str) -> dict[str, str]:
    """Return the version of Python and of every installed package that the modules `names` import, directly or not."""
    return _merge(versions for _, versions in _find_all(names)) or distributions.read_versions(())


def _find_all(names: Iterable[str]) -> list[tuple[dict[str, str], dict[str, str]]]:
    generation = stamps.count_changes()
    return [_find_provenance(module, generation) for module in dict.fromkeys(_find_module(name, generation) for name in names)]


def _merge(parts: Iterable[dict[str, str]]) -> dict[str, str]:
    return {name: value for part in parts for name, value in part.items()}


def _find_module(name: str, generation: int) -> str:
    """Return the module or package that the object at the dotted `name` comes from, by its files."""
    files = _resolve(name, generation)
    while "." in name and _resolve(above := name.rpartition(".")[0], generation) == files:
        name = above
    return name


@lru_cache(maxsize=256)
def _find_provenance(name: str, generation: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return the digests of the own files, and the versions of the packages, that the module `name` imports, directly or not."""
    files, outside = _follow_imports(name, generation)
    digests = {_shorten_path(file): _loaded.get(file) or _digest_source(file) for file in sorted(files)}
    return digests, distributions.read_versions(outside)


def list_targets(spec: Any) -> list[str]:
    """List the dotted path of every `_target_` in a recipe, without duplicates."""
    return list(dict.fromkeys(_walk_targets(spec)))


def digest_named_files(data: Any) -> dict[str, str]:
    """Return the digest of every file that a string in `data` names by path: libraries, checkpoints, graphs.

    Includes the files in named folders, and the headers that C++ files include from beside them. A folder with more than MOST_FILES files,
    such as `/`, is not what a model reads: it is UNTRACKED.
    """
    found: dict[str, str] = {}
    for text in _walk_strings(data):
        if not ("/" in text or "." in text) or len(text) >= 1024 or "\0" in text:
            continue
        try:
            path = Path(text).expanduser()
            files = _list_files(path) if path.is_dir() else [*add_headers([path])] if path.suffix in SUFFIXES else [path]
        except (OSError, RuntimeError):  # no such user, or a name that is too long: not a path
            continue
        if files is None:
            found[text] = UNTRACKED
            continue
        for file in files:
            with suppress(OSError):  # it cannot be read, by the model either
                if file.is_file() and not file.resolve().is_relative_to("/proc"):
                    found[str(file)] = _compute_file_digest(file, *_read_stamp(file))
    return found


def _list_files(folder: Path) -> list[Path] | None:
    """Return the files below a folder, sorted; None if there are more than MOST_FILES."""
    found: list[Path] = []
    for above, _, names in os.walk(folder):
        found += [Path(above, name) for name in names]
        if len(found) > MOST_FILES:
            return None
    return sorted(found)


def describe_devices(environment: Mapping[str, str]) -> dict[str, Any]:
    """Describe the devices that a stage can run programs on, as far as they may affect results: the models of the visible GPUs."""
    hidden = environment.get("CUDA_VISIBLE_DEVICES") == ""
    cards = [] if hidden else sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = {line.partition(":")[2].strip() for card in cards for line in card.read_text().splitlines() if line.startswith("Model:")}
    return {"gpus": sorted(models)}


def _follow_imports(start: str, generation: int) -> tuple[set[Path], set[str]]:
    """Return the own files, and the top-level names of all other modules, that importing `start` may reach."""
    files: set[Path] = set()
    outside: set[str] = set()
    waiting = [start]
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        found = _resolve(name, generation)
        if not found:
            outside.add(name.partition(".")[0])
        for file in found - files:
            files.add(file)
            files |= _list_data_files(file.parent)
            for wanted in _find_imports(file, imports.find_package(file, name)):
                if wanted not in seen:
                    seen.add(wanted)
                    waiting.append(wanted)
    return files, outside


@lru_cache(maxsize=16384)
def _resolve(name: str, _generation: int) -> frozenset[Path]:
    """Return the own files that importing the dotted `name` runs: its packages and its module. Trailing attributes are ignored."""
    parts = name.split(".")
    folders = _locate_top_level(parts[0])
    found: set[Path] = set()
    for depth, part in enumerate(parts):
        places = [place for folder in folders for place in ((folder / part) if depth else folder,)]
        for folder in folders:
            if _is_own(folder):
                stamps.read(folder)
        files = [file for place in places for file in (place / "__init__.py", place.with_name(place.name + ".py")) if _exists(file)]
        folders = [place for place in places if place.is_dir() or place / "__init__.py" in _loaded]
        if not files and not folders:
            break
        found.update(file for file in files[:1] if _is_own(file))
    return frozenset(found)


@cache
def _locate_top_level(top: str) -> list[Path]:
    """Return the locations of the top-level module `top`: its folder, or its file without the suffix."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder).resolve() for folder in spec.submodule_search_locations]
    return [Path(spec.origin).resolve().with_suffix("")] if spec.origin and spec.origin.endswith(".py") else []


def _is_own(file: Path) -> bool:
    return file.is_relative_to(OWN) or not any(file.is_relative_to(folder) for folder in INSTALLED)


def _exists(file: Path) -> bool:
    return file.is_file() or file in _loaded


def _find_imports(file: Path, package: str) -> tuple[str, ...]:
    """Return the dotted names that `file` imports; of a file that is gone, those of when it was last read."""
    with suppress(OSError):
        _imported[file, package] = _list_imports(file, package, *_read_stamp(file))
    return _imported.get((file, package), ())


@cache
def _list_imports(file: Path, package: str, _modified: int, _size: int) -> tuple[str, ...]:
    """Return the dotted names that the code of `file` imports anywhere. A name imported from a package may be one of its modules."""
    content = file.read_bytes()
    key = f"{_compute_digest(content)} {package} {'.'.join(map(str, sys.version_info[:2]))}"
    return tuple(memory.find(IMPORTS, key, lambda: imports.parse(content, package)))


@cache
def _list_data_files(folder: Path) -> frozenset[Path]:
    if not folder.is_relative_to(OWN):
        return frozenset()
    with suppress(OSError):
        return frozenset(file for file in folder.iterdir() if file.suffix in DATA_SUFFIXES)
    return frozenset()


@cache
def _shorten_path(file: Path) -> str:
    return str(file.relative_to(OWN.parent)) if file.is_relative_to(OWN.parent) else str(file)


def _read_stamp(file: Path) -> tuple[int, int]:
    if (stamp := stamps.read(file)) is None:
        raise FileNotFoundError(file)
    return stamp


@cache
def _compute_file_digest(file: Path, _modified: int, _size: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _digest_source(file: Path) -> str:
    with suppress(OSError):
        return _compute_file_digest(file, *_read_stamp(file))
    return MISSING


def _compute_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _walk_targets(spec: Any) -> Iterator[str]:
    if isinstance(spec, Mapping):
        if isinstance(spec.get("_target_"), str):
            yield spec["_target_"]
        for value in spec.values():
            yield from _walk_targets(value)
    elif isinstance(spec, list | tuple):
        for value in spec:
            yield from _walk_targets(value)


def _walk_strings(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _walk_strings(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _walk_strings(value)
