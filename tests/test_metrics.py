"""Metrics, features and references against oracles: planted answers, closed forms, independent implementations."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch

from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.extractors import EXTRACTORS, Weights
from bvae.evaluation.extractors._small_classifier import SmallClassifier
from bvae.evaluation.extractors.classifier import features_for
from bvae.evaluation.extractors.inception import fetch_weights
from bvae.evaluation.measures import (
    active_units,
    frechet_distance,
    gaussian_statistics,
    mean_image_log_likelihood,
    mse_per_pixel,
    psnr,
    side_by_side,
)
from bvae.evaluation.probes import linear_probe, majority_baseline
from bvae.evaluation.references import (
    compare,
    extract,
    load_reference,
    make_reference,
    reference_test_images,
    save_reference,
)
from bvae.report.footnotes import on_features, on_nll
from bvae.system.files import write_tensors
from helpers.checkouts import ROOT
from helpers.small import make_dataset

CPU = torch.device("cpu")


# --- reconstruction, latents ----------------------------------------------------------------------------------------


def test_a_constant_offset_of_a_tenth_is_20_db():
    images = torch.linspace(0, 0.9, 2 * 3 * 16, dtype=torch.float64).view(2, 3, 4, 4)
    torch.testing.assert_close(mse_per_pixel(images, images + 0.1), torch.full((2,), 0.01, dtype=torch.float64))
    torch.testing.assert_close(psnr(images, images + 0.1), torch.full((2,), 20.0, dtype=torch.float64))


def test_each_image_has_its_own_error():
    images = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    shown = images.clone()
    shown[0, 0, 0, 0], shown[1] = 1.0, 1.0
    assert mse_per_pixel(images, shown).tolist() == [0.25, 1.0]
    assert psnr(images, shown).tolist() == pytest.approx([10 * math.log10(4), 0.0])
    assert psnr(images, images).tolist() == [math.inf, math.inf]


def test_planted_active_units_are_counted():
    rng = torch.Generator().manual_seed(0)
    spread = torch.tensor([1.0, 0.02, 0.5, 0.0, 0.09, 0.2, 0.05, 0.0, 0.01, 0.03])  # 0.1 is the threshold's
    means = torch.randn(5_000, 10, generator=rng) * spread + 100  # a mean far from 0 is no activity
    assert active_units(means) == 3


def test_active_unit_threshold_is_on_the_variance():
    column = torch.tensor([1.0, -1.0] * 500)
    variance = column.var().item()
    means = torch.stack([column * math.sqrt(0.0101 / variance), column * math.sqrt(0.0099 / variance)], 1)
    assert active_units(means) == 1


# --- Fréchet distance -----------------------------------------------------------------------------------------------


def spread(rng: np.random.Generator, d: int) -> np.ndarray:
    """A random covariance (d, d)."""
    root = rng.normal(size=(d, d))
    return root @ root.T / d


def reference_distance(first: tuple, second: tuple) -> float:
    (m1, c1), (m2, c2) = first, second
    return float(np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real))


def test_frechet_distance_of_diagonal_gaussians():
    rng = np.random.default_rng(0)
    s, t, m1, m2 = rng.uniform(0.1, 4, 6), rng.uniform(0.1, 4, 6), rng.normal(size=6), rng.normal(size=6)
    wanted = np.sum((np.sqrt(s) - np.sqrt(t)) ** 2) + np.sum((m1 - m2) ** 2)
    assert frechet_distance((m1, np.diag(s)), (m2, np.diag(t))) == pytest.approx(wanted, rel=1e-10)


def test_frechet_distance_of_commuting_covariances():
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    s, t, zero = rng.uniform(0.1, 4, 6), rng.uniform(0.1, 4, 6), np.zeros(6)
    first, second = (basis @ np.diag(values) @ basis.T for values in (s, t))
    wanted = np.sum((np.sqrt(s) - np.sqrt(t)) ** 2)
    assert frechet_distance((zero, first), (zero, second)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("d", [2, 8, 32])
def test_frechet_distance_is_that_of_scipy(d):
    rng = np.random.default_rng(d)
    first, second = ((rng.normal(size=d), spread(rng, d)) for _ in range(2))
    wanted = reference_distance(first, second)
    assert frechet_distance(first, second) == pytest.approx(wanted, rel=1e-10)
    tensors = (tuple(map(torch.from_numpy, statistics)) for statistics in (first, second))
    assert frechet_distance(*tensors) == pytest.approx(wanted, rel=1e-10)


def test_frechet_distance_is_symmetric_rotation_invariant_and_zero_to_itself():
    rng = np.random.default_rng(2)
    first, second = ((rng.normal(size=8), spread(rng, 8)) for _ in range(2))
    distance = frechet_distance(first, second)
    assert frechet_distance(second, first) == pytest.approx(distance, rel=1e-8)
    basis = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    turned = [(basis @ mean, basis @ covariance @ basis.T) for mean, covariance in (first, second)]
    assert frechet_distance(*turned) == pytest.approx(distance, rel=1e-8)
    assert abs(frechet_distance(first, first)) < 1e-6 * np.trace(first[1])


def test_statistics_are_mean_and_sample_covariance(place):
    torch.manual_seed(0)
    found = torch.randn(40, 5)
    mean, covariance = (torch.as_tensor(array).cpu().numpy() for array in gaussian_statistics(found.to(place)))
    centred = found.double() - found.double().mean(0)
    np.testing.assert_allclose(mean, found.double().mean(0).numpy(), rtol=1e-12)
    np.testing.assert_allclose(covariance, (centred.T @ centred / 39).numpy(), rtol=1e-10, atol=1e-14)
    assert (mean.dtype, covariance.dtype) == (np.float64, np.float64)


def test_frechet_distance_of_fewer_images_than_features(place):
    """tr (S1 S2)^½ is the nuclear norm of X1 X2ᵀ / sqrt((n1 - 1)(n2 - 1)), also where the covariances are singular."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(12, 30)), 0.5 + 1.5 * rng.normal(size=(15, 30))
    nuclear = np.linalg.norm((a - a.mean(0)) @ (b - b.mean(0)).T, "nuc") / math.sqrt(11 * 14)
    traces = a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum()
    wanted = np.sum((a.mean(0) - b.mean(0)) ** 2) + traces - 2 * nuclear
    found = frechet_distance(*(gaussian_statistics(torch.from_numpy(x).to(place)) for x in (a, b)))
    assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("n", [150, 600])
