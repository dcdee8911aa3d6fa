"""SSIM, KID, precision and recall, neighbours, paths, importance sampling: known answers and slow loops."""

import math

import numpy as np
import pytest
import torch

from bvae.evaluation import measures, protocol
from bvae.evaluation.draws import lerp, slerp
from bvae.evaluation.measures import (
    ball_radii,
    frechet_distance,
    gaussian_statistics,
    importance_sweep,
    kernel_distance,
    latent_trustworthiness,
    neighbour_accuracy,
    path_ratio,
    precision_recall,
    ssim,
)
from bvae.evaluation.references import compare, real_features
from helpers.small import float64s


def pictures(*shape: int, seed: int) -> torch.Tensor:
    """Uniform pixels in [0, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- SSIM -----------------------------------------------------------------------------------------------------------


def test_ssim_of_an_image_with_itself_is_one_and_it_is_symmetric():
    x, y = pictures(4, 3, 16, 16, seed=0), pictures(4, 3, 16, 16, seed=1)
    assert ssim(x, x).tolist() == pytest.approx([1.0] * 4, abs=1e-12)
    torch.testing.assert_close(ssim(x, y), ssim(y, x), rtol=0, atol=1e-14)
    assert float(ssim(x, y).max()) < 0.2


def test_ssim_of_flat_images_is_their_luminance():
    x, y = torch.full((1, 1, 12, 12), 0.2), torch.full((1, 1, 12, 12), 0.8)
    wanted = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert float(ssim(x, y)) == pytest.approx(wanted, rel=1e-6)
    checks = (torch.arange(12)[:, None] + torch.arange(12)).remainder(2).float()[None, None]
    assert float(ssim(checks, 1 - checks)) < -0.98  # inverted: means are the same, the covariance is negative


# --- KID ------------------------------------------------------------------------------------------------------------


def mmd_by_loops(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate of the squared MMD with the kernel (x.y / d + 1)³."""
    n, d = x.shape

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / d + 1) ** 3

    pairs = [(i, j) for i in range(n) for j in range(n)]
    within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs if i != j) / (n * (n - 1))
    return within - 2 * sum(kernel(x[i], y[j]) for i, j in pairs) / n**2


def test_kid_is_the_unbiased_mmd_by_loops(monkeypatch, place):
    monkeypatch.setattr(protocol, "KID_SUBSETS", 1)
    monkeypatch.setattr(protocol, "KID_SUBSET_SIZE", 40)
    x, y = float64s(40, 5, seed=0), 0.5 + 1.3 * float64s(40, 5, seed=1)
    mean, spread = kernel_distance(x.to(place), y.to(place))
    assert mean == pytest.approx(mmd_by_loops(x.numpy(), y.numpy()), rel=1e-10)
    assert mean > 0.1 and spread == 0
    assert kernel_distance(y.to(place), x.to(place))[0] == pytest.approx(mean, rel=1e-10)


def test_kid_of_two_halves_of_one_distribution_is_about_zero(monkeypatch):
    """Unbiased: over independent pairs of halves its mean is 0 within its error, with values of both signs."""
    monkeypatch.setattr(protocol, "KID_SUBSETS", 1)
    monkeypatch.setattr(protocol, "KID_SUBSET_SIZE", 60)
    found = np.array([kernel_distance(*float64s(2, 60, 4, seed=seed))[0] for seed in range(300)])
    assert found.min() < 0 < found.max()
    assert abs(found.mean()) < 4 * found.std(ddof=1) / math.sqrt(300)
    other = kernel_distance(float64s(60, 4, seed=0), 1 + float64s(60, 4, seed=1))[0]
    assert other > 10 * found.std()


def test_kid_averages_its_subsets(monkeypatch):
    """Subsets of 30 of 90: their mean is near the estimate from all 90, which has the same expectation."""
    x, y = float64s(90, 4, seed=0), 0.7 + float64s(90, 4, seed=1)
    monkeypatch.setattr(protocol, "KID_SUBSET_SIZE", 90)
    monkeypatch.setattr(protocol, "KID_SUBSETS", 1)
    whole, _ = kernel_distance(x, y)
    monkeypatch.setattr(protocol, "KID_SUBSET_SIZE", 30)
    monkeypatch.setattr(protocol, "KID_SUBSETS", 400)
    mean, spread = kernel_distance(x, y)
    assert spread > 0 and abs(mean - whole) < 5 * spread / math.sqrt(400)
    assert kernel_distance(x, y) == (mean, spread)  # the same subsets each time


