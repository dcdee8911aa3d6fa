"""The numbers of docs/protocol1.md that take more than a mean or a count: as the review found them, and by SciPy."""

import math
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tools import afterwards, protocol1
from tools.published import Published

HERE = Published()
STUDIES = list(dict.fromkeys(pd.read_csv(HERE.folder / "overview.csv")["study"]))  # of five seeds or more
STRAIGHT, ARCS = "fd_classifier_interpolations", "fd_classifier_slerp_interpolations"
PRIOR, MIXTURE = "fd_classifier_samples", "fd_classifier_mixture_samples"
METRICS = {  # of protocol 1
    "reconstruction": "reconstruction",
    "elbo": "elbo",
    "classification": "probe_accuracy",
    "generation": PRIOR,
    "interpolation": STRAIGHT,
}
HIGHER = ("elbo", "probe_accuracy")
second = partial(afterwards.second, HERE)


@cache
def both(study: str, metric: str, arm: str = "bvae") -> list[pd.Series]:
    """The finished runs of an arm and of the VAE, the better of a metric being lower."""
    sign = -1 if metric in HIGHER else 1
    return [sign * HERE.runs(study, name).set_index("seed")[metric] for name in (arm, "vae")]


def welch(study: str, metric: str, arm: str = "bvae", level: float = 0.95) -> list[float]:
    """How much worse an arm is than the VAE, and the interval."""
    values = both(study, metric, arm)
    interval = stats.ttest_ind(*values, equal_var=False).confidence_interval(level)
    return [values[0].mean() - values[1].mean(), *interval]


def paired(study: str, metric: str, arm: str = "bvae", level: float = 0.95) -> list[float]:
    """The same over the seeds that both finished."""
    pairs = pd.concat(both(study, metric, arm), axis=1, keys=["arm", "vae"]).dropna()
    interval = stats.ttest_rel(pairs["arm"], pairs["vae"]).confidence_interval(level)
    return [(pairs["arm"] - pairs["vae"]).mean(), *interval]


def scipys_shares(study: str, metric: str, arm: str = "bvae", level: float = 0.95) -> list[float]:
    """Welch's in per cent of the VAE's mean."""
    return [round(100 * end / both(study, metric, arm)[1].mean(), 1) for end in welch(study, metric, arm, level)]


def shares(found: SimpleNamespace) -> list[float]:
    """What the page has."""
    return [round(end, 1) for end in (found.worse, found.low, found.high)]


# --- by protocol 2 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", ["matches", "outperforms"])
def test_the_interpolation_of_the_residual_network_depends_on_the_path(test):
    found = second("mnist_resnet", test, "interpolation")
    assert found.verdict == "depends" and found.differing == ["path"]
    straight, arc = found.main.comparison, found.other.comparison
    assert straight.counts == arc.counts == (6, 5)
    assert [round(mean, 1) for mean in (*straight.means, *arc.means)] == [199.4, 291.3, 84.3, 68.2]
    assert shares(found.main) == scipys_shares("mnist_resnet", STRAIGHT) == [-31.6, -45.8, -17.3]
    assert shares(found.other) == scipys_shares("mnist_resnet", ARCS) == [23.6, 15.7, 31.5]
    assert [round(end, 1) for end in welch("mnist_resnet", ARCS)] == [16.1, 10.7, 21.5]


def test_squared_errors():
    """In all five, protocol 1 found a match of the reconstruction term."""
    numbers = {
        "mnist_mlp_relu": ("not reproduced", "not reproduced", [3.9, 2.5, 5.2]),
        "mnist_mlp_gain": ("reproduced", "reproduced", [-2.0, -2.6, -1.5]),
        "mnist_resnet": ("reproduced", "reproduced", [-5.8, -8.6, -2.9]),
        "fashion_resnet": ("reproduced", "undecided", [-1.4, -3.0, 0.2]),
        "fashion_mlp": ("not judged", "not judged", [3.1, 1.4, 4.8]),
    }
    for study, (match, lead, difference) in numbers.items():
        assert HERE.claims(study).loc["reconstruction-matches", "verdict"] == "reproduced"
        found = second(study, "matches", "reconstruction")
        assert (found.verdict, second(study, "outperforms", "reconstruction").verdict) == (match, lead)
        assert shares(found.main) == scipys_shares(study, "mse_per_pixel") == difference
    assert second("fashion_mlp", "matches", "reconstruction").main.verdict == "undecided"  # were it judged
    assert scipys_shares("fashion_mlp", "mse_per_pixel", level=0.9) == [3.1, 1.7, 4.5]
    assert scipys_shares("mnist_resnet", "reconstruction")[0] == 1.4  # which the squared error contradicts


def test_samples_from_the_prior_and_from_the_mixture():
    relu = second("mnist_mlp_relu", "matches", "generation")
    assert (relu.verdict, relu.differing) == ("depends", ["sampler"])
    assert shares(relu.main) == scipys_shares("mnist_mlp_relu", PRIOR) == [-14.0, -23.0, -5.0]
    assert shares(relu.other) == scipys_shares("mnist_mlp_relu", MIXTURE) == [19.2, 8.0, 30.4]
    worse = [scipys_shares(study, MIXTURE) for study in STUDIES if study.startswith("mnist")]
    assert len(worse) == 6 and min(low for _, low, _ in worse) > 0
    assert (round(min(worse)[0]), round(max(worse)[0])) == (12, 32)