def test_frechet_distance_of_two_draws_of_one_distribution_falls_as_one_over_n(n):
    """Of N(0, I) in d dimensions: 2d/n from the means, (d² + d)/(2n) from the covariances, and less than that is left.

    The covariances differ by a symmetric E of mean tr E² = 2 (d² + d)/n; tr(C1 + C2 - 2 (C1 C2)^½) is tr E²/4 for a
    small E.
    """
    d, rng = 4, np.random.default_rng(n)
    found = []
    for _ in range(1_000):
        first, second = (gaussian_statistics(torch.from_numpy(rng.normal(size=(n, d)))) for _ in range(2))
        found.append(n * frechet_distance(first, second))
    wanted = 2 * d + (d**2 + d) / 2  # 18
    error = np.std(found, ddof=1) / math.sqrt(1_000)
    assert abs(np.mean(found) - wanted) < 5 * error < 0.08 * wanted


LOADS_LATE = """
import torch; torch.set_num_threads(2)
from threadpoolctl import threadpool_info
from bvae.evaluation.measures import side_by_side
def cores(_):
    import scipy.linalg, sklearn.mixture
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
print(*side_by_side(cores, [0])[0])
"""


def test_linear_algebra_that_a_fit_loads_has_one_core_too():
    """In a process of its own, because here it is loaded. SciPy can have another library than NumPy."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", LOADS_LATE], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert {*done.stdout.split()} == {"1"}, done.stderr


def test_side_by_side_is_map_with_one_core_for_each():
    torch.set_num_threads(3)
    found = side_by_side(lambda x: (x * x, torch.get_num_threads()), range(7))
    assert found == [(x * x, 1) for x in range(7)]
    assert torch.get_num_threads() == 3
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda x: 1 / x, [1, 0])
    assert torch.get_num_threads() == 3


# --- the linear probe -----------------------------------------------------------------------------------------------


def blobs(n: int, classes: int, d: int, distance: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping Gaussian classes (n, d) around centres of their own, and the labels (n,)."""
    rng = np.random.default_rng(seed)
    centres = distance * np.random.default_rng(99).normal(size=(classes, d))
    labels = rng.integers(classes, size=n)
    return centres[labels] + rng.normal(size=(n, d)), labels


