"""Entries of a model run together: a prompt, then steps that carry its states on, each compared with eager."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from lowering.eager import inputs
from lowering.eager.module import instantiate
from lowering.errors import Problem, Refused
from lowering.numerics import comparison, counted
from lowering.numerics.artifact import Artifact
from lowering.numerics.comparison import Comparison
from lowering.numerics.points import Space
from lowering.numerics.runner import Eager, Tensors, arguments, known_values, label_of, results_of
from lowering.numerics.xla import Xla
from lowering.sizes.dims import Affine


@dataclass(frozen=True)
class Step:
    """One run of an entry, as number `number` of a sequence. compared: each result with eager's, by name.

    top: the share of rows in which both choose the same next token.
    """

    entry: str
    number: int
    sizes: Mapping[str, int]
    compared: Mapping[str, Comparison]
    top: float

    @property
    def agrees(self) -> bool:
        return all(found.agrees for found in self.compared.values())


def run(prefill: Artifact, decode: Artifact, sizes: Mapping[str, int], count: int, tokens: str, logits: str,
        platform: str = "cpu") -> Iterator[Step]:
    """Run `prefill` at `sizes`, then `decode` `count` times, and yield each comparison with eager.

    A result is handed on to the argument whose new value it is, or whose name it has; sizes follow from what is handed on. The program and
    eager each keep their own states, and both are given the tokens that eager chooses.
    tokens: the argument that takes a token per row. logits: the result that chooses the next one, of shape [batch, tokens, vocabulary].

    Raises Refused if an entry lacks one of the two, or nothing is handed on.
    """
    _check(prefill, decode, tokens, logits)
    programs = {id(entry): (Xla(platform), Eager(entry.model, instantiate(entry.model), entry.signature)) for entry in (prefill, decode)}
    ours: dict[str, torch.Tensor] = {}
    theirs: dict[str, torch.Tensor] = {}
    for number, entry in enumerate([prefill] + [decode] * count):
        xla, eager = programs[id(entry)]
        at = {name: size for name, size in sizes.items() if name in entry.model.symbols} | _infer_sizes(entry, theirs)
        made = _make_inputs(entry, at)
        wanted = eager({**made, **_select(theirs, made)})
        given = arguments(entry.signature, entry.weights, {**made, **_select(ours, made)})
        got = counted.trim(entry.signature, xla.run(entry.program, given, known_values(entry.signature, given)))
        results = results_of(entry.signature)
        compared = {label_of(result): comparison.compare(one, other, comparison.tolerance_of(other.dtype, entry.model.tolerances, other))
                    for result, one, other in zip(results, got, wanted, strict=True)}
        ours, theirs = ({result.state or result.name: value for result, value in zip(results, values, strict=True)}
                        for values in (got, wanted))
        chosen = theirs[logits][:, -1].argmax(-1)
        top = float((ours[logits][:, -1].argmax(-1) == chosen).float().mean())
        ours[tokens] = theirs[tokens] = chosen[:, None]
        yield Step(entry.model.entry or entry.model.name, number, at, compared, top)


def _check(prefill: Artifact, decode: Artifact, tokens: str, logits: str) -> None:
    problems = []
    for entry in (prefill, decode):
        taken, computed = [value.name for value in entry.signature.inputs], [value.name for value in results_of(entry.signature)]
        problems += [Problem(entry.folder.name, f"has no {kind} '{name}'", f"{kind}s: {', '.join(known)}")
                     for kind, name, known in (("input", tokens, taken), ("result", logits, computed)) if name not in known]
    handed = {result.state or result.name for result in results_of(prefill.signature)}
    if not handed & {argument.name for argument in decode.signature.inputs}:
        problems.append(Problem(decode.folder.name, f"takes no result of {prefill.folder.name}", "give results the names of arguments, or "
                                "declare the arguments states (docs/inputs.md)"))
    if problems:
        raise Refused(problems)


def _infer_sizes(entry: Artifact, carried: Tensors) -> dict[str, int]:
    """Return the sizes of the symbols that occur in the dims of what is handed on."""
    return {dim.symbol: (size - dim.offset) // dim.scale for name, value in carried.items() if name in entry.model.leaves
            for dim, size in zip(entry.model.leaves[name].dims(), value.shape, strict=True) if isinstance(dim, Affine)}


def _make_inputs(entry: Artifact, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    space = Space.of(entry.model, entry.signature)
    full = {**space.example, **sizes}
    if wrong := [Problem(f"{name}={full[name]}", f"is outside {symbol}") for name, symbol in space.symbols.items()
                 if not symbol.admits(full[name])]:
        raise Refused(wrong)
    names = {argument.name for argument in entry.signature.inputs}
    return {name: value for name, value in inputs.make(entry.model, space.arguments(full)).items() if name in names}


def _select(carried: Tensors, made: Tensors) -> dict[str, torch.Tensor]:
    return {name: value for name, value in carried.items() if name in made}
