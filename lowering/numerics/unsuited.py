"""Sets of special values on which a program cannot be compared with eager, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lowering.errors import LoadError
from lowering.level import Program
from lowering.numerics import comparison
from lowering.numerics.bench import Bench
from lowering.numerics.judging.ancestry import converts
from lowering.numerics.running import watching
from lowering.numerics.running.runner import Tensors

_ATEN = torch.ops.aten
_SPREADING = (_ATEN._fft_r2c.default, _ATEN._fft_c2r.default, _ATEN._fft_c2c.default, _ATEN._euclidean_dist.default)
_OF_MATRICES = ("linalg_solve_triangular", "triangular_solve", "cholesky_solve", "cholesky_inverse", "_linalg_solve_ex", "linalg_inv_ex",
                "linalg_lu_factor_ex", "linalg_lu", "linalg_lu_solve", "linalg_qr", "geqrf", "ormqr", "linalg_householder_product",
                "linalg_cholesky_ex", "cholesky", "_linalg_eigh", "_linalg_svd", "linalg_matrix_exp", "linalg_pinv",
                "_linalg_det", "_linalg_slogdet")  # fmt: skip
_CONVOLUTIONS = (_ATEN.convolution.default, _ATEN.conv_tbc.default)


def explain(word: str, bench: Bench, exported: Program | None, given: Tensors, is_known: bool = False) -> str:
    """Explain why nothing can be compared on these values; empty if it can. is_known: whether eager's results on them are."""
    if word == "non-finite" and bench.model.mode == "training":
        return "one NaN makes every gradient NaN"
    if word == "non-finite" and exported is not None and converts(exported.ir):
        return "the program converts floats to integers, and NaN and infinities have none"
    if is_known:  # an earlier job has compared on them
        return ""
    if word == "non-finite" and (reason := _find_algorithm(bench, given)):
        return reason
    try:
        first, second = bench.run_eager(given)[0], bench.eager(given)
    except LoadError as error:
        return str(error).splitlines()[0]
    for one, other, making in zip(first, second, bench.makings, strict=True):
        if not making.is_random and not comparison.are_equal(one, other):
            return "eager disagrees with itself"
    return ""


def _find_algorithm(bench: Bench, given: Tensors) -> str:
    """Return why NaN and infinities in a run of eager come out as an algorithm takes them; empty if they do not."""
    met: list[str] = []

    def is_met(op: Any, args: Sequence[Any]) -> bool:
        met.extend(reason for applies, reason in _BY_ALGORITHM if applies(op, args))
        return bool(met)

    watching.meets(lambda: bench.eager(given), is_met)
    return met[0] if met else ""


def _is_in_kernel(op: Any, args: Sequence[Any]) -> bool:
    """Return whether the kernel of a convolution is not finite."""
    return op in _CONVOLUTIONS and not bool(torch.isfinite(args[1]).all())


def _is_in_matrix(op: Any, args: Sequence[Any]) -> bool:
    """Return whether a matrix that is factored, inverted or solved is not finite, or the right side of a system."""
    return op.namespace == "aten" and op.overloadpacket.__name__ in _OF_MATRICES and \
        not all(bool(torch.isfinite(given).all()) for given in args if isinstance(given, torch.Tensor))


def _is_in_mode(op: Any, args: Sequence[Any]) -> bool:
    return op is _ATEN.mode.default and bool(torch.isnan(args[0]).any())


# What makes the results of NaN and infinities depend on the algorithm of an op, and the reason to leave them out.
_BY_ALGORITHM = (
    (lambda op, _: op in _SPREADING,
     "the model takes a Fourier transform or distances by products: their algorithm decides which elements one NaN reaches"),
    (_is_in_kernel, "the kernel of a convolution is not finite: its algorithm decides which zeros of a padding it is multiplied by"),
    (_is_in_matrix, "a matrix that is factored or solved is not finite: the algorithm decides which elements one NaN reaches"),
    (_is_in_mode, "the most frequent elements are counted in sorted order, in which NaN has no place"),
)
