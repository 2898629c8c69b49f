"""Results that differ from eager's by more than the tolerance, judged by a float64 run: rounding is accepted, element by element."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from lowering import types
from lowering.errors import LoadError
from lowering.numerics import bias, comparison, perturbed, rounding
from lowering.numerics.ancestry import Making
from lowering.numerics.comparison import Comparison
from lowering.numerics.runner import Eager, Tensors
from lowering.signature import Result

Note = Callable[[str, str, str], None]  # code, place, message

_SAMPLES = 4  # float64 runs with rounding; most results are settled by none or one
_MORE = 16  # if few elements are further off than in those: each may have erred by little in all of them
_FEW = 1 / 64
_ROUNDED = {torch.float32: torch.float32, torch.complex64: torch.float32, torch.float64: torch.float64, torch.complex128: torch.float64,
            torch.bfloat16: torch.bfloat16, torch.float16: torch.float16}  # fmt: skip
_PERTURBED = (2, 8)  # perturbed runs of eager: as many as one look takes, and as many as are taken before an element is wrong
_NEARBY = 16  # runs with weights off by their rounding: an activation crosses zero in some of them only
_BIASED = 6  # perturbed runs that show how far the mean error of a result of halves moves
_FAR = 6.0  # standard deviations of its rounding that one element of a half may be off


@dataclass
class Arbiter:
    """The judge, in float64, of results at one set of inputs at a time; makings: of the results (see `ancestry`).

    holding: a mode inside which eager runs, such as one that holds it to a level's integers.
    """

    eager: Eager
    makings: Sequence[Making]
    note: Note
    holding: AbstractContextManager[Any] = field(default_factory=nullcontext)
    _given: Tensors = field(default_factory=dict)
    _exact: tuple[torch.Tensor, ...] | str | None = None  # or why there is none
    _spreads: dict[torch.dtype, list[list[torch.Tensor]]] = field(default_factory=dict)  # after each sample
    _near: list[dict[str, torch.Tensor]] = field(default_factory=list)  # gradients where weights are off by their rounding
    _squares: list[torch.Tensor] = field(default_factory=list)  # summed over perturbed runs
    _runs: int = 0  # perturbed ones

    def hold(self, mode: AbstractContextManager[Any]) -> None:
        """Run eager inside `mode` from now on, and forget what earlier runs gave."""
        self.holding, self._given = mode, {}

    def settle(self, compared: Sequence[Comparison], given: Tensors, got: Sequence[torch.Tensor],
               want: Sequence[torch.Tensor], which: Sequence[int]) -> list[Comparison]:
        """Return comparisons in which the results of `which` that rounding explains are accepted. The others note the use of float64."""
        asked = [index for index in which if _is_debatable(compared[index], want[index])]
        if not asked:
            return list(compared)
        exact = self.reference(given)
        if isinstance(exact, str):
            return [replace(found, detail=f"{found.detail}; no float64 reference: {exact}") if index in asked else found
                    for index, found in enumerate(compared)]
        settled = list(compared)
        for index in asked:
            if exact[index].shape == want[index].shape:
                settled[index] = self._settle(index, compared[index], got[index], want, exact[index])
        return settled

    def examine(self, settled: Sequence[Comparison], given: Tensors, got: Sequence[torch.Tensor], want: Sequence[torch.Tensor],
                which: Sequence[int]) -> list[Comparison]:
        """Return comparisons in which the agreeing results of `which` are compared by the limits of rounding, not by the tolerance.

        A result is wrong if most elements at an index of a dim are off by more than eager's are where each of its ops errs a little, or if
        elements of halves are off in one direction.
        """
        examined = list(settled)
        for index in which:
            if settled[index].agrees and not settled[index].detail and settled[index].max_abs > 0:
                examined[index] = self._examine(index, settled[index], given, got[index], want)
        return examined

    def _examine(self, index: int, found: Comparison, given: Tensors, got: torch.Tensor, want: Sequence[torch.Tensor]) -> Comparison:
        limit, error = self._limit(index, want[index]), perturbed.apart(got, want[index])
        if limit and (says := self._find_bias(index, given, got, want)):
            return replace(found, wrong="values", detail=f"is within the tolerance, but {says}")
        deviation: torch.Tensor | None = perturbed.least(want[index]) if limit else None
        for count in _PERTURBED:
            if deviation is None or not perturbed.excess(error, deviation, limit):
                return found
            deviation = self._deviation(index, given, want, count)
        if deviation is None or not (says := perturbed.excess(error, deviation, limit)):
            return found
        exact = self.reference(given)
        if not isinstance(exact, str) and exact[index].shape == got.shape:  # eager's own kernel may be the one that is far off
            honest = torch.maximum(deviation, perturbed.apart(want[index], exact[index]))
            if not perturbed.excess(perturbed.apart(got, exact[index]), honest, limit, exact[index]):
                return found
        size = f"max abs {found.max_abs:.3g}, max rel {found.max_rel:.3g}"
        return replace(found, wrong="values", detail=f"is within the tolerance ({size}), but {says}")

    def _find_bias(self, index: int, given: Tensors, got: torch.Tensor, want: Sequence[torch.Tensor]) -> str:
        """Describe by how much elements of halves are off in one direction, or return an empty text if rounding explains it."""
        if want[index].dtype not in perturbed.HALVES or not bias.is_one_sided(got, want[index]):
            return ""
        exact = self.reference(given)
        if self.eager.is_opaque or isinstance(exact, str) or exact[index].shape != got.shape:
            return ""
        try:
            samples = [perturbed.sample(lambda: self._run(self.eager, given), seed)[index] for seed in range(_BIASED)]
        except (LoadError, RuntimeError, NotImplementedError):  # an op of the model's own that takes no such operands
            return ""
        return bias.describe(got, want[index], exact[index], [one for one in samples if one.shape == got.shape])

    def _limit(self, index: int, want: torch.Tensor) -> float:
        """Return by how many standard deviations most elements of a result may differ, or 0 if it is not examined."""
        dtype = comparison.deciding(want.dtype, self.makings[index].narrowest)
        is_overridden = any(types.find_row(each).name in self.eager.model.tolerances for each in (dtype, want.dtype))
        return 0.0 if is_overridden else perturbed.LIMITS.get(dtype, 0.0)

    def _deviation(self, index: int, given: Tensors, want: Sequence[torch.Tensor], count: int) -> torch.Tensor | None:
        """Return the standard deviation of each element of a result over `count` perturbed runs, or None if eager takes none."""
        if self.eager.is_opaque:
            return None
        self._begin(given)
        try:
            while self._runs < count:
                found = perturbed.squares(lambda: self._run(self.eager, given), want, self._runs)
                self._squares = [one + other for one, other in zip(self._squares, found, strict=True)] if self._runs else found
                self._runs += 1
        except (LoadError, RuntimeError, NotImplementedError):  # an op of the model's own that takes no such operands
            return None
        return perturbed.deviation(self._squares[index], self._runs, want[index])

    def reference(self, given: Tensors) -> tuple[torch.Tensor, ...] | str:
        """Return what eager computes in float64, or, in words, why it does not."""
        self._begin(given)
        if self._exact is not None:
            return self._exact
        try:
            self._exact = self._run(self.eager.double(), given)
        except (LoadError, RuntimeError) as error:
            self._exact = str(error).splitlines()[0]
        return self._exact

    def _run(self, eager: Eager, given: Tensors) -> tuple[torch.Tensor, ...]:
        with self.holding:
            return eager(given)

    def _begin(self, given: Tensors) -> None:
        """Forget what is known of other inputs."""
        if self._given is not given:
            self._given, self._exact, self._spreads, self._near, self._squares, self._runs = given, None, {}, [], [], 0

    def _settle(self, index: int, found: Comparison, got: torch.Tensor, wants: Sequence[torch.Tensor], exact: torch.Tensor) -> Comparison:
        want = wants[index]
        result = self.eager.signature.returned[index]
        if found.wrong == "non-finite":
            return self._check_places(index, found, got, wants, exact)
        if comparison.nearer(got, want, exact) or self._is_rounding(index, got, want, exact) or self._is_near(index, got, wants, exact):
            return self._accept("verify_arbitrated", result, found,
                                  "differs from eager, but not more from float64 than rounding explains")
        if result.kind == "gradient" and any(comparison.similar(got, want, near) for near in self._nearby(result.name)):
            says = "differs from eager, but not more than eager's own where weights are off by their rounding"
            return self._accept("gradient_ill_conditioned", result, found, says)
        if result.kind == "gradient" and self._is_rounding(index, got, want, exact, self._largest_nearby(result.name, want)):
            says = "differs from eager, but not more than rounding explains where weights are off by their rounding"
            return self._accept("gradient_ill_conditioned", result, found, says)
        return replace(found, detail=f"{found.detail}; float64 sides with eager")

    def _check_places(self, index: int, found: Comparison, got: torch.Tensor, wants: Sequence[torch.Tensor],
                      exact: torch.Tensor) -> Comparison:
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
        rest = self._compare_rest(index, got, agreed, exact)
        if not rest.agrees:
            agreed = torch.where(self._find_broken(index, wants) & (own == 0) & (float64 == 0), got, agreed)
            says = "is NaN or infinite where rounding leads eager to that"
            rest = self._compare_rest(index, got, agreed, exact)
        if rest.wrong == "non-finite":
            return replace(found, detail=f"{found.detail}; float64 sides with eager")
        if not rest.agrees:
            return replace(rest, detail=f"{rest.detail}; beside NaN and infinities that float64 has where the program has them")
        return self._accept("verify_arbitrated", result, found, says)

    def _compare_rest(self, index: int, got: torch.Tensor, agreed: torch.Tensor, exact: torch.Tensor) -> Comparison:
        """Compare with what eager and float64 together give; what rounding explains agrees."""
        rest = comparison.compare(got, agreed, comparison.find_tolerance(agreed.dtype, self.eager.model.tolerances, agreed))
        explained = rest.wrong == "values" and (comparison.nearer(got, agreed, exact) or self._is_rounding(index, got, agreed, exact))
        return replace(rest, wrong=None) if explained else rest

    def _find_broken(self, index: int, wants: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return which elements of a result are NaN or infinite in a perturbed run of eager."""
        found = torch.zeros_like(wants[index], dtype=torch.bool)
        if self.eager.is_opaque:
            return found
        try:
            for seed in range(_PERTURBED[-1]):
                found |= perturbed.broken(lambda: self._run(self.eager, self._given), wants, seed)[index]
        except (LoadError, RuntimeError, NotImplementedError):  # an op of the model's own that takes no such operands
            return torch.zeros_like(found)
        return found

    def _accept(self, code: str, result: Result, found: Comparison, says: str) -> Comparison:
        self.note(code, result.name, f"{says}: {found.detail}")
        return replace(found, wrong=None)

    def _is_rounding(self, index: int, got: torch.Tensor, want: torch.Tensor, exact: torch.Tensor,
                     nearby: torch.Tensor | float = 0.0) -> bool:
        """Return whether samples of honest rounding take each element as far from `exact` as `got` is.

        nearby: the distance that weights off by their rounding account for; twice of it is allowed too.
        """
        dtype = _ROUNDED.get(comparison.deciding(want.dtype, self.makings[index].narrowest))
        if dtype in perturbed.HALVES:  # `_is_near` knows which ops round to them
            return False
        try:
            for count in range(_MORE if dtype is not None else 0):
                room = rounding.fit(self._measure_room(dtype, count, index), want, exact) + 2 * nearby
                further = comparison.count_further(got, want, exact, room)
                if not further or (count + 1 >= _SAMPLES and further > _FEW * got.numel()):
                    return not further
        except (LoadError, RuntimeError):  # an op of the model's own that takes no such operands
            pass
        return False

    def _is_near(self, index: int, got: torch.Tensor, want: Sequence[torch.Tensor], exact: torch.Tensor) -> bool:
        """Return whether a result of halves is off by no more than eager is where each of its ops errs a little."""
        limit = self._limit(index, want[index])
        if comparison.deciding(want[index].dtype, self.makings[index].narrowest) not in perturbed.HALVES or not limit:
            return False
        off, own = perturbed.apart(got, exact), perturbed.apart(want[index], exact)
        for count in _PERTURBED:
            deviation = self._deviation(index, self._given, want, count)
            if deviation is None:
                return False
            honest = torch.maximum(deviation, own)
            if bool((off <= torch.maximum(2 * own, _FAR * deviation)).all()) and not perturbed.excess(off, honest, limit, exact):
                return True
        return False

    def _largest_nearby(self, name: str, want: torch.Tensor) -> torch.Tensor:
        """Return how far each element of a gradient is from `want` at most, where weights are off by their rounding."""
        return functools.reduce(rounding.larger, (rounding.distance(near, want) for near in self._nearby(name)))

    def _measure_room(self, dtype: torch.dtype, count: int, index: int) -> torch.Tensor:
        """Return the spread of a result, in which an element that is off by little in all samples has that of its slices."""
        spread = self._measure_spread(dtype, count)[index]
        return spread if spread.is_complex() else perturbed.pool(spread)

    def _measure_spread(self, dtype: torch.dtype, count: int) -> list[torch.Tensor]:
        exact, given, samples = self._exact, self._given, self._spreads.setdefault(dtype, [])
        assert exact is not None and not isinstance(exact, str)
        if len(samples) <= count:
            double = self.eager.double()
            samples.append(rounding.spread(lambda: self._run(double, given), exact, dtype, count, samples[-1] if samples else None))
        return samples[count]

    def _nearby(self, name: str) -> list[torch.Tensor]:
        """Compute a gradient with weights changed by their rounding: one activation that crosses zero changes all gradients below it."""
        if not self._near:
            labels = [result.label for result in self.eager.signature.returned]
            self._near = [dict(zip(labels, self.eager.nearby(seed)(self._given), strict=True)) for seed in range(_NEARBY)]
        return [results[name] for results in self._near]


def _classify(value: torch.Tensor) -> torch.Tensor:
    """Return 0 for finite elements, and other numbers for NaN and the infinities."""
    value = comparison.widen(value)
    return torch.nan_to_num(value, 2.0, 3.0, 4.0) * ~torch.isfinite(value)


def _is_debatable(compared: Comparison, want: torch.Tensor) -> bool:
    return compared.wrong in ("values", "non-finite") and (want.is_floating_point() or want.is_complex())
