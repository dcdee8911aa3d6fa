"""Metrics as functions of arrays. What each means, its unit and its source stand in its docstring."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bvae import protocol
from bvae.seeds import derive_seed


def mse_per_pixel(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Mean squared error of each image, (n,), over pixels and channels in [0, 1]."""
    return (images - reconstructions).square().flatten(1).mean(1)


def psnr(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, (n,): 10 log10(1 / MSE), for pixels in [0, 1].

    The mean of these is above the PSNR of the mean MSE (Jensen). An exact reconstruction has an infinite ratio.
    """
    return -10 * torch.log10(mse_per_pixel(images, reconstructions))


def active_units(means: Tensor) -> int:
    """Latents whose posterior mean varies over the images by more than 0.01, of means (n, latent_dim).

    Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", arXiv 1509.00519, section 5.2.
    """
    return int((means.double().var(0, correction=1) > protocol.ACTIVE_UNIT_VARIANCE).sum())


def gaussian_statistics(features: Tensor) -> tuple[NDArray, NDArray]:
    """Mean (d,) and covariance (d, d) of features (n, d), in float64."""
    from torch_fidelity.metric_fid import fid_features_to_statistics

    statistics = fid_features_to_statistics(features.double().cpu())
    return statistics["mu"], statistics["sigma"]


def frechet_distance(first: tuple[NDArray, NDArray], second: tuple[NDArray, NDArray]) -> float:
    """Squared Fréchet distance between two Gaussians, each (mean, covariance), by torch-fidelity.

    |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½): Dowson and Landau 1982; Heusel et al., arXiv 1706.08500.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    one, two = ({"mu": mean, "sigma": covariance} for mean, covariance in (first, second))
    return fid_statistics_to_metric(one, two, False)[KEY_METRIC_FID]


def linear_probe(
    train: NDArray, train_labels: NDArray, test: NDArray, test_labels: NDArray, *, identity: str
) -> dict[str, float]:
    """Accuracy of logistic regression on features (n, d) with class labels (n,), or 0/1 attributes (n, k).

    The strength C is the one of PROBE_STRENGTHS with the best accuracy on held-out training images (drawn by a seed
    from `identity`); the probe is then fitted on all training images and scored once on the test images. For
    attributes, one probe each, and the mean of their balanced accuracies.

    Returns `accuracy` in [0, 1] and the chosen `c`.
    """
    order = np.random.default_rng(derive_seed(identity, "probe validation")).permutation(len(train))
    held_out = min(protocol.PROBE_VALIDATION_IMAGES, len(train) // 6)
    validation, search = order[:held_out], order[held_out : held_out + protocol.PROBE_SEARCH_IMAGES]
    best_c, best_accuracy = protocol.PROBE_STRENGTHS[0], -1.0
    for c in protocol.PROBE_STRENGTHS:
        accuracy = _fit_and_score(train[search], train_labels[search], train[validation], train_labels[validation], c)
        if accuracy > best_accuracy:
            best_c, best_accuracy = c, accuracy
    return {"accuracy": _fit_and_score(train, train_labels, test, test_labels, best_c), "c": best_c}


def _fit_and_score(train: NDArray, train_labels: NDArray, test: NDArray, test_labels: NDArray, c: float) -> float:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if train_labels.ndim == 2:
        columns = range(train_labels.shape[1])
        return float(np.mean([_balanced(train, train_labels[:, k], test, test_labels[:, k], c) for k in columns]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest strengths need no exact optimum
        probe = LogisticRegression(C=c, max_iter=1000).fit(train, train_labels)
    return float(np.mean(probe.predict(test) == test_labels))


def _balanced(train: NDArray, train_labels: NDArray, test: NDArray, test_labels: NDArray, c: float) -> float:
    from sklearn.linear_model import LogisticRegression

    present = np.unique(test_labels)
    if len(np.unique(train_labels)) < 2:  # an attribute that no training image shows, or all do
        return 1 / len(present)
    predicted = LogisticRegression(C=c, max_iter=1000, class_weight="balanced").fit(train, train_labels).predict(test)
    return float(np.mean([np.mean(predicted[test_labels == value] == value) for value in present]))


def mean_image_log_likelihood(train: Tensor, test: Tensor, likelihood: str) -> float:
    """ln p(x) of the test images in nats per image under the mean training image: what a model must beat.

    Images are (n, c, h, w) in [0, 1]. `gaussian` uses the best constant sigma, that of the training residuals.
    """
    mean = train.double().mean(0)
    if likelihood == "bernoulli":
        mean = mean.clamp(1e-6, 1 - 1e-6)
        test = test.double()
        return float((test * mean.log() + (1 - test) * (1 - mean).log()).flatten(1).sum(1).mean())
    variance = float((train.double() - mean).square().mean())
    residual = (test.double() - mean).square().flatten(1)
    return float((-0.5 * residual / variance - 0.5 * math.log(2 * math.pi * variance)).sum(1).mean())
