"""Verdicts on synthetic runs whose truth is known, and the statistics behind them against references."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

import bvae
from bvae.errors import InputError
from bvae.report.claims import (
    _shown,
    judge_claims,
    judge_cut,
    judge_match,
    judge_outperform,
    load_claims,
    paired_difference,
)
from bvae.report.pilots import check_pilots, pilot_key, pilots_of
from bvae.report.verdicts import holm
from bvae.study.config import check_study
from bvae.study.runs import expand_runs, protocol_of
from bvae.system.files import read_yaml
from helpers.checkouts import ROOT
from helpers.studies import STUDIES, check

CLAIMS = Path(__file__).parents[1] / "config/claims.yaml"
CONTROLS = {"fake": {"mean_image_mse_per_pixel": 0.07}}


def verdict(first, second, *, test: str, margin: float, better: str = "lower") -> str:
    difference = paired_difference(first, second, better=better, margin=margin, bootstrap=False)
    if test == "matches":
        return judge_match(difference, margin, difference.p_margin)
    return judge_outperform(difference, margin, difference.p_better)


def simulate(rng, n: int, effect: float) -> tuple[np.ndarray, np.ndarray]:
    """Two arms over n seeds: a common part of each seed, and a difference of mean `effect` and deviation 1."""
    common = rng.normal(100, 3, n)
    return common + effect + rng.normal(0, 1, n), common


def share(wanted: str, *, n: int, effect: float, test: str, margin: float = 1.0, studies: int = 1000) -> float:
    rng = np.random.default_rng(0)
    found = [verdict(*simulate(rng, n, effect), test=test, margin=margin) for _ in range(studies)]
    return found.count(wanted) / studies


def test_intervals_are_those_of_scipy():
    first, second = np.array([3.0, 5.0, 4.0, 8.0, 6.0]), np.array([2.0, 4.5, 4.5, 6.0, 5.0])
    found = paired_difference(first, second, better="lower", margin=1.0)
    reference = stats.ttest_rel(first, second)
    assert found.mean == pytest.approx(0.8)
    assert found.interval_90 == pytest.approx(tuple(reference.confidence_interval(0.90)))
    assert found.interval_95 == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.p_better == pytest.approx(reference.pvalue)
    assert found.p_margin == pytest.approx(stats.ttest_1samp(first - second, 1.0, alternative="less").pvalue)
    assert found.bootstrap_95[0] < 0.8 < found.bootstrap_95[1]


def test_few_or_equal_differences_by_hand():
    """One seed has no interval; two have a t interval and no bootstrap; equal differences are known without error."""
    one = paired_difference([3.0], [1.0], better="lower", margin=1.0)
    assert one.mean == 2 and np.isnan(one.interval_95).all() and math.isnan(one.p_better)
    two = paired_difference([1.0, 3.0], [0.0, 0.0], better="lower", margin=1.0)
    assert two.mean == 2 and two.bootstrap_95 is None
    assert two.interval_95 == pytest.approx((2 - 12.706204736, 2 + 12.706204736))  # t of one degree of freedom
    same = paired_difference([1.5, 2.5, 3.5], [1.0, 2.0, 3.0], better="lower", margin=1.0)
    assert (same.mean, same.interval_95, same.p_better, same.p_margin) == (0.5, (0.5, 0.5), 0.0, 0.0)


def test_sign_is_worse_for_the_first_arm():
    lower = paired_difference([1.0, 2, 3, 4, 6], [2.0, 3, 4, 5, 6], better="lower", margin=1.0)
    higher = paired_difference([1.0, 2, 3, 4, 6], [2.0, 3, 4, 5, 6], better="higher", margin=1.0)
    assert (lower.mean, higher.mean) == (-0.8, 0.8)


@pytest.mark.parametrize("effect", [1.0, 1.5])
def test_a_false_match_is_rare(effect):
    """At the margin "matches" is wrongly reproduced in 5 % of studies, beyond it in fewer (4 standard errors)."""
    found = share("reproduced", n=6, effect=effect, test="matches")
    assert found <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 1000)


def test_a_false_outperforms_is_rare():
    """Without an effect one side of a two-sided 5 % test: 2.5 %."""
    found = share("reproduced", n=6, effect=0.0, test="outperforms")
    assert found <= 0.025 + 4 * math.sqrt(0.025 * 0.975 / 1000)


@pytest.mark.parametrize(("effect", "n"), [(2, 5), (1.5, 6), (1, 10)])
def test_a_planted_effect_is_found_with_the_stated_power(effect, n):
    """The sizes of n at which a standardised paired effect is found with about 80 % power, by scipy's noncentral t."""
    critical = stats.t.ppf(0.975, n - 1)
    power = stats.nct.sf(critical, n - 1, effect * math.sqrt(n))
    found = share("reproduced", n=n, effect=-effect, test="outperforms")
    assert found == pytest.approx(power, abs=4 * math.sqrt(power * (1 - power) / 1000))
    assert power > 0.75


