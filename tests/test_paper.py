"""The paper's study, whole and tiny: its networks, its data sets in their published formats, both kinds of features.

Both tests of a study are slow ones, for `make test-all`: a miniature, and the networks at their own sizes.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from bvae.arms import ARMS
from bvae.data import load
from bvae.evaluation import protocol
from bvae.evaluation.extractors import EXTRACTORS, Weights
from bvae.evaluation.extractors.inception import fetch_weights
from bvae.evaluation.references import extract
from bvae.study.runs import results_paths, run_folders
from bvae.system.files import read_yaml
from helpers import fake_data
from helpers.checkouts import ROOT, make_checkout, snakemake, with_protocol
from helpers.studies import FOUR, check


def random_inception_weights(path: Path) -> None:
    """A file of torch-fidelity's Inception in its own format, with random numbers for weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception

    torch.manual_seed(0)
    with mock.patch("torch.load"), mock.patch.object(Inception, "load_state_dict"):
        network = Inception("inception", ["2048"], feature_extractor_weights_path="none")
    torch.save(network.state_dict(), path)


def test_inception_gives_2048_features_of_any_image(tmp_path, monkeypatch):
    weights = tmp_path / "weights.pth"
    random_inception_weights(weights)
    monkeypatch.setattr(protocol, "INCEPTION_SHA256", "")
    monkeypatch.setattr(EXTRACTORS["inception"], "weights", Weights(str(weights), fetch_weights))
    network = EXTRACTORS["inception"].load({}, {}, torch.device("cpu"))
    images = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grey, colour = (extract(network, shown, torch.device("cpu")) for shown in (images, images.expand(-1, 3, -1, -1)))
    assert grey.shape == (2, 2048) and grey.isfinite().all() and (grey[0] != grey[1]).any()
    assert (grey == colour).all()  # a grey image is one of three equal channels


def paper_study(folder: Path, config: dict, targets: Sequence[str]) -> Path:
    """Make files of a study in the form of config/paper.yaml, of fake data sets in their published formats.

    The limits below which a metric is left empty, the layer of Inception whose features are compared, the length of
    timings and the number of interpolated paths are lowered. Returns the checkout.
    """
    plan, mirror = make_checkout(folder), folder / "mirror"
    mirror.mkdir()
    for seed, write in enumerate((fake_data.write_mnist, fake_data.write_fashion_mnist, fake_data.write_cifar10)):
        write(mirror, n_train=20, n_test=8, seed=seed)
    fake_data.write_celeba(mirror, n_train=20, n_test=8, seed=4)
    (plan / protocol.INCEPTION_WEIGHTS).parent.mkdir(parents=True)
    random_inception_weights(plan / protocol.INCEPTION_WEIGHTS)
    lowered = {"FID_MINIMUM_IMAGES": 8, "INCEPTION_SHA256": "", "INCEPTION_FEATURES": 64}
    lowered |= {"CLASSIFIER_IMAGES_PER_FEATURE": 1, "CLASSIFIER_STEPS": 2}
    patched = with_protocol(folder, **lowered, COST_ROUNDS=1, COST_SECONDS=1e-4, PATH_PAIRS=3)
    (plan / "config/tiny.yaml").write_text(yaml.safe_dump(config))
    environment = {"BVAE_MIRROR": str(mirror), "PYTHONPATH": f"{plan}:{patched}"}
    table = plan / "workflow/datasets.yaml"  # with the hashes of the published data, which these are not
    table.write_text(re.sub(r"^  sha256: .*\n", "", table.read_text(), flags=re.MULTILINE))
    done = snakemake(plan, "--configfile", "config/tiny.yaml", "--", *targets, **environment)
    assert done.returncode == 0, done.stdout[-6000:]
    return plan


def tiny(config: dict, arms: dict[str, list[str]]) -> dict:
    """The study with one block for each of these data sets, one seed, and one step an epoch."""
    blocks = [
        block | {"datasets": [name], "arms": arms[name], "seeds": [0]}
        for block in config["blocks"]
        for name in block["datasets"]
        if name in arms
    ]
    used = {recipe for block in blocks for recipe in block["recipes"]}
    recipes = {name: recipe for name, recipe in config["recipes"].items() if name in used}
    for recipe in recipes.values():
        recipe["training"] |= {"epochs": 2, "batch_size": 20}
        assert recipe["training"].pop("compile")  # on a CPU it takes longer than these runs; test_captured.py has one
        recipe |= {"threads": 1, "importance": {"samples": [1, 10]}}
    rest = {key: value for key, value in config.items() if key != "claims"}  # of places that are left out
    return rest | {"blocks": blocks, "recipes": recipes}


