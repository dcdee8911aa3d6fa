"""An arm, a metric and a figure are added by one file each, those that docs/extending.md shows."""

import json
import shutil
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FunctionType

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from bvae import load_run
from bvae.architectures import architecture
from bvae.arms import ARMS, arm
from bvae.data import load
from bvae.errors import InputError
from bvae.evaluation.evaluate import evaluate_run
from bvae.evaluation.extractors import EXTRACTORS, Extractor, extractor
from bvae.evaluation.metrics import TASKS, Metric, Task, task
from bvae.evaluation.trained import posterior_means
from bvae.report.figures import figure
from bvae.report.figures._page import save_figure
from bvae.report.made_from import Plan, results_of
from bvae.runs import build_model, train_run
from bvae.study.runs import group_paths, training_settings
from bvae.system.records import import_files
from helpers.checkouts import QUICK, ROOT, make_checkout, run_in, snakemake
from helpers.small import SHORT_SWEEP
from helpers.studies import check, edited_quick, planned_jobs, sound
from helpers.training_runs import make_run

ADDED = {  # the three files of docs/extending.md
    "bvae/arms/vae_gain.py": '''"""The VAE with gains."""

from bvae.arms import arm


@arm(
    label="VAE + gain",
    description="an ordinary variational autoencoder with one gain per latent on the posterior mean",
    colour="#CC79A7",
    dash=(0, (1, 3)),
    marker="v",
)
def vae_gain(layout, likelihood):
    """As bvae_gain, untied."""
    from bvae.networks import VAE

    return VAE(layout, likelihood, latent_gain=True)
''',
    "bvae/evaluation/metrics/largest_mean.py": '''"""How far the latents go."""

from bvae.evaluation.metrics import Metric, task


@task(
    title="Extent of the latents",
    version=1,
    metrics=[Metric("largest_mean", "greatest posterior mean", "", "higher", header="Largest mean", decimals=1)],
)
def largest_mean(trained):
    """Over all test images and latents."""
    return {"largest_mean": float(trained.test_means.abs().max())}
''',
    "bvae/report/figures/parameters.py": '''"""The number of parameters of each arm."""

from bvae.report.figures import figure


@figure(category="6 Networks and training", caption="Trained parameters, a bar an arm.", models=True)
def parameters(subject):
    """Of the seed that is shown."""
    from bvae.report.figures._page import page

    drawing, place = page(subject, "Parameters", "Counted on the models.", 2.0)
    models = {arm: model for arm, model in subject.models().items() if model}  # None for a run that diverged
    counts = {arm: sum(p.numel() for p in model.parameters()) for arm, model in models.items()}
    place(1.5, 0.1, 5.0, 1.6).barh(list(counts), list(counts.values()))
    return drawing
''',
}


def with_added(config: dict) -> None:
    config["blocks"][0]["arms"].append("vae_gain")


