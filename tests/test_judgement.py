"""Protocol 2 on made-up runs whose right verdict is known, beside what protocol 1 says of the same runs.

The findings are those of docs/protocol1.md.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, ttest_ind

from bvae.report.claims import judge_claims, load_claims
from bvae.report.judged_tables import _claim as claim_as_printed
from bvae.report.judgement import describe_study, errors_by, judge_study
from bvae.report.variants import margin_of, variants_of
from helpers.checkouts import ROOT

PLACE = {"dataset": "mnist", "recipe": "mlp", "latent_dim": 128}
SIZES = {"bvae": 600_592, "bvae_gain": 600_720, "vae": 1_165_840, "vae_narrow": 600_130}
LARGER = {"bvae_rank64": 758_928}
LAYOUT = {"channels": 1, "size": 28}
CLAIMS, _ = load_claims(ROOT / "config/claims.yaml")
EQUAL = {  # of an arm that is as good as any other: mean and standard deviation over seeds
    "reconstruction": (222.0, 0.3),
    "mse_per_pixel": (0.01, 0.00005),
    "elbo": (-237.0, 0.12),
    "nll": (235.0, 0.12),
    "probe_accuracy": (0.95, 0.001),
    "probe_sampled_accuracy": (0.90, 0.001),
    "probe_unscaled_accuracy": (0.94, 0.001),
} | {
    variant.metric: (100.0, 3.0)
    for task in ("generation", "interpolation")
    for variant in variants_of(task)
    if not variant.metric.startswith("fid")
}


def runs(arm: str, *, n: int = 10, lost: int = 0, order: int = 0, **metrics: tuple[float, float]) -> list[dict]:
    """Runs of an arm at seeds from 0, normal quantiles of mean and spread in an `order`; the last `lost` diverged."""
    quantiles = norm.ppf((np.arange(n) + 0.5) / n)
    quantiles /= quantiles.std(ddof=1)
    rows = []
    for seed in range(n):
        row = PLACE | {"arm": arm, "seed": seed, "status": "finished", "likelihood": "bernoulli", "layout": LAYOUT}
        row["parameters"] = (SIZES | LARGER)[arm]
        if seed >= n - lost:
            rows.append(row | {"status": "diverged"})
            continue
        for index, (name, (mean, spread)) in enumerate((EQUAL | metrics).items()):
            drawn = np.random.default_rng([order, index]).permutation(quantiles)
            row[name] = mean + spread * float(drawn[seed])
        rows.append(row)
    return rows


def all_arms(n: int = 10, **others: list[dict]) -> list[dict]:
    """Runs of the four arms, equal but for those that are given."""
    found = {arm: runs(arm, n=n, order=index) for index, arm in enumerate(SIZES)} | others
    return [row for rows in found.values() for row in rows]


def second(rows: list[dict], *claims: dict, primary: bool = False) -> list[dict]:
    """The verdicts of protocol 2 on claims, behind a primary one that holds if the gain's ELBO is far ahead."""
    gate = {"test": "outperforms", "task": "elbo", "arms": ["bvae_gain", "vae_narrow"]}
    listed = list(claims) if primary else [gate, *claims]
    block = {key: [value] for key, value in zip(("datasets", "recipes", "latent_dims"), PLACE.values(), strict=True)}
    study = {"protocol": 2, "claims": listed, "blocks": [block | {"arms": list(SIZES), "seeds": [0]}]}
    return judge_study(study, rows)[0 if primary else 1 :]


def first(rows: list[dict], claim: str, pilots: list[dict] | None = None) -> dict:
    """The verdict of protocol 1 on a claim of config/claims.yaml."""
    chosen = [found for found in CLAIMS if found["id"] == claim]
    return judge_claims(chosen, rows, {"mnist": {}}, pilots or [], bootstrap=False)[0]


def claim(test: str, task: str, *arms: str) -> dict:
    return {"test": test, "task": task, "arms": list(arms) or ["bvae", "vae"]}


def verdict(rows: list[dict], *parts: str) -> dict:
    """Protocol 2 on one claim, which is the primary one."""
    return second(rows, claim(*parts), primary=True)[0]


