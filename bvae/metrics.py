"""Metrics as functions of arrays. What each means, its unit and its source stand in its docstring."""

import math
from collections.abc import Sequence

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


def ssim(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Structural similarity of each image, (n,): Gaussian window 11x11, sigma 1.5, K1 .01, K2 .03, pixels in [0, 1].

    Mean over channels and over the places where the window lies inside the image. Wang et al., IEEE TIP 13(4), 2004.
    """
    channels = images.shape[1]
    offsets = torch.arange(protocol.SSIM_WINDOW, dtype=torch.float64, device=images.device) - protocol.SSIM_WINDOW // 2
    profile = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    profile = profile / profile.sum()
    window = torch.outer(profile, profile).expand(channels, 1, -1, -1)

    def blur(x: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x, window, groups=channels)

    x, y = images.double(), reconstructions.double()
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (similarity / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).flatten(1).mean(1)


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


def kernel_distance(generated: Tensor, real: Tensor) -> tuple[float, float] | None:
    """KID, the unbiased squared MMD with a cubic kernel over features (n, d), and its spread over subsets.

    Mean and standard deviation over 100 subsets of 1,000 images, by torch-fidelity; None below 1,000 images. It may be
    negative; the spread is neither one over seeds nor an error of the mean. Binkowski et al., arXiv 1801.01401.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    if min(len(generated), len(real)) < protocol.KID_SUBSET_SIZE:
        return None
    found = kid_features_to_metric(
        generated.double(),
        real.double(),
        kid_subsets=protocol.KID_SUBSETS,
        kid_subset_size=protocol.KID_SUBSET_SIZE,
        rng_seed=2020,
        verbose=False,
    )
    return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


def precision_recall(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """Precision and recall of generated images by the 3-nearest-neighbour balls of features (n, d), by torch-fidelity.

    Kynkäänniemi et al., arXiv 1904.06991: the share of generated images inside a ball of the real ones, and vice versa.
    """
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    found = prc_features_to_metric(
        generated.float(),
        real.float(),
        prc_neighborhood=protocol.PRECISION_NEIGHBOURS,
        prc_batch_size=10_000,
        save_cpu_ram=False,
        verbose=False,
    )
    return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]


def neighbour_accuracy(train: NDArray, train_labels: NDArray, test: NDArray, test_labels: NDArray) -> float:
    """Accuracy of the 10 nearest training features (n, d) for class labels (n,), by Euclidean distance."""
    from sklearn.neighbors import KNeighborsClassifier

    count = min(protocol.KNN_NEIGHBOURS, len(train))
    neighbours = KNeighborsClassifier(count, algorithm="brute").fit(train, train_labels)
    return float(neighbours.score(test, test_labels))


def latent_trustworthiness(images: NDArray, latents: NDArray) -> float:
    """How far neighbours in latent space are neighbours in pixel space too, in [0, 1], over 12 neighbours.

    `images` (n, d) and `latents` (n, k). Venna and Kaski, ICANN 2001; scikit-learn's.
    """
    from sklearn.manifold import trustworthiness

    neighbours = min(protocol.TRUSTWORTHINESS_NEIGHBOURS, (len(images) - 1) // 2)
    return float(trustworthiness(images, latents, n_neighbors=neighbours))


def path_ratio(paths: Tensor) -> float:
    """Length of decoded paths (n, steps, d) over the straight distance between their ends, mean over the n paths.

    1 is a straight fade from one image into the other; more is a detour through other images.
    """
    steps = (paths[:, 1:] - paths[:, :-1]).norm(dim=2).sum(1)
    return float((steps / (paths[:, -1] - paths[:, 0]).norm(dim=1).clamp_min(1e-12)).mean())


def importance_sweep(log_weights: Tensor, samples: Sequence[int]) -> dict[str, float]:
    """-ln p(x) in nats by importance sampling, from ln w (k, n), for the first K of the k samples, mean over n images.

    `nll_k<K>` = -mean[ln (1/K) sum w], in float64: an upper bound in expectation that falls with K (Burda et al.,
    arXiv 1509.00519). With it the effective sample size (sum w)² / sum w² at the largest K: median and 5 % quantile.
    """
    log_weights = log_weights.double()
    row = {f"nll_k{k}": float(-(log_weights[:k].logsumexp(0) - math.log(k)).mean()) for k in samples}
    sizes = torch.exp(2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0))
    quantiles = torch.quantile(sizes, torch.tensor([0.5, 0.05], dtype=torch.float64)).tolist()
    return row | {"effective_sample_size_median": quantiles[0], "effective_sample_size_low": quantiles[1]}


def linear_probe(
    train: NDArray, train_labels: NDArray, test: NDArray, test_labels: NDArray, *, identity: str
) -> dict[str, float | list[float]]:
    """Logistic regression on features (n, d) with class labels (n,), or 0/1 attributes (n, k), one probe each.

    The strength C is the one of PROBE_STRENGTHS with the best accuracy on held-out training images (drawn by a seed
    from `identity`); the probe is then fitted on all training images and scored once on the test images.

    Returns the chosen `c` and `accuracy`, in [0, 1]: for attributes the mean of their balanced accuracies, with
    `accuracy_per_attribute`, and `unbalanced_accuracy`, the plain share of right answers over all of them.
    """
    order = np.random.default_rng(derive_seed(identity, "probe validation")).permutation(len(train))
    held_out = min(protocol.PROBE_VALIDATION_IMAGES, len(train) // 6)
    validation, search = order[:held_out], order[held_out : held_out + protocol.PROBE_SEARCH_IMAGES]
    best_c, best_accuracy = protocol.PROBE_STRENGTHS[0], -1.0
    for c in protocol.PROBE_STRENGTHS:
        predicted = _fit_and_predict(train[search], train_labels[search], train[validation], c)
        accuracy = _scores(predicted, train_labels[validation])["accuracy"]
        if accuracy > best_accuracy:
            best_c, best_accuracy = c, accuracy
    return {"c": best_c} | _scores(_fit_and_predict(train, train_labels, test, best_c), test_labels)


def majority_baseline(train_labels: NDArray, test_labels: NDArray) -> dict[str, float | list[float]]:
    """What `linear_probe` returns as accuracy when the most frequent training label is the answer to every image."""
    if train_labels.ndim == 2:
        answer = (train_labels.mean(0) > 0.5).astype(test_labels.dtype)
    else:
        answer = np.bincount(train_labels).argmax()
    return _scores(np.broadcast_to(answer, test_labels.shape), test_labels)


def _fit_and_predict(train: NDArray, labels: NDArray, test: NDArray, c: float) -> NDArray:
    """Labels of `test` by probes of strength c; for attributes the classes are weighed equal."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if labels.ndim == 2:
        return np.stack([_fit_and_predict_attribute(train, column, test, c) for column in labels.T], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest strengths need no exact optimum
        return LogisticRegression(C=c, max_iter=1000).fit(train, labels).predict(test)


def _fit_and_predict_attribute(train: NDArray, labels: NDArray, test: NDArray, c: float) -> NDArray:
    from sklearn.linear_model import LogisticRegression

    if labels.min() == labels.max():  # an attribute that no training image shows, or all do
        return np.full(len(test), labels[0])
    return LogisticRegression(C=c, max_iter=1000, class_weight="balanced").fit(train, labels).predict(test)


def _scores(predicted: NDArray, labels: NDArray) -> dict[str, float | list[float]]:
    right = predicted == labels
    if labels.ndim == 1:
        return {"accuracy": float(right.mean())}
    balanced = [  # the mean over the values that are there of the share answered right
        float(np.mean([right[labels[:, k] == value, k].mean() for value in np.unique(labels[:, k])]))
        for k in range(labels.shape[1])
    ]
    return {
        "accuracy": float(np.mean(balanced)),
        "accuracy_per_attribute": balanced,
        "unbalanced_accuracy": float(right.mean()),
    }


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