def test_clear_cases():
    base, little = np.arange(6.0), np.array([0.01, -0.01, 0.02, -0.02, 0.01, -0.01])
    assert verdict(base + little, base, test="matches", margin=1.0) == "reproduced"
    assert verdict(base + little, base, test="outperforms", margin=1.0) == "not reproduced"  # equivalence is shown
    assert verdict(base + 5 + little, base, test="matches", margin=1.0) == "not reproduced"
    assert verdict(base + 5 + little, base, test="outperforms", margin=1.0) == "not reproduced"
    assert verdict(base - 5 + little, base, test="outperforms", margin=1.0) == "reproduced"
    assert verdict(base - 5 + little, base, test="matches", margin=1.0) == "reproduced"  # better is no worse
    assert verdict(base - 5 + little, base, test="outperforms", margin=1.0, better="higher") == "not reproduced"
    wild = np.array([9.0, -9.0, 9.0, -9.0, 9.0, -8.0])
    assert {verdict(base + wild, base, test=test, margin=1.0) for test in ("matches", "outperforms")} == {
        "inconclusive"
    }


@pytest.mark.parametrize("test", ["matches", "outperforms"])
def test_fewer_than_five_seeds_are_inconclusive(test):
    base = np.arange(4.0)
    assert verdict(base - 5 + base / 100, base, test=test, margin=1.0) == "inconclusive"


def test_holm_by_hand():
    """Holm (1979): .01 x 4, .02 x 3, .03 x 2 raised to the one before, .04 likewise; NaN is no test."""
    assert holm([0.03, 0.01, math.nan, 0.04, 0.02])[:2] == pytest.approx([0.06, 0.04])
    assert holm([0.03, 0.01, math.nan, 0.04, 0.02])[3:] == pytest.approx([0.06, 0.06])
    assert math.isnan(holm([0.5, math.nan])[1])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("bvae", "wanted"), [(50, "reproduced"), (55, "reproduced"), (56, "partly"), (65, "partly"), (66, "not reproduced")]
)
def test_parameter_cut(bvae, wanted):
    assert judge_cut(bvae, 100, reproduced_from=0.45, partly_from=0.35) == wanted


def fake_rows(seeds: int, *, shift: float, backward: float) -> list[dict]:
    """Runs of a study in which the BVAE is worse than the VAE by `shift` nats, and the VAE's backward MSE is given."""
    rng, rows = np.random.default_rng(1), []
    for seed in range(seeds):
        common = rng.normal(0, 0.5)
        for arm, parameters in (("bvae", 52), ("vae", 100), ("vae_narrow", 52)):
            worse = shift if arm == "bvae" else 0.0
            noise = rng.normal(0, 0.05)
            row = {"dataset": "fake", "recipe": "r", "latent_dim": 8, "arm": arm, "seed": seed, "status": "finished"}
            row |= {"parameters": parameters, "reconstruction": 70 + common + worse + noise}
            row |= {"elbo": -95 - common - worse - noise, "probe_accuracy": 0.95 + 0.001 * noise}
            row |= {"fd_classifier_samples": 150 + noise, "fd_classifier_interpolations": 250 + noise}
            row |= {"backward_mse_per_pixel": 0.01 if arm == "bvae" else backward}
            rows.append(row)
    return rows