def test_kid_needs_a_whole_subset(monkeypatch):
    assert protocol.KID_SUBSET_SIZE == 1_000
    enough, few = float64s(1_000, 2, seed=0), float64s(999, 2, seed=1)
    assert kernel_distance(few, enough) is None
    assert kernel_distance(enough, few) is None
    assert set(compare(few[:50], real_features(enough[:50]))) == {"fd", "precision", "recall"}
    monkeypatch.setattr(protocol, "KID_SUBSETS", 2)
    assert kernel_distance(enough, enough) is not None
    assert set(compare(enough, real_features(enough))) == {"fd", "kid", "kid_spread", "precision", "recall"}


# --- precision and recall -------------------------------------------------------------------------------------------


def share_inside(points: np.ndarray, centres: np.ndarray) -> float:
    """Share of points within some centre's distance to its third nearest other centre."""
    inside = 0
    for point in points:
        for i, centre in enumerate(centres):
            others = sorted(math.dist(centre, other) for j, other in enumerate(centres) if j != i)
            if math.dist(point, centre) <= others[2]:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_are_those_of_loops(seed, place, monkeypatch):
    monkeypatch.setattr(measures, "GPU_DISTANCE_ROWS", 7)
    generated, real = 1.8 + float64s(40, 2, seed=seed), float64s(35, 2, seed=seed + 10)
    generated, real = generated.float(), real.float()
    wanted = share_inside(generated.numpy(), real.numpy()), share_inside(real.numpy(), generated.numpy())
    generated, real = generated.to(place), real.to(place)
    precision, recall = precision_recall(generated, real)
    assert (precision, recall) == pytest.approx(wanted, abs=1e-6)
    assert 0 < precision < 1 and 0 < recall < 1 and precision != recall  # no way to swap them unseen
    assert precision_recall(real, generated) == (recall, precision)


def test_precision_and_recall_of_the_same_and_of_distant_sets(place):
    points = float64s(40, 2, seed=0).to(place)
    assert precision_recall(points, points.clone()) == (1, 1)
    assert precision_recall(points, points + 1_000) == (0, 0)


def test_a_generator_of_one_mode_has_precision_without_recall():
    mode, other = 0.1 * float64s(50, 2, seed=0), 100 + 0.1 * float64s(50, 2, seed=1)
    precision, recall = precision_recall(0.05 * float64s(50, 2, seed=2), torch.cat([mode, other]))
    assert precision == 1 and recall < 0.5


# --- neighbours -----------------------------------------------------------------------------------------------------


def test_radii_of_points_on_a_line(place):
    """0, 1, 3, 7, 15 and far from zero, where float32 would have no digit left for |x|² + |y|² - 2 x·y."""
    points = torch.tensor([[0.0], [1], [3], [7], [15]], dtype=torch.float64, device=place) + 1e6
    assert ball_radii(points).tolist() == pytest.approx([7, 6, 4, 7, 14], rel=1e-3)


def test_the_functions_of_a_gpu_agree_with_those_of_the_cpu(monkeypatch):
    """Fréchet distance, KID and radii to a relative 1e-9, 1e-9 and 1e-6 (radii are float32); shares are equal."""
    monkeypatch.setattr(protocol, "KID_SUBSETS", 3)
    scales = torch.logspace(0, -4, 48)  # some features vary ten thousand times less than others
    generated, real = (5 + float64s(1_100, 48, seed=seed).float() * scales for seed in (0, 1))
    generated[:, 0] += 0.3
    labels = (real[:, 1] > 5).long().numpy()

    def measured() -> tuple:
        statistics = gaussian_statistics(generated), gaussian_statistics(real)
        shares = precision_recall(generated, real), neighbour_accuracy(real, labels, generated, labels)
        return frechet_distance(*statistics), kernel_distance(generated, real), ball_radii(real), shares

    distance, kernel, radii, shares = measured()
    monkeypatch.setattr(measures, "by_torch", lambda features: True)
    assert isinstance(gaussian_statistics(real)[0], torch.Tensor)
    by_torch = measured()
    assert by_torch[0] == pytest.approx(distance, rel=1e-9) and distance > 0.01
    assert by_torch[1] == pytest.approx(kernel, rel=1e-9)
    torch.testing.assert_close(by_torch[2], radii, rtol=1e-6, atol=0)
    assert by_torch[3] == shares
    assert 0 < shares[0][0] < 1 and 0.3 < shares[1] < 0.7


