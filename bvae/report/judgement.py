"""A study judged by protocol 2: its registered claims with their verdicts, and all comparisons without."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bvae.arms import ARMS
from bvae.report.claims import unequal_sizes
from bvae.report.pilots import MINIMUM_SEEDS
from bvae.report.variants import RELATIVE, Variant, all_variants, margin_of, text_of, variants_of
from bvae.report.verdicts import (
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
from bvae.study.claims import PLACE, expand_claims
from bvae.study.runs import expand_runs

NOT_JUDGED = "not judged"
MOST_LOST = 1  # runs of a cell that diverged, above which its metrics get no verdict
PAPER_NUMBERS = {"bvae": 0.9732, "vae": 0.952}  # linear probe on MNIST at 128 latents, by the paper's abstract
PAPER_MARGIN = 0.01
OF_IMAGES = ("elbo", "nll", "mse_per_pixel")  # metrics of which the values of each image are kept
PerImage = Callable[[dict], Mapping[str, NDArray]]  # of a run's row


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

    def lost(self, arm: str, metric: str | None = None) -> int:
        """How many runs of an arm have no number for a metric, or without one: how many diverged."""
        finished = [row for row in self.of(arm) if row["status"] == "finished"]
        return len(self.of(arm)) - (len(finished) if metric is None else len(self.values(arm, metric)))

    @property
    def pixels(self) -> int:
        """The number of pixel values of an image."""
        layout = self.rows[0]["layout"]
        return layout["channels"] * layout["size"] ** 2

    def compare(self, arms: Sequence[str], variant: Variant) -> Comparison:
        """Two arms by a variant, over all seeds that each has."""
        first, second = (self.values(arm, variant.metric) for arm in arms)
        return welch(first, second, better=variant.better)

    def why_not(self, arms: Sequence[str], metric: str) -> str | None:
        """Why two arms get no verdict by a metric; None where they do."""
        for arm in arms:
            if (lost := self.lost(arm, metric)) > MOST_LOST:
                return f"{ARMS[arm].label} lost {lost} of {len(self.of(arm))} runs, so those left are a selection"
        for arm in arms:
            if (count := len(self.values(arm, metric))) < MINIMUM_SEEDS:
                return f"{count} seeds of {ARMS[arm].label}, and a verdict needs {MINIMUM_SEEDS}"
        return unequal_sizes(arms, self.rows)


@dataclass(frozen=True)
class Found:
    """What a claim is about, by one variant: the comparison, its margin, and the two p-values."""

    variant: Variant
    comparison: Comparison
    margin: float
    p: tuple[float, float]
    spreads: tuple[float, float]  # over seeds, of what is tested


@dataclass(frozen=True)
class Judged:
    """What a cell says of two arms at a task, with no other claim beside it."""

    verdict: str
    why_not: str | None  # why there is no verdict
    differing: Sequence[str]  # of a verdict that depends: on what
    found: Sequence[Found]  # by each variant that has numbers; the first is judged


def judge_alone(cell: Cell, test: str, task: str, arms: Sequence[str]) -> Judged:
    """Judge two arms of a cell at a task. The p-values are not adjusted, as those of a registered list are."""
    known = [variant for variant in variants_of(task) if cell.has(variant.metric)]
    if not known:
        return Judged(NOT_JUDGED, "no finished run has this metric", (), ())
    found = [_compare(cell, test, task, arms, variant) for variant in known]
    if why_not := cell.why_not(arms, known[0].metric):
        return Judged(NOT_JUDGED, why_not, (), found)
    verdict = verdict_of(*found[0].p)
    others = [(each.variant, verdict_of(*each.p)) for each in _sound(cell, arms, found[1:])]
    against = _against(verdict, others)
    differing = _differing(known[0], against) if against else ()
    return Judged(unless_opposed(verdict, [other for _, other in others]), None, differing, found)


def _sound(cell: Cell, arms: Sequence[str], found: Sequence[Found]) -> list[Found]:
    """The variants that could be judged themselves: no other can contradict a verdict."""
    return [each for each in found if not cell.why_not(arms, each.variant.metric)]


def judge_study(study: dict, rows: Sequence[dict], per_image: PerImage | None = None) -> list[dict]:
    """A line for each registered claim of a checked study, by the results of its runs; the primary claim first.

    `rows` are of `collect_runs`. `per_image` gives the values of each test image of a run, for errors over images.
    """
    entries = [_measure(claim, _cell(rows, claim), per_image) for claim in expand_claims(study)]
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


def _cell(rows: Sequence[dict], place: Mapping) -> Cell:
    return Cell([row for row in rows if all(row[key] == place[key] for key in PLACE)])


def _measure(claim: dict, cell: Cell, per_image: PerImage | None) -> dict:
    """The claim with its numbers and its p-values, NaN where there is no verdict, and why."""
    arms = claim["arms"]
    entry = claim | {"text": text_of(claim), "p": (math.nan, math.nan), "why_not": None, "opposed": [], "note": ""}
    if claim["test"] == "fails_more":
        lost, runs = ([count(arm) for arm in arms] for count in (cell.lost, lambda arm: len(cell.of(arm))))
        entry |= {"lost": lost, "runs": runs, "metric": "diverged runs"}
        if min(runs) < MINIMUM_SEEDS:
            return entry | {"why_not": f"{min(runs)} runs of an arm, and a verdict needs {MINIMUM_SEEDS}"}
        return entry | {"p": failures_p((lost[0], lost[1]), (runs[0], runs[1]))}
    task = claim["task"] or "classification"
    known = [variant for variant in variants_of(task) if cell.has(variant.metric)]
    entry |= {"runs": [len(cell.of(arm)) for arm in arms], "lost": [cell.lost(arm) for arm in arms]}
    if not known:
        return entry | {"metric": variants_of(task)[0].metric, "why_not": "no finished run has this metric"}
    entry |= {"metric": known[0].metric, "why_not": cell.why_not(arms, known[0].metric)}
    if claim["test"] == "paper_numbers":
        values = {variant.metric: [cell.values(arm, variant.metric) for arm in arms] for variant in known}
        tests = {name: numbers_p(found, list(PAPER_NUMBERS.values()), PAPER_MARGIN) for name, found in values.items()}
        entry |= {"means": [float(np.mean(found)) if found else None for found in values[known[0].metric]]}
        judged = [known[0], *(variant for variant in known[1:] if not cell.why_not(arms, variant.metric))]
        entry["by_variant"] = [(variant, tests[variant.metric]) for variant in judged]
    else:
        found = [_compare(cell, claim["test"], task, arms, variant) for variant in known]
        entry["main"], sound = found[0], _sound(cell, arms, found[1:])
        entry["by_variant"] = [(each.variant, each.p) for each in (found[0], *sound)]
        entry["errors"] = _errors(cell, arms, known[0].metric, per_image)
        entry["control"] = _control(cell, claim)
    entry["left_out"] = len(known) - len(entry["by_variant"])
    if not entry["why_not"]:
        entry["p"] = entry["by_variant"][0][1]
    return entry


def _compare(cell: Cell, test: str, task: str, arms: Sequence[str], variant: Variant) -> Found:
    comparison = cell.compare(arms, variant)
    margin = margin_of(task, comparison.means[1], cell.pixels)
    tested, beyond = comparison, margin
    if test == "matches" and task in RELATIVE:  # the margin has the error of the mean that it is a share of
        first, second = (cell.values(arm, variant.metric) for arm in arms)
        tested = welch(first, (1 + RELATIVE[task]) * np.array(second), better=variant.better)
        beyond = 0.0
    return Found(variant, comparison, margin, p_values(test, tested, beyond), tested.spreads)


def _control(cell: Cell, claim: dict) -> str | None:
    """The verdict of the same claim on the VAE of equal size, which stands beside a comparison with the matched one."""
    if claim["arms"][1] != "vae" or claim["arms"][0] == "vae_narrow":
        return None
    return judge_alone(cell, claim["test"], claim["task"], ("vae_narrow", "vae")).verdict


def _errors(cell: Cell, arms: Sequence[str], metric: str, per_image: PerImage | None) -> list[float] | None:
    """Standard errors over seeds, over images and over both; None where no values of images are kept."""
    if per_image is None or metric not in OF_IMAGES:
        return None
    runs = [cell.with_metric(arm, metric) for arm in arms]
    if min(map(len, runs)) < 2:
        return None
    first, second = (np.stack([per_image(row)[metric].astype(float) for row in rows]) for rows in runs)
    return list(crossed_errors(first, second)) if first.shape[1] > 1 else None


def _conclude(entry: dict, adjusted: tuple[float, float] | None, claims: int, closed: str = "") -> None:
    """Enter the verdict, by the p-values adjusted for so many claims; None, and why, where they are not judged."""
    entry["adjusted"] = adjusted
    if entry["why_not"]:
        entry |= {"verdict": NOT_JUDGED, "note": entry["why_not"]}
    elif adjusted is None:
        entry |= {"verdict": NOT_JUDGED, "note": closed}
    else:
        verdict = verdict_of(*adjusted)
        others = [(variant, verdict_of(*p)) for variant, p in entry.get("by_variant", [])[1:]]
        entry["verdict"] = unless_opposed(verdict, [other for _, other in others])
        notes = [_note(entry, verdict, others, claims)]
        if entry.get("left_out"):
            notes.append(f"other variants with too few numbers to be compared: {entry['left_out']}")
        entry["note"] = "; ".join(filter(None, notes))


def _note(entry: dict, verdict: str, others: Sequence[tuple[Variant, str]], claims: int) -> str:
    if entry["verdict"] == "depends":
        against = _against(verdict, others)
        main = entry["by_variant"][0][0]
        differing = " and the ".join(_differing(main, against))
        return f"depends on the {differing}: {len(against)} of {len(others)} others say the opposite"
    if entry["test"] == "fails_more":
        pairs = zip(entry["lost"], entry["runs"], strict=True)
        return " against ".join(f"{lost} of {runs} runs" for lost, runs in pairs)
    if entry["test"] == "paper_numbers":
        return " and ".join(f"{100 * mean:.2f} %" for mean in entry["means"])
    if verdict == UNDECIDED:
        return _could_have_shown(entry, claims)
    if entry["test"] == "matches" and verdict == REPRODUCED and entry.get("control") == REPRODUCED:
        return "the narrow VAE matches too, so the match says nothing about tying"
    return ""


def _could_have_shown(entry: dict, claims: int) -> str:
    """What an undecided comparison could have shown with a power of 0.8, by its own spreads, and what would take more.

    A match is asked of arms that are equal, a lead of arms that are the margin apart.
    """
    main, test = entry["main"], entry["test"]
    entry["smallest_effect"] = smallest = smallest_effect(test, main.spreads, main.comparison.counts, claims)
    entry["seeds_needed"] = needed = seeds_needed(test, main.margin, main.spreads, claims)
    shown = "equal arms to match by a margin of" if test == "matches" else "a lead of"
    text = f"with a power of 0.8 this study shows {shown} {smallest:.3g}"
    if needed is not None and needed <= min(main.comparison.counts):
        but = "the arms are probably not equal" if test == "matches" else f"a lead of {main.margin:.3g} is unlikely"
        return f"{text}, so {but}"
    seeds = "no study of 10,000 seeds an arm" if needed is None else f"{needed} seeds an arm"
    return f"{text}; {seeds} would show {main.margin:.3g}"


def _against(verdict: str, others: Sequence[tuple[Variant, str]]) -> list[Variant]:
    """The variants that give the opposite of a verdict."""
    return [variant for variant, other in others if unless_opposed(verdict, [other]) == "depends"]


def _differing(main: Variant, against: Sequence[Variant]) -> list[str]:
    """What the contradicting variants do otherwise: those of them that differ least."""
    factors = [[key for key in main.factors if main.factors[key] != other.factors[key]] for other in against]
    fewest = min(map(len, factors))
    return list(dict.fromkeys(key for found in factors if len(found) == fewest for key in found))


def _row(entry: dict) -> dict:
    """One line of the table of claims: flat."""
    row = {key: entry[key] for key in ("role", "test", "task", "text", *PLACE, "metric")}
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


def _named_errors(errors: Sequence[float] | None) -> dict:
    return {} if errors is None else {"error_images": errors[1], "error_seeds_and_images": errors[2]}


def describe_study(study: dict, rows: Sequence[dict], per_image: PerImage | None = None) -> list[dict]:
    """A line for each comparison of two arms of a study, without a verdict.

    It is by each variant of each task, and by every other printed metric that has a better side. Every arm is compared
    with the matched VAE, and with the VAE of equal size.
    """
    places = dict.fromkeys(tuple(run[key] for key in PLACE) for run in expand_runs(study))
    found = []
    for key in places:
        place = dict(zip(PLACE, key, strict=True))
        cell = _cell(rows, place)
        arms = [arm for arm in ARMS if cell.of(arm)]
        pairs = [(arm, "vae") for arm in arms if arm != "vae"]
        pairs += [(arm, "vae_narrow") for arm in arms if arm not in ("vae", "vae_narrow")]
        claimed = [tuple(claim["arms"]) for claim in expand_claims(study) if place.items() <= claim.items()]
        pairs = list(dict.fromkeys([*pairs, *claimed]))
        for (task, variants), pair in product(all_variants().items(), [pair for pair in pairs if pair[1] in arms]):
            for variant in variants:
                if all(cell.values(arm, variant.metric) for arm in pair):
                    line = place | {"task": task, "metric": variant.metric, "arms": " against ".join(pair)}
                    line |= numbers_of(cell.compare(pair, variant))
                    found.append(line | _named_errors(_errors(cell, pair, variant.metric, per_image)))
    return found
