"""After every change of a tiny finished study, with Snakemake's records and without, the plan is what depends on it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bvae.data import load, save
from bvae.data.dataset import arrays_sha256
from helpers.checkouts import finished_once, snakemake
from helpers.studies import planned_jobs, sound

pytestmark = pytest.mark.slow

TABLES = {"table": 1, "claims": 1}
FIGURES = {"figures": 1, "slow_figures": 1}
EVALUATED = {"evaluate": 4, **TABLES, **FIGURES}
ONE_RUN = EVALUATED | {"train": 1, "evaluate": 1}
OF_SETTINGS = EVALUATED | {"train": 4, "untrained": 1, "cost": 1}
ALL = OF_SETTINGS | {"data": 1, "controls": 1, "pca": 1, "reference": 1, "diagrams": 1}
CONFIG = ("--configfile", "config/small.yaml")


def study() -> dict:
    """Two arms and two seeds of the smallest network, an epoch each."""
    config = sound()
    config["blocks"][0] |= {"arms": ["bvae", "vae"], "seeds": [0, 1], "latent_dims": [4]}
    config["recipes"]["plain"] |= {"importance": {"samples": [1]}}
    config["recipes"]["plain"]["training"]["epochs"] = 1
    return config


def write(checkout: Path, config: dict) -> None:
    (checkout / CONFIG[1]).write_text(yaml.safe_dump(config))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A checkout in which that study has run to its end, once for all workers."""
    return finished_once(
        tmp_path_factory.getbasetemp(), "small", *CONFIG, edit=lambda checkout: write(checkout, study())
    )


def changed(part: Callable[[dict], dict], **values) -> Callable:
    """Set values of a part of the study."""

    def change(checkout: Path) -> None:
        config = study()
        part(config).update(values)
        write(checkout, config)

    return change


def top(**values) -> Callable:
    return changed(lambda config: config, **values)


def block(**values) -> Callable:
    return changed(lambda config: config["blocks"][0], **values)


def recipe(**values) -> Callable:
    return changed(lambda config: config["recipes"]["plain"], **values)


def training(**values) -> Callable:
    return changed(lambda config: config["recipes"]["plain"]["training"], **values)


def edit(path: str, old: str, new: str) -> Callable:
    def change(checkout: Path) -> None:
        text = (checkout / path).read_text()
        assert old in text
        (checkout / path).write_text(text.replace(old, new, 1))
        os.utime(checkout / path, (1_500_000_000,) * 2)

    return change


def delete(pattern: str) -> Callable:
    def change(checkout: Path) -> None:
        found = sorted(checkout.glob(pattern))[0]
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return change


def other_images(checkout: Path) -> None:
    """Another data set by the same name, with the time stamp of the one before."""
    path = checkout / "resources/data/digits.safetensors"
    dataset, before = load(path), path.stat().st_mtime
    dataset = replace(dataset, train_images=255 - dataset.train_images)
    save(replace(dataset, sha256=arrays_sha256(dataset.tensors())), path)
    os.utime(path, (before, before))


