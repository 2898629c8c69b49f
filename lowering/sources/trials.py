"""Trials of proposed inputs: build a model and run its forward at the proposed shapes, without values where that is enough."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lowering.custom import libraries

_TORCH, _OWN = f"{Path(torch.__file__).parent}/", f"{Path(__file__).parents[1]}/"
# The sizes at which a proposal is tried.
TRIED = {"batch": 2, "seq": 16, "target": 8, "height": 64, "width": 64, "samples": 4000, "length": 32, "frames": 64}
# Parameters of a model that is run with values: to confirm a refusal, and where forward reads values, so that only such a trial can tell.
LARGEST, LARGEST_READING = 5e7, 1e9


def build(make: Callable[[], Any]) -> Any:
    """Build a model without values of its weights, or with them if its constructor computes with tensors, as drop rates by `linspace`."""
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):  # forward of some adds tensors that it makes from numbers
            return make()
    except DataDependentOutputException:
        return make()


def find_refusal(inputs: Mapping[str, Any], module: torch.nn.Module, make: Callable[[], torch.nn.Module],
                 sizes: Mapping[str, int] = TRIED, values: bool = True) -> str | None:  # fmt: skip
    """Run the module on inputs of the proposed shapes, with `sizes` of the symbols. Return the first line of what it raised, or None.

    The inputs have no values, nor do the weights. If that fails and the model is small enough, run one that `make` builds with values,
    unless `values` is false.
    """
    own = next((parameter.fake_mode for parameter in module.parameters() if hasattr(parameter, "fake_mode")), None)
    try:
        with _silence(), own or FakeTensorMode(allow_non_fake_inputs=True):
            _run(inputs, module, sizes)
    except Exception as error:  # noqa: BLE001 - models raise anything
        largest = LARGEST_READING if isinstance(error, DataDependentOutputException) else LARGEST
        if not values or sum(parameter.numel() for parameter in module.parameters()) > largest:
            return describe_failure(error)
        try:
            _run(inputs, make(), sizes)
        except Exception as other:  # noqa: BLE001 - models raise anything
            return describe_failure(other)
    return None


def _run(inputs: Mapping[str, Any], module: torch.nn.Module, sizes: Mapping[str, int]) -> None:
    with torch.no_grad():
        given = {name: _draw(leaf, sizes) for name, leaf in inputs.items()}
        module.eval()(**given)


def _draw(leaf: Mapping[str, Any], sizes: Mapping[str, int]) -> torch.Tensor:
    """Return an input of the proposed shape: ones where it is a mask, else zeros, or the least number that it may be."""
    fill = leaf.get("fill")
    value = 1 if fill == "padding" else fill["randint"][0] if fill else 0
    return torch.full([sizes.get(dim, dim) for dim in leaf["shape"]], value, dtype=getattr(torch, leaf["dtype"]))


def describe_error(error: Exception) -> str:
    """Return an error in one line; of a custom op that is not registered, how to name its library."""
    if (problem := libraries.explain(error, None)) is not None:
        return str(problem)
    lines = str(error).strip().splitlines() or [""]
    text = " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])
    return f"{type(error).__name__}: {text}"[:200]


def describe_failure(error: Exception) -> str:
    """Return an error of a model's own code in one line, with the line of the model that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if not frame.filename.startswith((_TORCH, _OWN)) and "/transformers/utils/" not in frame.filename]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno}: {(frames[-1].line or '').strip()})" if frames else ""
    return describe_error(error) + where[:120]


@contextmanager
def _silence() -> Iterator[None]:
    """Keep torch from logging the traceback of an op without a result: the refusal names the cause."""
    logger = logging.getLogger(fake_tensor.__name__)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
