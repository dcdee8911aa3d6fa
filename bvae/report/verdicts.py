"""The rules of protocol 2, as functions of numbers: when a claim about two arms is reproduced.

A difference is counted so that positive means worse for the first arm. Differences are of means over seeds, with the
intervals of Welch (Biometrika 34, 1947), which need neither pairs nor equal spreads. docs/protocol.md explains why.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.05
MINIMUM_SEEDS = 5  # below, a sign-flip test cannot reach p < 0.05 two-sided even when every seed agrees
POWER = 0.8
ROUNDING = 1e-12  # of numbers, relative to them: a smaller difference is none
QUADRATURE = 200  # points of the integral behind the power
MOST_SEEDS = 10_000  # that are looked at to find how many would decide
REPRODUCED, NOT_REPRODUCED, UNDECIDED, DEPENDS = "reproduced", "not reproduced", "undecided", "depends"
OPPOSITE = {REPRODUCED: NOT_REPRODUCED, NOT_REPRODUCED: REPRODUCED}
TAIL = {"matches": LEVEL, "outperforms": LEVEL / 2}  # of the t distribution beyond the critical value


@dataclass(frozen=True)
class Estimate:
    """A difference, or how it changes, with its standard error: positive where the first arm is worse."""

    difference: float
    error: float  # standard error of the difference; NaN with fewer than two seeds of an arm
    freedom: float  # Welch's degrees of freedom

    def interval(self, level: float) -> tuple[float, float]:
        """The two-sided confidence interval of the difference, for `level` 0.95 or another."""
        from scipy.special import stdtrit

        width = self.error * float(stdtrit(self.freedom, 0.5 + level / 2)) if self.error else self.error
        return self.difference - width, self.difference + width

    def p_above(self, value: float) -> float:
        """The one-sided p-value of the difference being below `value`: small when it surely is."""
        from scipy.special import stdtr

        if self.error == 0:
            return 0.0 if self.difference < value else 1.0
        return float(stdtr(self.freedom, (self.difference - value) / self.error))


@dataclass(frozen=True)
class Comparison(Estimate):
    """The difference of two arms' means over seeds."""

    counts: tuple[int, int]  # seeds of each arm
    means: tuple[float, float]
    spreads: tuple[float, float]  # standard deviations over seeds


def welch(first: ArrayLike, second: ArrayLike, *, better: str | None) -> Comparison:
    """Compare the values of two arms, one for each seed; `better` is "lower" or "higher", as of a Metric."""
    sign = 1 if better == "lower" else -1
    (mean, spread, count), (other_mean, other_spread, other_count) = map(_moments, (first, second))
    difference = sign * (mean - other_mean)
    if abs(difference) <= ROUNDING * max(abs(mean), abs(other_mean)):
        difference = 0.0
    error, freedom = welch_error((spread, other_spread), (count, other_count))
    return Comparison(difference, error, freedom, (count, other_count), (mean, other_mean), (spread, other_spread))


def _moments(values: ArrayLike) -> tuple[float, float, int]:
    """Mean, standard deviation with n - 1, and n; equal numbers have no spread, not that of their rounding."""
    found = np.asarray(values, float)
    mean = float(found.mean()) if len(found) else math.nan
    spread = float(found.std(ddof=1)) if len(found) > 1 else math.nan
    return mean, 0.0 if spread <= ROUNDING * abs(mean) else spread, len(found)


