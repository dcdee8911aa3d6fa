"""What metrics are computed by: functions of arrays. What each means, its unit and its source: in its docstring.

Fréchet distance, KID, precision, recall and nearest neighbours run on the device of their features. On the CPU they use
NumPy and scikit-learn, as in all published studies, and their numbers stay the same to the last digit. On a GPU they
use matrix products of torch in float64. Both agree to rounding: tests/test_distances.py states how closely.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from bvae.evaluation import protocol
from bvae.system.batching import in_batches, on_card

Item = TypeVar("Item")
Found = TypeVar("Found")
Statistics = tuple[NDArray, NDArray] | tuple[Tensor, Tensor]  # mean (d,) and covariance (d, d), both in float64
DISTANCE_ROWS = 250  # at once on the CPU: their distances to 10,000 others stay in the cache
GPU_DISTANCE_ROWS = 1_000  # at once on a GPU: their distances to 60,000 others are 0.5 GB, held three times
ROUNDING_VARIANCE = 1 / 255**2 / 12  # of pixels in [0, 1] that are rounded to 256 levels


def side_by_side(function: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
    """`map` on as many threads as torch may use, with one core for each item.

    What scikit-learn and NumPy compute gains little from several cores, or loses by them: docs/performance.md.
    """
    import scipy.linalg  # noqa: F401 - a limit holds for the libraries that are loaded when it is set

    threads = torch.get_num_threads()

    def take_one_core() -> None:
        threadpool_limits(1)
        torch.set_num_threads(1)

    with threadpool_limits(1), ThreadPoolExecutor(threads, initializer=take_one_core) as pool:
        found = list(pool.map(function, items))
    torch.set_num_threads(threads)  # what later threads start with
    return found


def by_torch(features: Tensor) -> bool:
    """Whether torch computes the measures of these features: on a GPU it does, on the CPU NumPy and scikit-learn do."""
    return features.device.type != "cpu"


def mse_per_pixel(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Mean squared error of each image, (n,), over pixels and channels in [0, 1]."""
    return (images - reconstructions).square().flatten(1).mean(1)


def psnr(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, (n,): 10 log10(1 / MSE), for pixels in [0, 1].

    The mean of these is above the PSNR of the mean MSE (Jensen). An exact reconstruction has an infinite ratio.

    >>> psnr(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.1))
    tensor([20.])
    """
    return -10 * torch.log10(mse_per_pixel(images, reconstructions))


def ssim(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Structural similarity of each image, (n,): Gaussian window 11x11, sigma 1.5, K1 .01, K2 .03, pixels in [0, 1].

    Mean over channels and over the places where the window lies inside the image. Wang et al., IEEE TIP 13(4), 2004.
    """
    channels = images.shape[1]
    offsets = torch.arange(protocol.SSIM_WINDOW, dtype=torch.float64, device=images.device) - protocol.SSIM_WINDOW // 2
    profile = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    profile = (profile / profile.sum()).expand(channels, 1, 1, -1)

    def blur(x: Tensor) -> Tensor:
        rows = torch.nn.functional.conv2d(x, profile, groups=channels)
        return torch.nn.functional.conv2d(rows, profile.mT, groups=channels)

    x, y = images.double(), reconstructions.double()
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (similarity / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).flatten(1).mean(1)


def active_latents(means: Tensor) -> Tensor:
    """Which latents have a posterior mean that varies over the images by more than 0.01, (latent_dim,) of bool.

    `means` are (n, latent_dim), of at least two images. Burda, Grosse and Salakhutdinov, "Importance weighted
    autoencoders", arXiv 1509.00519, section 5.2.
    """
    return means.double().var(0, correction=1) > protocol.ACTIVE_UNIT_VARIANCE


def active_units(means: Tensor) -> int:
    """The number of `active_latents`."""
    return int(active_latents(means).sum())


