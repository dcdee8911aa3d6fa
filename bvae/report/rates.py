"""The rule that chooses learning rates: from the runs of a study that tunes to one rate for each arm.

This is the rule of protocol 2 of the suite. It is the same for every arm.

1. Grid. A family is a set of recipes that differ in the learning rate only. All its arms are trained at the same
   rates, in steps of the square root of 2, with the same seeds at each rate.
2. Failures. A run fails if it diverges. A rate is sound if no run failed at a lower rate and at least one of its own
   runs finished. So the lowest rate at which a run failed is the end of what is usable, and it can still be the best.
3. Optimum. The best rate is the sound one with the highest mean ELBO. The optimum is the vertex of the parabola in the
   logarithm of the rate through the best rate and its two neighbours, at most one step away from the best rate. It is
   the best rate itself if the parabola is not concave, or if a run failed at the best or at the next higher rate.
4. Extension. If the best rate is an end of the grid, the grid must be extended there for all arms, and no rate is
   chosen for this arm. If a run failed at the best or at the next higher rate, nothing is added above it.
5. Safety. If a run failed at the rate of the grid nearest to the optimum or one step above it, the chosen rate is one
   step below the optimum; otherwise it is the optimum. So no run failed at the chosen rate or at a lower one.

The regret of a step is what it loses in mean ELBO, in nats per image, against the chosen rate. The rule is ours. It
replaces the star of `bvae.report.tuning.compare` for new studies. That is the best of all rates without a failure, so a
failure may move an arm up or down by any number of steps, and a failure one step above the best rate is ignored.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.report.tables import collect_runs
from bvae.report.tuning import with_families

STEP = math.sqrt(2)
TOLERANCE = 0.02  # of a step, because people write 0.0014


@dataclass(frozen=True)
class Tried:
    """A rate of the grid, and what an arm made of it: the ELBOs of the runs that finished, in nats per image."""

    rate: float
    elbos: tuple[float, ...]
    failures: int = 0

    @property
    def mean(self) -> float:
        """The mean ELBO over the runs that finished; NaN where none did."""
        return float(np.mean(self.elbos)) if self.elbos else math.nan

    @property
    def sd(self) -> float:
        """The standard deviation with n - 1; NaN for fewer than two runs."""
        return float(np.std(self.elbos, ddof=1)) if len(self.elbos) > 1 else math.nan


class Regret(NamedTuple):
    """What one step up and one step down from the chosen rate lose, in nats per image; NaN where it is not known."""

    up: float = math.nan
    down: float = math.nan


UNKNOWN = Regret()


@dataclass(frozen=True)
class Choice:
    """What the rule makes of the grid of one arm. A rate that it cannot tell is NaN."""

    best: float  # the sound rate with the highest mean
    optimum: float
    chosen: float
    moved: bool = False  # one step down from the optimum, because a run failed
    add: float | None = None  # the rate by which the grid must be extended
    fitted: Regret = UNKNOWN  # by the parabola
    measured: Regret = UNKNOWN  # by the means at rates of the grid


@dataclass(frozen=True)
class Group:
    """The grids of all arms of a family, data set and latent dimension, each in rising order."""

    family: str
    dataset: str
    latent_dim: int
    arms: Mapping[str, Sequence[Tried]]

    @property
    def name(self) -> str:
        """How messages and headings call it."""
        return f"{self.family} on {self.dataset}, latent dimension {self.latent_dim}"


# --- The rule ---------------------------------------------------------------------------------------------------------


def steps(rate: float, start: float) -> float:
    """How many steps of the grid `rate` is above `start`.

    >>> round(steps(0.008, 0.002), 9)
    4.0
    """
    return math.log(rate / start) / math.log(STEP)


def parabola(three: Sequence[Tried]) -> list[float]:
    """The coefficients (a, b, c) of a x² + b x + c through three means, with x in steps from the middle rate."""
    x = np.array([steps(tried.rate, three[1].rate) for tried in three])
    return np.linalg.solve(np.vander(x, 3), [tried.mean for tried in three]).tolist()


def vertex(coefficients: Sequence[float]) -> float:
    """Where a parabola is highest, in steps from the middle rate, at most one; 0 if it is not concave.

    >>> vertex((-1.0, 0.5, -100.0)), vertex((-1.0, 9.0, 0.0)), vertex((1.0, 0.5, 0.0))
    (0.25, 1.0, 0.0)
    """
    a, b, _ = coefficients
    return float(np.clip(-b / (2 * a), -1, 1)) if a < 0 else 0.0


def choose(grid: Sequence[Tried]) -> Choice:
    """Apply the rule to the grid of an arm, at least two rates in rising order. It does not check the grid."""
    failed = next((i for i, tried in enumerate(grid) if tried.failures), len(grid))  # the lowest
    sound = [i for i, tried in enumerate(grid[: failed + 1]) if tried.elbos]
    index = max(sound, key=lambda i: grid[i].mean, default=0)
    best = grid[index].rate if sound else math.nan
    if index == 0:
        return Choice(best, math.nan, math.nan, add=grid[0].rate / STEP)
    if index == len(grid) - 1 and not grid[index].failures:
        return Choice(best, math.nan, math.nan, add=best * STEP)
    fit, optimum = None, best
    if failed > index + 1:
        fit = parabola(grid[index - 1 : index + 2])
        optimum = best * STEP ** vertex(fit)
    nearest = min(range(len(grid)), key=lambda i: abs(steps(grid[i].rate, optimum)))
    moved = any(tried.failures for tried in grid[nearest : nearest + 2])
    chosen = optimum / STEP if moved else optimum
    by_fit = UNKNOWN if fit is None else Regret(*(_lost(fit, steps(chosen, best), by) for by in (1, -1)))
    return Choice(best, optimum, chosen, moved, None, by_fit, measured(grid, chosen))


def _lost(fit: Sequence[float], x: float, by: int) -> float:
    return float(np.polyval(fit, x) - np.polyval(fit, x + by))


def measured(grid: Sequence[Tried], chosen: float) -> Regret:
    """The regrets by the means over the runs that finished, where both rates of a difference are on the grid."""

    def mean(rate: float) -> float:
        near = [tried.mean for tried in grid if abs(tried.rate / rate - 1) <= TOLERANCE]
        return near[0] if near else math.nan

    return Regret(mean(chosen) - mean(chosen * STEP), mean(chosen) - mean(chosen / STEP))


# --- From the runs to their grids -------------------------------------------------------------------------------------


def group_runs(rows: Sequence[dict]) -> list[Group]:
    """The grids of a study that tunes, from the results of its runs.

    A finished run without a finite ELBO counts as failed. Raises InputError for a run that is there twice, for seeds
    that differ between the rates of an arm, and for rates that are no grid: fewer than two, not the same for all arms,
    or with other steps than the square root of 2, to 2 %.
    """
    found: dict[str, list[dict]] = {}
    for row in with_families(rows):
        found.setdefault(row["alike"], []).append(row)
    groups = []
    for runs in found.values():
        grids: dict[str, list[Tried]] = {}
        group = Group(runs[0]["family"], runs[0]["dataset"], runs[0]["latent_dim"], grids)
        for arm in (arm for arm in ARMS if any(run["arm"] == arm for run in runs)):
            table = _by_rate(f"{group.name}, {arm}", [run for run in runs if run["arm"] == arm])
            grids[arm] = [_tried(rate, table[rate]) for rate in sorted(table)]
        check_grid(group.name, {arm: [tried.rate for tried in grid] for arm, grid in grids.items()})
        groups.append(group)
    return groups


def _by_rate(name: str, runs: Sequence[dict]) -> dict[float, dict[int, dict]]:
    """The runs of an arm by rate and seed."""
    table: dict[float, dict[int, dict]] = {}
    for run in runs:
        other = table.setdefault(run["learning_rate"], {}).setdefault(run["seed"], run)
        if other is not run:
            raise InputError(
                f"{name}: found the rate {shown(run['learning_rate'])} with seed {run['seed']} twice, in the recipes"
                f" {other['recipe']} and {run['recipe']}; expected it once. Remove one of these recipes."
            )
    first = min(table)
    for rate, of_seeds in table.items():
        if of_seeds.keys() != table[first].keys():
            one, another = (", ".join(map(str, sorted(table[at]))) for at in (first, rate))
            raise InputError(
                f"{name}: found the seeds {one} at the rate {shown(first)} and {another} at {shown(rate)}; expected the"
                " same seeds at each rate. Train the missing runs."
            )
    return table


def _tried(rate: float, of_seeds: Mapping[int, dict]) -> Tried:
    elbos = [run.get("elbo") if run["status"] == "finished" else None for run in of_seeds.values()]
    finite = tuple(float(elbo) for elbo in elbos if elbo is not None and math.isfinite(elbo))
    return Tried(rate, finite, len(elbos) - len(finite))


def check_grid(name: str, rates: Mapping[str, Sequence[float]]) -> None:
    """Raise InputError where the rates of arms, in rising order, are not one grid in steps of the square root of 2."""
    every = sorted({rate for of_arm in rates.values() for rate in of_arm})
    wanted = [every[0] * STEP**k for k in range(max(round(steps(every[-1], every[0])) + 1, 2))]
    for arm, found in rates.items():
        even = all(abs(high / low / STEP - 1) <= TOLERANCE for low, high in itertools.pairwise(found))
        if len(found) < 2 or not even or list(found) != every:
            raise InputError(
                f"{name}, {arm}: found the learning rates {', '.join(map(shown, found))}; expected"
                f" {', '.join(map(shown, wanted))}: at least two, in steps of the square root of 2, the same for all"
                " arms. Train this arm at the missing rates."
            )


# --- What the command prints ------------------------------------------------------------------------------------------


def shown(rate: float) -> str:
    """A rate with three significant digits, and no exponent, which YAML would read as text.

    >>> shown(0.004 / STEP), shown(0.00001)
    ('0.00283', '0.00001')
    """
    return np.format_float_positional(rate, precision=3, unique=False, fractional=False, trim="-")


def report(study: dict, root: Path = Path()) -> tuple[str, list[str]]:
    """The text that the command `rates` prints of a checked study that tunes, and what has to be added to its grids.

    Raises InputError for a study that does not tune, for runs that are missing or outdated, and as `group_runs` does.
    """
    if not study["tuning"]:
        raise InputError(f"{study['study']}: found a study without `tuning: true`, expected one that tunes.")
    groups = group_runs(collect_runs(study, "tuning", root))
    made = [(group, {arm: choose(grid) for arm, grid in group.arms.items()}) for group in groups]
    requests = [line for group, choices in made for line in to_add(group, choices)]
    return "\n\n".join(describe(group, choices) for group, choices in made), requests


def to_add(group: Group, choices: Mapping[str, Choice]) -> list[str]:
    """What has to be added to the grid of a group, a line for each rate, as `add 0.00566 to mlp on mnist, ...`."""
    asking: dict[str, list[str]] = {}
    for arm, choice in choices.items():
        if choice.add is not None:
            asking.setdefault(shown(choice.add), []).append(arm)
    return [
        f"add {rate} to {group.name}, for all arms (no rate is chosen yet for {', '.join(asking[rate])})"
        for rate in sorted(asking, key=float)
    ]


def to_do(group: Group, choices: Mapping[str, Choice]) -> list[str]:
    """The line of YAML with the chosen rates of a group; where a rate is not chosen yet, the lines of `to_add`."""
    pairs = ", ".join(f"{arm}: {shown(choice.chosen)}" for arm, choice in choices.items())
    return to_add(group, choices) or [f"learning_rate: {{{pairs}}}"]


def describe(group: Group, choices: Mapping[str, Choice]) -> str:
    """The grids of a group, the choice for each arm and its regrets as aligned text, and the lines to act on."""
    grid = [
        {
            "arm": arm,
            "rate": shown(tried.rate),
            "ELBO": _number(tried.mean, 2),
            "sd": _number(tried.sd, 2),
            "n": len(tried.elbos),
            "failures": tried.failures,
        }
        for arm, of_arm in group.arms.items()
        for tried in of_arm
    ]
    chosen = [
        {
            "arm": arm,
            **{name: _rate(getattr(choice, name)) for name in ("best", "optimum", "chosen")},
            "moved": "yes" if choice.moved else "no",
            "regret up": _number(choice.fitted.up, 3),
            "regret down": _number(choice.fitted.down, 3),
            "measured up": _number(choice.measured.up, 3),
            "measured down": _number(choice.measured.down, 3),
            "add": "–" if choice.add is None else shown(choice.add),
        }
        for arm, choice in choices.items()
    ]
    tables = [pd.DataFrame(lines).to_string(index=False) for lines in (grid, chosen)]
    note = "Regret: nats per image that one step (square root of 2) loses, by the parabola and as measured on the grid."
    return "\n\n".join([group.name, *tables, note, "\n".join(to_do(group, choices))])


def _number(value: float, decimals: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{decimals}f}"


def _rate(value: float) -> str:
    return "–" if math.isnan(value) else shown(value)
