"""The rows of the results page. Every statistic comes from the functions that judge studies."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bvae.arms import ARMS
from bvae.evaluation.metrics import ARROWS, TASKS, Metric, run_metrics
from bvae.report.claims import paired_difference
from bvae.report.judgement import Cell, cell_of, judge_alone
from bvae.report.site.publications import Publication
from bvae.report.verdicts import MINIMUM_SEEDS, Estimate, seeds_needed, smallest_effect
from bvae.study.claims import JUDGED_TASKS
from bvae.study.runs import GROUP

SEEDS = (MINIMUM_SEEDS, 6, 8, 10, 15, 20, 30)  # for which the page says what they could decide
SIZE = ("parameters", "model_mb")  # metrics that the page shows elsewhere or not at all
REFERENCE = "vae"
ACRONYMS = ("kl", "mse", "nll", "fd", "fid", "kid", "elbo")


@dataclass(frozen=True)
class Place:
    """The runs of one data set, recipe and latent dimension of a publication."""

    id: int
    publication: Publication
    dataset: str
    recipe: str
    latent_dim: int

    @property
    def key(self) -> dict:
        """What tells it from other places of its study."""
        return {name: getattr(self, name) for name in GROUP}

    @property
    def cell(self) -> Cell:
        """Its runs."""
        return cell_of(self.publication.runs, self.key)

    def row(self) -> dict:
        """What the page says of it."""
        publication = self.publication
        recipe = publication.config["recipes"].get(self.recipe, {})
        others = {tuple(row[name] for name in GROUP) for row in publication.runs}
        differing = [len(set(column)) > 1 for column in zip(*others, strict=True)]
        names = (self.dataset, self.recipe, f"z{self.latent_dim}")
        of = ", ".join(name for name, differs in zip(names, differing, strict=True) if differs)
        title = f"{of}: {publication.title}" if of else publication.title
        return {
            "id": self.id,
            "study": publication.folder.name,
            "title": title,
            "network": recipe.get("network", {}).get("architecture", self.recipe),
            "protocol": publication.protocol,
            **self.key,
        }


def places_of(publications: Sequence[Publication]) -> list[Place]:
    """All places with runs, numbered in order."""
    keys = [
        (publication, key)
        for publication in publications
        for key in dict.fromkeys(tuple(row[name] for name in GROUP) for row in publication.runs)
    ]
    return [Place(index, publication, *key) for index, (publication, key) in enumerate(keys)]


def metrics_of(publications: Sequence[Publication]) -> list[Metric]:
    """The metrics that any run has: those of Tables 1 and 2, and those that a claim is about."""
    claimed = {row["metric"] for publication in publications for row in publication.claims}
    known = [metric for metric in run_metrics().values() if metric.table or metric.name in claimed]
    runs = [row for publication in publications for row in publication.runs]
    return [
        metric for metric in known if metric.name not in SIZE and any(row.get(metric.name) is not None for row in runs)
    ]


def _words(name: str) -> str:
    return " ".join(word.upper() if word in ACRONYMS else word for word in name.split("_"))


def metric_row(metric: Metric) -> dict:
    """What the page says of a metric: in charts its numbers are multiplied by `factor`."""
    unit = "points" if metric.factor == 100 else metric.unit
    meaning = metric.meaning.replace("\\|", "|").replace("`", "").replace("*", "")
    return {
        "name": metric.name,
        "label": (metric.header or _words(metric.name)) + ARROWS[metric.better],
        "task": next(task.title for task in TASKS.values() if metric in task.metrics),
        "meaning": f"{meaning[0].upper()}{meaning[1:]}",
        "unit": unit if unit[:1] not in ("≤", "≥") else "",
        "better": metric.better,
        "factor": metric.factor,
    }


def means(place: Place, metrics: Sequence[Metric]) -> Iterator[dict]:
    """Each arm's mean over seeds of each metric, with its standard deviation and the 95 % t-interval of the mean."""
    cell = place.cell
    for arm in _arms(cell):
        [lost], _ = cell.failures([arm])
        for metric in metrics:
            values = np.array(cell.values(arm, metric.name), float)
            if n := len(values):
                spread = float(values.std(ddof=1)) if n > 1 else math.nan
                mean = Estimate(float(values.mean()), spread / math.sqrt(n), n - 1)
                row = {"place": place.id, "arm": arm, "metric": metric.name, "n": n, "diverged": lost}
                row |= {"parameters": cell.parameters(arm), "mean": mean.difference, "sd": _known(spread)}
                yield row | _interval(mean.interval(0.95))


