"""What the review of protocol 1 found in the published runs, for docs/protocol1.md."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd

from bvae.evaluation.metrics import run_metrics
from bvae.report.claims import (
    Difference,
    judge_claims,
    judge_match,
    load_claims,
    paired_difference,
)
from bvae.report.judgement import PAPER_MARGIN
from bvae.report.verdicts import MINIMUM_SEEDS, failures_p, numbers_p, verdict_of
from bvae.study.claims import PAPER_NUMBERS
from tools.afterwards import TASKS, TESTS, cell_of
from tools.findings import COLUMNS, GAIN, NARROW, STRICT, VAE, by_seed
from tools.overview import overview
from tools.published import ROOT, Published


def together(published: Published, name: str) -> pd.DataFrame:
    """A table of all studies that protocol 1 judged over seeds enough for verdicts, with the column `study`."""
    studies = overview(published)["study"].unique()
    return pd.concat([published.read(study, name).assign(study=study) for study in studies], ignore_index=True)


def paired(published: Published, study: str, metric: str, arm: str = "bvae", margin: float = 1) -> Difference:
    """An arm against the matched VAE as protocol 1 compares them: over the seeds that both finished."""
    pairs = by_seed(published, study, metric)[[arm, VAE]].dropna()
    better = run_metrics()[metric].better
    return paired_difference(*pairs.to_numpy().T, better=better, margin=margin, bootstrap=False)


def matched(published: Published, study: str, arm: str) -> list[str]:
    """The tasks at which an arm matches the VAE by protocol 1's margins. About most arms it had no claim to judge."""
    found = []
    for task in TASKS:
        row = published.claims(study).loc[f"{task}-matches"]
        difference = paired(published, study, row["metric"], arm, row["margin"])
        if judge_match(difference, row["margin"], difference.p_margin) == "reproduced":
            found.append(task)
    return found


def on_arcs(published: Published) -> pd.DataFrame:
    """The claims on interpolation, by study and test, whose verdicts on straight lines and on arcs differ.

    By the least margin, 5 %, because no pilot measured arcs.
    """
    compared = [claim for claim in load_claims(ROOT / "config/claims.yaml")[0] if claim["test"] in TESTS]
    lines = []
    for study in together(published, "claims.csv")["study"].unique():
        straight = published.read(study, "tables/runs.csv")
        arcs = straight.assign(fd_classifier_interpolations=straight["fd_classifier_slerp_interpolations"])
        controls: dict[str, dict] = {dataset: {} for dataset in straight["dataset"]}
        first, second = (
            {entry["claim"]: entry["verdict"] for entry in judge_claims(compared, rows, controls, bootstrap=False)}
            for rows in (straight.to_dict("records"), arcs.to_dict("records"))
        )
        for claim in (f"interpolation-{test}" for test in TESTS):
            lines.append({"study": study, "claim": claim, "straight": first[claim], "arc": second[claim]})
    every = pd.DataFrame(lines)
    return every[every["straight"] != every["arc"]]


def pairing(published: Published) -> SimpleNamespace:
    """What pairs of equal seeds have in common, over all studies and arms with five pairs or more.

    `correlation` has that of each metric, pooled by degrees of freedom. `width` is how wide Welch's intervals are as a
    share of the paired ones, in the median.
    """
    correlation, widths = {}, []
    cells = {study: cell_of(published, study) for study in together(published, "claims.csv")["study"].unique()}
    for metric in COLUMNS:
        found, freedom = [], []
        for study, arm in product(cells, (STRICT, GAIN, NARROW)):
            pairs = by_seed(published, study, metric)[[arm, VAE]].dropna()
            if len(pairs) < MINIMUM_SEEDS:
                continue
            found.append(pairs.corr().iloc[0, 1])
            freedom.append(len(pairs) - 1)
            welch = cells[study].compare((arm, VAE), metric).interval(0.95)
            widths.append(np.ptp(welch) / np.ptp(paired(published, study, metric, arm).interval_95))
        correlation[metric] = float(np.average(found, weights=freedom))
    return SimpleNamespace(correlation=correlation, width=float(np.median(widths)))


def failed(published: Published, study: str) -> SimpleNamespace:
    """How many of its `runs` the BVAE `lost`, how many the VAE (`vae_lost`), and Fisher's `p` that it loses more."""
    lost, runs = cell_of(published, study).failures(("bvae", VAE))
    return SimpleNamespace(lost=lost[0], vae_lost=lost[1], runs=runs[0], p=failures_p(lost, runs)[0])


def papers_numbers(published: Published) -> dict[str, str]:
    """What protocol 2 says of the paper's two probe accuracies together, for each study in which protocol 1 did."""
    claims = together(published, "claims.csv")
    found = {}
    for study in claims[claims["claim"] == "mnist-probe-bvae"]["study"]:
        values = [published.runs(study, arm)["probe_accuracy"].tolist() for arm in PAPER_NUMBERS]
        found[study] = verdict_of(*numbers_p(values, list(PAPER_NUMBERS.values()), PAPER_MARGIN))
    return found


CALLS = (together, paired, matched, on_arcs, pairing, failed, papers_numbers)
