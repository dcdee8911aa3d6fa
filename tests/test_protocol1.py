"""The numbers of docs/protocol1.md, again from the published tables, and what protocol 2 says of known runs."""

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bvae.report.claims import judge_claims, judge_match, load_claims, paired_difference
from bvae.report.judgement import Cell, Judged, judge_alone
from bvae.report.publication import newest
from bvae.report.verdicts import failures_p, numbers_p, verdict_of
from helpers.checkouts import ROOT

FOLDERS = newest(ROOT / "results/published")
STUDIES = list(dict.fromkeys(pd.read_csv(ROOT / "results/published/overview.csv")["study"]))  # of five seeds or more
CLAIMS, _ = load_claims(ROOT / "config/claims.yaml")
MIDPOINTS = "fd_classifier_interpolations"
METRICS = {  # of protocol 1
    "reconstruction": ("reconstruction", "lower"),
    "elbo": ("elbo", "higher"),
    "classification": ("probe_accuracy", "higher"),
    "generation": ("fd_classifier_samples", "lower"),
    "interpolation": (MIDPOINTS, "lower"),
}
OTHERS = ("bvae", "bvae_gain", "vae_narrow")


@cache
def read(study: str, name: str = "tables/runs.csv") -> pd.DataFrame:
    return pd.read_csv(FOLDERS[study] / name)


@cache
def finished(study: str) -> pd.DataFrame:
    return read(study).query("status == 'finished'")


def by_seed(study: str, metric: str, *arms: str) -> pd.DataFrame:
    """The seeds at which all these arms finished."""
    return finished(study).pivot(index="seed", columns="arm", values=metric)[list(arms)].dropna()


def cell(study: str) -> Cell:
    table = read(study)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return Cell([{**row, "layout": {"channels": 1, "size": 28}} for row in rows])


def second(study: str, test: str, task: str, arm: str = "bvae") -> Judged:
    return judge_alone(cell(study), test, task, (arm, "vae"))


def shares(found: Judged, variant: int = 0) -> list[float]:
    """The difference and its 95 % interval in per cent of the VAE's mean."""
    comparison = found.found[variant].comparison
    ends = (comparison.difference, *comparison.interval(0.95))
    return [round(100 * end / comparison.means[1], 1) for end in ends]


def scipys_shares(study: str, metric: str, arm: str = "bvae") -> list[float]:
    """The same by SciPy."""
    values = [finished(study).query("arm == @name")[metric] for name in (arm, "vae")]
    interval = stats.ttest_ind(*values, equal_var=False).confidence_interval(0.95)
    ends = (values[0].mean() - values[1].mean(), *interval)
    return [round(100 * end / values[1].mean(), 1) for end in ends]


def first(claim: str, runs: pd.DataFrame) -> str:
    """What protocol 1 says of runs without a pilot."""
    rows = runs.astype(object).where(runs.notna(), None).to_dict("records")
    compared = [found for found in CLAIMS if found["test"] in ("matches", "outperforms")]
    judged = judge_claims(compared, rows, {name: {} for name in runs["dataset"]}, bootstrap=False)
    return next(entry["verdict"] for entry in judged if entry["claim"] == claim)


# --- after the fact -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", ["matches", "outperforms"])
def test_the_interpolation_of_the_residual_network_depends_on_the_path(test):
    found = second("mnist_resnet", test, "interpolation")
    assert found.verdict == "depends" and list(found.differing) == ["path"]
    straight, arc = (each.comparison for each in found.found)
    assert straight.counts == arc.counts == (6, 5)
    assert [round(mean, 1) for mean in (*straight.means, *arc.means)] == [199.4, 291.3, 84.3, 68.2]
    assert shares(found) == scipys_shares("mnist_resnet", MIDPOINTS) == [-31.6, -45.8, -17.3]
    assert shares(found, 1) == scipys_shares("mnist_resnet", "fd_classifier_slerp_interpolations") == [23.6, 15.7, 31.5]
    assert [round(end, 1) for end in (arc.difference, *arc.interval(0.95))] == [16.1, 10.7, 21.5]
    pairs = by_seed("mnist_resnet", "fd_classifier_slerp_interpolations", "bvae", "vae")
    interval = stats.ttest_rel(pairs["bvae"], pairs["vae"]).confidence_interval(0.95)
    assert [round(end, 1) for end in ((pairs["bvae"] - pairs["vae"]).mean(), *interval)] == [16.7, 9.4, 24.0]


