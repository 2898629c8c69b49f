"""Results that differ from eager's by more than the tolerance, judged by a float64 run: rounding is accepted, element by element."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch

from lowering import types
from lowering.numerics import comparison
from lowering.numerics.comparison import Comparison
from lowering.numerics.judging import bias, explained, perturbed, rounding
from lowering.numerics.judging.ancestry import Making
from lowering.numerics.judging.reruns import Reruns
from lowering.numerics.running.runner import Eager, Tensors
from lowering.signature import Result

Note = Callable[[str, str, str], None]  # code, place, message

_ROUNDED = {torch.float32: torch.float32, torch.complex64: torch.float32, torch.float64: torch.float64, torch.complex128: torch.float64,
            torch.bfloat16: torch.bfloat16, torch.float16: torch.float16}  # fmt: skip
_PERTURBED = (2, 8)  # perturbed runs of eager: as many as one look takes, and as many as are taken before an element is wrong
_NEAR = (2, 3, 4, 6, 8)  # the same for one element of many: most that are off by more than two runs show are settled by one more
_BIASED = 6  # perturbed runs that show how far the mean error of a result of halves moves
_FAR = 6.0  # standard deviations of its rounding that one element of a half, or of eager itself, may be off
_FOREIGN = 1 / 64  # of the elements, above which float64 computes something else than eager
_CROSSED = "differs from eager, and agrees with it where activations that rounding takes across a kink are there"


@dataclass
class Arbiter:
    """The judge, in float64, of results at one set of inputs at a time; makings: of the results (see `ancestry`)."""

    eager: Eager
    makings: Sequence[Making]
    note: Note

    def __post_init__(self) -> None:
        self._reruns = Reruns(self.eager, {})

    def hold(self, mode: AbstractContextManager[Any]) -> None:
        """Run eager inside `mode` from now on, and forget the results of earlier runs."""
        self._reruns = Reruns(self.eager, {}, mode)

    def _begin(self, given: Tensors) -> None:
        """Forget the results on other inputs."""
        if self._reruns.given is not given:
            self._reruns = Reruns(self.eager, given, self._reruns.holding)

    def settle(self, compared: Sequence[Comparison], given: Tensors, got: Sequence[torch.Tensor],
               want: Sequence[torch.Tensor], which: Sequence[int]) -> list[Comparison]:
        """Return comparisons in which the results of `which` that rounding explains are accepted. The others note the use of float64."""
        asked = [index for index in which if _is_debatable(compared[index], want[index])]
        if not asked:
            return list(compared)
        self._begin(given)
        exact = self._reruns.compute_reference()
        if isinstance(exact, str):
            return [replace(found, detail=f"{found.detail}; no float64 reference: {exact}") if index in asked else found
                    for index, found in enumerate(compared)]
        settled = list(compared)
        for most in (explained.SAMPLES, explained.MORE):  # where few samples and a crossing explain a result, no more samples are taken
            for index in asked:
                if not settled[index].agrees and exact[index].shape == want[index].shape:
                    settled[index] = self._settle(index, compared[index], got[index], want, exact[index], most)
            dtypes = {index: self._round_to(index, want[index]) for index in asked if settled[index].wrong == "values"}
            for index in explained.find_crossed(self._reruns, dtypes, got, want, most):
                settled[index] = self._accept("verify_crossed", self.eager.signature.returned[index], compared[index], _CROSSED)
        return settled

    def examine(self, settled: Sequence[Comparison], given: Tensors, got: Sequence[torch.Tensor], want: Sequence[torch.Tensor],
                which: Sequence[int]) -> list[Comparison]:
        """Return comparisons in which the agreeing results of `which` are compared by the limits of rounding, not by the tolerance.

        A result is wrong if most elements at an index of a dim are off by more than eager's are where each of its ops errs a little, or if
        elements of halves are off in one direction.
        """
        self._begin(given)
        examined = list(settled)
        for index in which:
            if settled[index].agrees and not settled[index].detail and settled[index].max_abs > 0:
                examined[index] = self._examine(index, settled[index], got[index], want)
        return examined

    def _examine(self, index: int, found: Comparison, got: torch.Tensor, want: Sequence[torch.Tensor]) -> Comparison:
        limit, error = self._limit(index, want[index]), perturbed.measure_distances(got, want[index])
        if limit and (says := self._find_bias(index, got, want)):
            return replace(found, wrong="values", detail=f"is within the tolerance, but {says}")
        deviation: torch.Tensor | None = perturbed.estimate_own_rounding(want[index]) if limit else None
        for count in _PERTURBED:
            if deviation is None or not perturbed.exceeds(error, deviation, limit):
                return found
            deviation = self._reruns.measure_deviation(index, want, count)
        if deviation is None or not (says := perturbed.describe_excess(error, deviation, limit)):
            return found
        float64 = self._reruns.compute_reference()
        if not isinstance(float64, str) and float64[index].shape == got.shape:  # eager's own kernel may be the one that is far off
            got, exact = self._trust(index, got, want, float64[index])
            honest = torch.maximum(deviation, perturbed.measure_distances(want[index], exact))
            if not perturbed.describe_excess(perturbed.measure_distances(got, exact), honest, limit, exact):
                return found
        size = f"max abs {found.max_abs:.3g}, max rel {found.max_rel:.3g}"
        return replace(found, wrong="values", detail=f"is within the tolerance ({size}), but {says}")

    def _find_bias(self, index: int, got: torch.Tensor, want: Sequence[torch.Tensor]) -> str:
        """Describe by how much elements of halves are off in one direction, or return an empty text if rounding explains it."""
        if want[index].dtype not in perturbed.HALVES or not bias.is_one_sided(got, want[index]):
            return ""
        exact = self._reruns.compute_reference()
        if self.eager.is_opaque or isinstance(exact, str) or exact[index].shape != got.shape:
            return ""
        samples = [run[index] for run in self._reruns.sample(_BIASED)]
        return bias.describe(got, want[index], exact[index], [one for one in samples if one.shape == got.shape]) if samples else ""

    def _limit(self, index: int, want: torch.Tensor) -> float:
        """Return by how many standard deviations most elements of a result may differ, or 0 if it is not examined."""
        dtype = comparison.choose_deciding(want.dtype, self.makings[index].narrowest)
        is_overridden = any(types.find_row(each).name in self.eager.model.tolerances for each in (dtype, want.dtype))
        return 0.0 if is_overridden else perturbed.LIMITS.get(dtype, 0.0)

    def _settle(self, index: int, found: Comparison, got: torch.Tensor, wants: Sequence[torch.Tensor], exact: torch.Tensor,
                most: int) -> Comparison:
        """Accept a result that rounding explains, or that agrees with eager's where subnormal numbers are zeros.

        most: samples of rounding in float64 that are taken.
        """
        result = self.eager.signature.returned[index]
        settled = self._settle_rounding(index, found, got, wants, exact, most)
        if settled.agrees or not self._is_flushed(index, got, wants, exact, most):
            return settled
        return self._accept("verify_arbitrated", result, found,
                            "differs from eager, and agrees with it where subnormal numbers are zeros, as XLA takes them")

    def _settle_rounding(self, index: int, found: Comparison, got: torch.Tensor, wants: Sequence[torch.Tensor], exact: torch.Tensor,
                         most: int) -> Comparison:
        want, float64 = wants[index], exact
        result = self.eager.signature.returned[index]
        got, exact = self._trust(index, got, wants, float64)
        sides = "float64 sides with eager" if exact is float64 else "float64 computes something else than eager, and judges no such element"
        if found.wrong == "non-finite":
            return self._check_places(index, found, got, wants, exact, sides, most)
        if (comparison.is_nearer(got, want, exact) or self._is_rounding(index, got, want, exact, most)
                or self._is_near(index, got, wants, exact)):
            return self._accept("verify_arbitrated", result, found,
                                  "differs from eager, but not more from float64 than rounding explains")
        return replace(found, detail=f"{found.detail}; {sides}")

    def _trust(self, index: int, got: torch.Tensor, wants: Sequence[torch.Tensor],
               exact: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a result and its float64 reference, where that computes the same as eager; elsewhere both are eager's own.

        It computes something else where rounding does not explain its distance from eager: in a model that branches on dtypes, or whose
        kernels do. There a result stands as it is if it is not within eager's tolerance. If float64 computes something else in many
        elements, it is eager's in all.
        """
        want = wants[index]
        tolerance = comparison.find_tolerance(want.dtype, self.eager.model.tolerances, want, self.makings[index].narrowest)
        size = perturbed.split(want).abs()
        allowed = tolerance.atol + tolerance.rtol * size
        off, foreign = perturbed.measure_distances(want, exact), torch.zeros_like(size, dtype=torch.bool)
        for room in self._measure_eager(index, wants) if not self.eager.is_opaque else ():
            foreign = off > torch.maximum(allowed, room)
            if not foreign.any():
                break
        if not foreign.any():
            return got, exact
        if foreign.sum() > _FOREIGN * foreign.numel():
            foreign = torch.ones_like(foreign)
        agrees = foreign & (perturbed.measure_distances(got, want) <= allowed)
        if want.is_complex():
            foreign, agrees = foreign.any(-1), agrees.all(-1)
        return torch.where(agrees, want, got), torch.where(foreign, want.to(exact.dtype), exact)

    def _measure_eager(self, index: int, wants: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the allowed distance of eager from float64, element by element: 0, then the spread of more and more samples of rounding."""
        room = torch.zeros_like(perturbed.split(wants[index]))
        yield room
        dtype = self._round_to(index, wants[index])
        counts = [(count, False) for count in range(explained.SAMPLES if dtype is not None else 0)]
        first = 0 if dtype in perturbed.HALVES else 1  # where one sample does not explain it, perturbed runs are cheaper than further ones
        perturbing = [(count, True) for count in _PERTURBED]
        for count, perturbs in (*counts[:first], *perturbing[:1], *counts[first:], *perturbing[1:]):
            found = self._measure_room(index, wants, dtype, count, perturbs)
            if found is not None:
                yield (room := torch.maximum(room, found))

    def _measure_room(self, index: int, wants: Sequence[torch.Tensor], dtype: Any, count: int, perturbs: bool) -> torch.Tensor | None:
        """Return how far samples of rounding take each element: perturbed runs, or runs in float64. None if eager takes none."""
        if perturbs:
            deviation = self._reruns.measure_deviation(index, wants, count)
            return None if deviation is None else _FAR * deviation
        spreads = self._reruns.measure_spread(dtype, count)
        return None if spreads is None else rounding.FITTED * perturbed.pool_distances(perturbed.split(spreads[index]))

    def _is_flushed(self, index: int, got: torch.Tensor, wants: Sequence[torch.Tensor], exact: torch.Tensor, most: int) -> bool:
        """Return whether a result agrees with eager's where its ops take subnormal numbers for zeros."""
        flushed = self._reruns.run_flushed()
        if flushed is None or flushed[index].shape != got.shape or comparison.are_equal(flushed[index], wants[index]):
            return False
        moved = ~((flushed[index] == wants[index]) | (flushed[index].isnan() & wants[index].isnan()))
        return self._compare_rest(index, got, flushed[index], torch.where(moved, flushed[index].to(exact.dtype), exact), most).agrees

    def _check_places(self, index: int, found: Comparison, got: torch.Tensor, wants: Sequence[torch.Tensor],
                      exact: torch.Tensor, sides: str, most: int) -> Comparison:
        """Accept results whose NaNs and infinities are at the indices of eager's, in its own dtype or in float64, and whose other elements
        are within the limits.

        Where both are NaN or infinite and float64 is not, a sum overflows in eager, and its order decides to what. Elements are left out
        that are finite in eager, and NaN or infinite where its ops err a little.
        """
        result, want = self.eager.signature.returned[index], wants[index]
        kinds, own, float64 = (_classify(value) for value in (got, want, exact.to(want.dtype)))
        agreed = torch.where(kinds == own, want, exact.to(want.dtype))
        agreed = torch.where((kinds != 0) & (own != 0) & (float64 == 0), got, agreed)
        says = "is NaN or infinite where eager is not, and eager in float64 is"
        rest = self._compare_rest(index, got, agreed, exact, most)
        if not rest.agrees:
            agreed = torch.where(self._reruns.find_broken(index, wants, _PERTURBED[-1]) & (own == 0) & (float64 == 0), got, agreed)
            says = "is NaN or infinite where rounding leads eager to that"
            rest = self._compare_rest(index, got, agreed, exact, most)
        if rest.wrong == "non-finite":
            return replace(found, detail=f"{found.detail}; {sides}")
        if not rest.agrees:
            return replace(rest, detail=f"{rest.detail}; beside NaN and infinities that float64 has where the program has them")
        return self._accept("verify_arbitrated", result, found, says)

    def _compare_rest(self, index: int, got: torch.Tensor, agreed: torch.Tensor, exact: torch.Tensor, most: int) -> Comparison:
        """Compare with eager's and float64's results together; differences that rounding explains agree."""
        rest = comparison.compare(got, agreed, comparison.find_tolerance(agreed.dtype, self.eager.model.tolerances, agreed))
        if rest.wrong == "values" and (comparison.is_nearer(got, agreed, exact) or self._is_rounding(index, got, agreed, exact, most)):
            return replace(rest, wrong=None)
        return rest

    def _accept(self, code: str, result: Result, found: Comparison, says: str) -> Comparison:
        self.note(code, result.name, f"{says}: {found.detail}")
        return replace(found, wrong=None)

    def _is_rounding(self, index: int, got: torch.Tensor, want: torch.Tensor, exact: torch.Tensor, most: int) -> bool:
        """Return whether samples of honest rounding, `most` of them, take each element as far from `exact` as `got` is."""
        return explained.is_rounding(self._reruns, index, got, want, exact, self._round_to(index, want), most)

    def _round_to(self, index: int, want: torch.Tensor) -> torch.dtype | None:
        """Return the dtype whose rounding a result carries, a real one, or None if that is none of those that are imitated."""
        return _ROUNDED.get(comparison.choose_deciding(want.dtype, self.makings[index].narrowest))

    def _is_near(self, index: int, got: torch.Tensor, want: Sequence[torch.Tensor], exact: torch.Tensor) -> bool:
        """Return whether a result of halves is off by no more than eager's own result when each of its ops errs a little."""
        limit = self._limit(index, want[index])
        if comparison.choose_deciding(want[index].dtype, self.makings[index].narrowest) not in perturbed.HALVES or not limit:
            return False
        off, own = perturbed.measure_distances(got, exact), perturbed.measure_distances(want[index], exact)
        for count in _NEAR:
            deviation = self._reruns.measure_deviation(index, want, count)
            if deviation is None:
                return False
            honest = torch.maximum(deviation, own)
            if bool((off <= torch.maximum(2 * own, _FAR * deviation)).all()) and not perturbed.describe_excess(off, honest, limit, exact):
                return True
        return False


def _classify(value: torch.Tensor) -> torch.Tensor:
    """Return 0 for finite elements, and other numbers for NaN and the infinities."""
    value = comparison.widen(value)
    return torch.nan_to_num(value, 2.0, 3.0, 4.0) * ~torch.isfinite(value)


def _is_debatable(compared: Comparison, want: torch.Tensor) -> bool:
    return compared.wrong in ("values", "non-finite") and (want.is_floating_point() or want.is_complex())