def test_what_matches_by_the_margins_of_protocol_2():
    """0.25 nats of ELBO, and 10 % of a distance; `fashion_mlp` lost two runs of the narrow VAE, so it is not judged."""
    studies = [study for study in STUDIES if study != "mnist_mlp_e10"]
    assert not any(welch(study, "elbo", level=0.9)[2] < 0.25 for study in studies)
    assert [study for study in STUDIES if welch(study, "elbo", "bvae_gain", 0.9)[2] < 0.25] == ["mnist_mlp_relu"]
    assert welch("mnist_mlp_relu", "elbo", "bvae_gain")[2] < 0
    narrow = [study for study in studies if scipys_shares(study, PRIOR, "vae_narrow", 0.9)[2] < 10]
    assert len(narrow) == 5 + 1 and HERE.lost("fashion_mlp", "vae_narrow") == 2


# --- the findings ---------------------------------------------------------------------------------------------------


def test_finding_1_over_pairs_of_seeds():
    found = protocol1.paired(HERE, "mnist_resnet", ARCS)
    by_page = (found.mean, *found.interval_95)
    assert found.n == 5 and by_page == pytest.approx(paired("mnist_resnet", ARCS))
    assert [round(end, 1) for end in by_page] == [16.7, 9.4, 24.0]


def test_finding_1_verdicts_on_arcs():
    """By a margin of 5 %: the 90 % interval is below it, beyond it, or neither."""
    found = {}
    for study in STUDIES:
        verdicts = []
        for metric in (STRAIGHT, ARCS):
            margin = 0.05 * pd.concat(both(study, metric), axis=1).dropna().iloc[:, 1].mean()
            _, low, high = paired(study, metric, level=0.9)
            verdicts.append("reproduced" if high < margin else "not reproduced" if low > margin else "inconclusive")
        if verdicts[0] != verdicts[1]:
            found[study] = verdicts
    page = protocol1.on_arcs(HERE).query("claim == 'interpolation-matches'").set_index("study")[["straight", "arc"]]
    assert found == {study: list(verdicts) for study, *verdicts in page.itertuples()}
    assert found.pop("mnist_resnet") == ["reproduced", "not reproduced"]
    assert found.keys() == {"fashion_resnet", "mnist_mlp", "mnist_mlp_z16"}
    assert all(verdicts == ["not reproduced", "inconclusive"] for verdicts in found.values())


def test_finding_4_on_fashion_mnist_the_narrow_vae_matches_as_the_bvae_does():
    margins = HERE.claims("fashion_mlp")["margin"]
    for arm in ("bvae", "vae_narrow"):
        matched = [
            task
            for task, metric in METRICS.items()
            if paired("fashion_mlp", metric, arm, level=0.9)[2] < margins[f"{task}-matches"]
        ]
        assert matched == protocol1.matched(HERE, "fashion_mlp", arm)
        assert matched == ["reconstruction", "elbo", "classification", "generation"]


def test_finding_9_pairs_are_not_correlated():
    """Over all studies and arms: correlations pooled, and how wide Welch's intervals are beside the paired ones."""
    found, widths = {}, []
    for metric in METRICS.values():
        products, freedom = 0.0, 0
        for study in STUDIES:
            for arm in ("bvae", "bvae_gain", "vae_narrow"):
                pairs = pd.concat(both(study, metric, arm), axis=1).dropna()
                if len(pairs) < 5:
                    continue
                products += (len(pairs) - 1) * np.corrcoef(pairs.T)[0, 1]
                freedom += len(pairs) - 1
                widths.append(np.diff(welch(study, metric, arm)[1:]) / np.diff(paired(study, metric, arm)[1:]))
        found[metric] = products / freedom
    by_page = protocol1.pairing(HERE)
    assert by_page.correlation == pytest.approx(found) and by_page.width == pytest.approx(np.median(widths))
    assert [round(found[metric], 2) for metric in METRICS.values()] == [0.04, 0.05, 0.04, -0.11, 0.03]
    assert round(100 * (1 - by_page.width)) == 10


def test_finding_10_no_five_seeds_reach_significance_in_a_sign_test():
    assert stats.binomtest(5, 5).pvalue == 0.0625


def test_finding_11_failures_on_fashion_mnist_with_16_latents():
    """Fisher's test by counting: all six of the twenty runs that are lost are of one of the two arms."""
    found = protocol1.failed(HERE, "fashion_mlp_z16")
    assert (found.lost, found.vae_lost, found.runs) == (6, 0, 10)
    assert found.p == pytest.approx(2 * math.comb(10, 6) / math.comb(20, 6)) and round(found.p, 3) == 0.011


def test_finding_14_the_papers_two_numbers_together():
    """Not reproduced: a mean is farther than a point from its number, two-sided at 5 %, halved for two numbers."""
    said = {}
    for study in (study for study in STUDIES if study.startswith("mnist") and not study.endswith("z16")):
        p_near, p_away = [], []
        for arm, number in (("bvae", 0.9732), ("vae", 0.952)):
            values = HERE.runs(study, arm)["probe_accuracy"]
            sides = [stats.ttest_1samp(values, number + side * 0.01) for side in (-1, 1)]
            near = [test.statistic * side < 0 for test, side in zip(sides, (-1, 1), strict=True)]
            p_near.append(max(test.pvalue / 2 if so else 1 for test, so in zip(sides, near, strict=True)))
            p_away.append(min(test.pvalue if not so else 1 for test, so in zip(sides, near, strict=True)))
        said[study] = "reproduced" if max(p_near) < 0.05 else "not reproduced" if min(p_away) < 0.025 else "undecided"
    assert said == protocol1.papers_numbers(HERE)
    assert said.pop("mnist_mlp_gain") == "undecided" and list(said.values()) == ["not reproduced"] * 4