def test_squared_errors_by_protocol_2():
    """In all five, protocol 1 found a match of the reconstruction term."""
    numbers = {
        "mnist_mlp_relu": ("not reproduced", "not reproduced", [3.9, 2.5, 5.2]),
        "mnist_mlp_gain": ("reproduced", "reproduced", [-2.0, -2.6, -1.5]),
        "mnist_resnet": ("reproduced", "reproduced", [-5.8, -8.6, -2.9]),
        "fashion_resnet": ("reproduced", "undecided", [-1.4, -3.0, 0.2]),
        "fashion_mlp": ("not judged", "not judged", [3.1, 1.4, 4.8]),
    }
    for study, (match, lead, difference) in numbers.items():
        assert read(study, "claims.csv").set_index("claim").loc["reconstruction-matches", "verdict"] == "reproduced"
        found = second(study, "matches", "reconstruction")
        assert (found.verdict, second(study, "outperforms", "reconstruction").verdict) == (match, lead)
        assert shares(found) == scipys_shares(study, "mse_per_pixel") == difference
    [lost] = second("fashion_mlp", "matches", "reconstruction").found
    assert verdict_of(*lost.p) == "undecided"  # were it judged
    assert [round(100 * end / lost.comparison.means[1], 1) for end in lost.comparison.interval(0.9)] == [1.7, 4.5]


def test_other_verdicts_that_the_page_names():
    assert second("mnist_mlp", "outperforms", "classification").verdict == "reproduced"
    assert second("mnist_mlp_relu", "matches", "elbo").verdict == "undecided"
    depends = second("mnist_mlp_relu", "matches", "generation")
    assert (depends.verdict, list(depends.differing)) == ("depends", ["sampler"])
    assert shares(depends) == [-14.0, -23.0, -5.0] and shares(depends, 1) == [19.2, 8.0, 30.4]
    gain = [second("mnist_mlp_relu", test, "elbo", "bvae_gain").verdict for test in ("matches", "outperforms")]
    assert gain == ["reproduced", "reproduced"]
    assert second("mnist_mlp_gain", "matches", "elbo", "bvae_gain").verdict == "not reproduced"
    matched = {
        study: [task for task in METRICS if second(study, "matches", task).verdict == "reproduced"]
        for study in STUDIES
        if study != "mnist_mlp_e10"
    }
    assert not any("elbo" in tasks for tasks in matched.values())
    narrow = [
        study for study in matched if second(study, "matches", "generation", "vae_narrow").verdict == "reproduced"
    ]
    assert len(narrow) == 5


# --- the findings ---------------------------------------------------------------------------------------------------


def test_finding_1_interpolation_on_arcs_by_protocol_1():
    """By a margin of 5 % on both paths, because no pilot measured arcs."""
    changed = []
    for study in STUDIES:
        straight = read(study)
        arcs = straight.assign(**{MIDPOINTS: straight["fd_classifier_slerp_interpolations"]})
        for claim in ("interpolation-matches", "interpolation-outperforms"):
            if (verdicts := (first(claim, straight), first(claim, arcs)))[0] != verdicts[1]:
                changed.append((study, claim.removeprefix("interpolation-"), *verdicts))
    yes, open_, no = "reproduced", "inconclusive", "not reproduced"
    assert changed == [
        ("fashion_resnet", "matches", no, open_),
        ("mnist_mlp", "matches", no, open_),
        ("mnist_mlp", "outperforms", no, open_),
        ("mnist_mlp_z16", "matches", no, open_),
        ("mnist_resnet", "matches", yes, no),
        ("mnist_resnet", "outperforms", yes, no),
    ]


def test_finding_2_probes_of_many_and_few_latents():
    probes = [
        finished(study).query("arm == 'vae'")["probe_accuracy"].mean() for study in ("mnist_mlp", "mnist_mlp_z16")
    ]
    assert [round(100 * probe, 1) for probe in probes] == [95.7, 89.1]


def test_finding_3_two_per_cent_of_what_a_model_can_change():
    """The entropies of the pixels are of the test images: 45.5 and 189.9 nats."""
    for study, entropy, share in (("mnist_mlp", 45.5, 5), ("fashion_mlp", 189.9, 14)):
        term = finished(study).query("arm == 'vae'")["reconstruction"].mean()
        assert round(100 * 0.02 * term / (term - entropy)) == share
        assert round(term) == {"mnist_mlp": 73, "fashion_mlp": 222}[study]


def test_findings_4_and_5_on_fashion_mnist():
    margins = read("fashion_mlp", "claims.csv").set_index("claim")["margin"]
    for task, (metric, better) in METRICS.items():
        margin = margins[f"{task}-matches"]
        verdicts = []
        for arm in ("bvae", "vae_narrow"):
            pairs = by_seed("fashion_mlp", metric, arm, "vae")
            found = paired_difference(pairs[arm], pairs["vae"], better=better, margin=margin, bootstrap=False)
            verdicts.append(judge_match(found, margin, found.p_margin))
        assert verdicts == ["inconclusive" if task == "interpolation" else "reproduced"] * 2
    tuning = read("tuning_fashion_mlp", "tuning.csv").query("arm == 'vae'").set_index("learning_rate")
    assert tuning.loc[0.004, "diverged"] == 1 and tuning.loc[0.002, "best"]
    worse = round(tuning.loc[0.004, "elbo"] - tuning.loc[0.002, "elbo"], 2)
    behind = read("fashion_mlp", "claims.csv").set_index("claim").loc["elbo-matches", "difference"]
    assert (worse, round(behind, 2)) == (0.26, 0.84) and worse + behind > margins["elbo-matches"]


