"""What is published is what the configs mean, and the pages that speak of it say its numbers."""

import json
import math
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from bvae.errors import InputError
from bvae.report.publication import newest, runs_of, verify
from bvae.study.runs import expand_runs, results_paths, run_folders, run_name, training_settings
from bvae.system.files import read_json, read_yaml, sha256_of_file
from helpers.checkouts import ROOT, snakemake
from helpers.studies import FOUR, STUDIES, check

PUBLISHED = ROOT / "results/published"
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


def test_the_pages_and_the_picture_show_the_published_numbers():
    """The blocks of the pages, and the numbers of the picture, are those that `make reproduction` writes."""
    script = "from tools import reproduction as r; import json; print(json.dumps([r.differences().to_csv("
    script += "index=False, lineterminator='\\n'), {page: r.fill((r.ROOT / page).read_text()) for page in r.PAGES},"
    script += "[len(axes.lines) for axes in r.draw(r.differences()).axes]]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    picture, pages, drawn = json.loads(done.stdout)
    assert picture == (PUBLISHED / "overview.csv").read_text()
    assert len(drawn) == 5 and min(drawn) >= 20  # a panel a task, in each the points of every arm
    blocks = {"docs/reproduction.md": "arms", "docs/protocol1.md": "afterwards", "README.md": "claims"}
    assert pages.keys() == blocks.keys()
    for name, page in pages.items():
        assert f"<!-- {blocks[name]} " in page
        assert page == (ROOT / name).read_text()


def test_the_short_answer_says_the_numbers_of_the_picture():
    table = pd.read_csv(PUBLISHED / "overview.csv").query("study == 'mnist_mlp'").set_index(["arm", "task"])
    strict, gain, narrow = (table.loc[arm] for arm in ("bvae", "bvae_gain", "vae_narrow"))
    probe = -strict.loc["Linear probe", ["difference", "high", "low"]]  # points better
    text = " ".join((ROOT / "docs/reproduction.md").read_text().split())
    for said in (
        f"at {100 * strict.loc['ELBO', 'share_of_parameters']:.1f} % of the parameters",
        f"linear probe ({probe.iloc[0]:+.2f} points, 95 % interval {probe.iloc[1]:.2f} to {probe.iloc[2]:.2f})",
        f"is {strict.loc['Reconstruction', 'difference']:.1f} % worse in reconstruction",
        f"and {strict.loc['ELBO', 'difference']:.2f} nats in ELBO, both beyond the margins",
        f"Its straight midpoints are {strict.loc['Interpolation, FD', 'difference']:.0f} % farther",
        f"({strict.loc['ELBO', 'difference'] - narrow.loc['ELBO', 'difference']:.2f} nats apart)",
        f"brings the BVAE to {gain.loc['Reconstruction', 'difference']:.1f} % in reconstruction",
        f"and {gain.loc['ELBO', 'difference']:.2f} nats in ELBO",
        f"to {-gain.loc['Linear probe', 'difference']:+.2f} points in the probe",
    ):
        assert said in text


def test_the_short_answer_on_fashion_mnist_says_the_numbers_of_the_picture():
    table = pd.read_csv(PUBLISHED / "overview.csv").query("study == 'fashion_mlp'").set_index(["arm", "task"])
    strict, gain = (table.loc[arm] for arm in ("bvae", "bvae_gain"))
    lost = pd.read_csv(newest(PUBLISHED)["fashion_mlp"] / "tables/table1.csv").set_index("arm")["diverged"]
    assert lost[FOUR].tolist() == [2, 0, 0, 2]
    assert set(strict["n"]) == {8} and set(gain["n"]) == {10}
    text = " ".join((ROOT / "docs/reproduction.md").read_text().split())
    for said in (
        f"in reconstruction ({strict.loc['Reconstruction', 'difference']:.1f} % worse)",
        f"in ELBO ({strict.loc['ELBO', 'difference']:.2f} nats)",
        f"in the probe ({-strict.loc['Linear probe', 'difference']:+.2f} points)",
        f"in generation ({strict.loc['Generation, FD', 'difference']:.0f} % worse, within the margin of"
        f" {strict.loc['Generation, FD', 'margin']:.0f} %)",
        f"is within {gain.loc['Reconstruction', 'difference']:.2f} % in reconstruction",
        f"and {gain.loc['ELBO', 'difference']:.2f} nats in ELBO, and is ahead",
        f"in the probe by {-gain.loc['Linear probe', 'difference']:.2f} points",
    ):
        assert said in text


