"""Metrics against public implementations that are not ours: scikit-image, torch-fidelity, and torch's own layers."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from bvae.evaluation.measures import (
    frechet_distance,
    gaussian_statistics,
    kernel_distance,
    precision_recall,
    psnr,
    ssim,
)
from bvae.evaluation.probes import linear_probe

# --- reconstruction: scikit-image -----------------------------------------------------------------------------------


def patches(channels: int, size: int) -> tuple[Tensor, Tensor]:
    """Six patches (6, channels, size, size) of a photograph in [0, 1], and six worse ones: noisy, dim, of low contrast.

    The photograph comes with scikit-learn; its patches have texture, edges and a sky that is nearly flat.
    """
    photograph = torch.from_numpy(load_sample_image("china.jpg").transpose(2, 0, 1) / 255)  # (3, 427, 640)
    places = [(0, 0), (150, 100), (200, 250), (230, 400), (330, 20), (350, 500)]
    images = torch.stack([photograph[:channels, top : top + size, left : left + size] for top, left in places])
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    worse = images.clone()
    worse[:2] += 0.1 * noise[:2]
    worse[2:4] = 0.6 * worse[2:4] + 0.02 * noise[2:4]
    worse[4:] = 0.5 + 0.3 * (worse[4:] - 0.5)
    return images, worse.clamp(0, 1)


def images_of(batch: Tensor) -> tuple[list[NDArray], dict]:
    """A batch as scikit-image takes it, and its word for the axis of the channels: grey images have none."""
    grey = batch.shape[1] == 1
    return [image.squeeze(0).numpy() for image in batch], {} if grey else {"channel_axis": 0}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [11, 28, 64])
def test_ssim_is_that_of_scikit_image(channels, size):
    """With the window of Wang et al.; scikit-image too leaves out the border where the window is not inside."""
    images, worse = patches(channels, size)
    (first, axis), (second, _) = images_of(images), images_of(worse)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1} | axis
    wanted = [structural_similarity(a, b, **settings) for a, b in zip(first, second, strict=True)]
    assert ssim(images, worse).tolist() == pytest.approx(wanted, abs=1e-10)
    assert ssim(images.float(), worse.float()).tolist() == pytest.approx(wanted, abs=1e-6)
    assert max(wanted) - min(wanted) > 0.3  # patches of many qualities


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28, 64])
def test_psnr_is_that_of_scikit_image(channels, size):
    images, worse = patches(channels, size)
    (first, _), (second, _) = images_of(images), images_of(worse)
    wanted = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(first, second, strict=True)]
    assert psnr(images, worse).tolist() == pytest.approx(wanted, rel=1e-12)
    assert psnr(images.float(), worse.float()).tolist() == pytest.approx(wanted, rel=1e-6)
    assert max(wanted) - min(wanted) > 3


# --- distances: torch-fidelity --------------------------------------------------------------------------------------


@pytest.fixture(params=[(1_200, 1_500, 64), (2_000, 1_000, 5)], ids=["64 features", "5 features"])
def feature_sets(request, place) -> tuple[Tensor, Tensor]:
    """Features of generated and of real images, (n, d) and (m, d), of spreads and places of their own."""
    generated, real, d = request.param
    generator = torch.Generator().manual_seed(d)
    sets = 2 * torch.randn(generated, d, generator=generator) + 0.2, 1.8 * torch.randn(real, d, generator=generator)
    return sets[0].to(place), sets[1].to(place)


def test_the_frechet_distance_is_that_of_torch_fidelity(feature_sets):
    statistics = [fid_features_to_statistics(features.double().cpu()) for features in feature_sets]
    wanted = fid_statistics_to_metric(*statistics, False)[KEY_METRIC_FID]
    assert frechet_distance(*map(gaussian_statistics, feature_sets)) == pytest.approx(wanted, rel=1e-10)
    assert wanted > 1e-2


def test_kid_is_that_of_torch_fidelity(monkeypatch, feature_sets):
    monkeypatch.setattr("bvae.evaluation.protocol.KID_SUBSETS", 10)
    first, second = (features.double().cpu() for features in feature_sets)
    found = kid_features_to_metric(first, second, kid_subsets=10, kid_subset_size=1_000, rng_seed=2020, verbose=False)
    wanted = found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]
    assert kernel_distance(*feature_sets) == pytest.approx(wanted, rel=1e-9)
    assert wanted[0] > wanted[1] > 0


def test_precision_and_recall_are_those_of_torch_fidelity(feature_sets):
    settings = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "save_cpu_ram": False, "verbose": False}
    found = prc_features_to_metric(*(features.cpu() for features in feature_sets), **settings)
    wanted = found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]
    assert precision_recall(*feature_sets) == pytest.approx(wanted, abs=1e-6)
    assert 0 < wanted[0] < 1 and 0 < wanted[1] < 1 and wanted[0] != wanted[1]


# --- the linear probe: a layer of torch -----------------------------------------------------------------------------


def blobs(n: int, classes: int, d: int, distance: float, seed: int) -> tuple[NDArray, NDArray]:
    """Overlapping Gaussian classes (n, d), the earlier ones rarer, around centres of their own; and the labels (n,)."""
    rng = np.random.default_rng(seed)
    centres = distance * np.random.default_rng(99).normal(size=(classes, d))
    labels = np.sort(rng.integers(classes, size=(n, 2)), axis=1)[:, 1]
    return centres[labels] + rng.normal(size=(n, d)), labels


def trained_layer(train: NDArray, labels: NDArray, *, c: float, weights: Tensor | None = None) -> torch.nn.Linear:
    """A linear layer at the minimum of c sum(cross-entropy) + |W|² / 2, biases free; `weights` of the classes."""
    classes = int(labels.max()) + 1
    layer = torch.nn.Linear(train.shape[1], classes, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=5_000, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    x, y = torch.from_numpy(train), torch.from_numpy(labels)

    def closure():
        optimizer.zero_grad()
        misfits = torch.nn.functional.cross_entropy(layer(x), y, reduction="none")
        weighted = misfits if weights is None else weights[y] * misfits
        loss = c * weighted.sum() + 0.5 * layer.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    closure()
    slope = max(float(parameter.grad.abs().max()) for parameter in layer.parameters())
    assert slope < 1e-5 * max(c, 1)  # at the one minimum
    return layer


def standardised(train: NDArray, test: NDArray) -> tuple[NDArray, NDArray]:
    """Features (n, d) less the training features' mean, over their standard deviation, as the probe sees them."""
    mean, deviation = train.mean(0), train.std(0)
    return (train - mean) / deviation, (test - mean) / deviation


