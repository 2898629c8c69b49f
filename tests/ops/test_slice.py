"""A fixed slice of the op coverage sweep: each op, with every dim dynamic that can be, ends as recorded here."""

from __future__ import annotations

import pytest
import torch

from benchmarks.op_samples import Sample
from benchmarks.op_sweep import Task
from benchmarks.op_trial import Trial, attempt
from tests.ops import apart

# Elementwise, reductions, views, indexing, windows, sorting, scans, linear algebra, transforms; among them every op that torch-mlir
# lowers to wrong numbers, wrong shapes or an abort, and that is decomposed around. Divisions, moments, medians and the indices of extremes
# are in test_numbers, at more values.
VERIFIED = {
    "float32": """
        add abs clamp clamp_max where lgamma special.i1 special.chebyshev_polynomial_u angle
        sum logsumexp nn.functional.layer_norm nn.functional.instance_norm nn.functional.prelu softmax
        cat diagonal diag_embed unfold as_strided roll tril nn.functional.pad.reflect nn.functional.pixel_shuffle squeeze_copy
        gather take index_put scatter_reduce.mean index_reduce.amax
        nn.functional.max_pool2d nn.functional.avg_pool2d nn.functional.adaptive_avg_pool1d nn.functional.conv2d
        linalg.cholesky cholesky_solve triangular_solve linalg.svdvals special.airy_ai unsafe_chunk
        sort topk cumprod matmul nn.functional.scaled_dot_product_attention fft.irfftn
    """,
    "int64": "cumsum addmm gather take sort scatter_reduce.prod erf",
}
# What ends in a refusal, and an op that the inventory must name.
REFUSED = {"linalg.eig": "linalg_eig", "tensor_split": "real_dynamic_slice", "linalg.ldl_factor": "linalg_ldl_factor_ex"}
RANDOM = "uniform randn_like normal randint_like geometric bernoulli"
# Modules in training, with the gradients of all that they compute with.
MODULES = "nn.Linear nn.BatchNorm2d nn.CircularPad1d"

SECONDS = 120


@pytest.fixture(scope="module")
def trials() -> dict[tuple[str, str], Trial]:
    tasks = ([Task(op, dtype) for dtype, ops in VERIFIED.items() for op in ops.split()]
             + [Task(op, "float32") for op in [*REFUSED, *RANDOM.split()]])
    tasks += [Task(name, "float32 train", suite="modules") for name in MODULES.split()]
    return {(trial.op, trial.dtype): trial for trial in apart.trials(tasks, SECONDS)}


@pytest.mark.parametrize(("op", "dtype"), [(op, dtype) for dtype, ops in VERIFIED.items() for op in ops.split()])
def test_the_op_computes_at_other_shapes_what_eager_does(trials: dict[tuple[str, str], Trial], op: str, dtype: str) -> None:
    trial = trials[op, dtype]
    assert (trial.outcome, trial.stage) == ("ok", "verify"), "\n".join(trial.problems)
    assert trial.dynamic
    assert trial.points


@pytest.mark.parametrize(("op", "named"), REFUSED.items())
def test_a_refusal_is_an_inventory_that_names_the_op(trials: dict[tuple[str, str], Trial], op: str, named: str) -> None:
    trial = trials[op, "float32"]
    assert trial.outcome == "unsupported", trial
    assert any(named in problem for problem in trial.problems), trial.problems


@pytest.mark.parametrize("op", RANDOM.split())
def test_random_numbers_have_the_distribution_of_eagers(trials: dict[tuple[str, str], Trial], op: str) -> None:
    trial = trials[op, "float32"]
    assert (trial.outcome, trial.stage) == ("ok", "verify"), "\n".join(trial.problems)
    assert trial.points


@pytest.mark.parametrize("name", MODULES.split())
def test_a_module_has_the_gradients_of_eagers(trials: dict[tuple[str, str], Trial], name: str) -> None:
    trial = trials[name, "float32 train"]
    assert (trial.outcome, trial.stage) == ("ok", "verify"), "\n".join(trial.problems)


class Function(torch.nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x0: torch.Tensor, x1: torch.Tensor | None = None) -> torch.Tensor:
        return self.function(x0) if x1 is None else self.function(x0, x1)  # type: ignore[operator]


BYTES = torch.arange(35, dtype=torch.uint8).reshape(5, 7) * 7
PLACES = torch.tensor([-1, 0, -3, 2])
MATRIX = torch.linspace(-2, 2, 35).reshape(5, 7)


@pytest.mark.parametrize(("name", "function", "tensors"), [
    ("uint8 maximum along a dim", lambda x: x.max(1), (BYTES,)),
    ("uint8 maximum", lambda x: x.amax(1), (BYTES,)),
    ("uint8 minimum", lambda x: x.min(), (BYTES + 100,)),
    ("uint8 comparison", torch.gt, (BYTES, BYTES.flip(0))),
    ("uint8 argmax", lambda x: x.argmax(1), (BYTES,)),
    ("uint8 remainder", lambda x, y: x % y.clamp(min=1), (BYTES, BYTES.flip(0))),
    ("negative places in the first dim", lambda x, places: x[places], (MATRIX, PLACES)),
    ("negative places in two dims", lambda x, places: x[places, places], (MATRIX, PLACES)),
    ("writing to negative places", lambda x, places: x.index_put((places,), torch.zeros(())), (MATRIX, PLACES)),
    ("taking negative places", torch.take, (MATRIX, PLACES)),
    ("max pooling that rounds up", lambda x: torch.nn.functional.max_pool2d(x, 2, ceil_mode=True), (torch.randn(2, 3, 9, 11),)),
    ("clamping by tensors", lambda x, y: x.clamp(min=y), (MATRIX, MATRIX.flip(0))),
])  # fmt: skip
def test_what_torch_mlir_gets_wrong_is_right_here(name: str, function: object, tensors: tuple[torch.Tensor, ...]) -> None:
    sample = Sample(name, "any", Function(function).eval(), {f"x{number}": tensor for number, tensor in enumerate(tensors)})
    trial = attempt(sample)
    assert trial.outcome == "ok", "\n".join(trial.problems)
    assert trial.points