def test_the_short_answer_on_16_latents_says_the_numbers_of_the_picture():
    every = pd.read_csv(PUBLISHED / "overview.csv")
    table = every.query("study == 'mnist_mlp_z16'").set_index(["arm", "task"])
    strict, gain, narrow = (table.loc[arm] for arm in ("bvae", "bvae_gain", "vae_narrow"))
    assert set(table["n"]) == {10}
    generation = strict.loc["Generation, FD"]
    wide = every.query("study == 'mnist_mlp' and arm == 'bvae'").set_index("task").loc["ELBO", "difference"]
    tasks = ("Reconstruction", "ELBO")
    assert all(
        strict.loc[task, "low"] > 0 and strict.loc[task, "difference"] > strict.loc[task, "margin"] for task in tasks
    )
    share, nats = ([arm.loc[task, "difference"] for arm in (strict, gain)] for task in tasks)
    text = " ".join((ROOT / "docs/reproduction.md").read_text().split())
    for said in (
        f"at {100 * strict.loc['ELBO', 'share_of_parameters']:.1f} % of the parameters the strict BVAE",
        f"in the probe ({-strict.loc['Linear probe', 'difference']:+.2f} points) and in generation"
        f" ({generation['difference']:.1f} % worse, within the margin of {generation['margin']:.0f} %)",
        f"and is {share[0]:.1f} % worse in reconstruction and {nats[0]:.2f} nats in ELBO, both beyond their margins",
        f"Its ELBO is {narrow.loc['ELBO', 'difference'] - nats[0]:.2f} nats better than that of the narrow VAE",
        f"makes that {share[1]:.1f} % and {nats[1]:.2f} nats.",
        f"gap in ELBO is {wide:.2f} nats with 128 latents and {nats[0]:.2f} with 16",
    ):
        assert said in text


def test_the_page_says_how_many_seeds_of_16_latents_were_lost():
    table = pd.read_csv(PUBLISHED / "overview.csv").query("study == 'fashion_mlp_z16'").set_index(["arm", "task"])
    lost = pd.read_csv(newest(PUBLISHED)["fashion_mlp_z16"] / "tables/table1.csv").set_index("arm")["diverged"]
    assert lost[FOUR].tolist() == [6, 1, 0, 0]  # "six of ten", "one", "the two VAEs none"
    strict = table.loc["bvae", "ELBO"]
    text = " ".join((ROOT / "docs/reproduction.md").read_text().split())
    assert strict["n"] == 4 and f"their ELBO is {strict['difference']:.2f} nats behind the VAE's" in text
    runs = pd.read_csv(newest(PUBLISHED)["fashion_mlp_z16"] / "tables/runs.csv").query("arm == 'bvae_gain'")
    worst, *others = runs.dropna(subset="elbo").sort_values("elbo").to_dict("records")
    behind = np.mean([run["elbo"] for run in others]) - worst["elbo"]
    [error] = {f"{run['elbo_image_error']:.1f}" for run in others}
    assert (
        f"One of the {['eight', 'nine'][len(others) - 7]} runs" in text and f"is {behind:.0f} nats behind them" in text
    )
    assert f"over images is {worst['elbo_image_error']:.1f} nats where the others' is {error}" in text


def runs_of_paths(study: str) -> pd.DataFrame:
    """The mean Fréchet distance of each arm's midpoints in a published study, of straight lines and of arcs."""
    runs = pd.read_csv(newest(PUBLISHED)[study] / "tables/runs.csv").query("status == 'finished'")
    return runs.groupby("arm")[["fd_classifier_interpolations", "fd_classifier_slerp_interpolations"]].mean()


def test_the_short_answer_on_the_residual_network_says_the_numbers_of_the_picture():
    table = pd.read_csv(PUBLISHED / "overview.csv").query("study == 'mnist_resnet'").set_index(["arm", "task"])
    strict, gain, narrow = (table.loc[arm, "difference"] for arm in ("bvae", "bvae_gain", "vae_narrow"))
    lost = pd.read_csv(newest(PUBLISHED)["mnist_resnet"] / "tables/table1.csv").set_index("arm")["diverged"]
    assert lost[FOUR].tolist() == [0, 0, 1, 1] and set(table["n"]) == {5}
    page, readme = (" ".join((ROOT / name).read_text().split()) for name in ("docs/reproduction.md", "README.md"))
    for said in (
        f"at {100 * table.loc[('bvae', 'ELBO'), 'share_of_parameters']:.1f} % of the parameters, matches its VAE in"
        f" reconstruction ({strict['Reconstruction']:.1f} % worse)",
        f"It is {strict['ELBO']:.2f} nats worse in ELBO, beyond the margin, and {strict['Linear probe']:.2f} points in"
        f" the probe and {strict['Generation, FD']:.0f} % in generation, which the margins, that of generation a wide"
        f" {table.loc[('bvae', 'Generation, FD'), 'margin']:.0f} %, leave open",
        f"makes that {gain['Reconstruction']:.1f} % in reconstruction, {gain['ELBO']:.2f} nats,"
        f" {gain['Linear probe']:.2f} points and {gain['Generation, FD']:.0f} %",
        f"The narrow VAE, at {narrow['ELBO']:.2f} nats, is ahead of both in ELBO",
    ):
        assert said in page
    paths = runs_of_paths("mnist_resnet")
    said = "{0[0]:.1f} against {0[1]:.1f}"
    for text in (page, readme):
        assert all(said.format(paths[path].loc[["bvae", "vae"]].to_list()) in text for path in paths)
    assert f"in ELBO ({strict['ELBO']:.2f} nats behind)" in readme
    assert f"With a gain per latent it is {gain['ELBO']:.2f} nats behind" in readme
    judged = pd.read_csv(newest(PUBLISHED)["mnist_resnet"] / "claims.csv").set_index("claim")["verdict"]
    tasks = ("reconstruction", "elbo", "classification", "generation", "interpolation")
    verdicts = ["reproduced", "not reproduced", "inconclusive", "inconclusive", "reproduced"]
    assert [judged[f"{task}-matches"] for task in tasks] == verdicts
    assert judged["interpolation-outperforms"] == "reproduced"


