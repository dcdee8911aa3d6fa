"""A study judged by protocol 2: its registered claims with their verdicts, and all comparisons without."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bvae.arms import ARMS
from bvae.evaluation.metrics import run_metrics
from bvae.report.claims import unequal_sizes
from bvae.report.variants import RELATIVE, Variant, all_variants, margin_of, text_of, variants_of
from bvae.report.verdicts import (
    DEPENDS,
    MINIMUM_SEEDS,
    REPRODUCED,
    UNDECIDED,
    Comparison,
    crossed_errors,
    failures_p,
    gatekeep,
    numbers_p,
    p_values,
    seeds_needed,
    smallest_effect,
    unless_opposed,
    verdict_of,
    welch,
)
from bvae.study.claims import PAPER_NUMBERS, expand_claims
from bvae.study.runs import GROUP, expand_runs

NOT_JUDGED = "not judged"
TIED = ARMS["vae_narrow"].as_large_as  # arms that VAEs are narrowed to
MOST_LOST = 1  # runs of a cell that diverged, above which its metrics get no verdict
PAPER_MARGIN = 0.01
OF_IMAGES = ("elbo", "nll", "mse_per_pixel")  # metrics of which the values of each image are kept
PerImage = Callable[[dict], Mapping[str, NDArray]]  # of a run's row
ERRORS = ("error_images", "error_seeds_and_images")  # of a difference: columns of its line
T = TypeVar("T", bound="Tested")


@dataclass(frozen=True)
class Cell:
    """The runs of one place of a study, by arm."""

    rows: Sequence[dict]

    def of(self, arm: str) -> list[dict]:
        """All runs of an arm."""
        return [row for row in self.rows if row["arm"] == arm]

    def with_metric(self, arm: str, metric: str) -> list[dict]:
        """The finished runs of an arm that have a number for a metric."""
        return [row for row in self.of(arm) if row["status"] == "finished" and row.get(metric) is not None]

    def values(self, arm: str, metric: str) -> list[float]:
        """A metric of the finished runs of an arm that have it."""
        return [row[metric] for row in self.with_metric(arm, metric)]

    def has(self, metric: str) -> bool:
        """Whether any run has a number for a metric."""
        return any(row.get(metric) is not None for row in self.rows)

    def failures(self, arms: Sequence[str]) -> tuple[list[int], list[int]]:
        """How many runs of each arm diverged, and how many there are."""
        runs = [self.of(arm) for arm in arms]
        return [sum(row["status"] != "finished" for row in rows) for rows in runs], list(map(len, runs))

    def parameters(self, arm: str) -> int:
        """How many parameters the models of an arm have."""
        return self.of(arm)[0]["parameters"]

    @property
    def pixels(self) -> int:
        """The number of pixel values of an image."""
        layout = self.rows[0]["layout"]
        return layout["channels"] * layout["size"] ** 2

    def compare(self, arms: Sequence[str], metric: str, *, factor: float = 1) -> Comparison:
        """Two arms by a metric, over all seeds that each has; the second's values times a factor."""
        first, second = (np.array(self.values(arm, metric)) for arm in arms)
        return welch(first, factor * second, better=run_metrics()[metric].better)

    def why_not(self, arms: Sequence[str], metric: str, *, seeds: int = MINIMUM_SEEDS) -> str | None:
        """Why two arms get no verdict by a metric, which needs so many seeds of each; None where they do."""
        counts = {arm: (len(self.of(arm)), len(self.values(arm, metric))) for arm in arms}
        for arm, (runs, left) in counts.items():
            if runs - left > MOST_LOST:
                return f"{ARMS[arm].label} lost {runs - left} of {runs} runs, so those left are a selection"
        for arm, (_, left) in counts.items():
            if left < seeds:
                return f"{ARMS[arm].label} has {left} seeds, and a verdict needs {seeds}"
        return unequal_sizes(arms, self.rows)


ImageErrors = Callable[[Cell, Sequence[str], str], tuple[float, float] | None]  # of two arms by a metric: ERRORS


def no_errors(cell: Cell, arms: Sequence[str], metric: str) -> None:
    """Where no values of images are kept."""


@dataclass(frozen=True)
class Tested:
    """A claim by one variant: the p-values by which it is reproduced, and by which it is not."""

    variant: Variant
    p: tuple[float, float]


@dataclass(frozen=True)
class Found(Tested):
    """A comparison of two arms by one variant."""

    comparison: Comparison
    margin: float
    spreads: tuple[float, float]  # over seeds, of what is tested