@pytest.mark.slow
def test_an_arm_a_metric_and_a_figure_are_one_file_each(quick_copy):
    """They are in tables, figures and documentation; nothing else is trained, no other task computed again."""
    for path, text in ADDED.items():
        (quick_copy / path).write_text(text)
    before = {path: json.loads(path.read_text()) for path in quick_copy.glob("results/runs/*/digits/*/metrics-*.json")}
    study = edited_quick(quick_copy, with_added)
    seeds = yaml.safe_load((quick_copy / study).read_text())["blocks"][0]["seeds"]
    folder = Path("results/studies/quick")
    wanted = ["tables/table1.csv", "claims.csv", "figures/mlp-quick/digits-z8/parameters.png"]
    done = snakemake(quick_copy, *QUICK, "--configfile", study, "--", *(str(folder / path) for path in wanted))
    assert done.returncode == 0, done.stdout[-3000:]
    ran = planned_jobs(done.stdout)
    assert ran["train"] == len(seeds)
    assert not ran.keys() & {"data", "reference", "controls", "pca", "untrained"}
    folder = quick_copy / folder
    table = pd.read_csv(folder / "tables/table1.csv").set_index("arm")
    # a gain per latent is `latent_dim` parameters more
    assert table.loc["vae_gain", "parameters"] - table.loc["vae", "parameters"] == 8
    runs = pd.read_csv(folder / "tables/runs.csv").set_index("arm")
    assert table.loc["vae_gain", "largest_mean"] == pytest.approx(runs.loc["vae_gain", "largest_mean"].mean())
    costs = pd.read_csv(folder / "tables/table3.csv").set_index("arm")
    assert costs.loc["vae_gain", "parameters_total"] == table.loc["vae_gain", "parameters"]
    assert "Largest mean ↑" in (folder / "tables/table1.html").read_text()
    with Image.open(folder / "figures/mlp-quick/digits-z8/parameters.png") as picture:
        assert np.ptp(np.asarray(picture.convert("L"))) > 200
    described = pd.read_csv(folder / "comparisons.csv").set_index(["arms", "metric"])
    line = described.loc[("vae_gain against vae", "largest_mean")]
    worse = table.loc["vae", "largest_mean"] - table.loc["vae_gain", "largest_mean"]  # a higher mean is better
    assert (line["n_1"], line["difference"]) == (len(seeds), pytest.approx(worse))
    legend = (folder / "figures/mlp-quick/digits-z8/quality.svg").read_text()
    assert "#cc79a7" in legend.lower()
    old = next(path for path in before if path.parent.name == "vae-z8-seed0")
    now = json.loads(old.read_text())
    assert now["tasks"].items() >= before[old]["tasks"].items()
    data = load(quick_copy / "resources/data/digits.safetensors")
    means = posterior_means(load_run(old.parent)[0], data.test_images, torch.device("cpu"))
    assert now["largest_mean"] == pytest.approx(float(means.abs().max()), rel=1e-5)
    [new] = quick_copy.glob("results/runs/*/digits/vae_gain-z8-seed0")
    with pytest.raises(InputError, match="found the arm 'vae_gain', wanted one of bvae/arms/: bvae, "):
        load_run(new)  # here, where it is not
    shutil.copytree(ROOT / "tools", quick_copy / "tools")
    shutil.copytree(ROOT / "docs", quick_copy / "docs")
    names = ("config/README.md", "docs/model.md")
    assert run_in(quick_copy, "-m", "tools.pages", *names, PYTHONPATH=".").returncode == 0
    pages = [(quick_copy / name).read_text() for name in names]
    assert "| `vae_gain` | VAE + gain |" in pages[0] and "| `parameters` | Trained parameters" in pages[0]
    assert "| `largest_mean` | greatest posterior mean | ↑ |" in pages[1]


def test_the_page_shows_the_files_of_an_arm_a_metric_and_a_figure():
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    for path, content in ADDED.items():
        assert f"`{path}`" in text
        assert textwrap.indent(content, "    ").replace("    \n", "\n").rstrip() in text


def one_task(**numbers):
    """A task that returns these, and has a record of `mine` and of a number that it may leave out."""
    metrics = [Metric("mine", "mine"), Metric("yours", "yours", optional=True)]
    return Task("own", "Own", "", 1, metrics, (), 100, lambda trained: dict(numbers))


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ({"mine": 1.0, "elbo": 0.0}, "the task own returns 'elbo', which is there already"),
        ({"mine": 1.0, "status": "odd"}, "the task own returns 'status', which is there already"),
        ({"yours": 1.0}, "the task own has a record of 'mine' and does not return it"),
        ({"mine": float("nan")}, "the task own returns nan for 'mine'"),
        ({"mine": torch.tensor(1.0)}, "the task own returns Tensor for 'mine', wanted a Python number"),
        ({"mine": [1.0, np.float32(2)]}, "the task own returns float32 for 'mine', wanted a Python number"),
        ({"mine": True}, "the task own returns bool for 'mine', wanted a Python number"),
        ({"mine": "high"}, "the task own returns str for 'mine', wanted a Python number"),
    ],
)
def test_a_task_that_returns_what_it_should_not_is_refused(fake, tmp_path, monkeypatch, returned, said):
    train_run(make_run(), fake, tmp_path, device="cpu")
    evaluated = partial(evaluate_run, tmp_path, fake, [], importance=SHORT_SWEEP, device=torch.device("cpu"))
    monkeypatch.setitem(TASKS, "own", one_task(mine=2.0))
    assert evaluated().row["mine"] == 2.0
    monkeypatch.setitem(TASKS, "own", one_task(**returned))
    with pytest.raises(InputError, match=said):
        evaluated()