def test_the_short_answer_on_the_residual_network_and_fashion_mnist_says_the_numbers_of_the_picture():
    table = pd.read_csv(PUBLISHED / "overview.csv").query("study == 'fashion_resnet'").set_index(["arm", "task"])
    strict, gain, narrow = (table.loc[arm, "difference"] for arm in ("bvae", "bvae_gain", "vae_narrow"))
    assert set(table["n"]) == {6}
    assert narrow["Reconstruction"] > max(strict["Reconstruction"], gain["Reconstruction"]) > 0 > gain["Reconstruction"]
    assert narrow["Generation, FD"] < strict["Generation, FD"]  # "better than it in generation"
    page, readme = (" ".join((ROOT / name).read_text().split()) for name in ("docs/reproduction.md", "README.md"))
    for said in (
        f"matches its VAE in reconstruction ({strict['Reconstruction']:.1f} % worse) and in the probe"
        f" ({-strict['Linear probe']:+.2f} points). It is {strict['ELBO']:.2f} nats worse in ELBO and"
        f" {strict['Generation, FD']:.0f} % in generation, which the margins, that of generation a wide"
        f" {table.loc[('bvae', 'Generation, FD'), 'margin']:.0f} %, leave open. With a gain",
        f"it is {-gain['Reconstruction']:.1f} % better in reconstruction, {gain['ELBO']:.2f} nats worse in ELBO and"
        f" {gain['Generation, FD']:.0f} % in generation, and {-gain['Linear probe']:+.2f} points in the probe",
        f"The narrow VAE has an ELBO {strict['ELBO'] - narrow['ELBO']:.2f} nats above the strict BVAE's, is worse than"
        f" both BVAEs in reconstruction and {narrow['Linear probe'] - strict['Linear probe']:.2f} points behind the",
    ):
        assert said in page
    assert f"ELBO ({strict['ELBO']:.2f} nats behind) and generation stay open" in readme
    assert f"With a gain per latent it is {gain['ELBO']:.2f} nats behind." in readme
    judged = pd.read_csv(newest(PUBLISHED)["fashion_resnet"] / "claims.csv").set_index("claim")["verdict"]
    tasks = ("reconstruction", "elbo", "classification", "generation", "interpolation")
    verdicts = ["reproduced", "inconclusive", "reproduced", "inconclusive", "not reproduced"]
    assert [judged[f"{task}-matches"] for task in tasks] == verdicts
    budget = [judged[f"budget-{task}"] for task in ("reconstruction", "elbo", "classification")]
    assert budget == ["reproduced", "not reproduced", "reproduced"]
    used = pd.read_csv(newest(PUBLISHED)["fashion_resnet"] / "tables/runs.csv").groupby("arm")["active_units"]
    (few, more), (least, most) = (used.agg(["min", "max"]).loc[arm].astype(int) for arm in ("bvae", "vae"))
    assert f"strict runs use {few} or {more} latents and those of the VAE {least} to {most}." in page