def verdicts(rows: list[dict]) -> dict[str, str]:
    return {row["claim"]: row["verdict"] for row in judge_claims(load_claims(CLAIMS)[0], rows, CONTROLS)}


def test_every_claim_of_a_study_whose_truth_is_known():
    found = verdicts(fake_rows(6, shift=3.0, backward=0.2))
    assert found["parameter-cut"] == "reproduced"
    assert found["reconstruction-matches"] == "not reproduced"
    assert found["reconstruction-outperforms"] == "not reproduced"
    assert found["elbo-matches"] == "not reproduced"
    assert found["classification-matches"] == "reproduced"
    assert found["generation-matches"] == "reproduced"
    assert found["backward-noise"] == "reproduced"
    assert found["budget-elbo"] == "not reproduced"
    assert "mnist-probe-bvae" not in found  # only on MNIST at 128 latents
    better = verdicts(fake_rows(6, shift=-3.0, backward=0.02))
    assert better["reconstruction-outperforms"] == better["elbo-matches"] == better["budget-elbo"] == "reproduced"
    assert better["backward-noise"] == "not reproduced"


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (52_000, ""),
        (52_520, ""),  # 1 % more
        (51_480, ""),
        (52_600, "VAE narrow has 1.2 % more parameters than BVAE"),
        (40_560, "VAE narrow has 22.0 % fewer parameters than BVAE"),
    ],
)
def test_a_narrow_vae_of_another_size_leaves_its_claims_open_and_no_other(parameters, reason):
    rows = fake_rows(6, shift=-3.0, backward=0.2)
    for row in rows:
        row["parameters"] = {"bvae": 52_000, "vae": 100_000, "vae_narrow": parameters}[row["arm"]]
    found = {row["claim"]: row for row in judge_claims(load_claims(CLAIMS)[0], rows, CONTROLS)}
    budget = {name: row["reason"] for name, row in found.items() if row["arms"] == "bvae against vae_narrow"}
    assert budget == dict.fromkeys(["budget-reconstruction", "budget-elbo", "budget-classification"], reason)
    assert found["budget-elbo"]["verdict"] == ("inconclusive" if reason else "reproduced")
    assert found["elbo-matches"]["verdict"] == "reproduced"  # of a VAE that is twice as large, which it says
    assert not {"unequal", "absent", "values"} & found["budget-elbo"].keys()


def test_an_arm_of_another_size_does_not_count_in_the_correction():
    """Whichever arm the claim names first, and against the BVAE with gains too; claims left open are no tests."""
    rows = fake_rows(6, shift=-3.0, backward=0.2)
    for row in rows:
        row["arm"] = "bvae_gain" if row["arm"] == "bvae" else row["arm"]
        row["parameters"] = 60 if row["arm"] == "vae_narrow" else 52
    rule = {"text": "", "test": "outperforms", "metric": "elbo", "margin": {"absolute": 1.0}, "confirmatory": True}
    claims = [
        rule | {"id": " ".join(arms), "arms": arms} for arms in (["vae_narrow", "bvae_gain"], ["bvae_gain", "vae"])
    ]
    first, second = judge_claims(claims, rows, CONTROLS)
    assert (first["verdict"], first["reason"]) == (
        "inconclusive",
        "VAE narrow has 15.4 % more parameters than BVAE + gain",
    )
    assert "p_holm" not in first and second["p_holm"] == second["p"]


def test_few_seeds_and_diverged_runs():
    few = verdicts(fake_rows(4, shift=-3.0, backward=0.2))
    assert few.pop("parameter-cut") == "reproduced"  # counting needs no seeds
    assert set(few.values()) == {"inconclusive"}
    rows = fake_rows(6, shift=-3.0, backward=0.2)
    for row in rows:
        if row["arm"] == "bvae" and row["seed"] > 3:
            row["status"] = "diverged"
    assert verdicts(rows)["reconstruction-outperforms"] == "inconclusive"