def test_findings_6_and_7_margins_and_leads_of_protocol_1():
    every = pd.concat([read(study, "claims.csv") for study in STUDIES])
    distances = every[every["claim"] == "generation-matches"]
    shares_of_vae = (100 * distances["margin"] / distances["mean_2"]).round()
    assert (shares_of_vae.max(), shares_of_vae.min()) == (29, 5)
    lead = every["claim"].str.contains("outperforms|budget") & (every["verdict"] == "not reproduced")
    assert (lead.sum(), (every[lead]["interval_95_low"] <= 0).sum()) == (36, 11)


def test_finding_8_samples_from_the_mixture():
    worse = [shares(second(study, "matches", "generation"), 1) for study in STUDIES if study.startswith("mnist")]
    assert len(worse) == 6 and min(low for _, low, _ in worse) > 0
    assert (round(min(worse)[0]), round(max(worse)[0])) == (12, 32)


def test_finding_9_pairs_are_not_correlated():
    """Over all studies and arms: correlations pooled, and how wide Welch's intervals are beside the paired ones."""
    found, widths = {}, []
    for metric, _ in METRICS.values():
        products, freedom = 0.0, 0
        for study in STUDIES:
            for arm in OTHERS:
                pairs = by_seed(study, metric, arm, "vae")
                if len(pairs) < 5:
                    continue
                products += (len(pairs) - 1) * np.corrcoef(pairs[arm], pairs["vae"])[0, 1]
                freedom += len(pairs) - 1
                values = [finished(study).query("arm == @name")[metric] for name in (arm, "vae")]
                welch = stats.ttest_ind(*values, equal_var=False).confidence_interval(0.95)
                paired = stats.ttest_rel(pairs[arm], pairs["vae"]).confidence_interval(0.95)
                widths.append((welch.high - welch.low) / (paired.high - paired.low))
        found[metric] = round(products / freedom, 2)
    assert found == {
        "reconstruction": 0.04,
        "elbo": 0.05,
        "probe_accuracy": 0.04,
        "fd_classifier_samples": -0.11,
        MIDPOINTS: 0.03,
    }
    assert round(100 * (1 - float(np.median(widths)))) == 10


def test_finding_10_no_five_seeds_reach_significance_in_a_sign_test():
    assert stats.binomtest(5, 5).pvalue == 0.0625


def test_finding_11_failures_on_fashion_mnist_with_16_latents():
    runs = cell("fashion_mlp_z16")
    lost, of = runs.failures(("bvae", "vae"))
    p = failures_p(lost, of)
    assert (lost, of, round(p[0], 3), verdict_of(*p)) == ([6, 0], [10, 10], 0.011, "reproduced")
    assert round(failures_p((2, 0), (10, 10))[0], 2) == 0.47


def test_finding_12_the_likelihood_is_over_100_images():
    assert {count for study in STUDIES for count in finished(study)["nll_images"]} == {100}


def test_finding_13_one_difference_of_cifar10_told_twice():
    of_arm = finished("cifar10_jpeg").groupby("arm").mean(numeric_only=True)
    strict, vae = of_arm.loc["bvae"], of_arm.loc["vae"]
    by_error = 1536 * math.log(vae["mse_per_pixel"] / strict["mse_per_pixel"])
    nats = (by_error, vae["reconstruction"] - strict["reconstruction"], strict["elbo"] - vae["elbo"])
    assert [round(number) for number in nats] == [432, 422, 362]
    four = read("tuning_cifar10_jpeg", "tuning.csv").query("arm == 'vae'")["elbo"].max()
    assert (round(four), round(vae["elbo"]), round(vae["elbo"] - four)) == (2181, 2546, 365)


def test_finding_14_the_papers_two_numbers_together():
    """By protocol 1 each is met in some studies, and no study meets both."""
    said = {}
    for study in (study for study in STUDIES if study.startswith("mnist") and not study.endswith("z16")):
        verdicts = read(study, "claims.csv").set_index("claim")["verdict"]
        values = [finished(study).query("arm == @arm")["probe_accuracy"].tolist() for arm in ("bvae", "vae")]
        p = numbers_p(values, [0.9732, 0.952], 0.01)
        said[study] = (verdicts["mnist-probe-bvae"], verdicts["mnist-probe-vae"], verdict_of(*p))
    yes, no = "reproduced", "not reproduced"
    assert said == {
        "mnist_mlp": (no, yes, no),
        "mnist_mlp_relu": (no, yes, no),
        "mnist_mlp_gain": (yes, no, "undecided"),
        "mnist_mlp_e10": (no, yes, no),
        "mnist_resnet": (yes, no, no),
    }


def test_finding_14_the_anchor_is_above_the_published_likelihoods():
    [run] = read("anchor").to_dict("records")
    assert [round(run["nll_k200"] - published, 1) for published in (89.9, 89.78)] == [1.1, 1.2]