def test_the_page_says_what_the_residual_network_lost_and_why():
    """Seed 0 of two arms, by a rule without which it trains; what skips nothing is the same, bit for bit."""
    with_rule, without = (
        pd.read_csv(newest(PUBLISHED)[study] / "tables/runs.csv").set_index(["arm", "seed"])
        for study in ("mnist_resnet", "mnist")
    )
    lost = with_rule[with_rule["status"] == "diverged"]
    assert lost.index.tolist() == [("vae", 0), ("vae_narrow", 0)]
    elbo = [without.loc[arm, "elbo"] for arm in ("vae", "vae_narrow")]
    behind = [of_arm[[1, 2]].min() - of_arm[0] for of_arm in elbo]
    of_all = [table.groupby("arm")["elbo"].mean() for table in (without, with_rule)]
    text = " ".join((ROOT / "docs/reproduction.md").read_text().split())
    for said in (
        f"has that seed at an ELBO of {elbo[0][0]:.2f} and {elbo[1][0]:.2f},"
        f" the lowest of its three by {behind[0]:.2f} and {behind[1]:.2f} nats",
        f"has the strict BVAE at {of_all[0]['bvae']:.2f} nats and the one with gains at {of_all[0]['bvae_gain']:.2f};"
        f" their own rate, 0.006, at {of_all[1]['bvae']:.2f} and {of_all[1]['bvae_gain']:.2f} (six seeds)",
    ):
        assert said in text
    metrics = ["elbo", "reconstruction", "kl", "probe_accuracy", "active_units", "nll_k1000", "fd_classifier_samples"]
    same = [(arm, seed) for arm in ("vae", "vae_narrow") for seed in (1, 2)]
    assert (with_rule.loc[same, metrics] == without.loc[same, metrics]).all(axis=None)


def test_the_page_says_how_many_latents_the_residual_networks_use():
    runs = pd.read_csv(newest(PUBLISHED)["mnist_resnet"] / "tables/runs.csv").query("status == 'finished'")
    strict, vae = (runs[runs["arm"] == arm] for arm in ("bvae", "vae"))
    few = strict.loc[strict["active_units"].idxmin()]
    others = strict[strict["seed"] != few["seed"]]
    text = " ".join((ROOT / "docs/reproduction.md").read_text().split())
    for said in (
        f"uses {others['active_units'].min():.0f} to {others['active_units'].max():.0f} in five of six runs, its VAE"
        f" {vae['active_units'].min():.0f} to {vae['active_units'].max():.0f}. The sixth strict run uses"
        f" {few['active_units']:.0f}, and",
        f"an ELBO of {few['elbo']:.2f} nats where the others are between {others['elbo'].min():.2f} and"
        f" {others['elbo'].max():.2f}, {few['fd_classifier_samples']:.0f} in samples,"
        f" {few['fd_classifier_interpolations']:.0f} in midpoints, {100 * few['probe_accuracy']:.1f} % in the probe",
    ):
        assert said in text
    for metric in ("reconstruction", "elbo", "fd_classifier_samples", "fd_classifier_interpolations", "probe_accuracy"):
        distance = (strict.set_index("seed")[metric] - vae[metric].mean()).abs()
        assert distance.idxmin() == few["seed"]  # "the nearest to the VAE in every task"


def test_the_page_describes_cifar10_jpeg():
    """Three seeds decide nothing: means over them, and that every verdict but the parameters' is left open."""
    folder = newest(PUBLISHED)["cifar10_jpeg"]
    runs = pd.read_csv(folder / "tables/runs.csv")
    assert (runs["status"] == "finished").all() and (runs.groupby("arm")["seed"].nunique() == 3).all()
    judged = pd.read_csv(folder / "claims.csv").set_index("claim")["verdict"]
    assert judged.pop("parameter-cut") == "reproduced" and set(judged) == {"inconclusive"}
    of_arm = runs.groupby("arm").mean(numeric_only=True)
    strict, gain, vae, narrow = (of_arm.loc[arm] for arm in FOUR)
    elbo = elbo_by_seed("cifar10_jpeg")
    share, least = 100 * strict["parameters"] / vae["parameters"], (elbo["bvae"] - elbo["vae"]).min()
    nats = {name: abs(arm["elbo"] - vae["elbo"]) for name, arm in of_arm.iterrows()}
    smaller = 100 * (1 - strict[["mse_per_pixel", "fd_classifier_samples"]] / vae)
    ratio = 1536 * math.log(vae["mse_per_pixel"] / strict["mse_per_pixel"])
    tuned = pd.read_csv(newest(PUBLISHED)["tuning_cifar10_jpeg"] / "tuning.csv").query("arm == 'vae'")["elbo"].max()
    page, readme = (" ".join((ROOT / name).read_text().split()) for name in ("docs/reproduction.md", "README.md"))
    for said in (
        f"At {share:.1f} % of the parameters the strict BVAE has the higher ELBO, by {nats['bvae']:.0f} nats on average"
        f" and by {least:.0f} or more at each seed, with a squared error that is {smaller['mse_per_pixel']:.0f} %"
        " smaller",
        f"logarithm of the ratio of the squared errors is {ratio:.0f} nats, and the difference in reconstruction is"
        f" {vae['reconstruction'] - strict['reconstruction']:.0f}",
        f"({vae['elbo'] - tuned:.0f} nats between its best ELBO after four epochs",
        f"distance of its samples is {-smaller['fd_classifier_samples']:.0f} % greater",
        f"its probe {100 * abs(strict['probe_accuracy'] - vae['probe_accuracy']):.2f} points worse",
        f"it is ahead by {nats['bvae_gain']:.0f} nats, and the narrow VAE is {nats['vae_narrow']:.0f} behind",
        f"send {vae['kl']:.0f} and {narrow['kl']:.0f} nats through their latents where the BVAEs send"
        f" {strict['kl']:.0f} and {gain['kl']:.0f}",
    ):
        assert said in page
    assert strict["probe_accuracy"] < vae["probe_accuracy"]
    assert (
        f"squared error {smaller['mse_per_pixel']:.0f} % smaller, and its ELBO is higher by {nats['bvae']:.0f} nats"
        in readme
    )
    assert least > 0 and gain["elbo"] > vae["elbo"] > narrow["elbo"]
    assert f"samples are {-smaller['fd_classifier_samples']:.0f} % farther" in readme
    rates = pd.read_csv(newest(PUBLISHED)["tuning_cifar10_jpeg"] / "tuning.csv").query("learning_rate < 0.01")
    held_out = rates.pivot(index="learning_rate", columns="arm", values="elbo")
    ahead = held_out[["bvae", "bvae_gain"]].min(axis=1) - held_out[["vae", "vae_narrow"]].max(axis=1)
    assert len(ahead) == 3 and f"by {ahead.min():.0f} nats and more" in page


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