def test_a_verdict_says_how_many_seeds_it_has_lost():
    """Seeds at which a run of either arm diverged: two of the BVAE, one of them and another of the VAE; none narrow."""
    rows = fake_rows(9, shift=-3.0, backward=0.2)
    for row in rows:
        if (row["arm"], row["seed"]) in {("bvae", 1), ("bvae", 4), ("vae", 4), ("vae", 6)}:
            row["status"] = "diverged"
    found = {row["claim"]: row for row in judge_claims(load_claims(CLAIMS)[0], rows, CONTROLS)}
    assert [found["elbo-matches"][key] for key in ("n", "diverged")] == [6, 3]
    assert [found["budget-elbo"][key] for key in ("n", "diverged")] == [7, 2]
    assert _shown(found["elbo-matches"])["n"] == "6 (3 diverged)"


@pytest.mark.parametrize("unit", [1.0, 255.0])
def test_no_verdict_hangs_on_the_unit_of_a_pixel(unit):
    """Pixels in another unit add D ln(unit) to -ln p(x|z) of a density: 2 % of it would be any number of nats."""
    rows = fake_rows(6, shift=3.0, backward=0.2)
    for row in rows:
        row |= {"likelihood": "gaussian", "mse_per_pixel": 0.01 * (1.03 if row["arm"] == "bvae" else 1.0)}
        row["mse_per_pixel"] *= 1 + row["seed"] / 1e4
        row["reconstruction"] += 3072 * math.log(unit) - 70
        row["elbo"] -= 3072 * math.log(unit)
    found = {row["claim"]: row for row in judge_claims(load_claims(CLAIMS)[0], rows, CONTROLS)}
    for claim in ("reconstruction-matches", "budget-reconstruction"):
        assert (found[claim]["metric"], found[claim]["verdict"]) == ("mse_per_pixel", "not reproduced")
        assert found[claim]["margin"] == pytest.approx(0.02 * 0.01, rel=1e-3)
        assert found[claim]["difference"] == pytest.approx(0.03 * 0.01, rel=1e-3)
    assert (found["elbo-matches"]["metric"], found["elbo-matches"]["margin"]) == ("elbo", 1.0)


def test_a_share_of_a_density_is_no_margin(tmp_path):
    document = yaml.safe_load(CLAIMS.read_text())
    claim = next(claim for claim in document["claims"] if claim["id"] == "reconstruction-matches")
    del claim["gaussian"]
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match="reconstruction-matches: .*'gaussian' is missing: .*mse_per_pixel"):
        load_claims(path)


def test_a_study_without_an_arm_says_so():
    rows = [row for row in fake_rows(6, shift=0.0, backward=0.2) if row["arm"] == "vae"]
    found = judge_claims(load_claims(CLAIMS)[0], rows, CONTROLS)
    assert {row["verdict"] for row in found} == {"inconclusive"}
    reasons = {row["claim"]: row["reason"] for row in found}
    assert reasons["elbo-matches"] == "no runs of BVAE"
    assert reasons["budget-elbo"] == "no runs of BVAE and VAE narrow"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "elbow"}, "Did you mean 'elbo'"),
        ({"arms": ["bvae", "vea"]}, "arm 'vea' is not known"),
        ({"test": "matchs"}, "Did you mean 'matches'"),
        ({"margin": {"absolute": -1}}, "margin is"),
        ({"margn": 3}, "unknown key 'margn'"),
        ({"arms": ["bvae"]}, "wanted 2 arm"),
        ({"gaussian": "mse_per_pixel"}, "with an absolute margin, which is in the unit of elbo"),
        ({"only": {"data": "mnist"}}, "only: unknown key 'data'"),
        ({"arms": 5}, "arms: expected list, got 5"),
        ({"arms": [["bvae"], "vae"]}, "is not known"),
        ({"metric": ["elbo"]}, "metric: expected str"),
        ({"test": "number", "arms": ["bvae"], "value": 1, "margin": {"relative": 0.1}}, "wanted absolute:"),
        ({"test": "number", "arms": ["bvae"], "value": "high"}, "value: expected int or float"),
    ],
)
def test_a_fault_of_the_claims_file_is_named(tmp_path, change, message):
    document = yaml.safe_load(CLAIMS.read_text())
    claim = next(claim for claim in document["claims"] if claim["id"] == "elbo-matches")
    claim.update(change)
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match=f"elbo-matches: .*{message}"):
        load_claims(path)