@dataclass(frozen=True)
class Judged:
    """What a cell says of two arms at a task, with no other claim beside it."""

    verdict: str
    differing: Sequence[str]  # of a verdict that depends: on what
    found: Sequence[Found]  # by each variant that has numbers; the first is judged


def judge_alone(cell: Cell, test: str, task: str, arms: Sequence[str]) -> Judged:
    """Judge two arms of a cell at a task. The p-values are not adjusted, as those of a registered list are."""
    found = [_compare(cell, test, task, arms, variant) for variant in _known(cell, task)]
    if not found or cell.why_not(arms, found[0].variant.metric):
        return Judged(NOT_JUDGED, (), found)
    main, *others = _judged(cell, arms, found)
    verdict = verdict_of(*main.p)
    against = _against(verdict, others)
    return Judged(DEPENDS if against else verdict, _differing(main.variant, against), found)


def _known(cell: Cell, task: str) -> list[Variant]:
    """The variants of a task that any run has a number for."""
    return [variant for variant in variants_of(task) if cell.has(variant.metric)]


def _judged(cell: Cell, arms: Sequence[str], tested: Sequence[T]) -> list[T]:
    """The first variant, which is judged, and those others that could be: no other can contradict a verdict."""
    return [tested[0], *(each for each in tested[1:] if not cell.why_not(arms, each.variant.metric))]


def judge_study(study: dict, rows: Sequence[dict], errors: ImageErrors = no_errors) -> list[dict]:
    """A line for each registered claim of a checked study, by the results of its runs; the primary claim first.

    `rows` are of `collect_runs`. `errors` gives the errors over images, where there are any.
    """
    entries = [_measure(claim, cell_of(rows, claim), errors) for claim in expand_claims(study)]
    if not entries:
        return []
    primary, *others = entries
    _conclude(primary, primary["p"], 1)
    closed = f"the verdict of the primary claim is '{primary['verdict']}', so no other claim is judged"
    adjusted = gatekeep([entry["p"] for entry in others], primary["verdict"] == REPRODUCED)
    for index, entry in enumerate(others):
        _conclude(entry, None if adjusted is None else adjusted[index], len(others), closed)
    for index, entry in enumerate(entries):
        entry["role"] = "registered" if index else "primary"
    return [_row(entry) for entry in entries]


def cell_of(rows: Sequence[dict], place: Mapping) -> Cell:
    """The runs of a data set, recipe and latent dimension, which a place gives besides other things."""
    return Cell([row for row in rows if all(row[key] == place[key] for key in GROUP)])


def _measure(claim: dict, cell: Cell, errors: ImageErrors) -> dict:
    """The claim with its numbers and its p-values, NaN where there is no verdict, and why."""
    arms = claim["arms"]
    lost, runs = cell.failures(arms)
    entry = claim | {"text": text_of(claim), "lost": lost, "runs": runs, "p": (math.nan, math.nan), "why_not": None}
    entry |= {"by_variant": [], "left_out": 0}
    if claim["test"] == "fails_more":
        entry["metric"] = "diverged runs"
        if min(runs) < MINIMUM_SEEDS:
            return entry | {"why_not": f"an arm has {min(runs)} runs, and a verdict needs {MINIMUM_SEEDS}"}
        return entry | {"p": failures_p(lost, runs)}
    task = claim["task"] or "classification"
    known = _known(cell, task)
    if not known:
        return entry | {"metric": variants_of(task)[0].metric, "why_not": "no finished run has this metric"}
    entry |= {"metric": known[0].metric, "why_not": cell.why_not(arms, known[0].metric)}
    tested: list[Tested]
    if claim["test"] == "paper_numbers":
        targets = list(PAPER_NUMBERS.values())
        values = [[cell.values(arm, variant.metric) for arm in arms] for variant in known]
        ps = [numbers_p(found, targets, PAPER_MARGIN) for found in values]
        tested = [Tested(variant, p) for variant, p in zip(known, ps, strict=True)]
        entry["means"] = [float(np.mean(found)) if found else None for found in values[0]]
    else:
        found = [_compare(cell, claim["test"], task, arms, variant) for variant in known]
        entry["main"], tested = found[0], [*found]
        entry["errors"] = errors(cell, arms, known[0].metric)
        entry["control"] = _control(cell, claim)
    entry["by_variant"] = _judged(cell, arms, tested)
    entry["left_out"] = len(tested) - len(entry["by_variant"])
    if not entry["why_not"]:
        entry["p"] = tested[0].p
    return entry


