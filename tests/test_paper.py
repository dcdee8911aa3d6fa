"""The paper's study, whole and tiny: its networks, its data sets in their published formats, both kinds of features.

In a file of its own, because it takes as long as all other tests of the workflow: `make test` runs it beside them.
"""

from pathlib import Path
from unittest import mock

import fake_data
import numpy as np
import pandas as pd
import torch
import yaml
from workflow_runner import make_checkout, run_in, snakemake

import bvae
from bvae import protocol
from bvae.features import extract, load_inception


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
    network = load_inception(weights, torch.device("cpu"))
    images = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grey, colour = (extract(network, shown, torch.device("cpu")) for shown in (images, images.expand(-1, 3, -1, -1)))
    assert grey.shape == (2, 2048) and grey.isfinite().all() and (grey[0] != grey[1]).any()
    assert (grey == colour).all()  # a grey image is one of three equal channels


def test_paper_study_is_executed(tmp_path):
    """config/paper.yaml with its own networks, four fake data sets in their published formats, and one step an epoch.

    The limits below which a metric is left empty, the layer of Inception whose features are compared, the length of
    timings and the number of interpolated paths are lowered for this test alone, by a sitecustomize module.
    """
    plan, mirror = make_checkout(tmp_path), tmp_path / "mirror"
    mirror.mkdir()
    fake_data.write_mnist(mirror, n_train=20, n_test=8, seed=1)
    fake_data.write_fashion_mnist(mirror, n_train=20, n_test=8, seed=2)
    fake_data.write_cifar10(mirror, n_train=20, n_test=8, seed=3)
    fake_data.write_celeba(mirror, n_train=20, n_test=8, seed=4)
    random_inception_weights(mirror / "weights-inception-2015-12-05-6726825d.pth")
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch/sitecustomize.py").write_text(
        "try:\n    import bvae.protocol as p\nexcept ImportError:\n    pass\nelse:\n"
        "    p.FID_MINIMUM_IMAGES = 8\n    p.INCEPTION_SHA256 = ''\n    p.INCEPTION_FEATURES = 64\n"
        "    p.CLASSIFIER_IMAGES_PER_FEATURE = 1\n    p.CLASSIFIER_STEPS = 2\n"
        "    p.COST_ROUNDS = 1\n    p.COST_SECONDS = 1e-4\n    p.PATH_PAIRS = 3\n"
    )
    config = yaml.safe_load((plan / "config/paper.yaml").read_text())
    # every network, but not every arm of it everywhere: Fashion-MNIST's networks are MNIST's, a gain is no layer
    arms = {name: ["bvae", "vae", "vae_narrow"] for name in ("cifar10", "celeba64")}
    arms |= {"mnist": list(bvae.ARMS), "fashion_mnist": ["bvae", "vae"]}
    config["blocks"] = [
        block | {"datasets": [name], "arms": arms[name], "seeds": [0]}
        for block in config["blocks"]
        for name in block["datasets"]
    ]
    for recipe in config["recipes"].values():
        recipe["training"] |= {"epochs": 2, "batch_size": 20}
        recipe |= {"threads": 1, "importance": {"samples": [1, 10]}}
    (plan / "config/tiny.yaml").write_text(yaml.safe_dump(config))
    environment = {"BVAE_MIRROR": str(mirror), "PYTHONPATH": f"{plan}:{tmp_path / 'patch'}"}
    for name, source in (("mnist", "torchvision:MNIST"), ("fashion_mnist", "torchvision:FashionMNIST")):
        output = f"resources/data/{name}.safetensors"  # the rules of these two refuse any but the published data
        made = run_in(plan, "-m", "bvae", "fetch", source, "--name", name, "--output", output, **environment)
        assert made.returncode == 0, made.stdout
    tables = [f"results/studies/paper/tables/table1.{suffix}" for suffix in ("csv", "tex", "html", "json")]
    figures = [
        f"results/studies/paper/figures/reconstructions-resnet-celeba64-celeba64-z128.{s}" for s in ("svg", "png")
    ]
    done = snakemake(plan, "--configfile", "config/tiny.yaml", "--", *tables, *figures, **environment)
    assert done.returncode == 0, done.stdout[-6000:]
    assert all((plan / name).stat().st_size for name in tables + figures)
    table = pd.read_csv(plan / tables[0])
    runs = table[table["arm"].isin(bvae.ARMS)]
    assert runs.groupby("dataset")["arm"].apply(list).to_dict() == arms
    columns = ["parameters", "model_mb", "reconstruction", "elbo", "fid_samples", "fd_classifier_samples"]
    assert np.isfinite(runs[columns]).all(axis=None)
    counts = runs.pivot(index="dataset", columns="arm", values="parameters")
    assert (counts["bvae"] / counts["vae"] <= 0.52).all()
    generation = pd.read_csv(plan / tables[0].replace("table1", "table2"))
    assert set(generation["features"]) == {"inception", "classifier"}
    assert np.isfinite(generation[["fd_samples", "fd_mixture_samples", "fd_interpolations"]]).all(axis=None)
    assert (abs(counts["vae_narrow"] / counts["bvae"] - 1).drop("fashion_mnist") <= 0.01).all()