# --- the findings ---------------------------------------------------------------------------------------------------


def test_finding_1_a_lead_that_reverses_with_the_path_is_none():
    straight = {"fd_classifier_interpolations": (200.0, 5.0), "fd_classifier_path_interpolations": (200.0, 5.0)}
    arcs = {"fd_classifier_slerp_interpolations": (84.0, 3.0)}
    of_vae = {"fd_classifier_interpolations": (290.0, 5.0), "fd_classifier_path_interpolations": (290.0, 5.0)}
    of_vae |= {"fd_classifier_slerp_interpolations": (68.0, 3.0)}
    rows = all_arms(bvae=runs("bvae", **straight | arcs), vae=runs("vae", order=2, **of_vae))
    assert first(rows, "interpolation-outperforms")["verdict"] == "reproduced"
    found = verdict(rows, "outperforms", "interpolation")
    assert found["verdict"] == "depends"
    assert "path" in found["note"]


def test_finding_2_a_probe_that_reads_dead_latents_decides_nothing():
    """Standardised means classify as well as the VAE's; sampled z, of which they carry next to nothing, does not."""
    dead = {"probe_sampled_accuracy": (0.3, 0.001), "probe_unscaled_accuracy": (0.9, 0.001)}
    rows = all_arms(bvae=runs("bvae", **dead))
    assert first(rows, "classification-matches")["verdict"] == "reproduced"
    found = verdict(rows, "matches", "classification")
    assert (found["metric"], found["verdict"]) == ("probe_sampled_accuracy", "depends")
    rows = all_arms(bvae=runs("bvae", **dead, probe_accuracy=(0.95, 0.02)))
    assert verdict(rows, "matches", "classification")["verdict"] == "not reproduced"


def test_finding_3_a_share_of_a_term_that_cannot_fall_to_zero_is_no_margin():
    """1.8 % of the reconstruction term, which can change by 14 % only, are 12 % of the squared error."""
    rows = all_arms(bvae=runs("bvae", reconstruction=(226.0, 0.3), mse_per_pixel=(0.0112, 0.00005)))
    assert first(rows, "reconstruction-matches")["verdict"] == "reproduced"
    found = verdict(rows, "matches", "reconstruction")
    assert (found["metric"], found["verdict"]) == ("mse_per_pixel", "not reproduced")


@pytest.mark.parametrize(
    ("of_narrow", "control"), [((0.01, 0.00005), "reproduced"), ((0.0112, 0.00005), "not reproduced")]
)
def test_finding_4_a_match_stands_beside_that_of_a_narrow_vae(of_narrow, control):
    rows = all_arms(vae_narrow=runs("vae_narrow", order=3, mse_per_pixel=of_narrow))
    assert "control_verdict" not in first(rows, "reconstruction-matches")
    found = verdict(rows, "matches", "reconstruction")
    assert (found["verdict"], found["control_verdict"]) == ("reproduced", control)
    assert bool(found["note"]) == (control == "reproduced")
    assert verdict(rows, "matches", "reconstruction", "bvae", "vae_narrow")["control_verdict"] is None


def test_finding_6_a_noisy_pilot_widens_no_margin():
    """20 % worse, while two standard deviations of the pilot are 29 %."""
    worse = dict.fromkeys([name for name in EQUAL if name.endswith("samples")], (120.0, 3.0))
    rows = all_arms(bvae=runs("bvae", **worse))
    pilot = PLACE | {"metric": "fd_classifier_samples", "sd": 14.5, "seeds": [100], "settings": ""}
    assert first(rows, "generation-matches", [pilot])["verdict"] == "reproduced"
    found = verdict(rows, "matches", "generation")
    assert found["verdict"] == "not reproduced"
    assert found["margin"] == pytest.approx(10)


