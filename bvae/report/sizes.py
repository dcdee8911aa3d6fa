"""How the comparison of tied arms with VAEs changes with the size of the network, and what share tying needs.

A study has a series where it runs one network at several widths. Differences are of the ELBO, in nats, positive where
the tied arm is worse.
"""

import math
from collections.abc import Sequence

import numpy as np

from bvae.arms import ARMS
from bvae.report.judgement import TIED, Cell, cell_of
from bvae.report.verdicts import (
    MINIMUM_SEEDS,
    NOT_REPRODUCED,
    REPRODUCED,
    Comparison,
    Estimate,
    p_values,
    verdict_of,
    welch_error,
)
from bvae.study.widths import Series, series_of

METRIC = "elbo"


def slope(comparisons: Sequence[Comparison], sizes: Sequence[float]) -> Estimate:
    """How much a difference grows as the size doubles: the line of least squares over the logarithm of the size.

    It is a linear contrast of the cells' means, each with its own spread over seeds.
    """
    x = np.log2(np.asarray(sizes, float))
    weights = (x - x.mean()) / np.square(x - x.mean()).sum()
    spreads = [abs(weight) * spread for weight, of in zip(weights, comparisons, strict=True) for spread in of.spreads]
    error, freedom = welch_error(spreads, [count for of in comparisons for count in of.counts])
    return Estimate(float(weights @ [of.difference for of in comparisons]), error, freedom)


def needed_share(comparisons: Sequence[tuple[float, Estimate]]) -> tuple[float | None, float | None]:
    """The 95 % interval of the share of a VAE's parameters that a tied arm needs for the same quality.

    `comparisons` are pairs of a share and the comparison of the arm with a VAE, of whose parameters it has that share,
    the least share first. The larger the share, the smaller the VAE, so the arm does better. An end is the last share,
    from the outer one on without a gap, at which the arm is surely better (the upper end) or surely worse (the lower
    end). None where not even the outer share is: the interval is open there. Only the first false rejection of each
    sequence counts, so both ends together are wrong in at most 5 % of all studies, however many sizes were trained (a
    fixed sequence of tests: Maurer, Hothorn and Lehmacher 1995).
    """
    low = high = None
    verdicts = [(share, verdict_of(*p_values("outperforms", found, 0.0))) for share, found in comparisons]
    for share, verdict in reversed(verdicts):
        if verdict != REPRODUCED:
            break
        high = share
    for share, verdict in verdicts:
        if verdict != NOT_REPRODUCED:
            break
        low = share
    return low, high


def share_in_words(low: float | None, high: float | None) -> str:
    """The interval of `needed_share`.

    >>> [share_in_words(*ends) for ends in ((0.518, 0.75), (None, 0.75), (1.0, None), (None, None))]
    ['0.52 to 0.75', 'at most 0.75', 'at least 1.00', 'not identified']
    """
    if low is not None and high is not None:
        return f"{low:.2f} to {high:.2f}"
    if high is not None:
        return f"at most {high:.2f}"
    return "not identified" if low is None else f"at least {low:.2f}"


def cells_of(series: Series, rows: Sequence[dict]) -> dict[int, Cell]:
    """The runs of a series by width."""
    place = {"dataset": series.dataset, "latent_dim": series.latent_dim}
    return {width: cell_of(rows, place | {"recipe": recipe}) for width, recipe in series.recipes.items()}


def measure_sizes(study: dict, rows: Sequence[dict]) -> list[dict]:
    """A line for each tied arm and width of each series of a study, and below them one of their change per doubling.

    `rows` are of `collect_runs`. A comparison that `Cell.why_not` forbids is left out, and so is a change over widths
    of which not all are compared.
    """
    return [line for series in series_of(study) for arm in TIED for line in _of_arm(series, arm, rows)]


def _of_arm(series: Series, arm: str, rows: Sequence[dict]) -> list[dict]:
    lines: list[dict] = []
    compared: dict[str, dict[int, Comparison]] = {"equal_count": {}, "equal_width": {}}
    place = {"dataset": series.dataset, "series": series.name, "latent_dim": series.latent_dim, "arm": arm}
    for width, cell in cells_of(series, rows).items():
        if not cell.of(arm):
            continue
        line = place | {"recipe": series.recipes[width], "width": width, "parameters": cell.parameters(arm)}
        [line["diverged"]], _ = cell.failures([arm])
        line["n"] = len(cell.values(arm, METRIC))
        for what, other in (("equal_count", "vae_narrow"), ("equal_width", "vae")):
            if (found := _compare(cell, arm, other)) is not None:
                compared[what][width] = found
                line |= _numbers(what, found)
        trained = shares(cell, arm)
        line["shares"] = " ".join(f"{share:.3f}" for share, _ in trained)
        low, high = needed_share(trained)
        lines.append(line | {"share_low": low, "share_high": high, "needed_share": share_in_words(low, high)})
    change = place | {"width": None}
    for what, by_width in compared.items():
        if len(by_width) == len(lines) > 1:
            change |= _numbers(what, slope([*by_width.values()], [*by_width]))
    return [*lines, change] if len(lines) > 1 else lines


def shares(cell: Cell, arm: str) -> list[tuple[float, Estimate]]:
    """The comparisons of a tied arm with each VAE of a cell, with its share of the VAE's parameters, the least first.

    One of fewer seeds than a verdict needs decides nothing: with two seeds the intervals covered 92 % in simulation.
    """
    open_ended = Estimate(math.nan, math.nan, math.nan)
    found = []
    for other in (name for name in ARMS if ARMS[name].ordinary and cell.of(name)):
        comparison = _compare(cell, arm, other, seeds=MINIMUM_SEEDS) or open_ended
        found.append((cell.parameters(arm) / cell.parameters(other), comparison))
    return sorted(found, key=lambda pair: pair[0])


def _compare(cell: Cell, arm: str, other: str, *, seeds: int = 2) -> Comparison | None:
    """A tied arm with a VAE by the ELBO; None where there is no such VAE, or too few runs are left."""
    if not cell.of(other) or cell.why_not((arm, other), METRIC, seeds=seeds):
        return None
    return cell.compare((arm, other), METRIC)


def _numbers(what: str, found: Estimate) -> dict:
    low, high = found.interval(0.95)
    return {what: found.difference, f"{what}_low": low, f"{what}_high": high}
