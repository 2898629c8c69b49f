"""Serve a language model from the files of a run, with jax (0.10), numpy and safetensors alone.

    python serve.py PREFILL DECODE --prompt 5,17,3 --prompt 8,2 --tokens 20

PREFILL and DECODE are the folders of two jobs, entries of one model. Prompts of several lengths are padded on the left.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from safetensors import safe_open
from safetensors.numpy import load_file


@dataclass(frozen=True)
class Program:
    """A program that runs at all sizes of its ranges; JAX compiles it once for each.

    inputs: dtype and dims of each by name; a dim is an int, or an expression such as `past + 1`. run: takes inputs by name, and returns
    results by name. Its states are donated: what they were is gone after it.
    """

    inputs: Mapping[str, tuple[np.dtype[Any], tuple[int | str, ...]]]
    run: Callable[[Mapping[str, Any]], dict[str, Any]]


def load(folder: Path) -> Program:
    """Load the program in the folder of a job, and put its weights on the device. Its int64 inputs need `jax_enable_x64`."""
    data = json.loads((folder / "signature.json").read_text())
    arguments = data["signature"]["arguments"]
    results = [result for result in data["signature"]["results"] if result["kind"] not in ("constant", "state")]
    exported = _export((folder / data["program"]["file"]).read_bytes(), arguments, results)
    states = {result["state"] for result in results} - {None}
    given = [place for place, argument in enumerate(arguments) if argument["kind"] == "input"]
    call = jax.jit(exported.call, donate_argnums=[place for place in given if arguments[place]["name"] in states])
    weights = _read_weights(folder / data["weights"]["store"], data["weights"]["sha256"])
    held = {name: jax.device_put(weight) for name, weight in weights.items()}

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        computed = call(*(inputs[argument["name"]] if argument["kind"] == "input" else held[argument["name"]] for argument in arguments))
        return dict(zip((result["state"] or result["name"] for result in results), computed, strict=True))

    taken = [arguments[place] for place in given]
    return Program({argument["name"]: (np.dtype(argument["dtype"]), tuple(argument["dims"])) for argument in taken}, run)


def _export(program: bytes, arguments: Sequence[Any], results: Sequence[Any]) -> export.Exported:
    """Return a portable artifact as what `jax.export` makes of a function with symbolic dims."""
    scope = export.SymbolicScope()

    def build(values: Sequence[Any]) -> tuple[jax.core.ShapedArray, ...]:
        shapes = [export.symbolic_shape(", ".join(map(str, value["dims"])), scope=scope) for value in values]
        return tuple(jax.core.ShapedArray(shape, np.dtype(value["dtype"])) for shape, value in zip(shapes, values, strict=True))

    taken, returned = (None,) * len(arguments), (None,) * len(results)
    return export.Exported(
        fun_name="main", in_tree=jax.tree.structure(((0,) * len(arguments), {})), in_avals=build(arguments),
        out_tree=jax.tree.structure((0,) * len(results)), out_avals=build(results),
        _has_named_shardings=False, _in_named_shardings=taken, _out_named_shardings=returned, in_shardings_hlo=taken,
        out_shardings_hlo=returned, nr_devices=1, platforms=(jax.default_backend(),), ordered_effects=(), unordered_effects=(),
        disabled_safety_checks=(), mlir_module_serialized=program, calling_convention_version=9,
        module_kept_var_idx=tuple(range(len(arguments))), uses_global_constants=True, _get_vjp=None)  # fmt: skip


def _read_weights(store: Path, digest: str) -> dict[str, np.ndarray[Any, Any]]:
    path = store / digest[:2] / f"{digest}.safetensors"
    weights = load_file(path)
    with safe_open(path, "numpy") as file:
        aliases = json.loads((file.metadata() or {}).get("aliases", "{}"))  # weights that are tied, by the name of the one that is there
    return weights | {name: weights[owner] for name, owner in aliases.items()}


def generate(prefill: Program, decode: Program, prompts: Sequence[Sequence[int]], count: int) -> np.ndarray[Any, Any]:
    """Return `count` tokens for each prompt, [batch, count], each the most likely one.

    With a cache of fixed length, prompts and tokens have to fit into it. Prompts of several lengths need a model with a mask and positions.
    """
    longest = max(map(len, prompts))
    tokens = np.array([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    kept = np.array([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    carried: dict[str, Any] = {name: np.zeros([len(prompts) if isinstance(dim, str) else dim for dim in dims], dtype)  # of a fixed length
                               for name, (dtype, dims) in prefill.inputs.items() if name.startswith("past_key_values.")}
    chosen: list[Any] = []
    for program in [prefill] + [decode] * (count - 1):
        given = {**carried, "input_ids": tokens, "attention_mask": _fill_mask(program, kept),
                 "position_ids": (kept.cumsum(1) - 1).clip(0)[:, -tokens.shape[1]:]}
        carried = program.run({name: given[name] for name in program.inputs})
        tokens = np.asarray(carried["logits"])[:, -1:].argmax(-1)
        kept = np.concatenate([kept, np.ones_like(tokens)], axis=1)
        chosen.append(tokens)
    return np.concatenate(chosen, axis=1)


def _fill_mask(program: Program, kept: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the mask of the tokens so far. That of a cache of fixed length covers all of it, and is true after them."""
    length = program.inputs["attention_mask"][1][1] if "attention_mask" in program.inputs else None
    missing = max(0, length - kept.shape[1]) if isinstance(length, int) else 0
    return np.pad(kept, ((0, 0), (0, missing)), constant_values=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a language model from the files of a run.")
    parser.add_argument("prefill", type=Path)
    parser.add_argument("decode", type=Path)
    parser.add_argument("--prompt", action="append", required=True, help="tokens, separated by commas; may be repeated")
    parser.add_argument("--tokens", type=int, default=20)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # tokens are int64
    prompts = [[int(token) for token in prompt.split(",")] for prompt in options.prompt]
    for row in generate(load(options.prefill), load(options.decode), prompts, options.tokens):
        print(*row)


if __name__ == "__main__":
    main()