@pytest.mark.slow
def test_the_paper_study_in_miniature(tmp_path):
    """Grey images in IDX files are read; photographs in a zip are trained on and evaluated over both features."""
    config = tiny(yaml.safe_load((ROOT / "config/paper.yaml").read_text()), {"mnist": ["bvae"], "celeba64": ["vae"]})
    del config["protocol"]  # three classifiers are in the whole study
    config["features"] = ["inception", "classifier"]
    for recipe in config["recipes"].values():
        recipe["network"] |= {"width": 4, "max_width": 4, "neck": 4, "hidden": [4]}
    _, celeba = results_paths(check(config)).values()
    plan = paper_study(tmp_path, config, ["resources/data/mnist.safetensors", celeba])
    mnist = load(plan / "resources/data/mnist.safetensors")
    assert (mnist.shape, len(mnist.train_images), len(mnist.test_images)) == ((1, 28, 28), 20, 8)
    row = json.loads((plan / celeba).read_text())
    assert (row["dataset"], row["arm"], row["train_images"], row["test_images"]) == ("celeba64", "vae", 20, 8)
    measured = ["elbo", "reconstruction", "nll", "psnr", "fid_samples", "fid_mixture_samples", "fid_interpolations"]
    measured += ["fd_classifier_samples", "fd_classifier_interpolations", "precision_inception_samples"]
    assert np.isfinite([row[name] for name in measured]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_paper", "fashion_paper"])
def test_a_block_of_the_paper_study_in_miniature(tmp_path, name):
    """Its claims are judged, or are not because one seed decides nothing."""
    dataset = {"mnist_paper": "mnist", "fashion_paper": "fashion_mnist"}[name]
    original = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    config = tiny(original, {dataset: FOUR}) | {"claims": original["claims"]}
    config["recipes"]["resnet-grey"]["network"] |= {"width": 4, "max_width": 4, "neck": 4, "hidden": [4]}
    config["recipes"]["resnet-grey"]["importance"]["images"] = 2_000
    plan = paper_study(tmp_path, config, [f"results/studies/{name}/claims.csv"])
    claims = pd.read_csv(plan / f"results/studies/{name}/claims.csv")
    assert len(claims) == len(original["claims"]) and set(claims["dataset"]) == {dataset}
    assert set(claims["verdict"]) == {"not judged"}


@pytest.mark.parametrize("name", ["mnist_paper", "fashion_paper"])
def test_a_block_of_the_paper_study_shares_its_runs(name):
    """Its recipe and its seeds are those of config/paper.yaml."""
    whole, block = (check(read_yaml(ROOT / f"config/{study}.yaml")) for study in ("paper", name))
    assert set(run_folders(block).items()) <= set(run_folders(whole).items())


@pytest.mark.slow
def test_the_whole_paper_study_is_executed(tmp_path):
    """Every network of config/paper.yaml at its own size, on four data sets, to its tables and a figure."""
    # not every arm of it everywhere: Fashion-MNIST's networks are MNIST's, a gain is no layer
    arms = {name: ["bvae", "vae", "vae_narrow"] for name in ("cifar10", "celeba64")}
    arms |= {"mnist": FOUR, "fashion_mnist": ["bvae", "vae"]}
    config = tiny(yaml.safe_load((ROOT / "config/paper.yaml").read_text()), arms)
    tables = [f"results/studies/paper/tables/table1.{suffix}" for suffix in ("csv", "tex", "html", "json")]
    folder = "results/studies/paper/figures/resnet-celeba64/celeba64-z128"
    figures = [f"{folder}/reconstructions.{suffix}" for suffix in ("svg", "png")]
    plan = paper_study(tmp_path, config, [*tables, *figures])
    assert all((plan / name).stat().st_size for name in tables + figures)
    table = pd.read_csv(plan / tables[0])
    runs = table[table["arm"].isin(ARMS)]
    assert runs.groupby("dataset")["arm"].apply(list).to_dict() == arms
    columns = ["parameters", "model_mb", "reconstruction", "elbo", "fid_samples", "fd_classifier_samples"]
    assert np.isfinite(runs[columns]).all(axis=None)
    counts = runs.pivot(index="dataset", columns="arm", values="parameters")
    assert (counts["bvae"] / counts["vae"] <= 0.52).all()
    generation = pd.read_csv(plan / tables[0].replace("table1", "table2"))
    assert set(generation["features"]) == {"inception", "classifier", "classifier2", "classifier3"}
    assert np.isfinite(generation[["fd_samples", "fd_mixture_samples", "fd_interpolations"]]).all(axis=None)
    assert (abs(counts["vae_narrow"] / counts["bvae"] - 1).drop("fashion_mnist") <= 0.01).all()