def test_finding_7_a_slight_lead_inside_the_margin_is_a_lead():
    """One point of squared error in a hundred, ten standard errors above none."""
    ahead = {"mse_per_pixel": (0.0099, 0.00002), "reconstruction": (221.0, 0.1)}
    rows = all_arms(bvae=runs("bvae", **ahead), vae=runs("vae", order=2, mse_per_pixel=(0.01, 0.00002)))
    assert verdict(rows, "outperforms", "reconstruction")["verdict"] == "reproduced"
    equal = all_arms()
    assert first(equal, "reconstruction-outperforms")["verdict"] == "not reproduced"
    assert verdict(equal, "outperforms", "reconstruction")["verdict"] == "undecided"
    behind = all_arms(bvae=runs("bvae", mse_per_pixel=(0.0101, 0.00002)))
    assert verdict(behind, "outperforms", "reconstruction")["verdict"] == "not reproduced"


def test_finding_8_samples_from_the_prior_do_not_decide_alone():
    mixture = {f"fd_classifier{k}_mixture_samples": (130.0, 3.0) for k in ("", "2", "3")}
    rows = all_arms(bvae=runs("bvae", **mixture))
    assert first(rows, "generation-matches")["verdict"] == "reproduced"
    found = verdict(rows, "matches", "generation")
    assert found["verdict"] == "depends"
    assert "sampler" in found["note"] and "features" not in found["note"]


def test_finding_9_a_run_whose_partner_diverged_counts():
    """Nine runs of each, of which eight are pairs; and the difference does not hang on which seeds are paired."""
    lead = {"elbo": (-236.5, 0.2)}
    of_vae = [row | {"seed": 9 - row["seed"]} for row in runs("vae", order=2, lost=1)]
    rows = all_arms(bvae=runs("bvae", lost=1, **lead), vae=of_vae)
    assert first(rows, "elbo-matches")["n"] == 8
    found = verdict(rows, "outperforms", "elbo")
    assert (found["n_1"], found["n_2"]) == (9, 9)
    shuffled = all_arms(bvae=runs("bvae", order=9, **lead))
    by_order = [verdict(rows, "outperforms", "elbo") for rows in (all_arms(bvae=runs("bvae", **lead)), shuffled)]
    assert by_order[0]["p"] == pytest.approx(by_order[1]["p"])


def test_finding_10_no_bootstrap_of_few_seeds_is_printed():
    rows = all_arms(n=5)
    assert {"bootstrap_95_low", "bootstrap_95_high"} <= first(rows, "elbo-matches").keys()
    found = verdict(rows, "outperforms", "elbo")
    assert not any("bootstrap" in name for name in found)
    assert first(all_arms(n=4), "elbo-matches")["verdict"] == "inconclusive"
    assert verdict(all_arms(n=4), "matches", "elbo")["verdict"] == "not judged"


def test_finding_11_failures_are_judged_and_a_selection_of_runs_is_not():
    """Six of ten runs lost against none: p = 0.011."""
    rows = all_arms(bvae=runs("bvae", lost=5))
    assert first(rows, "elbo-matches")["verdict"] == "reproduced"
    found = verdict(rows, "matches", "elbo")
    assert (found["verdict"], found["lost_1"], found["lost_2"]) == ("not judged", 5, 0)
    rows = all_arms(bvae=runs("bvae", lost=6))
    found = second(rows, {"test": "fails_more", "arms": ["bvae", "vae"]}, primary=True)[0]
    assert (found["verdict"], found["p"]) == ("reproduced", pytest.approx(0.0108, abs=5e-5))
    even = second(all_arms(), {"test": "fails_more", "arms": ["bvae", "vae"]}, primary=True)[0]
    assert (even["verdict"], even["p"]) == ("undecided", 1.0)


def test_one_lost_run_leaves_the_verdict():
    assert verdict(all_arms(bvae=runs("bvae", lost=1)), "matches", "elbo")["verdict"] == "reproduced"


def test_a_variant_of_few_numbers_cannot_contradict_and_is_told():
    ahead = runs("bvae", fd_classifier_samples=(80.0, 3.0))
    for row in ahead[2:]:
        row["fd_classifier3_mixture_samples"] = None
    ahead[0] |= {"fd_classifier3_mixture_samples": 150.0}
    ahead[1] |= {"fd_classifier3_mixture_samples": 151.0}
    found = verdict(all_arms(bvae=ahead), "matches", "generation")
    assert found["verdict"] == "reproduced"
    assert found["note"].startswith("the narrow VAE matches too") and found["note"].endswith("compared: 1")