def _compare(cell: Cell, test: str, task: str, arms: Sequence[str], variant: Variant) -> Found:
    comparison = cell.compare(arms, variant.metric)
    margin = margin_of(task, comparison.means[1], cell.pixels)
    tested, beyond = comparison, margin
    if test == "matches" and task in RELATIVE:  # the margin has the error of the mean that it is a share of
        tested, beyond = cell.compare(arms, variant.metric, factor=1 + RELATIVE[task]), 0.0
    return Found(variant, p_values(test, tested, beyond), comparison, margin, tested.spreads)


def _control(cell: Cell, claim: dict) -> str | None:
    """The verdict of the same claim on the VAE of equal size, which stands beside a comparison with the matched one.

    None of an arm that no VAE was narrowed to.
    """
    if claim["arms"][1] != "vae" or claim["arms"][0] not in TIED:
        return None
    return judge_alone(cell, claim["test"], claim["task"], ("vae_narrow", "vae")).verdict


def errors_by(per_image: PerImage) -> ImageErrors:
    """Errors by the values of each test image of a run; none where those of a run are not kept."""

    def errors(cell: Cell, arms: Sequence[str], metric: str) -> tuple[float, float] | None:
        runs = [cell.with_metric(arm, metric) for arm in arms]
        if metric not in OF_IMAGES or min(map(len, runs)) < 2:
            return None
        values = [[per_image(row) for row in rows] for rows in runs]
        if any(metric not in found for of_arm in values for found in of_arm):  # of a record
            return None
        first, second = (np.stack([found[metric].astype(float) for found in of_arm]) for of_arm in values)
        return crossed_errors(first, second)[1:] if first.shape[1] > 1 else None

    return errors


def errors_of(lines: Sequence[Mapping]) -> ImageErrors:
    """Errors that lines of comparisons hold, which were computed before."""
    known = {
        (*(line[key] for key in GROUP), line["arms"], line["metric"]): (line[ERRORS[0]], line[ERRORS[1]])
        for line in lines
        if line.get(ERRORS[0]) is not None
    }
    return lambda cell, arms, metric: known.get((*(cell.rows[0][key] for key in GROUP), " against ".join(arms), metric))


def _conclude(entry: dict, adjusted: tuple[float, float] | None, claims: int, closed: str = "") -> None:
    """Enter the verdict, by the p-values adjusted for so many claims; None, and why, where they are not judged."""
    entry["adjusted"] = adjusted
    if entry["why_not"]:
        entry |= {"verdict": NOT_JUDGED, "note": entry["why_not"], "control": None}
    elif adjusted is None:
        entry |= {"verdict": NOT_JUDGED, "note": closed, "control": None}
    else:
        verdict = verdict_of(*adjusted)
        against = _against(verdict, entry["by_variant"][1:])
        entry["verdict"] = DEPENDS if against else verdict
        notes = [_note(entry, against, claims)]
        if entry["left_out"]:
            notes.append(f"other variants with too few numbers to be compared: {entry['left_out']}")
        entry["note"] = "; ".join(filter(None, notes))


def _note(entry: dict, against: Sequence[Variant], claims: int) -> str:
    if against:
        main, *others = entry["by_variant"]
        differing = " and the ".join(_differing(main.variant, against))
        return f"depends on the {differing}: {len(against)} of {len(others)} others say the opposite"
    if entry["test"] == "fails_more":
        pairs = zip(entry["lost"], entry["runs"], strict=True)
        return " against ".join(f"{lost} of {runs} runs" for lost, runs in pairs)
    if entry["test"] == "paper_numbers":
        return " and ".join(f"{100 * mean:.2f} %" for mean in entry["means"])
    if entry["verdict"] == UNDECIDED:
        return _could_have_shown(entry, claims)
    if entry["test"] == "matches" and entry["verdict"] == entry["control"] == REPRODUCED:
        return "the narrow VAE matches too, so the match says nothing about tying"
    return ""


def _could_have_shown(entry: dict, claims: int) -> str:
    """What an undecided comparison could have shown with a power of 0.8, by its own spreads, and what would take more.

    A match is asked of arms that are equal, a lead of arms that are the margin apart. Where the 95 % interval excludes
    that, the note says so in place of a power that supposes it. A power alone says nothing about what is true: Hoenig
    and Heisey, "The abuse of power", The American Statistician 55(1), 2001.
    """
    main, test = entry["main"], entry["test"]
    entry["smallest_effect"] = smallest = smallest_effect(test, main.spreads, main.comparison.counts, claims)
    entry["seeds_needed"] = needed = seeds_needed(test, main.margin, main.spreads, claims)
    matches, margin = test == "matches", f"{main.margin:.3g}"
    if main.comparison.interval(0.95)[0] > (0 if matches else -main.margin):
        return f"the 95 % interval excludes {'equal arms' if matches else f'a lead of {margin}'}"
    asked = "if the arms are equal, the power to show a match within" if matches else "the power to show a lead of"
    text = f"{asked} {smallest:.3g} was 0.8"
    if needed is None:
        return f"{text}; 10,000 seeds an arm would not be enough for {margin}"
    if needed <= min(main.comparison.counts):
        return text
    return f"{text}; {needed} seeds an arm would be enough for {margin}"


