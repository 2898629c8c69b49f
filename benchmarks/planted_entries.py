"""Faults of benchmarks.planted in the program that joins the entries of a model, planted after each entry was verified and packaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.planting import Fault, both, rule, swap
from lowering.ir import joining as modules
from lowering.ir import mlir, portable
from lowering.model import Input, Model, Symbol
from lowering.numerics.delivery import joined
from lowering.record.joining import Joining
from lowering.worker import joining

LENGTH, WIDTH = 16, 8


class Generating(nn.Module):
    """A decoder that writes two caches, one with a smaller layer that proposes its tokens, and the prefill of both."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def prefill(self, x: Tensor) -> dict[str, Tensor]:
        empty = x.new_zeros(x.shape[0], LENGTH - 4, WIDTH)
        keys, values = torch.cat([self.large(x), empty], 1), torch.cat([x.tanh(), empty], 1)
        return {"output": (keys * values).sum(1), "keys": keys, "values": values}

    def decode(self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        keys, values = keys.index_copy(1, position, self.large(x)[:, None]), values.index_copy(1, position, x.tanh()[:, None])
        return {"output": (keys * values).sum(1) * 0.625, "keys": keys, "values": values}

    def propose(self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        keys, values = keys.index_copy(1, position, self.small(x)[:, None]), values.index_copy(1, position, x.sigmoid()[:, None])
        return {"output": (keys + values).sum(1) * 0.375, "keys": keys, "values": values}


def _declare(method: str, inputs: Mapping[str, Input]) -> Model:
    factory = {"_target_": f"{__name__}.{Generating.__name__}"}
    return Model("generating", factory, inputs, {"b": Symbol(1, 8)}, method=method, entry=method)  # type: ignore[arg-type]


_CACHE = Input("float32", ("b", LENGTH, WIDTH), state=True)
_STEP = {"x": Input("float32", ("b", WIDTH)), "position": Input("int64", (1,), {"randint": [1, LENGTH - 1]}), "keys": _CACHE,
         "values": _CACHE}
MODELS = {"generating": {"prefill": _declare("prefill", {"x": Input("float32", ("b", 4, WIDTH))}), "decode": _declare("decode", _STEP),
                         "propose": _declare("propose", _STEP)}}  # fmt: skip


def join(folder: Path, jobs: Mapping[str, str]) -> Joining:
    """Join the programs of jobs beside `folder`, by entry, and run the functions of the joined program."""
    return joining.join(folder, Joining("generating", jobs))


def _edit(entry: str, edit: Callable[[str], str]) -> Any:
    """Return a patch that edits the text of one function of the joined program, not the texts of the levels."""
    def wrong(parts: Mapping[str, Any], exact: Callable[..., Any] = modules.join) -> Any:
        made = exact(parts)
        if "jax.arg_info" not in (text := mlir.text(made, elide=None)):  # one of the texts
            return made
        before, name, after = text.partition(f"@{entry}(")
        body, end, rest = after.partition("\n  }\n")
        return mlir.parse(before + name + edit(body) + end + rest, made.context)

    return rule(modules, "join", wrong)


def _exchange(parts: Mapping[str, bytes], *rest: Any, exact: Callable[..., bytes] = portable.join) -> bytes:
    return exact({**parts, "decode": parts["propose"], "propose": parts["decode"]}, *rest)


def _take_weights(parts: Mapping[str, joined.Part], exact: Callable[..., Any] = joined.unify) -> Any:
    names = exact(parts)
    return {**names, "propose": {name: name.replace("small", "large") for name in names["propose"]}}


def _exchange_states(signature: Any, names: Mapping[str, str], exact: Callable[..., Any] = joined.rename) -> Any:
    states = {"keys": "values", "values": "keys"}
    made = exact(signature, names)
    return replace(made, results=tuple(replace(result, state=states.get(result.state or "", result.state)) for result in made.results))


_MOVED = swap(r"(%\w+) = stablehlo.dynamic_update_slice (%\w+), (%\w+), (%\w+), (%\w+), ",
              r"%one = stablehlo.constant dense<1> : tensor<i64>" "\n" r"%moved = stablehlo.add \5, %one : tensor<i64>" "\n"
              r"\1 = stablehlo.dynamic_update_slice \2, \3, \4, %moved, ")

ENTRIES = (
    Fault("the memory of two states exchanged in decode", "entries", "generating", patch=_edit("decode", both(
        swap("tf.aliasing_output = 1", "tf.aliasing_output = 9"), swap("tf.aliasing_output = 2", "tf.aliasing_output = 1"),
        swap("tf.aliasing_output = 9", "tf.aliasing_output = 2")))),
    Fault("two states exchanged in signature.json", "entries", "generating", patch=rule(joined, "rename", _exchange_states)),
    Fault("a weight that prefill may overwrite", "entries", "generating", patch=_edit("prefill", swap(
        r"(%arg0: tensor<[^ ]*f32>) \{", r"\1 {jax.buffer_donor = true, "))),
    Fault("the programs of two entries of one signature exchanged", "entries", "generating", patch=rule(portable, "join", _exchange)),
    Fault("a slot written one position further in decode", "entries", "generating", patch=_edit("decode", _MOVED)),
    Fault("the weights of another entry", "entries", "generating", patch=rule(joined, "unify", _take_weights)),
    Fault("the constant of another entry", "entries", "generating", patch=_edit("decode", swap(
        r"dense<6\.250000e-01>", "dense<3.750000e-01>"))),
)  # fmt: skip