def test_a_relative_margin_is_tested_with_the_error_of_the_mean_that_it_is_a_share_of():
    """SciPy's test of the first values against 1.1 times the second."""
    rows = all_arms(bvae=runs("bvae", **dict.fromkeys([n for n in EQUAL if n.endswith("samples")], (107.0, 2.0))))
    values = [[row["fd_classifier_samples"] for row in rows if row["arm"] == arm] for arm in ("bvae", "vae")]
    theirs = ttest_ind(values[0], 1.1 * np.array(values[1]), equal_var=False, alternative="less")
    assert verdict(rows, "matches", "generation")["p"] == pytest.approx(theirs.pvalue)


def test_four_runs_say_nothing_of_failures():
    rows = all_arms(n=4, bvae=runs("bvae", n=4, lost=4))
    [found] = second(rows, {"test": "fails_more", "arms": ["bvae", "vae"]}, primary=True)
    assert found["verdict"] == "not judged"


# --- a study's list -------------------------------------------------------------------------------------------------

AHEAD = runs("bvae_gain", order=1, elbo=(-235.0, 0.12))


def test_registered_claims_wait_for_the_primary_one():
    match = claim("matches", "reconstruction")
    closed, opened = second(all_arms(), match)[0], second(all_arms(bvae_gain=AHEAD), match)[0]
    assert (closed["verdict"], opened["verdict"]) == ("not judged", "reproduced")
    assert (closed["control_verdict"], opened["control_verdict"]) == (None, "reproduced")  # no verdict beside none
    assert closed["p"] == opened["p"] < 0.05
    assert np.isnan(closed["p_holm"]) and opened["p_holm"] == opened["p"]


def test_the_list_is_corrected_by_holm():
    """A lead whose p-value is below 0.05 and not below 0.025 is one alone, and none among two."""
    slight = all_arms(bvae_gain=AHEAD, bvae=runs("bvae", elbo=(-236.878, 0.12)))
    lead, other = claim("outperforms", "elbo"), claim("outperforms", "reconstruction")
    alone, among = second(slight, lead)[0], second(slight, lead, other)[0]
    assert 0.025 < alone["p"] < 0.05
    assert (alone["verdict"], among["verdict"]) == ("reproduced", "undecided")
    assert among["p_holm"] == pytest.approx(2 * alone["p"])


def test_an_undecided_claim_says_what_could_have_been_shown():
    """At a spread of 0.5 nats some 50 seeds would show a margin of 0.25, and ten show one of 0.58."""
    wide = {"elbo": (-237.0, 0.5)}
    rows = all_arms(bvae=runs("bvae", **wide), vae=runs("vae", order=2, **wide))
    found = verdict(rows, "matches", "elbo")
    assert found["verdict"] == "undecided"
    assert found["seeds_needed"] == 51
    assert found["smallest_effect"] == pytest.approx(0.58, abs=0.01)
    assert "51 seeds" in found["note"]


@pytest.mark.parametrize(
    ("test", "behind", "said"),
    [
        ("matches", 0.0, "51 seeds"),
        (
            "matches",
            0.49,
            "excludes",
        ),  # 0.49 ± 0.47: the arms are not equal, so what equal arms would need says nothing
        ("outperforms", 0.0, "seeds"),  # ± 0.47: a lead of 0.25 may be true
        ("outperforms", 0.24, "excludes"),  # 0.24 ± 0.47 reaches a lead of 0.23
    ],
)
def test_an_undecided_claim_supposes_nothing_that_its_interval_excludes(test, behind, said):
    rows = all_arms(bvae=runs("bvae", elbo=(-237.0 - behind, 0.5)), vae=runs("vae", order=2, elbo=(-237.0, 0.5)))
    found = verdict(rows, test, "elbo")
    assert found["verdict"] == "undecided"
    supposed = 0 if test == "matches" else -0.25
    assert (found["interval_95_low"] > supposed) == (said == "excludes")
    assert said in found["note"] and ("51" in found["note"]) == (said == "51 seeds")


