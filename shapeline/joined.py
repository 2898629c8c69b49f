"""`join`: the entries of a model as one program, with a function per entry and every weight once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from lowering.errors import ConfigError, Problem
from lowering.ir import joining
from lowering.level import Level
from lowering.numerics.delivery import joined, packaging
from lowering.numerics.delivery.joined import Part
from lowering.signature import Signature
from shapeline.lowered import MLIR, Lowered, Text, Texts


def join(entries: Mapping[str, Lowered]) -> Joined:
    """Join modules that were lowered to MHLO, by the names that their functions get.

        program = shapeline.join({"prefill": shapeline.lower(…), "decode": shapeline.lower(…)})
        program.mlir["mhlo"]                                  # one module with @prefill and @decode
        program["decode"](…)                                  # runs that function

    Weights that are equal in several entries get one name (see `Joined.weights`). Raises ConfigError, StageFailed.
    """
    if not entries:
        raise ConfigError(Problem("entries", "are empty", "give the name and the lowered module of at least one"))
    if early := [name for name, entry in entries.items() if entry.program.level is not Level.MHLO]:
        raise ConfigError([Problem(f"entry '{name}'", f"is lowered to {entries[name].program.level.word} only", "lower it to mhlo")
                           for name in early])  # fmt: skip
    return Joined(dict(entries))


@dataclass(frozen=True)
class Joined(Mapping[str, Lowered]):
    """A program of several entries: a mapping from their names to what runs each function of it."""

    entries: Mapping[str, Lowered]

    @cached_property
    def mlir(self) -> Mapping[str, Text]:
        """The module with all functions by level: `torch`, `stablehlo`, `mhlo`, as far as all entries passed through it."""
        words = [level.word for level in MLIR if all(level.word in entry.mlir for entry in self.entries.values())]
        modules = {word: {name: entry.mlir[word].module for name, entry in self.entries.items()} for word in words}
        return Texts({word: Text(joining.join(parts)) for word, parts in modules.items()})

    @cached_property
    def signatures(self) -> Mapping[str, Signature]:
        """The signature of each function, whose weights have their names in `weights`."""
        return {name: joined.rename(entry.signature, self._names[name]) for name, entry in self.entries.items()}

    @cached_property
    def weights(self) -> Mapping[str, torch.Tensor]:
        """The weights of all functions, each once."""
        return {self._names[name][weight]: tensor for name, entry in self.entries.items() for weight, tensor in entry.weights.items()}

    def save(self, folder: str | Path) -> list[Path]:
        """Write the module of every level (`mhlo.mlir`, ...), and what `shapeline exec FOLDER --entry ENTRY` runs. Raises OSError."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for word, text in self.mlir.items():
            path = folder / f"{word}.mlir"
            path.write_text(str(text), encoding="utf-8")
            paths.append(path)
        return paths + joined.save(self._parts, folder, packaging.locate_store(folder))

    def __getitem__(self, name: str) -> Lowered:
        return self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def _functions(self) -> Mapping[str, Lowered]:
        """The entries, whose MHLO is taken from the joined module."""
        whole = self.mlir[Level.MHLO.word].module
        return {name: replace(entry, program=replace(entry.program, ir=joining.extract(whole, name)))
                for name, entry in self.entries.items()}

    @cached_property
    def _parts(self) -> Mapping[str, Part]:
        return {name: Part.from_program(entry.program) for name, entry in self.entries.items()}

    @cached_property
    def _names(self) -> Mapping[str, Mapping[str, str]]:
        return joined.unify(self._parts)

    def __repr__(self) -> str:
        return f"Joined({', '.join(f'@{name}' for name in self.entries)}; {len(self.weights)} weights)"