def test_neighbours_of_separated_clusters_are_perfect(place):
    labels, test_labels = np.arange(200) % 5, np.arange(100) % 5
    centres = 100 * torch.eye(5, dtype=torch.float64)
    train = (centres[labels] + float64s(200, 5, seed=0)).to(place)
    test = (centres[test_labels] + float64s(100, 5, seed=1)).to(place)
    assert neighbour_accuracy(train, labels, test, test_labels) == 1.0
    assert neighbour_accuracy(train, labels, test, (test_labels + 1) % 5) == 0.0


def test_neighbours_of_shuffled_labels_are_at_chance():
    rng = np.random.default_rng(0)
    train, test = float64s(1_000, 4, seed=0), float64s(2_000, 4, seed=1)
    found = neighbour_accuracy(train, rng.integers(4, size=1_000), test, rng.integers(4, size=2_000))
    assert abs(found - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 2_000)


def test_neighbour_accuracy_is_that_of_a_loop(place, monkeypatch):
    """The most frequent label of the 10 nearest; of labels equally frequent the smallest."""
    rng = np.random.default_rng(1)
    labels, test_labels = rng.integers(3, size=60), rng.integers(3, size=80)
    centres = rng.normal(size=(3, 3))
    train, test = centres[labels] + rng.normal(size=(60, 3)), centres[test_labels] + rng.normal(size=(80, 3))
    found, ties = [], 0
    for point in test:
        nearest = sorted(range(60), key=lambda i: math.dist(train[i], point))[:10]
        votes = [sum(labels[i] == k for i in nearest) for k in range(3)]
        ties += votes.count(max(votes)) > 1
        found.append(votes.index(max(votes)))
    share = np.mean(found == test_labels)
    assert ties > 0 and 0.4 < share < 0.95
    monkeypatch.setattr(measures, "GPU_DISTANCE_ROWS", 33)
    train, test = (torch.from_numpy(features).to(place) for features in (train, test))
    assert neighbour_accuracy(train, labels, test, test_labels) == pytest.approx(share)
    assert neighbour_accuracy(train, labels, test, np.array(found)) == 1.0  # vote for vote


def test_trustworthiness_of_an_isometry_is_one():
    points = float64s(100, 6, seed=0).numpy()
    turn = np.linalg.qr(float64s(6, 6, seed=1).numpy())[0]
    assert latent_trustworthiness(points, points @ turn) == pytest.approx(1, abs=1e-12)
    assert latent_trustworthiness(points, 7 * points + 3) == pytest.approx(1, abs=1e-12)


def test_trustworthiness_of_random_latents_is_a_half():
    found = [
        latent_trustworthiness(float64s(400, 6, seed=seed).numpy(), float64s(400, 3, seed=seed + 50).numpy())
        for seed in range(3)
    ]
    assert found == pytest.approx([0.5] * 3, abs=0.03)


def test_trustworthiness_is_that_of_its_definition():
    """1 - 2 / (n k (2n - 3k - 1)) times the sum, over intruders among the k nearest, of their rank's excess over k."""
    images = float64s(50, 4, seed=0).numpy()
    latents = images[:, :2]
    excess, n, k = 0, 50, 12  # neighbours
    for i in range(n):
        order = sorted((j for j in range(n) if j != i), key=lambda j, i=i: math.dist(images[i], images[j]))
        nearest = sorted((j for j in range(n) if j != i), key=lambda j, i=i: math.dist(latents[i], latents[j]))[:k]
        excess += sum(max(order.index(j) + 1 - k, 0) for j in nearest)
    wanted = 1 - 2 * excess / (n * k * (2 * n - 3 * k - 1))
    assert latent_trustworthiness(images, latents) == pytest.approx(wanted, rel=1e-12)
    assert latent_trustworthiness(latents, images) != pytest.approx(wanted, abs=1e-3)  # not symmetric
    assert 0 <= latent_trustworthiness(images[:9], latents[:9]) <= 1  # fewer neighbours where there are few images


# --- paths ----------------------------------------------------------------------------------------------------------


def test_path_ratio_of_lines_and_semicircles():
    ends = float64s(2, 5, 7, seed=0)
    uneven = torch.tensor([0, 0.1, 0.15, 0.7, 1], dtype=torch.float64)[:, None]
    lines = ends[0][:, None] + uneven * (ends[1] - ends[0])[:, None]
    assert path_ratio(lines) == pytest.approx(1, rel=1e-12)
    angles = torch.linspace(0, math.pi, 2_001, dtype=torch.float64)
    semicircle = torch.stack([angles.cos(), angles.sin()], 1)[None]
    assert path_ratio(3 * semicircle) == pytest.approx(math.pi / 2, rel=1e-6)
    corner = torch.tensor([[[0.0, 0], [3, 0], [3, 4]]])
    assert path_ratio(corner) == pytest.approx(7 / 5)
    assert path_ratio(torch.cat([corner, torch.tensor([[[0.0, 0], [1, 0], [2, 0]]])])) == pytest.approx(1.2)


