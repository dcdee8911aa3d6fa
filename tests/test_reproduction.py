"""What is published is what the configs mean; numbers that pages show are computed again, by SciPy."""

import json
import math
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from bvae.errors import InputError
from bvae.report.publication import newest, runs_of, verify
from bvae.report.rates import Tried, choose
from bvae.study.runs import expand_runs, protocol_of, results_paths, run_folders, run_name, training_settings
from bvae.system.files import read_json, read_yaml, sha256_of_file
from helpers.checkouts import ROOT, snakemake
from helpers.studies import FOUR, STUDIES, check
from tools import findings
from tools.published import Published

PUBLISHED = ROOT / "results/published"
HERE = Published()
NOT_TUNED = {
    "mnist": "three seeds that decide nothing, at one rate for all arms from before rates were tuned",
    "precision": "compares precisions, not arms",
}
MANIFESTS = [folder / "manifest.json" for folder in newest(PUBLISHED).values()]


def by_study(path: Path) -> str:
    return read_json(path)["study"]


def elbo_by_seed(study: str) -> pd.DataFrame:
    """Of the published runs: a row a seed, a column an arm."""
    return pd.read_csv(newest(PUBLISHED)[study] / "tables/runs.csv").pivot(index="seed", columns="arm", values="elbo")


def test_snakemake_plans_exactly_the_runs_that_were_published(plan):
    """One study through Snakemake; the runs of the others are compared below."""
    manifest = read_json(newest(PUBLISHED)["mnist_mlp"] / "manifest.json")
    done = snakemake(plan, "-n", "--configfile", "config/mnist_mlp.yaml")
    assert done.returncode == 0, done.stdout[-3000:]
    planned = re.findall(r"output: (results/runs/\S+)/model\.safetensors", done.stdout)
    folders = run_folders(check(read_yaml(ROOT / "config/mnist_mlp.yaml")), plan)
    assert sorted(planned) == sorted(folders[name] for name in runs_of(manifest))


@pytest.mark.parametrize("path", MANIFESTS, ids=by_study)
def test_published_runs_are_those_of_the_config_with_its_settings(path):
    config, manifest = check(read_yaml(ROOT / f"config/{by_study(path)}.yaml")), read_json(path)
    published = manifest["provenance"]["config"]
    assert sorted(run_name(run) for run in expand_runs(config)) == sorted(runs_of(manifest))
    for run in expand_runs(config):
        mine, theirs = (training_settings(study["recipes"][run["recipe"]], run["arm"]) for study in (config, published))
        assert mine == theirs


@pytest.mark.parametrize("path", MANIFESTS, ids=by_study)
def test_a_published_study_is_verified_where_its_config_trains(path, tmp_path):
    """Whatever the age of the manifest: a run of today's config is looked for where today's config puts it."""
    config = check(read_yaml(ROOT / f"config/{by_study(path)}.yaml"))
    first = next(iter(results_paths(config, tmp_path).values()))
    with pytest.raises(InputError, match=rf"none of its \d+ runs is here.* -- {first}$"):
        verify(path.parent, tmp_path)


@pytest.mark.parametrize("path", MANIFESTS, ids=by_study)
def test_published_files_are_those_of_the_manifest(path):
    manifest = read_json(path)
    assert path.parent.name == f"{manifest['study']}-{manifest.get('version', 1)}"
    files = manifest["files"]
    assert {found.relative_to(path.parent).as_posix() for found in path.parent.rglob("*.*")} == {*files, path.name}
    for name, digest in files.items():
        assert sha256_of_file(path.parent / name) == digest


def test_the_picture_is_paired_t_over_the_published_runs():
    """Differences and intervals again, by SciPy's own paired interval on the tables of runs."""
    table = pd.read_csv(PUBLISHED / "overview.csv")
    assert len(table) >= 15
    for row in table.to_dict("records"):
        runs = pd.read_csv(newest(PUBLISHED)[row["study"]] / "tables/runs.csv")
        place = ["dataset", "recipe", "latent_dim"]
        mine = runs[(runs[place] == [row[key] for key in place]).all(axis=1) & (runs["status"] == "finished")]
        mine = mine.set_index("seed")
        arm, vae = (mine[mine["arm"] == name][row["metric"]] for name in (row["arm"], "vae"))
        seeds = sorted(arm.index.intersection(vae.index))
        sign = -1 if row["metric"] in ("elbo", "probe_accuracy") else 1
        scale = {"%": 100 / vae.mean(), "nats": 1, "points": 100}[row["unit"]]
        worse = sign * scale * (arm[seeds] - vae[seeds])
        interval = stats.ttest_1samp(worse, 0).confidence_interval(0.95)
        assert row["n"] == len(seeds)
        np.testing.assert_allclose([row["difference"], row["low"], row["high"]], [worse.mean(), *interval], rtol=1e-9)