@on_card()
def gaussian_statistics(features: Tensor) -> Statistics:
    """Mean (d,) and covariance (d, d) of features (n, d), in float64, over n - 1; by torch they are tensors."""
    if by_torch(features):
        return features.double().mean(0), torch.cov(features.double().T)
    values = features.double().numpy()
    return values.mean(0), np.cov(values, rowvar=False)


@on_card()
def frechet_distance(first: Statistics, second: Statistics) -> float:
    """Squared Fréchet distance between two Gaussians, each (mean, covariance): torch-fidelity's, without its import.

    |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½): Dowson and Landau 1982; Heusel et al., arXiv 1706.08500. The eigenvalues of
    C1 C2 are those of the symmetric C1^½ C2 C1^½, which are found faster. Both are arrays of NumPy or both are tensors
    on one device: NumPy and torch have the same functions.
    """
    mean: Any
    other_mean: Any
    (mean, covariance), (other_mean, other_covariance) = first, second
    library: Any = torch if isinstance(mean, Tensor) else np
    variances, axes = library.linalg.eigh(covariance)
    root = axes * library.sqrt(variances.clip(0)) @ axes.T
    eigenvalues = library.linalg.eigvalsh(root @ other_covariance @ root).clip(0)
    traces = library.trace(covariance) + library.trace(other_covariance) - 2 * library.sqrt(eigenvalues).sum()
    return float(library.square(mean - other_mean).sum() + traces)


@on_card()
def kernel_distance(generated: Tensor, real: Tensor) -> tuple[float, float] | None:
    """KID, the unbiased squared MMD with a cubic kernel over features (n, d), and its spread over subsets.

    Mean and standard deviation over 100 subsets of 1,000 images, the subsets of torch-fidelity; None below 1,000
    images. It may be negative; the spread is neither one over seeds nor an error of the mean. Computed in float64 on
    the device of the features. Binkowski et al., arXiv 1801.01401.
    """
    size = protocol.KID_SUBSET_SIZE
    if min(len(generated), len(real)) < size:
        return None
    sets = generated.double(), real.double()
    rng = np.random.RandomState(2020)  # torch-fidelity's

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        return (first @ second.T / first.shape[1] + 1) ** 3

    found = []
    for _ in range(protocol.KID_SUBSETS):
        x, y = (features[rng.choice(len(features), size, replace=False)] for features in sets)
        within = sum(k.sum() - k.trace() for k in (kernel(x, x), kernel(y, y))) / (size * (size - 1))
        found.append(float(within - 2 * kernel(x, y).mean()))
    return float(np.mean(found)), float(np.std(found))