VERSION = ("version=", "version=9")
CHANGES = {  # what is changed, and the jobs that are then planned
    "nothing": (lambda checkout: None, {}),
    "title": (top(title="Another"), TABLES),
    "version of the study": (top(version=2), TABLES),
    "figure_seed": (top(figure_seed=1), TABLES | FIGURES),
    "published_models": (top(published_models={"recipe": "plain", "seed": 1}), TABLES),
    "importance samples": (recipe(importance={"samples": [1, 2]}), EVALUATED),
    "features": (top(features=["inception"]), EVALUATED | {"reference": 1, "weights": 1}),
    "epochs": (training(epochs=2), OF_SETTINGS),
    "learning_rate": (training(learning_rate=0.002), OF_SETTINGS),
    "threads": (recipe(threads=1), OF_SETTINGS),
    "precision": (recipe(precision="bfloat16"), OF_SETTINGS),
    "network": (recipe(network={"architecture": "mlp", "hidden": [17]}), OF_SETTINGS | {"diagrams": 1}),
    "objective": (recipe(objective={"beta": 2.0}), OF_SETTINGS | {"diagrams": 1}),
    "likelihood": (recipe(likelihood={"name": "gaussian"}), OF_SETTINGS | {"diagrams": 1}),
    "one seed more": (block(seeds=[0, 1, 2]), EVALUATED | {"train": 2, "evaluate": 2}),
    "one seed less": (block(seeds=[0]), TABLES | FIGURES),
    "the first seed less": (block(seeds=[1]), TABLES | FIGURES | {"untrained": 1}),
    "one arm more": (block(arms=["bvae", "vae", "vae_narrow"]), EVALUATED | {"train": 2, "evaluate": 2, "cost": 1}),
    "one arm less": (block(arms=["bvae"]), TABLES | FIGURES),
    "data": (other_images, ALL),
    "protocol 2": (top(protocol=2), EVALUATED | {"reference": 2, "distortions": 3}),
    "claims": (edit("config/claims.yaml", "absolute: 1", "absolute: 2"), {"claims": 1}),
    "version of training": (edit("bvae/__init__.py", "VERSION = ", "VERSION = 9"), OF_SETTINGS | {"diagrams": 1}),
    "version of a task": (edit("bvae/evaluation/metrics/latents.py", *VERSION), EVALUATED),
    "version of a task of controls": (
        edit("bvae/evaluation/metrics/classification.py", *VERSION),
        EVALUATED | {"controls": 1, "pca": 1, "untrained": 1},
    ),
    "version of an extractor": (
        edit("bvae/evaluation/extractors/classifier.py", "version = ", "version = 9"),
        EVALUATED | {"reference": 1},
    ),
    "code of a figure": (edit("bvae/report/figures/samples.py", "from", "# a word\nfrom"), FIGURES | {"diagrams": 1}),
    "code that pictures share": (
        edit("bvae/report/figures/_plots.py", "import", "# a word\nimport"),
        TABLES | FIGURES | {"diagrams": 1},
    ),
    "no data": (delete("resources/data/*"), ALL),
    "no model": (delete("results/runs/*/*/*/model.safetensors"), ONE_RUN),
    "no history": (delete("results/runs/*/*/*/history.csv"), ONE_RUN),
    "no run": (delete("results/runs/*/*/*"), ONE_RUN),
    "no metrics": (delete("results/runs/*/*/*/metrics-*.json"), EVALUATED | {"evaluate": 1}),
    "no reference": (delete("results/references/*"), EVALUATED | {"reference": 1}),
    "no controls": (delete("results/controls/*/controls.json"), TABLES | {"controls": 1}),
    "no pca": (delete("results/controls/*/pca*.json"), {"table": 1, "pca": 1}),
    "no untrained encoder": (delete("results/untrained/*/*"), {"table": 1, "untrained": 1}),
    "no cost": (delete("results/costs/*/*"), {"table": 1, "cost": 1}),
    "no table": (delete("results/studies/*/tables/table2.tex"), {"table": 1}),
    "no claims": (delete("results/studies/*/claims.md"), {"claims": 1}),
    "no figure": (delete("results/studies/*/figures/*/*/samples.svg"), {"figures": 1}),
    "no slow figure": (delete("results/studies/*/figures/*/*/tsne.png"), {"slow_figures": 1}),
    "no diagram": (delete("results/networks/*/*/architecture.png"), {"diagrams": 1}),
    "no study": (delete("results/studies/*"), TABLES | FIGURES),
    "a damaged model": (
        lambda checkout: next(checkout.glob("results/runs/*/*/*/model.safetensors")).write_bytes(b"no model"),
        ONE_RUN,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_exactly_what_depends_on_a_change_is_planned(finished, tmp_path, name):
    change, expected = CHANGES[name]
    for records in (True, False):
        checkout = tmp_path / str(records) / finished.name
        shutil.copytree(finished, checkout)
        if not records:
            shutil.rmtree(checkout / ".snakemake")
        change(checkout)
        done = snakemake(checkout, "-n", *CONFIG)
        assert done.returncode == 0, done.stdout[-3000:]
        planned = planned_jobs(done.stdout)
        assert {rule: count for rule, count in planned.items() if rule not in ("default", "total")} == expected


def test_a_changed_study_is_made_whole_and_the_next_start_has_nothing_to_do(finished, tmp_path):
    """Another hidden layer after .snakemake was lost: all tables have the parameters of the new network."""
    checkout = tmp_path / finished.name
    shutil.copytree(finished, checkout, ignore=shutil.ignore_patterns(".snakemake"))
    recipe(network={"architecture": "mlp", "hidden": [24]})(checkout)
    done = snakemake(checkout, *CONFIG)
    assert done.returncode == 0, done.stdout[-3000:]
    folder = checkout / "results/studies/small/tables"
    costs, table = (pd.read_csv(folder / f"table{n}.csv").set_index("arm") for n in (3, 1))
    # weights 64 x 24 and 24 x 4; the log-variance head; biases of 24, 4, 24 and 64 units
    counts = {"bvae": 1632 + 100 + 116, "vae": 2 * 1632 + 100 + 116}
    assert costs["parameters_total"].to_dict() == counts
    assert table.loc[["bvae", "vae"], "parameters"].to_dict() == counts
    assert "Nothing to be done" in snakemake(checkout, *CONFIG).stdout