def test_lerp_and_slerp_end_where_they_should():
    first, second = float64s(2, 50, 4, seed=0)
    for way in (lerp, slerp):
        torch.testing.assert_close(way(first, second, 0.0), first, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(way(first, second, 1.0), second, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lerp(first, second, 0.25), 0.75 * first + 0.25 * second)


def test_slerp_between_orthogonal_and_between_unit_vectors():
    first, second = torch.eye(3, dtype=torch.float64)[:2]
    torch.testing.assert_close(slerp(first[None], second[None], 0.5)[0], (first + second) / math.sqrt(2))
    a, b = torch.nn.functional.normalize(float64s(2, 100, 4, seed=1), dim=2)
    whole = torch.acos((a * b).sum(1))
    for t in (0.1, 0.5, 0.8):
        found = slerp(a, b, t)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(100, dtype=torch.float64))
        torch.testing.assert_close(torch.acos((found * a).sum(1)), t * whole)  # at a constant pace


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [2.0, 1.0, -0.5, 1 / 3, -1 / 3])
def test_slerp_of_parallel_vectors_is_straight(dtype, factor):
    """Opposite vectors too, whose arc is not defined; also where rounding leaves them not quite parallel."""
    first = float64s(2_000, 3, seed=2).to(dtype)
    second = (factor * first.double()).to(dtype)
    for t in (0.0, 0.3, 0.5, 1.0):
        torch.testing.assert_close(slerp(first, second, t), lerp(first, second, t), rtol=1e-4, atol=1e-5)
    assert slerp(first, second, 0.5).dtype == dtype


# --- importance sampling --------------------------------------------------------------------------------------------


def test_constant_weights_are_the_answer_with_every_sample():
    log_weights = torch.full((64, 9), -123.4, dtype=torch.float64)
    found = importance_sweep(log_weights, (1, 4, 64))
    assert [found[f"nll_k{k}"] for k in (1, 4, 64)] == pytest.approx([123.4] * 3, rel=1e-12)
    assert found["effective_sample_size_median"] == pytest.approx(64, rel=1e-9)
    assert found["effective_sample_size_low"] == pytest.approx(64, rel=1e-9)


def test_one_dominant_weight_is_one_effective_sample():
    log_weights = float64s(64, 9, seed=0)
    log_weights[17] = 60
    found = importance_sweep(log_weights, (16, 64))
    assert found["effective_sample_size_median"] == pytest.approx(1, rel=1e-6)
    assert found["effective_sample_size_low"] == pytest.approx(1, rel=1e-6)
    assert found["nll_k64"] == pytest.approx(math.log(64) - 60, rel=1e-6)


def test_importance_sweep_is_that_of_loops_and_does_not_overflow():
    log_weights = 2 * float64s(50, 7, seed=1)
    found = importance_sweep(log_weights, (1, 10, 50))
    w = np.exp(log_weights.numpy())
    for k in (1, 10, 50):
        wanted = -np.mean([math.log(sum(w[i, n] for i in range(k)) / k) for n in range(7)])
        assert found[f"nll_k{k}"] == pytest.approx(wanted, rel=1e-10)
    sizes = sorted(sum(column) ** 2 / sum(x * x for x in column) for column in w.T)
    assert found["effective_sample_size_median"] == pytest.approx(sizes[3], rel=1e-10)
    low = sizes[0] + 0.3 * (sizes[1] - sizes[0])  # 5 % of the way along 7 values, 6 gaps
    assert found["effective_sample_size_low"] == pytest.approx(low, rel=1e-10)
    shifted = importance_sweep(log_weights - 5_000, (50,))  # e^-5000 is 0 in float64
    assert shifted["nll_k50"] == pytest.approx(found["nll_k50"] + 5_000, rel=1e-12)
    assert shifted["effective_sample_size_median"] == pytest.approx(sizes[3], rel=1e-8)


def test_the_bound_falls_with_more_samples_to_the_truth():
    """ln w ~ N(-s²/2, s²) has E[w] = 1: the truth is 0, the bound at one sample s²/2."""
    log_weights = 1.5 * float64s(1_000, 2_000, seed=2) - 1.125
    found = importance_sweep(log_weights, (1, 10, 100, 1_000))
    values = [found[f"nll_k{k}"] for k in (1, 10, 100, 1_000)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1.125, abs=4 * 1.5 / math.sqrt(2_000))
    assert values[-1] == pytest.approx(0, abs=0.02)