def precision_recall(generated: Tensor, real: Tensor, real_radii: Tensor | None = None) -> tuple[float, float]:
    """Precision and recall of generated images by the 3-nearest-neighbour balls of features (n, d).

    Kynkäänniemi et al., arXiv 1904.06991: the share of generated images inside a ball of the real ones, and vice versa.
    As torch-fidelity's, but a distance from one to the other is computed once, and not all neighbours are sorted.
    `real_radii` are the `ball_radii` of the real features, where they are known.
    """
    generated, real = generated.float(), real.float()
    generated_radii, real_radii = ball_radii(generated), ball_radii(real) if real_radii is None else real_radii
    distances_of, rows = (distances_by_products, GPU_DISTANCE_ROWS) if by_torch(real) else (torch.cdist, DISTANCE_ROWS)

    def compare(some: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
        distances = distances_of(some, real)
        return (distances <= real_radii).any(1), (distances <= radii[:, None]).any(0)

    inside, reached = zip(*in_batches(compare, generated, generated_radii, size=rows), strict=True)
    return float(torch.cat(inside).double().mean()), float(torch.stack(reached).any(0).double().mean())


def ball_radii(features: Tensor) -> Tensor:
    """The distance of each of n features (n, d) to the third nearest of the others, (n,)."""
    count = protocol.PRECISION_NEIGHBOURS + 1  # itself is its nearest
    if by_torch(features):
        return nearest(features, features, count)[0][:, -1].to(features.dtype)
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(features)
    return torch.from_numpy(neighbours.kneighbors(features)[0][:, -1].copy()).to(features.dtype)


def neighbour_accuracy(train: Tensor, train_labels: NDArray, test: Tensor, test_labels: NDArray) -> float:
    """Accuracy of the 10 nearest training features (n, d) for class labels (n,), by Euclidean distance.

    The answer is the most frequent class among them; of classes that are equally frequent, the smallest.
    """
    count = min(protocol.KNN_NEIGHBOURS, len(train))
    if by_torch(train):
        labels = torch.from_numpy(train_labels).long().to(train.device)
        votes = F.one_hot(labels[nearest(test, train, count)[1]]).sum(1)  # (n, classes)
        return float((votes.argmax(1).cpu().numpy() == test_labels).mean())
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = KNeighborsClassifier(count, algorithm="brute").fit(train.numpy(), train_labels)
    return float(neighbours.score(test.numpy(), test_labels))


def nearest(queries: Tensor, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances and indices of the `count` nearest of points (m, d) to each query (n, d), nearest first, (n, count).

    Distances are Euclidean, in float64. The order of points at the same distance is not defined.
    """
    points = points.double()

    def nearest_of(some: Tensor) -> tuple[Tensor, Tensor]:
        distances, indices = distances_by_products(some, points).topk(count, largest=False)
        return distances, indices

    distances, indices = zip(*in_batches(nearest_of, queries, size=GPU_DISTANCE_ROWS), strict=True)
    return torch.cat(distances), torch.cat(indices)


def distances_by_products(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances (n, m) between features (n, d) and (m, d), by |x|² + |y|² - 2 x·y in float64.

    The difference of large terms costs digits: d² is exact to some 1e-15 (|x|² + |y|²), so that float32 would not do.
    """
    x, y = first.double(), second.double()
    return (x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T).clamp(0).sqrt()


def latent_trustworthiness(images: NDArray, latents: NDArray) -> float:
    """How far neighbours in latent space are neighbours in pixel space too, in [0, 1], over 12 neighbours.

    `images` (n, d) and `latents` (n, k). Venna and Kaski, ICANN 2001; scikit-learn's.
    """
    from sklearn.manifold import trustworthiness

    neighbours = min(protocol.TRUSTWORTHINESS_NEIGHBOURS, (len(images) - 1) // 2)
    return float(trustworthiness(images, latents, n_neighbors=neighbours))


def path_ratio(paths: Tensor) -> float | None:
    """Length of decoded paths (n, steps, d) over the straight distance between their ends, mean over the n paths.

    1 is a straight fade from one image into the other; more is a detour through other images. A path between two equal
    images has no ratio and is left out; None where there is no other.
    """
    steps = (paths[:, 1:] - paths[:, :-1]).norm(dim=2).sum(1)
    ends = (paths[:, -1] - paths[:, 0]).norm(dim=1)
    apart = ends > 1e-12
    return float((steps[apart] / ends[apart]).mean()) if apart.any() else None


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


def mean_image_log_likelihood(train: Tensor, test: Tensor, likelihood: str) -> float:
    """ln p(x) of the test images in nats per image under the mean training image: what a model must beat.

    Images are (n, c, h, w) in [0, 1]. `gaussian` uses the best constant sigma, that of the training residuals, but at
    least that of rounding to 256 levels: training images that are all the same have none.
    """
    mean = train.double().mean(0)
    if likelihood == "bernoulli":
        mean = mean.clamp(1e-6, 1 - 1e-6)
        test = test.double()
        return float((test * mean.log() + (1 - test) * (1 - mean).log()).flatten(1).sum(1).mean())
    variance = max(float((train.double() - mean).square().mean()), ROUNDING_VARIANCE)
    residual = (test.double() - mean).square().flatten(1)
    return float((-0.5 * residual / variance - 0.5 * math.log(2 * math.pi * variance)).sum(1).mean())