def decisions(layer: torch.nn.Linear, features: NDArray) -> NDArray:
    return layer(torch.from_numpy(features)).argmax(1).numpy()


@pytest.mark.parametrize("c", [1e-3, 1e-2, 1.0, 100.0])
def test_probe_decides_as_a_softmax_layer_trained_to_convergence(monkeypatch, c):
    """The same decisions at 20,000 points, but for 1 in 1,000 at the borders; with them as labels the accuracy is that.

    At half the strength the layer decides otherwise more often, where the strength still matters.
    """
    monkeypatch.setattr("bvae.evaluation.protocol.PROBE_STRENGTHS", (c,))
    (train, labels), (test, test_labels) = blobs(400, 4, 5, 0.8, seed=0), blobs(20_000, 4, 5, 0.8, seed=1)

    train, test = standardised(train, test)

    def accuracy(of: NDArray) -> float:
        found = linear_probe(train, labels, test, of, identity="oracle")
        assert found["c"] == c
        return found["accuracy"]

    predicted = decisions(trained_layer(train, labels, c=c), test)
    assert accuracy(predicted) >= 0.999
    assert accuracy(test_labels) == pytest.approx(np.mean(predicted == test_labels), abs=1e-3)
    assert 0.4 < accuracy(test_labels) < 0.9  # labels at 1.0 would show nothing
    if c <= 1:
        assert accuracy(decisions(trained_layer(train, labels, c=c / 2), test)) < 0.997


def test_probe_of_an_attribute_decides_as_a_layer_that_weighs_both_values_the_same(monkeypatch):
    """Logistic regression is a softmax of two outputs; its |w|² is twice that of the two rows w / 2 and -w / 2."""
    monkeypatch.setattr("bvae.evaluation.protocol.PROBE_STRENGTHS", (1e-3,))
    (train, labels), (test, _) = blobs(400, 2, 5, 0.5, seed=0), blobs(20_000, 2, 5, 0.5, seed=1)
    train, test = standardised(train, test)
    weights = torch.from_numpy(len(labels) / (2 * np.bincount(labels)))
    assert float(weights.max()) > 1.5

    def agreement(layer: torch.nn.Linear) -> float:
        predicted = decisions(layer, test)[:, None]
        return linear_probe(train, labels[:, None], test, predicted, identity="oracle")["accuracy"]

    assert agreement(trained_layer(train, labels, c=1e-3 / 2, weights=weights)) >= 0.999
    assert agreement(trained_layer(train, labels, c=1e-3 / 2)) < 0.95