def _against(verdict: str, others: Sequence[Tested]) -> list[Variant]:
    """The variants that give the opposite of a verdict, each at its own level."""
    return [each.variant for each in others if unless_opposed(verdict, [verdict_of(*each.p)]) == DEPENDS]


def _differing(main: Variant, against: Sequence[Variant]) -> list[str]:
    """What the contradicting variants do otherwise: those of them that differ least."""
    factors = [[key for key in main.factors if main.factors[key] != other.factors[key]] for other in against]
    fewest = min(map(len, factors), default=0)
    return list(dict.fromkeys(key for found in factors if len(found) == fewest for key in found))


def _row(entry: dict) -> dict:
    """One line of the table of claims: flat."""
    row = {key: entry[key] for key in ("role", "test", "task", "text", *GROUP, "metric")}
    row["arms"] = " against ".join(entry["arms"])
    for index in range(2):
        row |= {f"runs_{index + 1}": entry["runs"][index], f"lost_{index + 1}": entry["lost"][index]}
    row |= numbers_of(entry["main"].comparison) if "main" in entry else {}
    row |= {f"mean_{index + 1}": mean for index, mean in enumerate(entry.get("means", []))}
    row |= {"margin": entry["main"].margin} if "main" in entry else {}
    row |= _named_errors(entry.get("errors"))
    row |= {"p": entry["p"][0], "p_reverse": entry["p"][1]}
    adjusted = entry["adjusted"] or (math.nan, math.nan)
    row |= {"p_holm": adjusted[0], "p_reverse_holm": adjusted[1], "verdict": entry["verdict"], "note": entry["note"]}
    row |= {"control_verdict": entry.get("control"), "smallest_effect": entry.get("smallest_effect")}
    return row | {"seeds_needed": entry.get("seeds_needed")}


def numbers_of(comparison: Comparison) -> dict:
    """A comparison flat: n, means and standard deviations of both arms, the difference and its intervals."""
    row: dict = {}
    for index in range(2):
        row[f"n_{index + 1}"] = comparison.counts[index]
        row |= {f"mean_{index + 1}": comparison.means[index], f"sd_{index + 1}": comparison.spreads[index]}
    row |= {"difference": comparison.difference, "error_seeds": comparison.error}
    for level in (90, 95):
        row[f"interval_{level}_low"], row[f"interval_{level}_high"] = comparison.interval(level / 100)
    return row


def _named_errors(errors: tuple[float, float] | None) -> dict:
    return {} if errors is None else dict(zip(ERRORS, errors, strict=True))


def describe_study(study: dict, rows: Sequence[dict], errors: ImageErrors = no_errors) -> list[dict]:
    """A line for each comparison of two arms of a study, without a verdict.

    It is by each variant of each task, and by every other printed metric that has a better side. Every arm is compared
    with the matched VAE, and with the VAE of equal size; a tied arm also with VAEs of other sizes; and the arms of each
    claim with each other.
    """
    places = dict.fromkeys(tuple(run[key] for key in GROUP) for run in expand_runs(study))
    found = []
    for key in places:
        place = dict(zip(GROUP, key, strict=True))
        cell = cell_of(rows, place)
        arms = [arm for arm in ARMS if cell.of(arm)]
        pairs = [(arm, "vae") for arm in arms if arm != "vae"]
        pairs += [(arm, "vae_narrow") for arm in arms if arm not in ("vae", "vae_narrow")]
        pairs += [(arm, other) for arm in TIED if arm in arms for other in arms if ARMS[other].ordinary]
        claimed = [tuple(claim["arms"]) for claim in expand_claims(study) if place.items() <= claim.items()]
        pairs = list(dict.fromkeys([*pairs, *claimed]))
        for (task, variants), pair in product(all_variants().items(), [pair for pair in pairs if pair[1] in arms]):
            for variant in variants:
                if all(cell.values(arm, variant.metric) for arm in pair):
                    line = place | {"task": task, "metric": variant.metric, "arms": " against ".join(pair)}
                    line |= numbers_of(cell.compare(pair, variant.metric))
                    found.append(line | _named_errors(errors(cell, pair, variant.metric)))
    return found