RECIPE = {"network": {"architecture": "mlp", "hidden": [16]}}
RECIPE["training"] = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01}


def study_of(recipes: dict[str, dict], **block) -> dict:
    """A checked study of one block, which runs all of some recipes."""
    block = {"datasets": ["fake"], "recipes": [*recipes], "latent_dims": [8], "seeds": [0, 1]} | block
    return check_study({"study": "s", "blocks": [block], "recipes": recipes}, datasets=None)


PILOT = {"metric": "fd_classifier_samples", "dataset": "fake", "recipe": "r", "latent_dim": 8}
PILOT |= {"settings": pilot_key(study_of({"r": RECIPE})["recipes"]["r"]), "sd": 20.0}
PILOT |= {"seeds": [100, 101, 102, 103, 104]}


def changed(**changes) -> dict:
    """The pilot's recipe with some settings of training changed."""
    return RECIPE | {"training": RECIPE["training"] | changes}


def test_a_pilot_widens_its_margin_and_no_other():
    rows = fake_rows(6, shift=0.0, backward=0.2)
    for row in rows:
        row["fd_classifier_samples"] += 30 * (row["arm"] == "bvae")  # of 150: 20 %
    claims = load_claims(CLAIMS)[0]
    for pilots, margin, verdict in (
        ([], 0.05 * 150, "not reproduced"),
        ([PILOT], 2 * 20.0, "reproduced"),
        ([PILOT | {"sd": 0.1}], 0.05 * 150, "not reproduced"),  # at least 5 %
        ([PILOT | {"recipe": "another"}], 0.05 * 150, "not reproduced"),
        ([PILOT | {"metric": "fd_classifier_interpolations"}], 0.05 * 150, "not reproduced"),
    ):
        found = {row["claim"]: row for row in judge_claims(claims, rows, CONTROLS, pilots)}["generation-matches"]
        assert found["margin"] == pytest.approx(margin, rel=0.01)
        assert found["verdict"] == verdict


RATES = {"bvae": 0.5, "bvae_gain": 0.5, "vae": 0.01, "vae_narrow": 0.5}


@pytest.mark.parametrize(
    ("recipe", "block", "lent"),
    [
        (RECIPE, {}, True),
        (changed(learning_rate=RATES), {}, True),  # the pilot's VAE at the pilot's rate; other arms have their own
        (RECIPE | {"objective": {"beta": 1.0}, "importance": {"samples": [3]}}, {}, True),
        (changed(epochs=4), {}, False),
        (changed(learning_rate=RATES | {"vae": 0.5}), {}, False),
        (RECIPE | {"network": {"architecture": "mlp", "hidden": [17]}}, {}, False),
        (RECIPE | {"likelihood": {"name": "gaussian"}}, {}, False),
        (RECIPE, {"datasets": ["other"]}, False),
        (RECIPE, {"latent_dims": [9]}, False),
        (changed(learning_rate={"bvae": 0.01}), {"arms": ["bvae"]}, False),  # no VAE at all
    ],
)
@pytest.mark.parametrize("name", ["r", "mine"])
def test_a_pilot_lends_its_margin_to_equal_settings_whatever_the_recipe_is_called(name, recipe, block, lent):
    study = study_of({name: recipe}, **block)
    assert pilots_of([PILOT], study) == ([PILOT | {"recipe": name}] if lent else [])
    seen = study_of({name: recipe}, **block | {"seeds": [7, 102]})
    if not lent:
        return check_pilots([PILOT], seen)
    with pytest.raises(InputError, match=f"{name}, z8 used seed 102, which study 's' runs too"):
        check_pilots([PILOT], seen)


def test_only_the_recipe_of_the_pilots_settings_gets_its_margin():
    """The case of two recipes of one study, of which the other has the pilot's name."""
    study = study_of({"mine": RECIPE, "r": changed(epochs=4)}, datasets=["fake"])
    rows = [row | {"recipe": recipe} for recipe in ("mine", "r") for row in fake_rows(6, shift=0.0, backward=0.2)]
    found = judge_claims(load_claims(CLAIMS)[0], rows, CONTROLS, pilots_of([PILOT], study), bootstrap=False)
    margins = {row["recipe"]: row["margin"] for row in found if row["claim"] == "generation-matches"}
    assert margins == {"mine": 40.0, "r": pytest.approx(0.05 * 150, rel=0.01)}