def test_probe_of_one_hot_features_is_perfect():
    train, test = np.arange(300) % 10, np.arange(200) % 10
    found = linear_probe(np.eye(10)[train], train, np.eye(10)[test], test, identity="oracle")
    assert found["accuracy"] == 1.0
    assert found["c"] in protocol.PROBE_STRENGTHS


def test_probe_of_shuffled_labels_is_at_chance():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(1_000, 6)), rng.normal(size=(4_000, 6))
    labels, test_labels = rng.integers(10, size=1_000), rng.integers(10, size=4_000)
    found = linear_probe(train, labels, test, test_labels, identity="oracle")
    assert abs(found["accuracy"] - 0.1) < 5 * math.sqrt(0.1 * 0.9 / 4_000)


def test_probe_never_sees_test_labels_when_it_chooses():
    (train, labels), (test, test_labels) = blobs(200, 3, 8, 0.5, seed=0), blobs(200, 3, 8, 0.5, seed=1)
    found = linear_probe(train, labels, test, test_labels, identity="oracle")
    flipped = linear_probe(train, labels, test, (test_labels + 1) % 3, identity="oracle")
    elsewhere = linear_probe(train, labels, test[::-1] * 7 - 3, test_labels, identity="oracle")
    assert flipped["c"] == elsewhere["c"] == found["c"]
    assert flipped["accuracy"] != found["accuracy"]