def test_a_power_alone_does_not_say_that_a_lead_is_unlikely():
    """Ten seeds are enough for a lead of 0.25, and yet the interval holds it: -0.15 ± 0.17. No seeds are asked for."""
    rows = all_arms(bvae=runs("bvae", elbo=(-236.85, 0.24)), vae=runs("vae", order=2, elbo=(-237.0, 0.01)))
    found = verdict(rows, "outperforms", "elbo")
    assert found["verdict"] == "undecided" and found["interval_95_low"] < -0.25 and found["seeds_needed"] <= 10
    assert "excludes" not in found["note"] and "seeds" not in found["note"]


def test_the_seeds_that_one_of_ten_claims_needs_are_those_of_holms_first_step():
    """As tests/test_verdicts.py has it: 95 in place of 51, because its level is a tenth."""
    wide = {"elbo": (-237.0, 0.5)}
    rows = all_arms(bvae_gain=AHEAD, bvae=runs("bvae", **wide), vae=runs("vae", order=2, **wide))
    found = second(rows, *10 * [claim("matches", "elbo")])
    assert [row["seeds_needed"] for row in found] == 10 * [pytest.approx(95, abs=2)]


def test_the_margin_of_colour_images_counts_their_channels():
    rows = [row | {"layout": {"channels": 3, "size": 32}} for row in all_arms()]
    assert verdict(rows, "matches", "elbo")["margin"] == pytest.approx(0.25 * 3 * 32**2 / 28**2)


def test_the_papers_two_numbers_are_one_claim():
    both = {"probe_sampled_accuracy": (0.973, 0.001), "probe_unscaled_accuracy": (0.973, 0.001)}
    both["probe_accuracy"] = (0.973, 0.001)
    vae = dict.fromkeys(both, (0.952, 0.001))
    numbers = {"test": "paper_numbers", "arms": ["bvae", "vae"]}
    rows = all_arms(bvae=runs("bvae", **both), vae=runs("vae", order=2, **vae))
    assert second(rows, numbers, primary=True)[0]["verdict"] == "reproduced"
    rows = all_arms(bvae=runs("bvae", **both), vae=runs("vae", order=2, **dict.fromkeys(both, (0.973, 0.001))))
    assert first(rows, "mnist-probe-bvae")["verdict"] == "reproduced"  # by protocol 1, half of it
    assert second(rows, numbers, primary=True)[0]["verdict"] == "not reproduced"


def test_arms_that_should_be_of_one_size_and_are_not_are_not_judged():
    narrow = [row | {"parameters": 700_000} for row in runs("vae_narrow", order=3)]
    rows = all_arms(vae_narrow=narrow)
    found = verdict(rows, "outperforms", "elbo", "bvae", "vae_narrow")
    assert found["verdict"] == "not judged"
    assert "more parameters" in found["note"]


def test_a_corrected_arm_is_not_of_the_narrow_vaes_size():
    """The narrow VAE has the BVAE's parameters, so it is neither judged against a larger arm nor its control."""
    rows = [*all_arms(), *runs("bvae_rank64", order=4)]
    found = verdict(rows, "outperforms", "elbo", "bvae_rank64", "vae_narrow")
    assert (found["verdict"], found["control_verdict"]) == ("not judged", None) and "fewer parameters" in found["note"]
    beside = verdict(rows, "matches", "elbo", "bvae_rank64", "vae")
    assert (beside["verdict"], beside["control_verdict"]) == ("reproduced", None)
    ordinary = verdict(rows, "matches", "elbo", "vae_narrow", "vae")  # of two sizes on purpose
    assert ordinary["verdict"] == "reproduced"