def test_the_gaps_by_samples_of_z_are_paired_t_over_the_published_runs():
    """The table of bounds in the page, again by SciPy's own paired test; and the sentence above it."""
    text = (ROOT / "docs/reproduction.md").read_text()
    block = re.search(r"<!-- bounds ([\w ]+) -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert block
    said = [[cell.strip() for cell in line.strip("|").split("|")] for line in block[2].splitlines()[2:]]
    found = []
    for study in block[1].split():
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
    assert [line[2:] for line in said] == found
    strict = found[block[1].split().index("mnist_mlp") * 3]
    one, thousand = (strict[at].split()[0] for at in (1, 4))
    assert f"{one} nats behind its VAE at K = 1 and still {thousand} at K = 1,000" in " ".join(text.split())
    assert 0.75 < float(thousand) / float(one) < 0.85  # "four fifths"


def test_the_page_says_what_five_of_ten_seeds_decide():
    """Of its table, what the text says; and the row of the ELBO, which no other claim corrects, by SciPy's interval."""
    text = (ROOT / "docs/reproduction.md").read_text()
    block = re.search(r"<!-- seeds (\w+) (\w+) -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert block
    lines = [[cell.strip("* ") for cell in line.strip("|").split("|")] for line in block[3].splitlines()[2:]]
    counts = np.array([[int(number) for number in line[3:]] for line in lines])
    final = np.array([["reproduced", "inconclusive", "not reproduced"].index(line[2]) for line in lines])
    assert len(lines) == 18 and (counts.sum(axis=1) == 252).all()
    decided = final != 1
    contrary = counts[decided, 2 - final[decided]].sum()
    left_open, sooner = counts[decided, 1].sum(), counts[~decided][:, [0, 2]].sum()
    said = " ".join(text.split())
    assert f"of {counts.sum():,} verdicts {contrary} contradicts" in said
    assert f"{left_open:,} are inconclusive where ten seeds decide. {sooner} decide what ten leave open" in said
    for study, line in zip(block.group(1, 2), [line for line in lines if "ELBO" in line[0]], strict=True):
        elbo = elbo_by_seed(study)
        worse = np.array(list(combinations(elbo["vae"] - elbo["bvae"], 5)))
        low, high = stats.ttest_1samp(worse, 0, axis=1).confidence_interval(0.9)
        assert [int(number) for number in line[3:]] == [
            (high <= 1).sum(),
            ((low <= 1) & (high > 1)).sum(),
            (low > 1).sum(),
        ]


def test_the_gains_are_on_the_line_that_the_page_says():
    """The table of gains again, by SciPy's own regression on the published points; and the sentence above it."""
    text = (ROOT / "docs/reproduction.md").read_text()
    block = re.search(r"<!-- gains ([\w ]+) -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert block
    said = [[cell.strip() for cell in line.strip("|").split("|")] for line in block[2].splitlines()[2:]]
    for line, study in zip(said, block[1].split(), strict=True):
        [path] = newest(PUBLISHED)[study].glob("figures/latent_gains-*.csv")
        active = pd.read_csv(path).query("active")
        fits = [stats.linregress(found["norm"] ** 2, 1 / found["gain"]) for _, found in active.groupby("seed")]
        table = pd.DataFrame([(fit.slope, fit.intercept, fit.rvalue) for fit in fits])
        assert line[1] == str(len(fits)) == str(active["seed"].nunique())
        assert line[4:] == [f"{table[i].mean():.2f} ± {table[i].std():.2f}" for i in range(3)]
        assert (active["gain"].max() > 1) == (study in ("mnist_resnet", "cifar10_jpeg"))  # "are greater than 1"
        if study == "mnist_mlp":
            assert f"is {table[2].mean():.2f}, and the gains are" in " ".join(text.split())
            times = f"{1 / active['gain'].max():.0f} to {1 / active['gain'].min():.0f} times smaller"
            assert all(times in " ".join(page.split()) for page in (text, (ROOT / "README.md").read_text()))


def test_the_page_says_what_rates_do_to_the_gap():
    table = pd.read_csv(newest(PUBLISHED)["tuning_resnet"] / "tuning.csv").set_index(["arm", "learning_rate"])["elbo"]
    best = table["vae"].max() - table["bvae"].max()
    small = table["vae", 0.0015] - table["bvae", 0.0015]
    text = " ".join((ROOT / "docs/reproduction.md").read_text().split())
    assert f"the strict BVAE is {best:.2f} nats behind its VAE here; both at 0.0015, {small:.2f}" in text


def test_the_page_says_what_skipped_steps_do_on_fashion_mnist():
    """All arms are best at one rate, at which none diverged; at twice that rate half of the runs did."""
    without, skipping = (
        pd.read_csv(newest(PUBLISHED)[study] / "tuning.csv").set_index(["learning_rate", "arm"])
        for study in ("tuning_fashion_mlp", "tuning_fashion_skip")
    )
    assert skipping.query("best").index.tolist() == [(0.004, arm) for arm in FOUR]
    assert skipping.loc[0.004, "diverged"].sum() == 0
    lost = skipping.loc[0.008, "diverged"]
    assert lost.sum() == 6 and lost["bvae"] == 3 and (lost + skipping.loc[0.008, "n"] == 3).all()
    assert (without.loc[0.002, "elbo"] == skipping.loc[0.002, "elbo"]).all()  # "are the same runs"


def best_of_each_arm(study: str, family: str) -> pd.Series:
    """The ELBO of each arm at its best rate in a study that tunes."""
    table = pd.read_csv(newest(PUBLISHED)[study] / "tuning.csv")
    return table[table["family"] == family].groupby("arm")["elbo"].max()


def test_the_page_says_what_the_activation_does_to_the_gap():
    """On held-out images, one seed; and on test images, the means over the seeds of two studies."""
    silu, relu = best_of_each_arm("tuning_mlp", "mlp"), best_of_each_arm("tuning_relu", "mlp_relu")
    tuned_gap = [(table["vae"] - table)["bvae"] for table in (silu, relu)]
    every = pd.read_csv(PUBLISHED / "overview.csv").query("task == 'ELBO'").set_index(["study", "arm"])["difference"]
    before, after = every["mnist_mlp"], every["mnist_mlp_relu"]
    means = [
        pd.read_csv(newest(PUBLISHED)[study] / "tables/table1.csv").set_index("arm").loc[FOUR, "elbo"]
        for study in ("mnist_mlp", "mnist_mlp_relu")
    ]
    cost = means[0] - means[1]
    assert (silu > relu).all() and (cost > 0).all()  # "Every arm has the higher ELBO with SiLU"
    text = " ".join((ROOT / "docs/reproduction.md").read_text().split())
    for said in (
        f"the strict BVAE is {tuned_gap[0]:.2f} nats behind its VAE with SiLU and {tuned_gap[1]:.2f} with ReLU",
        f"it is {before['bvae']:.2f} nats behind with SiLU and {after['bvae']:.2f} with ReLU, the BVAE with gains"
        f" {before['bvae_gain']:.2f} behind with SiLU and {-after['bvae_gain']:.2f} ahead with ReLU, and the narrow VAE"
        f" {before['vae_narrow']:.2f} and {after['vae_narrow']:.2f} behind",
        f"ReLU costs the VAE {cost['vae']:.2f} nats, the narrow VAE {cost['vae_narrow']:.2f}, the BVAE with gains"
        f" {cost['bvae_gain']:.2f} and the strict BVAE {cost['bvae']:.2f}.",
        f"ReLU costs the VAE most, {cost['vae']:.2f} nats of ELBO, the strict BVAE {cost['bvae']:.2f}; the best BVAE of"
        f" these two studies, with SiLU and gains, is {before['bvae_gain']:.2f} nats behind",
    ):
        assert said in text
    behind = means[0]["vae"] - means[1]
    said = f"the VAE with SiLU is better than those two by {behind['bvae']:.2f} and {behind['bvae_gain']:.2f} nats"
    assert said in " ".join((ROOT / "README.md").read_text().split())


def test_the_short_answer_on_relu_says_the_numbers_of_the_picture():
    table = pd.read_csv(PUBLISHED / "overview.csv").query("study == 'mnist_mlp_relu'").set_index(["arm", "task"])
    strict, gain, narrow = (table.loc[arm] for arm in ("bvae", "bvae_gain", "vae_narrow"))
    assert set(table["n"]) == {6}
    assert (gain["high"] < gain["margin"]).all()  # "within the margin in every task"
    ahead = gain.loc[["ELBO", "Linear probe", "Generation, FD"]]
    assert (ahead["high"] < 0).all()
    means = pd.read_csv(newest(PUBLISHED)["mnist_mlp_relu"] / "tables/table1.csv").set_index("arm")["reconstruction"]
    generation = gain.loc["Generation, FD"]
    page, readme = (" ".join((ROOT / name).read_text().split()) for name in ("docs/reproduction.md", "README.md"))
    for said in (
        f"at {100 * strict.loc['ELBO', 'share_of_parameters']:.1f} % of the parameters, matches its VAE in"
        f" reconstruction ({strict.loc['Reconstruction', 'difference']:.1f} % worse), in ELBO"
        f" ({strict.loc['ELBO', 'difference']:.2f} nats) and in generation"
        f" ({-strict.loc['Generation, FD', 'difference']:.0f} % better)",
        f"is {strict.loc['Linear probe', 'difference']:.2f} points worse in the probe",
        f"The narrow VAE is {narrow.loc['ELBO', 'difference'] - strict.loc['ELBO', 'difference']:.2f} nats behind the"
        f" BVAE in ELBO and {100 * (means['vae_narrow'] / means['bvae'] - 1):.1f} % in reconstruction",
        f"{gain.loc['Reconstruction', 'difference']:.1f} % worse in reconstruction,"
        f" {-gain.loc['ELBO', 'difference']:.2f} nats ahead in ELBO,"
        f" {-gain.loc['Linear probe', 'difference']:.2f} points ahead in the probe,"
        f" {-generation['difference']:.0f} % ahead in generation (95 % interval {-generation['high']:.1f} to"
        f" {-generation['low']:.0f}).",
    ):
        assert said in page
    said = (
        f"by {-gain.loc['ELBO', 'difference']:.2f} nats in ELBO, {-gain.loc['Linear probe', 'difference']:.2f} points"
    )
    assert f"{said} in the probe and {-generation['difference']:.0f} % in generation" in readme
    judged = pd.read_csv(newest(PUBLISHED)["mnist_mlp_relu"] / "claims.csv").set_index("claim")["verdict"]
    tasks = ("reconstruction", "elbo", "generation", "interpolation", "classification")
    assert [judged[f"{task}-matches"] for task in tasks] == ["reproduced"] * 3 + ["inconclusive"] * 2
    assert [judged[f"budget-{task}"] for task in ("reconstruction", "elbo")] == ["reproduced"] * 2


def test_the_page_says_what_the_training_length_does_to_the_gap():
    """Two studies that differ in nothing but the epochs, over the seeds that both have: SciPy's paired intervals."""
    studies, gaps = {"mnist_mlp_e10": "mlp-e10", "mnist_mlp": "mlp"}, []
    recipes = [check(read_yaml(ROOT / f"config/{study}.yaml"))["recipes"][studies[study]] for study in studies]
    for arm in FOUR:
        few, many = (training_settings(recipe, arm) for recipe in recipes)
        assert (few["training"].pop("epochs"), many["training"].pop("epochs")) == (10, 30)
        assert few == many
    for study in studies:
        elbo = elbo_by_seed(study).loc[:4]
        assert elbo.notna().all(axis=None) and len(elbo) == 5
        gaps.append(elbo["vae"].to_numpy()[:, None] - elbo[["bvae", "bvae_gain", "vae_narrow"]])
    after_10, after_30 = gaps
    change = after_10 - after_30
    low, high = stats.ttest_1samp(change, 0, axis=0).confidence_interval(0.95)
    said = {
        arm: [f"{number:.2f}" for number in (after_10[arm].mean(), after_30[arm].mean(), change[arm].mean(), *ends)]
        for arm, *ends in zip(change, low, high, strict=True)
    }
    strict, gain, narrow = (said[arm] for arm in ("bvae", "bvae_gain", "vae_narrow"))
    runs = pd.read_csv(newest(PUBLISHED)["mnist_mlp_e10"] / "tables/runs.csv")
    ranges = [
        "{:.0f} to {:.0f}".format(*runs[runs["arm"].isin(arms)]["fd_classifier_interpolations"].agg(["min", "max"]))
        for arms in (("bvae", "vae_narrow"), ("bvae_gain", "vae"))
    ]
    text = " ".join((ROOT / "docs/reproduction.md").read_text().split())
    for sentence in (
        f"the strict BVAE is {strict[0]} nats behind its VAE after 10 epochs and {strict[1]} after 30"
        f" ({strict[2]} less, 95 % interval {strict[3]} to {strict[4]})",
        f"the BVAE with gains {gain[0]} and {gain[1]} ({gain[2]} less, {gain[3]} to {gain[4]})",
        f"The narrow VAE is {narrow[0]} and {narrow[1]} nats behind ({narrow[2]}, {narrow[3]} to {narrow[4]})",
        f"it is {ranges[0]} in the runs of the strict BVAE and the narrow VAE, whose rate is 0.008, and {ranges[1]} in",
    ):
        assert sentence in text


def test_the_page_says_what_gains_on_every_unit_do_to_the_gap():
    without, with_gains = best_of_each_arm("tuning_mlp", "mlp"), best_of_each_arm("tuning_gain", "mlp_gain")
    before, after = (table["vae"] - table for table in (without, with_gains))
    assert (with_gains > without).all()  # "each arm is better with them"
    text = " ".join((ROOT / "docs/reproduction.md").read_text().split())
    for said in (
        f"the strict BVAE is then {after['bvae']:.2f} nats behind its VAE, where it is {before['bvae']:.2f} without",
        f"the BVAE with gains {after['bvae_gain']:.2f}, where it is {before['bvae_gain']:.2f}.",
        f"is {without['vae'] - with_gains['bvae_gain']:.2f} nats behind the VAE without such gains",
    ):
        assert said in text


def test_the_page_says_what_six_seeds_of_gains_on_every_unit_do():
    every = pd.read_csv(PUBLISHED / "overview.csv").set_index(["study", "arm", "task"])
    table = every.loc["mnist_mlp_gain"]
    strict, gain = (table.loc[arm, "difference"] for arm in ("bvae", "bvae_gain"))
    assert set(table["n"]) == {6}
    within = table["high"] < table["margin"]
    outside = table.loc["bvae"]["low"] > table.loc["bvae"]["margin"]
    tasks = ["Reconstruction", "ELBO", "Linear probe", "Interpolation, FD", "Generation, FD"]
    assert within.loc["bvae_gain"][tasks].tolist() == [True, True, True, False, False]
    assert within.loc["bvae"][tasks].tolist() == [True, False, True, False, False]
    assert outside[tasks].tolist() == [False, True, False, True, True]  # "both beyond their margins"
    assert (table.loc["bvae_gain", "low"] < 0)[["Interpolation, FD", "Generation, FD"]].all()  # "cannot be told apart"
    elbo = elbo_by_seed("mnist_mlp_gain")
    others = [
        pd.read_csv(newest(PUBLISHED)[study] / "tables/table1.csv").set_index("arm").loc[["bvae", "bvae_gain"], "elbo"]
        for study in ("mnist_mlp", "mnist_mlp_relu", "mnist_mlp_e10", "mnist_mlp_z16")
    ]
    assert elbo["bvae_gain"].mean() > pd.concat(others).max()  # "the best that a BVAE of this MLP"
    worth = (elbo - elbo_by_seed("mnist_mlp").loc[:5]).mean()
    page, readme = (" ".join((ROOT / name).read_text().split()) for name in ("docs/reproduction.md", "README.md"))
    for said in (
        f"reconstruction ({strict['Reconstruction']:.1f} % worse) and in the probe"
        f" ({-strict['Linear probe']:+.2f} points), and in nothing else: it is {strict['ELBO']:.2f} nats worse in ELBO"
        f" and {strict['Generation, FD']:.0f} % in generation",
        f"at {100 * table.loc[('bvae_gain', 'ELBO'), 'share_of_parameters']:.1f} % of the parameters, the BVAE is"
        f" {gain['Reconstruction']:.1f} % worse in reconstruction, {gain['ELBO']:.2f} nats in ELBO and"
        f" {-gain['Linear probe']:+.2f} points in the probe, all three within the margins, and cannot be told apart in"
        f" generation ({gain['Generation, FD']:.0f} % worse)",
        f"a gain per latent as well is {gain['ELBO']:.2f} nats behind its VAE",
        f"are worth {worth['bvae_gain']:.2f} nats of ELBO to it, {worth['bvae']:.2f} to the strict BVAE,"
        f" {worth['vae']:.2f} to the VAE and {worth['vae_narrow']:.2f} to the narrow VAE",
        f"as far behind in ELBO as before, {strict['ELBO']:.2f} nats, and its samples are"
        f" {strict['Generation, FD']:.0f} % farther",
    ):
        assert said in page
    assert f"reconstruction, ELBO ({gain['ELBO']:.2f} nats behind) and probe" in readme
    assert f"its samples are {strict['Generation, FD']:.0f} % farther from the test images than its VAE's" in readme


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


def test_studies_use_the_learning_rates_that_tuning_chose():
    """Where a study's network was tuned on its data set, each arm has its best rate on the held-out images.

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
        if study["study"] in NOT_TUNED:
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