def test_a_pilot_is_the_same_in_another_version_of_the_code(monkeypatch):
    monkeypatch.setattr(bvae, "TRAINING_VERSION", bvae.TRAINING_VERSION + 1)
    assert pilot_key(study_of({"r": RECIPE})["recipes"]["r"]) == PILOT["settings"]


def test_a_study_may_not_run_the_seeds_of_a_pilot():
    check_pilots([PILOT], study_of({"r": RECIPE}))
    check_pilots([PILOT], study_of({"r": RECIPE}, arms=["vae"], seeds=[100, 101, 102]))
    with pytest.raises(InputError, match="used seed 102"):
        check_pilots([PILOT], study_of({"r": RECIPE}, arms=["vae", "bvae"], seeds=[0, 102]))


def test_the_shipped_pilots_are_of_the_shipped_configs_and_judge_the_studies_that_they_judged():
    """By settings the studies of config/ get the pilots that they get by name, and so their published margins."""
    pilots, place = load_claims(CLAIMS)[1], ("dataset", "recipe", "latent_dim")
    judged = 0
    for path in STUDIES:
        study = check(read_yaml(path))
        runs = [[run[key] for key in place] for run in expand_runs(study)]
        mine = pilots_of(pilots, study)
        assert mine == [pilot for pilot in pilots if [pilot[key] for key in place] in runs], path
        if protocol_of(study) == 1 and (ROOT / f"results/published/{path.stem}-1/claims.csv").exists():
            claims = pd.read_csv(ROOT / f"results/published/{path.stem}-1/claims.csv")
            for row in claims[claims["claim"].isin(["generation-matches", "interpolation-matches"])].to_dict("records"):
                widths = [2 * pilot["sd"] for pilot in mine if pilot["metric"] == row["metric"]]
                if not math.isnan(row.get("margin", math.nan)):
                    assert row["margin"] == pytest.approx(max([0.05 * row["mean_2"], *widths]), rel=1e-9)
                    judged += bool(widths)
    assert judged >= 8


def test_a_key_that_the_claims_file_has_not_is_named(tmp_path):
    """A misspelt `pilots` would leave every margin as narrow as if there were none."""
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS.read_text().replace("pilots:", "pilot:", 1))
    with pytest.raises(InputError, match="unknown key 'pilot'. Did you mean 'pilots'?"):
        load_claims(path)


def test_a_study_given_as_claims_is_one_fault():
    with pytest.raises(InputError, match="scaling_mnist.yaml: found a study, expected claims"):
        load_claims(CLAIMS.with_name("scaling_mnist.yaml"))


def test_a_pilot_that_stands_in_one_line_twice_is_refused(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS.read_text().replace("sd: 9.18", "sd: 9.18, sd: 91.8", 1))
    with pytest.raises(InputError, match="the key 'sd' is also in line"):
        load_claims(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "fid_sample"}, "Did you mean 'fid_samples'"),
        ({"metric": ["elbo"]}, r"metric '\['elbo'\]' is not known"),
        ({"sd": 0}, "sd is 0, wanted a positive number"),
        ({"seeds": [1, 2, 2, 2, 2]}, "wanted a list of at least 5"),
        ({"seed": 1}, "found the keys"),
        ({"sd": math.inf}, "sd is inf, wanted a positive number"),
        ({"sd": True}, "sd is True, wanted a positive number"),
        ({"seeds": [0, 1, 2, 3, "4"]}, "wanted a list of at least 5"),
        ({"latent_dim": "8"}, "latent_dim is '8', wanted an integer"),
        ({"settings": 12345678}, "settings are 12345678, wanted the 8 hex digits"),
        ({"dataset": ["fake"]}, r"dataset is \['fake'\], wanted its name"),
    ],
)
def test_a_fault_of_a_pilot_is_named(tmp_path, change, message):
    document = yaml.safe_load(CLAIMS.read_text()) | {"pilots": [PILOT | change]}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match=rf"pilots\[0\]: .*{message}"):
        load_claims(path)