def test_margins_are_the_same_for_all_data_sets():
    assert margin_of("reconstruction", 0.01, 784) == pytest.approx(0.0002)
    assert margin_of("elbo", -100.0, 784) == 0.25
    assert margin_of("elbo", -100.0, 64) == pytest.approx(0.25 * 64 / 784)  # in proportion to the pixels
    assert margin_of("classification", 0.9, 784) == 0.005
    assert margin_of("generation", 150.0, 784) == margin_of("interpolation", 150.0, 784) == pytest.approx(15)


def test_everything_is_described_without_a_verdict():
    block = {"datasets": ["mnist"], "recipes": ["mlp"], "latent_dims": [128], "arms": list(SIZES), "seeds": [0]}
    images = {name: np.linspace(0, 1, 50) for name in ("elbo", "nll", "mse_per_pixel")}
    shift = {"bvae": 2.0}

    def per_image(row: dict) -> dict:
        return {name: values + shift.get(row["arm"], 0) for name, values in images.items()}

    found = pd.DataFrame(describe_study({"protocol": 2, "blocks": [block]}, all_arms(n=5), errors_by(per_image)))
    assert "verdict" not in found
    assert set(found["arms"]) == {
        f"{arm} against {other}" for other in ("vae", "vae_narrow") for arm in SIZES if arm not in (other, "vae")
    }
    counts = found.groupby(["arms", "task"], sort=False).size()["bvae against vae"]
    assert counts.to_dict() == {
        "elbo": 1, "classification": 3, "reconstruction": 1, "generation": 6, "interpolation": 12, "other": 2
    }  # fmt: skip
    line = found[(found["arms"] == "bvae against vae") & (found["metric"] == "elbo")].iloc[0]
    assert line["error_images"] == pytest.approx(0)  # the same for every image
    assert found.loc[found["task"] == "generation", "error_images"].isna().all()


def test_runs_without_a_number_are_left_out_and_an_arm_without_any_is_not_judged():
    """One run has no ELBO, and another arm lost all runs; values of images are asked of no such run."""
    seen = []

    def per_image(row: dict) -> dict:
        seen.append((row["arm"], row["seed"]))
        return {name: np.full(50, row[name]) + np.arange(50) for name in ("elbo", "nll", "mse_per_pixel")}

    broken = runs("bvae")
    broken[0] |= dict.fromkeys(EQUAL)
    rows = all_arms(bvae=broken, bvae_gain=runs("bvae_gain", lost=10))
    block = {"datasets": ["mnist"], "recipes": ["mlp"], "latent_dims": [128], "arms": list(SIZES), "seeds": [0]}
    study = {"protocol": 2, "blocks": [block], "claims": [claim("outperforms", "elbo", "bvae_gain", "vae_narrow")]}
    [found] = judge_study(study, rows, errors_by(per_image))
    assert (found["verdict"], found["n_1"], found["n_2"]) == ("not judged", 0, 10)
    described = pd.DataFrame(describe_study(study, rows, errors_by(per_image)))
    assert set(described["arms"]) == {"bvae against vae", "vae_narrow against vae", "bvae against vae_narrow"}
    line = described[(described["arms"] == "bvae against vae") & (described["metric"] == "elbo")].iloc[0]
    assert (line["n_1"], line["n_2"]) == (9, 10)
    assert line["error_seeds_and_images"] == pytest.approx(line["error_seeds"])  # images are alike for both arms
    assert ("bvae", 0) not in seen and not {arm for arm, _ in seen} & {"bvae_gain"}


def test_the_printed_n_counts_the_runs_that_have_a_number_and_p_is_that_of_the_verdict():
    broken = runs("bvae", lost=1, mse_per_pixel=(0.02, 0.0001))
    broken[0]["mse_per_pixel"] = None
    rows = all_arms(bvae_gain=AHEAD, bvae=broken[:1] + runs("bvae", mse_per_pixel=(0.02, 0.0001))[1:])
    [found] = second(rows, claim("matches", "reconstruction"))
    assert (found["n_1"], found["verdict"]) == (9, "not reproduced")
    printed = claim_as_printed(found)
    assert printed["n"] == "9 (1 without a number) / 10"
    assert float(printed["p (Holm)"]) == pytest.approx(found["p_reverse_holm"], rel=0.01) and found["p_holm"] > 0.9