def test_a_known_result_without_a_number_is_computed_anew(fake, tmp_path):
    train_run(make_run(), fake, tmp_path, device="cpu")
    evaluated = partial(evaluate_run, tmp_path, fake, [], importance=SHORT_SWEEP, device=torch.device("cpu"))
    row = evaluated().row
    assert evaluated(known=row).row == row
    assert evaluated(known={name: value for name, value in row.items() if name != "knn_accuracy"}).row == row


def an_extractor(*without, **parts):
    """An extractor as Inception's, without some of its parts and with others."""
    known = {name: part for name, part in vars(type(EXTRACTORS["inception"])).items() if not name.startswith("_")}
    return type("Mine", (Extractor,), {name: part for name, part in (known | parts).items() if name not in without})


@pytest.mark.parametrize(
    ("enter", "said"),
    [
        (task(title="", version="1", metrics=[]), "the version '1', wanted a whole number from 1 on"),
        (task(title="", version=1, protocol=3, metrics=[]), "the protocol 3, wanted 1 or 2"),
        (task(title="", version=1, uses=["reference"], metrics=[]), "'reference' .*, wanted some of .*references"),
        (
            task(title="", version=1, metrics=[Metric("mine", "", better="bigger")]),
            "better side of .mine. is",
        ),
        (
            task(title="", version=1, metrics=[Metric("mine", "", table=5)]),
            "table of .mine. is 5",
        ),
        (figure(caption="", arm="bvea"), "the arm 'bvea', wanted one of bvae, "),
        (arm(label="VAE", description="", colour="", dash="", marker=""), "its label 'VAE' is that of vae"),
        (arm(label="my", description="", colour="", dash="", marker="", version=0), "the version 0, wanted a whole"),
        (arm(label="my", description="", colour="bleu", dash="", marker=""), "the colour 'bleu', wanted one such as"),
        (arm(label="my", description="", colour=None, dash="", marker=""), "the colour None, wanted one such as"),
        (extractor, "one_task is no Extractor"),
        (lambda _: extractor(type("Mine", (), {})), "Mine is no Extractor"),
        (lambda _: extractor(an_extractor("version")), "Mine lacks version: "),
        (lambda _: extractor(an_extractor("make", "label")), "Mine lacks label, make: "),
        (lambda _: extractor(an_extractor(version="1")), "the version '1', wanted a whole number"),
    ],
)
def test_settings_of_an_addition_that_are_none_are_refused(enter, said):
    with pytest.raises(InputError, match=said):
        enter(one_task)


@pytest.mark.parametrize(
    ("part", "said"),
    [("layout", "NoneType as its layout, wanted a Layout"), ("build", "NoneType as its model, wanted a VAE")],
)
def test_an_arm_that_returns_nothing_is_refused(monkeypatch, part, said):
    """Its function has no `return`."""
    monkeypatch.setitem(ARMS, "bvae", replace(ARMS["bvae"], **{part: lambda *_: None}))
    with pytest.raises(InputError, match=f"the arm bvae returns {said} of bvae/networks.py"):
        build_model(make_run(), channels=1, size=8)