def welch_error(spreads: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    """The standard error of a difference or another contrast of means, and Welch's degrees of freedom.

    Satterthwaite's formula (Biometrics Bulletin 2, 1946). In a contrast a mean has the `spreads` of its seeds times its
    weight.
    """
    parts = [spread**2 / count if count else math.nan for spread, count in zip(spreads, counts, strict=True)]
    total = sum(parts)
    if not total > 0:  # no spread, or NaN
        return (0.0 if total == 0 else math.nan), math.nan
    shares = [(part / total) ** 2 / (count - 1) for part, count in zip(parts, counts, strict=True) if part]
    return math.sqrt(total), 1 / sum(shares)


def p_values(test: str, comparison: Estimate, margin: float) -> tuple[float, float]:
    """The p-values by which a claim is reproduced, and by which it is not.

    `matches` is non-inferiority: the difference is below the margin, one-sided at 5 %, so the 90 % interval is on the
    better side of it. `outperforms` is two-sided at 5 %: the 95 % interval is on the better side of 0. A claim is not
    reproduced where the interval is wholly on the other side. NaN where an arm has fewer than two seeds.
    """
    if test == "matches":
        below = comparison.p_above(margin)
        return below, _other_side(below, comparison.difference == margin)
    below = comparison.p_above(0.0)
    above = _other_side(below, comparison.difference == 0)
    return min(1.0, 2 * below), min(1.0, 2 * above)


def _other_side(p: float, even: bool) -> float:
    return p if even else 1 - p


def verdict_of(p_holds: float, p_fails: float) -> str:
    """The verdict by the two p-values of a claim, each adjusted for the claims beside it."""
    if p_holds <= LEVEL:
        return REPRODUCED
    return NOT_REPRODUCED if p_fails <= LEVEL else UNDECIDED


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Holm 1979), in the given order. NaN stays NaN and is not counted."""
    adjusted = [math.nan] * len(p_values)
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = highest
    return adjusted


def gatekeep(pairs: Sequence[tuple[float, float]], primary_holds: bool) -> list[tuple[float, float]] | None:
    """The adjusted p-values of the registered claims, the primary one not among them; None where it does not hold.

    Holm's correction (Holm 1979) over all of them, of each kind of verdict: a claim without a p-value counts as 1,
    because the list was fixed before the runs.
    """
    if not primary_holds:
        return None
    columns = ([1.0 if math.isnan(pair[side]) else pair[side] for pair in pairs] for side in (0, 1))
    return list(zip(*map(holm, columns), strict=True))


def unless_opposed(verdict: str, variants: Sequence[str]) -> str:
    """ "depends" where a variant of the metric gives the opposite verdict, else the verdict."""
    return DEPENDS if OPPOSITE.get(verdict) in variants else verdict


def failures_p(lost: Sequence[int], runs: Sequence[int]) -> tuple[float, float]:
    """The p-values by which the first arm diverges more often, and less often, than the second.

    Fisher's exact test, two-sided, on `lost` of `runs` of each arm.
    """
    from scipy.stats import fisher_exact

    p = float(fisher_exact([[lost[i], runs[i] - lost[i]] for i in range(2)]).pvalue)
    first, second = (lost[i] / runs[i] if runs[i] else 0.0 for i in range(2))
    return (p if first > second else 1.0), (p if first < second else 1.0)


def numbers_p(values: Sequence[Sequence[float]], targets: Sequence[float], margin: float) -> tuple[float, float]:
    """The p-values by which all means over seeds are within the margin of their numbers, and by which one is not.

    All are: the largest of the p-values of two one-sided tests each (Berger, Technometrics 24, 1982). One is not: the
    smallest two-sided one, doubled for two numbers (Bonferroni). NaN where a mean has fewer than two seeds.
    """
    near, away = [], []
    for found, target in zip(values, targets, strict=True):
        mean, spread, count = _moments(found)
        error = spread / math.sqrt(count) if count else math.nan
        distance = Estimate(abs(mean - target), error, count - 1)
        within = distance.p_above(margin)
        near.append(within)
        away.append(min(1.0, 2 * _other_side(within, distance.difference == margin)))
    if any(map(math.isnan, near)):
        return math.nan, math.nan
    return max(near), min(1.0, len(away) * min(away))


# --------------------------------------------------------------------------------------------------------------------
# What a study could have shown
# --------------------------------------------------------------------------------------------------------------------


def power(test: str, effect: float, spreads: Sequence[float], counts: Sequence[int], claims: int = 1) -> float:
    """The probability that a claim is reproduced, for normal seeds of these spreads.

    `effect` is the distance of the true difference from the value that the test excludes: of `matches` the margin
    less the true difference, of `outperforms` the true lead. The level is that of the first step of Holm's correction
    over so many `claims`. The noncentral t distribution is integrated over the quantiles of the estimated variance,
    because SciPy 1.17 has no number for some of its values.
    """
    from scipy.special import ndtr, stdtrit

    error, freedom = welch_error(spreads, counts)
    if not error > 0:
        return math.nan if math.isnan(error) else float(effect > 0)
    critical = float(stdtrit(freedom, 1 - TAIL[test] / claims))
    scales, weights = _estimated_scales(freedom)
    return float(weights @ ndtr(effect / error - critical * scales)) / 2


@lru_cache
def _quadrature() -> tuple[NDArray, NDArray]:
    """The points and weights of the integral behind the power: they take longer than all the rest."""
    return np.polynomial.legendre.leggauss(QUADRATURE)


@lru_cache(maxsize=1000)
def _estimated_scales(freedom: float) -> tuple[NDArray, NDArray]:
    """Quantiles of an estimated standard error, as shares of the true one, and the weights of an integral over them."""
    from scipy.special import gammaincinv

    points, weights = _quadrature()
    return np.sqrt(2 * gammaincinv(freedom / 2, (points + 1) / 2) / freedom), weights


def smallest_effect(test: str, spreads: Sequence[float], counts: Sequence[int], claims: int = 1) -> float:
    """The smallest effect, as of `power`, that a study of so many seeds shows with a power of 0.8."""
    from scipy.optimize import brentq

    error, _ = welch_error(spreads, counts)
    if not error > 0:
        return error
    most = error
    while power(test, most, spreads, counts, claims) < POWER:
        most *= 2
    return float(brentq(lambda effect: power(test, effect, spreads, counts, claims) - POWER, 0, most))


def seeds_needed(test: str, effect: float, spreads: Sequence[float], claims: int = 1) -> int | None:
    """How many seeds of each arm show an effect with a power of 0.8; None where MOST_SEEDS are too few."""

    def enough(count: int) -> bool:
        return power(test, effect, spreads, (count, count), claims) >= POWER

    if not effect > 0 or any(map(math.isnan, spreads)) or not enough(MOST_SEEDS):
        return None
    low, high = MINIMUM_SEEDS - 1, MOST_SEEDS  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def crossed_errors(first: NDArray, second: NDArray) -> tuple[float, float, float]:
    """Standard errors of a difference of means of values (seeds, images): over seeds, over images, and over both.

    Both arms see the same images; the seeds are other runs. With values m + seed + image + rest, the variances over
    seeds and over images each have the part of the rest, which counts once in that of both: it is subtracted, by the
    mean square of the two-way layout (Searle, Casella and McCulloch, Variance Components, 1992, section 4.5).
    """
    of_seeds = of_rest = 0.0
    for values in (first, second):
        seeds, images = values.shape
        rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
        of_seeds += float(values.mean(1).var(ddof=1)) / seeds
        of_rest += float(np.square(rest).sum()) / ((seeds - 1) * (images - 1)) / (seeds * images)
    differences = first.mean(0) - second.mean(0)
    of_images = float(differences.var(ddof=1)) / len(differences)
    both = max(of_seeds + of_images - of_rest, of_seeds, of_images)
    return math.sqrt(of_seeds), math.sqrt(of_images), math.sqrt(both)
