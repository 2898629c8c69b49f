"""Entries of a model run together: a prompt, then steps that carry its states on, each compared with eager."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lowering.eager import inputs
from lowering.eager.module import instantiate, restore_buffers, run_eager
from lowering.errors import Problem, Refused
from lowering.model import Model
from lowering.numerics import comparison
from lowering.numerics.choices import Padding
from lowering.numerics.comparison import Comparison
from lowering.numerics.delivery.artifact import Artifact
from lowering.numerics.delivery.prompts import Names, Prompt
from lowering.numerics.running import counted
from lowering.numerics.running.bodies import find_known_ints
from lowering.numerics.running.runner import Eager, Run, Tensors, order_arguments
from lowering.numerics.running.xla import Xla
from lowering.signature import Signature
from lowering.sizes.dims import Affine

Named = Callable[[Tensors], Mapping[str, torch.Tensor]]

NAMES = Names()
TOP = 5  # most likely tokens that are compared


@dataclass(frozen=True)
class Step:
    """One run of an entry, as number `number` of a sequence. compared: each result with eager's, by name.

    top, top5: the share of rows in which both choose the same next token, and that of the five most likely tokens that both have.
    """

    entry: str
    number: int
    sizes: Mapping[str, int]
    compared: Mapping[str, Comparison]
    top: float
    top5: float = 1.0

    @property
    def agrees(self) -> bool:
        return all(found.agrees for found in self.compared.values())


@dataclass(frozen=True)
class Entry:
    """One entry of a sequence. Its program and eager return results by the name that they are handed on by.

    taken: the inputs that they take. labels: each result's name in messages. program: None if eager's results stand for those of both.
    """

    model: Model
    taken: frozenset[str]
    eager: Named
    program: Named | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def build(model: Model, signature: Signature, eager: Run, program: Run) -> Entry:
        """Return the entry of a program with its signature."""
        labels = {result.state or result.name: result.label for result in signature.returned}

        def name(run: Run) -> Named:
            return lambda given: dict(zip(labels, run(given), strict=True))

        return Entry(model, frozenset(argument.name for argument in signature.inputs), name(eager), name(program), labels)

    @staticmethod
    def of_artifact(artifact: Artifact, platform: str) -> Entry:
        """Return the entry of a packaged program. Its module is built from the model's factory."""
        xla, signature = Xla(platform), artifact.signature

        def run(given: Tensors) -> tuple[torch.Tensor, ...]:
            values = order_arguments(signature, artifact.weights, given)
            return counted.trim(signature, xla.run(artifact.program, values, find_known_ints(signature, values)))

        return Entry.build(artifact.model, signature, Eager(artifact.model, instantiate(artifact.model), signature), run)

    @staticmethod
    def of_eager(model: Model, module: torch.nn.Module) -> Entry:
        """Return an entry that only eager runs."""

        def run(given: Tensors) -> dict[str, torch.Tensor]:
            passed = {name: value.clone() for name, value in given.items()}
            with restore_buffers(module):
                returned = run_eager(module, model, passed).tensors
            return {**returned, **{name: passed[name] for name, result in model.states.items() if result not in returned}}

        return Entry(model, frozenset(model.leaves), run)

    @property
    def name(self) -> str:
        return self.model.entry or self.model.name

    def make_inputs(self, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
        """Return the inputs that the entry takes, filled as declared. Raises Refused for sizes outside their ranges."""
        if wrong := [Problem(f"{name}={sizes[name]}", f"is outside {symbol}") for name, symbol in self.model.symbols.items()
                     if not symbol.admits(sizes[name])]:
            raise Refused(wrong)
        return {name: value for name, value in inputs.make(self.model, sizes).items() if name in self.taken}

    def infer_sizes(self, carried: Tensors) -> dict[str, int]:
        """Return the sizes of the symbols that occur in the dims of the values handed on."""
        return {dim.symbol: (size - dim.offset) // dim.scale for name, value in carried.items() if name in self.model.leaves
                for dim, size in zip(self.model.leaves[name].dims(), value.shape, strict=True) if isinstance(dim, Affine)}

    def address(self, carried: Tensors) -> dict[str, torch.Tensor]:
        """Return the values handed on, by the input that takes each: the input of the result's name, or of a path that ends with it."""
        ends = {name.rpartition(".")[2]: name for name in self.taken if "." in name}
        found = {name: carried[end] for end, name in ends.items() if end in carried and end not in self.taken}
        return found | {name: value for name, value in carried.items() if name in self.taken}


def run(entries: Sequence[Artifact], sizes: Mapping[str, int], count: int, names: Names = NAMES, platform: str = "cpu",
        padding: Padding = "none") -> Iterator[Step]:
    """Run packaged entries at `sizes`, the last one `count` times, and yield each comparison with eager (see `compare`).

    Raises Refused if one of the last two lacks the tokens or the logits, or nothing is handed on.
    """
    _check(entries[-2], entries[-1], names)
    return compare([Entry.of_artifact(artifact, platform) for artifact in entries], sizes, count, names, padding)


def compare(entries: Sequence[Entry], sizes: Mapping[str, int], count: int, names: Names, padding: Padding = "none") -> Iterator[Step]:
    """Run `entries` one after another at `sizes`, the last one `count` times, and yield each comparison with eager.

    A result is handed on to the argument whose new value it is, or whose name it has; sizes follow from what is handed on. The program and
    eager each keep their own states, and both are given the tokens that eager chooses. An argument that no result is handed to keeps the
    value that an earlier entry had, and masks and positions follow the tokens (see `Prompt`).
    """
    *first, last = entries
    sequence = _Sequence(dict(sizes), names, padding)
    for number, entry in enumerate([*first, *[last] * count]):
        step = sequence.advance(entry, number)
        if entry.program is not None:
            yield step


@dataclass
class _Sequence:
    """A run of entries. ours, theirs: what the program and eager hand on, by name; shared: the other inputs, as first given."""

    sizes: dict[str, int]
    names: Names
    padding: Padding
    ours: dict[str, torch.Tensor] = field(default_factory=dict)
    theirs: dict[str, torch.Tensor] = field(default_factory=dict)
    shared: dict[str, torch.Tensor] = field(default_factory=dict)
    prompt: Prompt | None = None

    def advance(self, entry: Entry, number: int) -> Step:
        """Run an entry, keep the values that it hands on, and return the comparison."""
        at = {name: size for name, size in self.sizes.items() if name in entry.model.symbols}
        at |= entry.infer_sizes(entry.address(self.theirs))
        made = entry.make_inputs({**entry.model.examples(), **at})
        made |= {name: value for name, value in self.shared.items() if name in made and made[name].shape == value.shape}
        self.shared |= {name: value for name, value in made.items() if name not in self.theirs}
        made |= self._follow(made)
        wanted = got = entry.eager(made | entry.address(self.theirs))
        compared = {}
        if entry.program is not None:
            got = entry.program(made | entry.address(self.ours))
            compared = {entry.labels[name]: _compare(got[name], value, entry.model) for name, value in wanted.items()}
        self.ours, self.theirs = dict(got), dict(wanted)
        return Step(entry.name, number, at, compared, *self._choose())

    def _follow(self, made: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the masks and positions of the tokens of an entry, after adding those tokens."""
        prompt = made.get(self.names.tokens, made.get(self.names.embeddings))
        if prompt is None:  # an encoder
            return {}
        if self.prompt is None:
            batch, length = prompt.shape[:2]
            self.prompt = Prompt.make(batch, length, self.padding)
        else:
            self.prompt.add()
        return self.prompt.write(made, self.names)

    def _choose(self) -> tuple[float, float]:
        """Choose the next token as eager does. Return the shares of rows and of likely tokens for which the program agrees."""
        if self.names.logits not in self.theirs:  # an encoder
            return 1.0, 1.0
        ours, theirs = (side[self.names.logits][:, -1] for side in (self.ours, self.theirs))
        chosen = theirs.argmax(-1)
        most = min(TOP, theirs.shape[-1])
        both = (ours.topk(most).indices[:, :, None] == theirs.topk(most).indices[:, None]).any(-1)
        self.ours[self.names.tokens] = self.theirs[self.names.tokens] = chosen[:, None]
        return float((ours.argmax(-1) == chosen).float().mean()), float(both.float().mean())


def _compare(got: torch.Tensor, wanted: torch.Tensor, model: Model) -> Comparison:
    return comparison.compare(got, wanted, comparison.find_tolerance(wanted.dtype, model.tolerances, wanted))


def _check(prefill: Artifact, decode: Artifact, names: Names) -> None:
    problems = []
    for entry in (prefill, decode):
        taken, computed = [value.name for value in entry.signature.inputs], [value.name for value in entry.signature.returned]
        problems += [Problem(entry.model.place, f"has no {kind} '{name}'", f"{kind}s: {', '.join(known)}; --{what} names the one meant")
                     for kind, what, name, known in (("input", "tokens", names.tokens, taken), ("result", "logits", names.logits, computed))
                     if name not in known]
    handed = {result.state or result.name for result in prefill.signature.returned}
    if not handed & {argument.name for argument in decode.signature.inputs}:
        problems.append(Problem(decode.folder.name, f"takes no result of {prefill.folder.name}", "give results the names of arguments, or "
                                "declare the arguments states (docs/inputs.md)"))
    if problems:
        raise Refused(problems)
