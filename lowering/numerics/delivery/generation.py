"""A program of one step of generation run as a model is served: after prompts of several lengths, with its states carried on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lowering.eager.module import instantiate
from lowering.errors import Problem
from lowering.level import Program
from lowering.model import Model, Symbol
from lowering.numerics.bench import Bench
from lowering.numerics.choices import Padding
from lowering.numerics.delivery import steps
from lowering.numerics.delivery.prompts import Names, find_logits, find_tokens
from lowering.numerics.delivery.steps import Entry, Step
from lowering.numerics.running.runner import make_runner
from lowering.numerics.running.xla import Xla
from lowering.sizes.dims import Affine

# Sequences, tokens of the prompt, and the side of its padding. Growing caches of equal batches share most of their compiled steps.
PLANS: tuple[tuple[int, int, Padding], ...] = ((2, 5, "left"), (2, 7, "right"), (1, 9, "none"))


@dataclass(frozen=True)
class Walk:
    """A prompt and the steps after it, compared with eager. top, top5: the least of any step (see `Step`)."""

    sizes: Mapping[str, int]
    padding: Padding
    count: int
    top: float
    top5: float
    max_abs: float
    problems: tuple[Problem, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"sizes": dict(self.sizes), "padding": self.padding, "steps": self.count, "top1": self.top, "top5": self.top5,
                "max_abs": self.max_abs}


def check(program: Program, bench: Bench, count: int) -> Iterator[Walk]:
    """Run the entries that a model comes `after` by eager, then `count` steps of `program`, for each of PLANS that its ranges admit.

    The program starts from eager's states, and goes on with its own. Tokens are eager's. Raises ShapelineError if an entry cannot run.
    """
    chain = [bench.model]
    while chain[0].after is not None:
        chain.insert(0, chain[0].after)
    results = [result.name for result in bench.signature.returned] if bench.signature else []
    names = Names(find_tokens(bench.model.leaves), find_logits(results))
    prompt = chain[-2].leaves.get(names.tokens, chain[-2].leaves.get(names.embeddings))
    if len(chain) == 1 or prompt is None or bench.signature is None:
        return
    device = Xla(next(iter(bench.platforms)), effort="quick")
    modules = [bench.built.module if model.method == bench.model.method else instantiate(model) for model in chain[:-1]]
    before = [Entry.of_eager(model, module) for model, module in zip(chain, modules, strict=False)]
    entries = [*before, Entry.build(bench.model, bench.signature, bench.eager, make_runner(program, device))]
    batch, length = (dim.symbol if isinstance(dim, Affine) else None for dim in prompt.dims()[:2])
    done = set()
    for sequences, tokens, padding in PLANS:
        most = _find_most_tokens(bench.model, names) - count
        sizes = {name: _fit(chain[-2].symbols[name], size, limit) for name, size, limit in
                 ((batch, sequences, sequences), (length, tokens, most)) if name is not None}
        side = padding if names.mask in chain[-2].leaves else "none"
        if (key := (tuple(sizes.values()), side)) not in done:
            done.add(key)
            yield _walk(entries, sizes, count, names, side)


def find_obstacle(model: Model) -> str | None:
    """Return why the steps of a model that comes `after` another cannot be run, or None."""
    names = Names(find_tokens(model.leaves))
    if names.tokens in model.leaves or names.embeddings in model.leaves:
        return None
    return "no input is called input_ids, decoder_input_ids or inputs_embeds, so no steps were run: `shapeline steps` takes other names"


def _walk(entries: list[Entry], sizes: Mapping[str, int], count: int, names: Names, padding: Padding) -> Walk:
    found: list[Step] = []
    at = f"{', '.join(f'{name}={size}' for name, size in sizes.items())}, padding {padding}"
    for step in steps.compare(entries, sizes, count, names, padding):
        found.append(step)
        if not step.agrees:
            break
    number = len(found)
    problems = tuple(Problem(f"output '{name}' of step {number} of {entries[-1].name} after a prompt ({at})", compared.detail)
                     for name, compared in found[-1].compared.items() if not compared.agrees)
    largest = max((compared.max_abs for step in found for compared in step.compared.values()), default=0.0)
    return Walk(sizes, padding, number, min(step.top for step in found), min(step.top5 for step in found), largest, problems)


def _find_most_tokens(model: Model, names: Names) -> int:
    """Return how many tokens can precede a step: the largest size of a growing state, or the length of a mask of fixed size."""
    mask = model.leaves.get(names.mask)
    dim = mask.dims()[-1] if mask is not None else None
    if isinstance(dim, int):
        return dim
    grown = [model.symbols[dim.symbol] for dim in (dim,) if isinstance(dim, Affine)]
    return min((symbol.max for symbol in grown if symbol.max is not None), default=1 << 20) + 1


def _fit(symbol: Symbol, size: int, most: int) -> int:
    """Return the admitted size nearest below `size` and `most`, or else the smallest."""
    wanted = min(size, most, symbol.max if symbol.max is not None else size)
    return max(symbol.smallest, wanted - wanted % symbol.multiple_of)