def differences(place: Place, metrics: Sequence[Metric]) -> Iterator[dict]:
    """Each arm against the matched VAE by each metric that has a better side: positive where the arm is worse.

    By protocol 1 they are paired over seeds, by protocol 2 they are of the means. Those that a claim could be about
    have a margin, and how many seeds of each arm show with a power of 0.8 that equal arms match within it.
    """
    cell = place.cell
    arms = _arms(cell)
    for arm in (arm for arm in arms if arm != REFERENCE and REFERENCE in arms):
        margins = _margins(place, cell, arm)
        for metric in metrics:
            found = _difference(place, cell, arm, metric) if metric.better else None
            if found:
                margin, spreads = margins.get(metric.name, (None, (math.nan, math.nan)))
                needed = (
                    seeds_needed("matches", margin, spreads)
                    if margin and len(cell.values(arm, metric.name)) > 1
                    else None
                )
                yield (
                    {"place": place.id, "arm": arm, "metric": metric.name}
                    | found
                    | {"margin": margin, "seeds_needed": needed}
                )


def could_show(place: Place) -> Iterator[dict]:
    """The smallest margin within which equal arms match with a power of 0.8, by the number of seeds of each arm.

    By the test of protocol 2, for one claim, with the spreads over the published seeds.
    """
    cell = place.cell
    for arm in (arm for arm in _arms(cell) if arm != REFERENCE):
        for metric, (margin, spreads) in _margins(place, cell, arm).items():
            if all(spread >= 0 for spread in spreads):
                for seeds in SEEDS:
                    effect = smallest_effect("matches", spreads, (seeds, seeds))
                    row = {"place": place.id, "arm": arm, "metric": metric, "seeds": seeds}
                    yield row | {"effect": effect, "margin": margin}


def _arms(cell: Cell) -> list[str]:
    return [arm for arm in ARMS if cell.of(arm)]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _interval(ends: tuple[float, float]) -> dict:
    return {"low": _known(ends[0]), "high": _known(ends[1])}


def _difference(place: Place, cell: Cell, arm: str, metric: Metric) -> dict | None:
    if place.publication.protocol == 2:
        if not all(cell.values(name, metric.name) for name in (arm, REFERENCE)):
            return None
        two = cell.compare((arm, REFERENCE), metric.name)
        row = {"n": two.counts[0], "n_vae": two.counts[1], "mean": two.means[0], "mean_vae": two.means[1]}
        return row | {"difference": two.difference} | _interval(two.interval(0.95))
    values = [
        {row["seed"]: row[metric.name] for row in cell.with_metric(name, metric.name)} for name in (arm, REFERENCE)
    ]
    seeds = sorted(values[0].keys() & values[1].keys())
    if not seeds:
        return None
    pair = [[of_seed[seed] for seed in seeds] for of_seed in values]
    paired = paired_difference(*pair, better=metric.better, margin=1, bootstrap=False)
    first, second = (float(np.mean(column)) for column in pair)
    row = {"n": paired.n, "n_vae": paired.n, "mean": first, "mean_vae": second}
    return row | {"difference": paired.mean} | _interval(paired.interval_95)


def _margins(place: Place, cell: Cell, arm: str) -> dict[str, tuple[float, tuple[float, float]]]:
    """The margin of each metric that a claim can be about, and the spreads over seeds of an arm and of the VAE."""
    if not cell.of(REFERENCE):
        return {}
    if place.publication.protocol == 2:
        every = [judge_alone(cell, "matches", task, (arm, REFERENCE)) for task in JUDGED_TASKS]
        return {found.variant.metric: (found.margin, found.spreads) for judged in every for found in judged.found}
    claims = [row for row in place.publication.claims if place.key.items() <= row.items() and row.get("margin")]
    of_paper = [row for row in claims if row["arms"] == f"bvae against {REFERENCE}"]
    return {
        row["metric"]: (row["margin"], cell.compare((arm, REFERENCE), row["metric"]).spreads)
        for row in of_paper
        if cell.values(arm, row["metric"])
    }