def cells(table: str) -> list[list[str]]:
    """The cells of a table in Markdown, without its head."""
    return [[cell.strip("* ") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_gaps_by_samples_of_z_are_paired_t_over_the_published_runs():
    """The table of bounds again, by SciPy's own paired test."""
    studies, found = ("mnist_mlp", "fashion_mlp", "mnist_resnet"), []
    for study in studies:
        runs = pd.read_csv(newest(PUBLISHED)[study] / "tables/runs.csv").query("status == 'finished'")
        columns = {arm: runs[runs["arm"] == arm].set_index("seed") for arm in FOUR}
        for arm in ("bvae", "bvae_gain", "vae_narrow"):
            seeds = sorted(columns[arm].index.intersection(columns["vae"].index))
            line = [str(len(seeds))]
            for samples in ("nll_k1", "nll_k10", "nll_k100", "nll_k1000"):
                test = stats.ttest_rel(columns[arm].loc[seeds, samples], columns["vae"].loc[seeds, samples])
                low, high = test.confidence_interval(0.95)
                line.append(f"{(low + high) / 2:.2f} [{low:.2f}, {high:.2f}]")
            found.append(line)
    assert [line[2:] for line in cells(findings.bounds(HERE, *studies))] == found
    behind = findings.behind_by_samples(HERE, "mnist_mlp", "bvae", 1000)
    assert found[0][4].startswith(f"{behind:.2f} [")


def test_differences_of_several_networks_are_scipys_and_are_not_mixed():
    runs = pd.read_csv(newest(PUBLISHED)["resnet_sizes"] / "tables/runs.csv")
    lines = iter(cells(findings.by_size(HERE, "resnet_sizes")))
    for _, of_network in runs.groupby(["dataset", "recipe"], sort=False):
        elbo = {arm: found["elbo"] for arm, found in of_network.groupby("arm")}
        for arm in ("bvae", "bvae_gain"):
            line = next(lines)
            for other, shown in (("vae", line[4]), ("vae_narrow", line[5])):
                low, high = stats.ttest_ind(elbo[other], elbo[arm], equal_var=False).confidence_interval(0.95)
                assert shown == f"{elbo[other].mean() - elbo[arm].mean():.2f} ({low:.2f} to {high:.2f})"
    assert next(lines, None) is None
    with pytest.raises(InputError, match="a mean over 3 networks or data sets"):
        findings.mean(HERE, "resnet_sizes", "bvae", "elbo")
    with pytest.raises(InputError, match="two lines of a table are of 8, expected one"):
        findings.compared(HERE, "resnet_sizes", "bvae against vae")


def test_differences_of_corrected_decoders_are_scipys():
    runs = pd.read_csv(newest(PUBLISHED)["untying"] / "tables/runs.csv")
    elbo = {place: found["elbo"] for place, found in runs.groupby(["recipe", "arm"])}
    lines = cells(findings.by_rank(HERE, "untying"))
    assert [line[0] for line in lines] == ["4", "16", "64"] and [line[3] for line in lines] == ["518", "540", "618"]
    for line in lines:
        first = elbo["mlp-w512", f"bvae_rank{line[0]}"]
        without, wider, untied = (
            elbo["mlp-w512", "bvae_gain"],
            elbo[f"mlp-w{line[3]}", "bvae_gain"],
            elbo["mlp-w512", "vae"],
        )
        for shown, pair in zip(line[4:], ((first, without), (first, wider), (untied, first)), strict=True):
            low, high = stats.ttest_ind(*pair, equal_var=False).confidence_interval(0.95)
            assert shown == f"{pair[0].mean() - pair[1].mean():.2f} ({low:.2f} to {high:.2f})"


def test_five_of_ten_seeds_decide_on_the_elbo_as_scipys_interval_does():
    """The ELBO's claim is one that no other corrects."""
    counts = findings.five_of(HERE, "mnist_mlp")
    elbo = elbo_by_seed("mnist_mlp")
    worse = np.array(list(combinations(elbo["vae"] - elbo["bvae"], 5)))
    low, high = stats.ttest_1samp(worse, 0, axis=1).confidence_interval(0.9)
    wanted = [(high <= 1).sum(), ((low <= 1) & (high > 1)).sum(), (low > 1).sum()]
    assert counts.loc["elbo-matches", ["reproduced", "inconclusive", "not reproduced"]].tolist() == wanted
    total = findings.five_in_all(HERE, "mnist_mlp")
    assert len(counts) == 9 and (counts.sum(axis=1) == 252).all() and total.verdicts == 9 * 252
    final = findings.verdict(HERE, "mnist_mlp", "classification-outperforms")
    assert final == "not reproduced" and total.contradict >= counts.loc["classification-outperforms", "reproduced"]


def test_the_gains_are_on_the_line_of_scipys_regression():
    for study in ("mnist_mlp", "cifar10_jpeg"):
        [line] = cells(findings.gains(HERE, study))
        [path] = newest(PUBLISHED)[study].glob("figures/latent_gains-*.csv")
        active = pd.read_csv(path).query("active")
        fits = [stats.linregress(found["norm"] ** 2, 1 / found["gain"]) for _, found in active.groupby("seed")]
        table = pd.DataFrame([(fit.slope, fit.intercept, fit.rvalue) for fit in fits])
        assert line[1] == str(len(fits)) == str(active["seed"].nunique())
        assert line[4:] == [f"{table[i].mean():.2f} ± {table[i].std():.2f}" for i in range(3)]


def test_the_studies_of_two_training_lengths_differ_in_nothing_but_the_epochs():
    studies = {"mnist_mlp_e10": "mlp-e10", "mnist_mlp": "mlp"}
    recipes = [check(read_yaml(ROOT / f"config/{study}.yaml"))["recipes"][studies[study]] for study in studies]
    for arm in FOUR:
        few, many = (training_settings(recipe, arm) for recipe in recipes)
        assert (few["training"].pop("epochs"), many["training"].pop("epochs")) == (10, 30)
        assert few == many
    found = findings.of_length(HERE, *studies, 5).bvae
    gaps = [(table["vae"] - table["bvae"]).loc[:4] for table in map(elbo_by_seed, studies)]
    interval = stats.ttest_rel(*gaps).confidence_interval(0.95)
    np.testing.assert_allclose([found.less, found.low, found.high], [(gaps[0] - gaps[1]).mean(), *interval], rtol=1e-9)


def test_pilots_in_the_claims_are_the_published_ones():
    pilots = yaml.safe_load((ROOT / "config/claims.yaml").read_text())["pilots"]
    folders = [folder for study, folder in newest(PUBLISHED).items() if study.startswith("pilot")]
    runs = pd.concat(pd.read_csv(folder / "tables/runs.csv") for folder in folders)
    assert pilots
    for pilot in pilots:
        place = [pilot[key] for key in ("dataset", "recipe", "latent_dim")]
        mine = runs[(runs[["dataset", "recipe", "latent_dim"]] == place).all(axis=1)]
        assert sorted(mine["seed"]) == sorted(pilot["seeds"])
        assert set(zip(mine["arm"], mine["status"], strict=True)) == {("vae", "finished")}
        assert pilot["sd"] == pytest.approx(mine[pilot["metric"]].std(ddof=1), abs=0.05)


def test_a_pilot_has_the_settings_of_the_studies_that_it_judges():
    pilots = yaml.safe_load((ROOT / "config/claims.yaml").read_text())["pilots"]
    studies = [check(read_yaml(path)) for path in STUDIES]
    found: dict[tuple, set[str]] = {(pilot["dataset"], pilot["recipe"], pilot["latent_dim"]): set() for pilot in pilots}
    for study in studies:
        for run in expand_runs(study):
            place = (run["dataset"], run["recipe"], run["latent_dim"])
            if run["arm"] == "vae" and place in found:
                found[place].add(json.dumps(training_settings(study["recipes"][run["recipe"]], "vae")))
    assert all(len(settings) == 1 for settings in found.values())


def tuned(dataset: str, recipe: dict, arm: str) -> tuple:
    """What a learning rate is chosen for."""
    return dataset, json.dumps(recipe["network"]), recipe["training"].get("gradient_skip"), arm


def test_the_projection_of_the_papers_study_is_its_images_by_the_measured_rates():
    """Four arms: 10 seeds of 50 epochs on 60,000 images twice, 6 of 100 on 50,000, 3 of 25 on CelebA's 162,770."""
    rates = {row["what"]: row["captured_and_compiled"] for row in HERE.gpu["rates"]}
    images = [2 * 4 * 10 * 50 * 60_000, 4 * 6 * 100 * 50_000, 4 * 3 * 25 * 162_770]
    networks = ("resnet-grey", "resnet-cifar10", "resnet-celeba64")
    hours = sum(count / rates[network] for count, network in zip(images, networks, strict=True)) / 3600
    assert findings.paper_hours(HERE).all == pytest.approx(hours, rel=1e-12)


@pytest.mark.parametrize("name", ["scaling_mnist", "scaling_fashion"])
def test_the_scaling_studies_have_the_rates_that_the_rule_chooses_from_the_published_tuning(name):
    """At width 512 and for a VAE of another share, the geometric means that the config promises; three digits."""
    table = pd.read_csv(PUBLISHED / "tuning_scaling-1/tuning.csv")
    of = {}
    for (family, arm), lines in table.groupby(["family", "arm"]):
        grid = [Tried(line.learning_rate, (line.elbo,), line.diverged) for line in lines.itertuples()]
        of[family, arm] = choose(sorted(grid, key=lambda tried: tried.rate)).chosen
    for arm in FOUR:
        of["mlp512", arm] = math.sqrt(of["mlp256", arm] * of["mlp1024", arm])
    of["mlp1024", "vae_s75"] = math.sqrt(of["mlp1024", "vae"] * of["mlp1024", "vae_narrow"])
    study = check(read_yaml(ROOT / f"config/{name}.yaml"))
    for run in expand_runs(study):
        rate = training_settings(study["recipes"][run["recipe"]], run["arm"])["training"]["learning_rate"]
        assert rate == pytest.approx(of[run["recipe"].replace("-w", ""), run["arm"]], rel=4e-3)


def test_studies_use_the_learning_rates_that_tuning_chose():
    """By protocol 1: where a network was tuned on its data set, each arm has its best rate on the held-out images.

    Of the tuning with the study's own gradient_skip, or where there is none, of that without.
    """
    studies = {path.parent: check(read_yaml(ROOT / f"config/{by_study(path)}.yaml")) for path in MANIFESTS}
    best: dict[tuple, tuple[float, float]] = {}  # by data set, network, skip and arm: (elbo, learning rate)
    for folder, study in studies.items():
        for line in pd.read_csv(folder / "tuning.csv").query("best").to_dict("records") if study["tuning"] else ():
            place = tuned(line["dataset"].removesuffix("_validation"), study["recipes"][line["recipe"]], line["arm"])
            best[place] = max(best.get(place, (-np.inf, 0)), (line["elbo"], line["learning_rate"]))
    pilots = read_yaml(ROOT / "config/claims.yaml")["pilots"]
    margins = {(pilot["dataset"], pilot["recipe"], pilot["latent_dim"]) for pilot in pilots}
    judged = 0
    for study in studies.values():
        if study["study"] in NOT_TUNED or protocol_of(study) == 2:
            continue
        runs = [] if study["tuning"] else list(expand_runs(study))
        pilot = {run["arm"] for run in runs} == {"vae"}
        for run in runs:
            if pilot and (run["dataset"], run["recipe"], run["latent_dim"]) not in margins:
                continue  # a part of a pilot that judges nothing
            recipe = study["recipes"][run["recipe"]]
            place = tuned(run["dataset"], recipe, run["arm"])
            if place not in best:
                place = (*place[:2], None, place[3])
            if place in best:
                assert training_settings(recipe, run["arm"])["training"]["learning_rate"] == best[place][1]
                judged += 1
    assert judged >= 60