def test_an_arm_that_returns_nothing_any_more_is_refused_where_its_run_is_loaded(fake, tmp_path, monkeypatch):
    train_run(make_run(), fake, tmp_path, device="cpu")
    monkeypatch.setitem(ARMS, "bvae", replace(ARMS["bvae"], build=lambda *_: None))
    with pytest.raises(InputError, match="the arm bvae returns NoneType as its model, wanted a VAE"):
        load_run(tmp_path)


def test_a_faulty_addition_is_one_line_on_the_command_line_and_in_the_workflow(tmp_path):
    checkout = make_checkout(tmp_path)
    (checkout / "bvae/report/figures/mine.py").write_text("def mine(subject): ...")
    said = "bvae.report.figures.mine: expected a function or class with the decorator"
    done = run_in(checkout, "-m", "bvae", "--version")
    assert (done.returncode, done.stdout.count("\n")) == (1, 1) and done.stdout.startswith(f"error: {said}")
    done = snakemake(checkout, "-n", "--configfile", "config/quick.yaml")
    assert done.returncode == 1 and said in done.stdout


def test_a_figure_that_returns_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="mine: its function returned NoneType, wanted a figure"):
        save_figure(lambda: None, tmp_path / "mine")
    assert not [*tmp_path.iterdir()]


def test_a_file_that_enters_nothing_is_refused(tmp_path, monkeypatch):
    """Its decorator was forgotten."""
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/__init__.py").touch()
    (tmp_path / "zoo/_shared.py").touch()
    (tmp_path / "zoo/cat.py").write_text("def cat(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="zoo.cat: expected a function or class with the decorator of zoo, found none"):
        import_files("zoo", [str(tmp_path / "zoo")])


def test_an_arm_of_another_version_is_trained_again_and_no_other(monkeypatch):
    study = check(sound())
    [recipe] = study["recipes"].values()
    before, costs = {name: training_settings(recipe, name) for name in ("bvae", "vae")}, group_paths(study)
    plan = Plan(study)
    monkeypatch.setitem(ARMS, "vae", replace(ARMS["vae"], version=2))
    assert training_settings(recipe, "bvae") == before["bvae"]
    assert training_settings(recipe, "vae") == before["vae"] | {"arm_version": 2}
    assert group_paths(study) == costs  # one file for all arms, which says of which versions
    [cost] = [result for result in results_of(plan) if result.path == costs[0]["cost"]]
    arms = {name: {} for name in costs[0]["arms"]}
    assert cost.said({"arms": arms})["arm_versions"] != cost.wanted()["arm_versions"]
    arms["vae"] = {"version": 2}
    assert cost.said({"arms": arms})["arm_versions"] == cost.wanted()["arm_versions"]


def test_two_of_one_name_are_refused():
    def size(trained):
        """Another one."""

    with pytest.raises(InputError, match="the name 'size' is taken"):
        task(title="Size", version=1, metrics=[])(size)
    with pytest.raises(InputError, match="the name 'elbo' is taken by another metric"):
        task(title="Other", version=1, metrics=[Metric("elbo", "another")])(one_task)
    with pytest.raises(InputError, match="the name 'mine' is taken by another metric"):
        task(title="Other", version=1, metrics=[Metric("mine", "one"), Metric("mine", "two")])(one_task)
    for enter, kind in (
        (arm(label="-", description="", colour="#000000", dash="", marker=""), "bvae"),
        (architecture(), "mlp"),
        (figure(caption=""), "samples"),
    ):
        one_task_of = FunctionType(one_task.__code__, globals(), kind)
        with pytest.raises(InputError, match=f"the name '{kind}' is taken"):
            enter(one_task_of)
    with pytest.raises(InputError, match="the name 'inception' is taken"):
        extractor(type("Inception", (type(EXTRACTORS["inception"]),), {}))
