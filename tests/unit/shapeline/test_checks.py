"""Mistakes in the arguments of `shapeline.lower`: each is refused before anything is traced, by its name and with a fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.export import Dim

import shapeline
from shapeline import ConfigError, LoadError, Lowered
from shapeline.lowered import Texts

X = torch.ones(5, 4)
BATCH = Dim("batch", min=1, max=64)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.layer(x) * scale


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


def lower(*args: Any, **options: Any) -> Lowered:
    return shapeline.lower(Net(), *args, **options)


def shapes(*spec: Any) -> Lowered:
    return lower((X,), dynamic_shapes=spec)


def ranges(value: Any) -> Lowered:
    return lower((X,), dynamic_shapes={"x": {0: "n"}}, symbols={"n": value})


def build_meta() -> Net:
    with torch.device("meta"):
        return Net()


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    # the module
    (lambda: shapeline.lower(Net, (X,)), r"module: is the class Net \(pass an instance"),  # type: ignore[arg-type]
    (lambda: shapeline.lower(torch.relu, (X,)), r"module: is the function relu, .* \(wrap it"),  # type: ignore[arg-type]
    (lambda: shapeline.lower(lambda x: x, (X,)), r"module: is the function <lambda>"),  # type: ignore[arg-type]
    (lambda: shapeline.lower("net.pt2", (X,)), r"module: is the text 'net.pt2' .*torch.export.load"),  # type: ignore[arg-type]
    (lambda: shapeline.lower(None, (X,)), "module: is a NoneType"),  # type: ignore[arg-type]
    (lambda: shapeline.lower(torch.jit.script(Net()), (X,)), "takes no TorchScript"),
    (lambda: shapeline.lower(torch.jit.trace(Net(), (X,)), (X,)), "takes no TorchScript"),
    (lambda: shapeline.lower(torch.nn.DataParallel(Net()), (X,)), "pass its module: model.module"),
    (lambda: shapeline.lower(build_meta(), (X,)), "'layer.weight' and 1 more on the device meta has no values"),
    # args and kwargs
    (lambda: lower(X), r"args: is a tensor \(pass a tuple of the arguments: \(x,\)\)"),
    (lambda: lower({"x": X}), "args: is a mapping"),
    (lambda: lower((X,), X), "kwargs: is a Tensor, and a mapping is expected"),
    (lambda: lower((X,), {"scal": 2.0}), "do not fit forward"),
    (lambda: lower(), "missing a required argument: 'x'"),
    (lambda: lower((X.numpy(),)), r"argument 'x': is a numpy.ndarray \(pass a tensor"),
    (lambda: lower((X.to("meta"),)), "argument 'x': is on the device meta"),
    (lambda: lower((X.to_sparse(),)), "argument 'x': is a tensor of layout torch.sparse_coo"),
    # dims
    (lambda: shapes({0: 7}), r"dynamic_shapes of x\[0\]: is 7, and the argument has 5 there"),
    (lambda: shapes({2: BATCH}), "2 is not a dim of a tensor of rank 2"),
    (lambda: shapes({-2: BATCH}), r"-2 is not a dim .*\(write 0\)"),
    (lambda: shapes({"batch": BATCH}), "'batch' is not a dim"),
    (lambda: shapes({0}), "is no mapping of dims"),
    (lambda: shapes([BATCH]), "has 1 dims for a tensor of rank 2"),
    (lambda: shapes({0: True}), "True is not a dim"),
    (lambda: shapes({0: BATCH}, None), "has 2 entries, and 1 arguments were passed"),
    (lambda: lower((X,), dynamic_shapes="batch"), "dynamic_shapes: is a str"),
    (lambda: lower((X,), dynamic_shapes={0: BATCH}), r"dynamic_shapes\['0'\]: names no argument"),
    (lambda: lower((X,), dynamic_shapes={"input": {0: BATCH}}), r"dynamic_shapes\['input'\]: names no argument .*arguments: x"),
    (lambda: shapeline.lower(Sum(), (X, X), dynamic_shapes=({0: BATCH}, {0: Dim("batch", min=1, max=32)})), "gives 'batch' another range"),
    (lambda: shapeline.lower(Sum(), (X, X[:3]), dynamic_shapes=({0: BATCH}, {0: BATCH})), "'batch' is 5 elsewhere"),
    # symbols, fills, stages, until
    (lambda: ranges((8, 1)), "min 8 is above max 1"),
    (lambda: ranges((1.5, 8.0)), r"symbols\['n'\].min: 1.5 is not an integer"),
    (lambda: ranges(8), r"symbols\['n'\]: 8 is not a range"),
    (lambda: ranges({"min": 1, "maximum": 8}), r"symbols\['n'\].maximum: is not a known key \(did you mean 'max'"),
    (lambda: lower((X,), symbols=["n"]), "symbols: is a list"),
    (lambda: lower((X,), dynamic_shapes={"x": {0: "n"}}), "symbol 'n' is not declared"),
    (lambda: lower((X,), fills={"y": "ones"}), r"fills\['y'\]: names no tensor"),
    (lambda: lower((X,), fills={"x": "onez"}), "'onez' is not a fill"),
    (lambda: lower((X,), stages={"exprt": {}}), r"stages\['exprt'\]: is not a stage \(did you mean 'export'"),
    (lambda: lower((X,), stages={"export": "declared"}), r"stages\['export'\]: 'declared' is not a mapping"),
    (lambda: lower((X,), stages={"export": {"polcy": []}}), r"stages\['export'\].polcy: .* \(did you mean 'policy'"),
    (lambda: lower((X,), stages={"export": {"policy": ["declard"]}}), r"stages\['export'\].policy\[0\]: .* \(did you mean 'declared'"),
    (lambda: lower((X,), until="mlho"), r"until: 'mlho' is not a level \(did you mean 'mhlo'"),
]


@pytest.mark.parametrize(("call", "text"), MISTAKES, ids=[text for _, text in MISTAKES])
def test_a_mistake_is_refused_by_its_name(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        call()


def test_a_module_that_refuses_its_arguments_is_told_with_their_sizes() -> None:
    with pytest.raises(LoadError,
                       match=r"eager raised RuntimeError in test_checks\.py:\d+ at x: \(5, 4\): mat1 and mat2 must have the same dtype"):
        lower((X.double(),))


def test_a_module_under_torch_compile_is_lowered_as_it_is() -> None:
    lowered = shapeline.lower(torch.compile(Net()), (X,), dynamic_shapes=({0: BATCH},), until="exported")
    assert repr(lowered).startswith("Lowered(Net at exported; batch [1, 64]")


def test_a_call_with_another_number_or_a_numpy_array_is_refused() -> None:
    lowered = shapeline.lower(Net(), (X, 2.0), dynamic_shapes=({0: BATCH}, None), until="exported")
    assert lowered(X[:3], 2.0).shape == (3, 3)
    for args in ((X, 3.0), (X,), (X, None)):
        with pytest.raises(shapeline.Refused, match=r"argument 'scale': is .*, and the program was made for 2.0"):
            lowered(*args)
    with pytest.raises(ConfigError, match=r"argument 'x': is a numpy.ndarray"):
        lowered(np.ones((5, 4), np.float32), 2.0)
    with pytest.raises(ConfigError, match="points: is '4'"):
        lowered.verify("4")  # type: ignore[arg-type]


def test_a_level_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(KeyError, match="no level 'mlho'; there are: none"):
        Texts()["mlho"]
    with pytest.raises(KeyError, match=r"'exported' is lowered\.exported"):
        Texts()["exported"]