def test_probe_chooses_the_strength_that_is_best_on_held_out_images():
    """In 60 dimensions 90 images overfit: a search by hand over the same held-out images finds the same C."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from bvae.system.seeds import derive_seed

    train, labels = blobs(90, 3, 60, 0.15, seed=0)
    order = np.random.default_rng(derive_seed("oracle", "probe validation")).permutation(90)
    held, rest = order[:15], order[15:]
    scores = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
        .fit(train[rest], labels[rest])
        .score(train[held], labels[held])
        for c in protocol.PROBE_STRENGTHS
    ]
    assert len(set(scores)) > 1
    found = linear_probe(train, labels, train, labels, identity="oracle")
    assert found["c"] == protocol.PROBE_STRENGTHS[int(np.argmax(scores))]


def test_probe_does_not_depend_on_the_scale_of_each_latent():
    """Latents that a VAE hardly uses are a hundred times smaller than others, and still tell the class."""
    (train, labels), (test, test_labels) = blobs(2_000, 4, 8, 0.8, seed=0), blobs(4_000, 4, 8, 0.8, seed=1)
    found = linear_probe(train, labels, test, test_labels, identity="oracle")
    scales, shift = np.array([1, 1, 1, 1e-2, 1e-2, 1e-2, 1e-3, 1e-3]), 5.0
    assert linear_probe(train * scales + shift, labels, test * scales + shift, test_labels, identity="oracle") == found
    # and it is as good as it can be: of Gaussian classes of equal covariance, the likeliest is the best answer
    centres = 0.8 * np.random.default_rng(99).normal(size=(4, 8))
    likeliest = np.square(test[:, None] - centres).sum(2).argmin(1)
    assert found["accuracy"] > np.mean(likeliest == test_labels) - 0.01


def test_probe_of_attributes_is_a_mean_of_balanced_accuracies():
    rng = np.random.default_rng(0)
    seen, rare = rng.integers(2, size=1_200), (rng.random(1_200) < 0.1).astype(int)
    x = np.column_stack([2.0 * seen - 1, rng.normal(size=1_200)])  # says all of `seen`, nothing of `rare`
    attributes = np.column_stack([seen, rare, np.ones(1_200, int)])  # the third is on in every image
    found = linear_probe(x[:600], attributes[:600], x[600:], attributes[600:], identity="oracle")
    # 1 for the first and 1 by its only value for the third; the second: about 0.5, where plain accuracy would be 0.9
    assert found["accuracy"] == pytest.approx((1 + 0.5 + 1) / 3, abs=0.05)
    alone = linear_probe(x[:600], attributes[:600, :1], x[600:], attributes[600:, :1], identity="oracle")
    assert alone["accuracy"] == 1.0


def test_probe_of_a_rare_attribute_weighs_both_values_the_same():
    """N(-1, 1) nine times in ten, N(1, 1) otherwise: the best balanced accuracy is that of the threshold 0, Phi(1)."""
    rng = np.random.default_rng(0)
    labels = (rng.random(8_000) < 0.1).astype(int)[:, None]
    x = 2.0 * labels - 1 + rng.normal(size=(8_000, 1))
    found = linear_probe(x[:4_000], labels[:4_000], x[4_000:], labels[4_000:], identity="oracle")
    rare = int(labels[4_000:].sum())
    wanted = 0.5 * (1 + math.erf(1 / math.sqrt(2)))  # 0.841; without equal weights about 0.67
    assert abs(found["accuracy"] - wanted) < 5 * 0.5 * math.sqrt(wanted * (1 - wanted) / rare)


def test_balanced_accuracy_of_one_attribute_by_hand():
    """Both values weigh the same, whatever their numbers: 30 of 40 and 1 of 5 right are (0.75 + 0.2) / 2."""
    train, labels = np.repeat([[-1.0], [1.0]], 60, axis=0), np.repeat([[0], [1]], 60, axis=0)
    test = np.array([-1.0] * 30 + [1.0] * 10 + [1.0] + [-1.0] * 4)[:, None]
    test_labels = np.array([0] * 40 + [1] * 5)[:, None]
    found = linear_probe(train, labels, test, test_labels, identity="oracle")
    assert found["accuracy"] == pytest.approx(0.5 * (30 / 40 + 1 / 5), rel=1e-12)
    assert found["accuracy_per_attribute"] == [found["accuracy"]]
    assert found["unbalanced_accuracy"] == pytest.approx(31 / 45, rel=1e-12)


def test_majority_baseline_by_hand():
    assert majority_baseline(np.array([2, 0, 2, 1]), np.array([2, 2, 0, 1, 1])) == {"accuracy": 2 / 5}
    train = np.array([[1, 0], [1, 0], [0, 1]])  # the answers are on and off
    test = np.array([[1, 1], [1, 1], [1, 0], [0, 0]])
    found = majority_baseline(train, test)
    assert found == {"accuracy": 0.5, "accuracy_per_attribute": [0.5, 0.5], "unbalanced_accuracy": 5 / 8}


# --- the mean image -------------------------------------------------------------------------------------------------


def test_log_likelihood_of_the_mean_image_by_a_loop():
    rng = np.random.default_rng(0)
    train, test = rng.random((6, 1, 3, 3)), rng.random((4, 1, 3, 3))
    bernoulli = gaussian = 0.0
    variance = sum((train[i] - train.mean(0)) ** 2 for i in range(6)).mean() / 6
    for image in test:
        for x, p in zip(image.flat, train.mean(0).flat, strict=True):
            bernoulli += (x * math.log(p) + (1 - x) * math.log(1 - p)) / 4
            gaussian += (-((x - p) ** 2) / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)) / 4
    train, test = torch.from_numpy(train), torch.from_numpy(test)
    assert mean_image_log_likelihood(train, test, "bernoulli") == pytest.approx(bernoulli, rel=1e-12)
    assert mean_image_log_likelihood(train, test, "gaussian") == pytest.approx(gaussian, rel=1e-12)


def test_mean_image_of_pixels_that_are_never_on_is_finite():
    zeros = torch.zeros(4, 1, 3, 3)
    assert mean_image_log_likelihood(zeros, zeros, "bernoulli") == pytest.approx(9 * math.log(1 - 1e-6), rel=1e-6)


# --- features and references ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "wanted"), [(80, 8), (159, 8), (160, 16), (319, 16), (320, 32), (639, 32), (640, 64), (100_000, 64)]
)
def test_classifier_has_ten_images_for_each_feature(images, wanted):
    assert features_for(images) == wanted
    assert images / wanted >= 10


@pytest.mark.parametrize(
    ("extractor", "dataset", "reason"),
    [
        ("inception", {"n_train": 20, "n_test": 20, "size": 8}, "images of 8 pixels; fid needs 28"),
        ("inception", {"n_train": 20, "n_test": 2_048, "size": 28}, "2048 test images; fid needs 2049"),
        (
            "classifier",
            {"n_train": 20, "n_test": 79, "size": 8},
            "79 test images; distances over the classifier need 80",
        ),
        ("classifier", {"n_train": 20, "n_test": 80, "size": 8, "labels": False}, "no labels"),
    ],
)
def test_a_distance_that_means_nothing_says_why(extractor, dataset, reason):
    reference = make_reference(make_dataset(**dataset), extractor, CPU)
    assert reason in reference.why_empty
    assert (reference.features, reference.floor, reference.tensors) == (None, {}, {})


def test_inception_weights_that_are_missing_or_others_are_refused(tmp_path, monkeypatch):
    inception = EXTRACTORS["inception"]
    monkeypatch.setattr(inception, "weights", Weights(str(tmp_path / "nowhere.pth"), fetch_weights))
    with pytest.raises(InputError, match="nowhere.pth: no such file"):
        inception.load({}, {}, CPU)
    (tmp_path / "other.pth").write_bytes(b"other weights")
    monkeypatch.setattr(inception, "weights", Weights(str(tmp_path / "other.pth"), fetch_weights))
    with pytest.raises(InputError, match=f"(?s)other.pth.*{protocol.INCEPTION_SHA256}"):
        inception.load({}, {}, CPU)
    with pytest.raises(InputError, match="other.pth"):  # a data set that fid fits does ask for the weights
        make_reference(make_dataset(20, 2_049, size=28), "inception", CPU)


def test_inception_sees_grey_images_as_three_equal_channels(monkeypatch, tmp_path):
    class Spy(torch.nn.Module):
        def __init__(self, *_, **__):
            super().__init__()

        def forward(self, images):
            assert (images.dtype, images.shape[1:]) == (torch.uint8, (3, 8, 8))
            return (images.flatten(1).double(),)

    (tmp_path / "weights.pth").touch()
    monkeypatch.setattr(protocol, "INCEPTION_SHA256", "")
    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3", Spy)
    monkeypatch.setattr(EXTRACTORS["inception"], "weights", Weights(str(tmp_path / "weights.pth"), fetch_weights))
    network = EXTRACTORS["inception"].load({}, {}, CPU)
    grey = make_dataset(10, 60).test_images
    assert torch.equal(extract(network, grey, CPU), grey.flatten(1).repeat(1, 3).double())


def test_reference_is_of_the_test_images(fake, reference):
    assert (reference.images, reference.why_empty) == (100, None)
    assert reference.features.values.shape == (100, 8)  # 100 images: 8 features
    statistics = gaussian_statistics(reference.features.values)
    own = gaussian_statistics(extract(reference.network(CPU), fake.test_images, CPU))
    assert abs(frechet_distance(own, statistics)) < 1e-6 * np.trace(own[1])
    assert reference.facts["accuracy"] > 0.9  # each class has a pattern of its own
    drawn = gaussian_statistics(extract(reference.network(CPU), 255 - fake.test_images, CPU))
    assert frechet_distance(drawn, statistics) > 10 * reference.floor["fd"] > 0
    assert set(reference.floor) == {"fd", "precision", "recall"}  # no KID below 1,000 images


def test_the_floor_is_what_training_images_give(fake, reference):
    """100 of the 120 training images, in the place of generated ones."""
    from bvae.system.seeds import derive_seed

    generator = torch.Generator().manual_seed(derive_seed("fake", "floor images"))
    drawn = fake.train_images[torch.randperm(120, generator=generator)[:100]]
    assert compare(extract(reference.network(CPU), drawn, CPU), reference.features) == reference.floor


@pytest.mark.parametrize(
    ("metric", "inception", "classifier"),
    [
        ("fd", "fid", "fd_classifier"),
        ("kid", "kid", "kid_classifier"),
        ("kid_spread", "kid_spread", "kid_spread_classifier"),
        ("precision", "precision_inception", "precision_classifier"),
        ("recall", "recall_inception", "recall_classifier"),
    ],
)
def test_only_inception_gives_a_fid(metric, inception, classifier):
    assert EXTRACTORS["inception"].metric(metric) == inception
    assert EXTRACTORS["classifier"].metric(metric) == classifier


def test_a_reference_file_holds_all_of_it(fake, reference, tmp_path):
    save_reference(reference, tmp_path / "r.safetensors")
    loaded = load_reference(tmp_path / "r.safetensors")
    for key in ("extractor", "images", "floor", "why_empty", "dataset_sha256", "facts"):
        assert getattr(loaded, key) == getattr(reference, key), key
    assert all(map(torch.equal, loaded.features, reference.features))
    images = fake.test_images
    assert torch.equal(extract(loaded.network(CPU), images, CPU), extract(reference.network(CPU), images, CPU))
    empty = make_reference(fake, "inception", CPU)
    save_reference(empty, tmp_path / "e.safetensors")
    assert load_reference(tmp_path / "e.safetensors") == empty


def test_a_recorded_network_of_other_data_is_not_taken_whatever_its_number_of_images(fake, reference):
    made = make_reference(fake, "classifier", CPU, replace(reference, dataset_sha256="0" * 64, images=99))
    assert (made.dataset_sha256, made.images) == (fake.sha256, reference.images)
    assert made.identity != reference.identity  # trained for more steps


def test_a_reference_is_identified_by_its_network_and_images_and_not_by_rounded_features(fake, reference, tmp_path):
    save_reference(replace(reference, features=None), tmp_path / "network.safetensors")
    recorded = load_reference(tmp_path / "network.safetensors")
    again = make_reference(fake, "classifier", CPU, recorded)  # trained for more steps, were it trained
    assert recorded.identity == again.identity == reference.identity
    assert all(map(torch.equal, again.features, reference.features)) and again.floor == reference.floor
    name, weights = next(iter(reference.tensors.items()))
    others = [
        replace(reference, tensors={**reference.tensors, name: weights + 1e-6}),
        replace(reference, dataset_sha256="0" * 64),
        replace(reference, images=99),
        replace(reference, extractor="classifier2"),
    ]
    assert len({other.identity for other in (reference, *others)}) == 5


def test_the_recorded_network_of_other_images_is_not_taken(fake, reference, monkeypatch, caplog):
    monkeypatch.setattr(protocol, "CLASSIFIER_STEPS", 3)
    with caplog.at_level("WARNING"):
        made = make_reference(fake, "classifier", CPU, replace(reference, dataset_sha256="0" * 64))
    assert "other images than fake" in caplog.text and made.identity != reference.identity


def test_a_reference_of_another_version_is_refused(reference, tmp_path, monkeypatch):
    save_reference(reference, tmp_path / "r.safetensors")
    monkeypatch.setattr(EXTRACTORS["classifier"], "version", 99)
    with pytest.raises(InputError, match=r"r.safetensors: found version \d+ of classifier, wanted 99"):
        load_reference(tmp_path / "r.safetensors")


def test_a_reference_file_that_holds_statistics_is_refused(tmp_path):
    """Files of before there were features to compare: their `floor` was one number."""
    path = tmp_path / "old.safetensors"
    facts = {"extractor": "classifier", "images": 100, "floor": 0.5, "why_empty": None, "dataset_sha256": "0" * 64}
    facts |= {"classifier_accuracy": None, "classifier_shape": None}
    write_tensors(path, {"mean": torch.zeros(8), "covariance": torch.eye(8)}, form="bvae-reference-1", facts=facts)
    with pytest.raises(InputError, match="old.safetensors: found format 'bvae-reference-1'"):
        load_reference(path)


@pytest.mark.parametrize("size", [8, 28, 30, 32, 64])
def test_a_classifier_read_again_has_the_shape_it_was_saved_with(size):
    built = SmallClassifier(3, size, 10, 16)
    again = SmallClassifier(3, 4 * built.pool.output_size, 10, 16)
    again.load_state_dict(built.state_dict())
    images = torch.randint(256, (2, 3, size, size), dtype=torch.uint8)
    assert torch.equal(built.extract(images), again.extract(images))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
    ],
    ids=["missing", "truncated", "empty"],
)
def test_a_broken_reference_file_is_refused_by_name(reference, tmp_path, break_it, message):
    path = tmp_path / "r.safetensors"
    save_reference(reference, path)
    break_it(path)
    with pytest.raises(InputError, match=f"r.safetensors: {message}"):
        load_reference(path)


def test_distances_are_against_a_fixed_draw_of_many_test_images(monkeypatch, fake):
    assert torch.equal(reference_test_images(fake), fake.test_images)
    monkeypatch.setattr(protocol, "FRECHET_IMAGES", 30)
    drawn, again = reference_test_images(fake), reference_test_images(fake)
    assert torch.equal(drawn, again)
    places = [int((fake.test_images == image).flatten(1).all(1).nonzero()) for image in drawn]
    assert len(set(places)) == 30 and places != sorted(places)


# --- what a reader is told -------------------------------------------------------------------------------------------

ROW = {"dataset": "birds", "nll_samples": 50, "nll_images": 70, "test_images": 1_300, "nll_k1": 90.0}


@pytest.mark.parametrize(
    ("changes", "count", "differ", "same_images"),
    [
        ({}, "on 70 of the 1,300 test images", True, True),
        ({"nll_images": 1_300}, "on 1,300 test images", False, False),
        ({"test_images": 70}, "on 70 test images", False, False),
    ],
)
def test_the_images_of_the_likelihood_are_named_where_they_are_not_those_of_the_elbo(
    changes, count, differ, same_images
):
    [text] = on_nll([ROW | changes])
    assert f"K = 50 samples an image {count}" in text
    assert ("different images" in text, "nll_k1" in text) == (differ, same_images)


def test_the_elbo_of_the_images_of_the_likelihood_is_named_where_there_is_one():
    [text] = on_nll([ROW, {key: value for key, value in ROW.items() if key != "nll_k1"}])
    assert "different images" in text and "nll_k1" not in text
    assert on_nll([]) == []


def test_a_floor_that_there_is_not_is_said_to_be_missing():
    row = ROW | {"fd_classifier_images": 90, "fd_classifier_samples": 3.0}
    [with_floor], [without] = on_features([row | {"fd_classifier_floor": 1.0}]), on_features([row])
    assert "birds: no floor" in without and "no floor" not in with_floor
