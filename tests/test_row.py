"""The numbers of a run's row, each computed again in another way: on colour images, where no factor of 3 can hide."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from bvae.data import to_batch
from bvae.data.dataset import make
from bvae.evaluation import protocol, trained
from bvae.evaluation.controls import evaluate_controls
from bvae.evaluation.evaluate import evaluate_run
from bvae.evaluation.references import make_reference, reference_test_images
from bvae.evaluation.trained import classify, posterior_means
from bvae.runs import Run, load_run, train_run
from helpers.small import SETTINGS, make_dataset
from helpers.training_runs import CPU

SWEEP = {"samples": [1, 10], "images": 20}
GAUSSIAN = SETTINGS | {"likelihood": {"name": "gaussian", "learned": True}}


@pytest.fixture(scope="module")
def colour():
    return make_dataset(120, 40, channels=3, size=16)


@pytest.fixture(scope="module")
def runs(colour, tmp_path_factory):
    """Folder and row of two small trained runs, by arm."""
    found = {}
    for arm in ("bvae", "vae"):
        folder = tmp_path_factory.mktemp("runs") / arm
        assert train_run(Run("r", GAUSSIAN, colour.name, arm, 4, 0), colour, folder, device="cpu") == "finished"
        found[arm] = folder, evaluate_run(folder, colour, [], importance=SWEEP, device=CPU).row
    return found


def shown_by(model, dataset) -> np.ndarray:
    """The test images decoded from their posterior means, (n, c, h, w) in [0, 1]."""
    with torch.no_grad():
        return model.decode_mean(model.encode(to_batch(dataset.test_images))[0]).numpy()


@pytest.mark.parametrize("arm", ["bvae", "vae"])
def test_errors_are_of_images_from_the_posterior_mean(runs, colour, arm):
    folder, row = runs[arm]
    images, shown = colour.test_images.numpy() / 255, shown_by(load_run(folder)[0], colour)
    errors = np.square(images - shown).mean((1, 2, 3))
    assert row["mse_per_pixel"] == pytest.approx(errors.mean(), rel=1e-5)
    assert row["psnr"] == pytest.approx((-10 * np.log10(errors)).mean(), rel=1e-5)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    similarities = [
        structural_similarity(a, b, channel_axis=0, **settings)
        for a, b in zip(images, shown.astype(float), strict=True)
    ]
    assert row["ssim"] == pytest.approx(np.mean(similarities), abs=1e-5)


def test_backward_error_is_of_the_encoder_run_backward(runs, colour):
    """Of a BVAE that is the decoder. Of a VAE it is the decoder with the encoder's weights in place of its own."""
    _, row = runs["bvae"]
    assert row["backward_mse_per_pixel"] == row["mse_per_pixel"]
    folder, row = runs["vae"]
    model, _ = load_run(folder)
    with torch.no_grad():
        means = model.encode(to_batch(colour.test_images))[0]
        for mine, theirs in zip(model.decoder_weights.parameters(), model.encoder_weights.parameters(), strict=True):
            mine.copy_(theirs)
        backward = model.decode_mean(means).numpy()
    error = np.square(colour.test_images.numpy() / 255 - backward).mean()
    assert row["backward_mse_per_pixel"] == pytest.approx(error, rel=1e-5)
    assert row["backward_mse_per_pixel"] != pytest.approx(row["mse_per_pixel"], rel=1e-3)


def test_rates_and_sigma(runs):
    folder, row = runs["vae"]
    assert row["kl_bits_per_pixel"] == pytest.approx(row["kl"] / math.log(2) / (3 * 16 * 16), rel=1e-12)
    sigma = math.exp(load_run(folder)[0].likelihood.log_sigma.item())
    assert row["sigma"] == pytest.approx(sigma, rel=1e-6) and abs(sigma - 1) > 0.1


@pytest.mark.parametrize("binary", [False, True])
def test_only_black_and_white_pixels_are_binary(fake, tmp_path, binary):
    """A Bernoulli is a likelihood of these alone."""
    if binary:
        splits = {name: 255 * (getattr(fake, name) > 127).byte() for name in ("train_images", "test_images")}
        labels = {"train_labels": fake.train_labels, "test_labels": fake.test_labels, "classes": fake.classes}
        fake = make(name="fake", source="here", licence="none", **splits, **labels)
    train_run(Run("r", SETTINGS, "fake", "vae", 4, 0), fake, tmp_path, device="cpu")
    assert evaluate_run(tmp_path, fake, [], importance=SWEEP, device=CPU).row["binary_pixels"] is binary


def test_the_mean_image_is_that_of_training_and_its_error_that_of_test_images(colour):
    train, test = (images.numpy() / 255 for images in (colour.train_images, colour.test_images))
    wanted = np.square(test - train.mean(0)).mean()
    assert evaluate_controls(colour)["mean_image_mse_per_pixel"] == pytest.approx(wanted, rel=1e-5)
    assert np.square(train - train.mean(0)).mean() != pytest.approx(wanted, rel=1e-4)


def test_the_three_classifiers_are_three(fake, monkeypatch):
    monkeypatch.setattr(protocol, "CLASSIFIER_STEPS", 5)
    names = ("classifier", "classifier2", "classifier3")
    features = {name: make_reference(fake, name, CPU).features.values for name in names}
    for one, other in combinations(names, 2):
        assert not torch.allclose(features[one], features[other], rtol=0.01)
    assert torch.equal(make_reference(fake, "classifier", CPU).features.values, features["classifier"])


def test_distances_of_many_test_images_are_over_a_fixed_draw_of_them(fake, tmp_path, monkeypatch):
    """All that is decoded has as many images as the draw, and the reconstructions are of the drawn ones."""
    monkeypatch.setattr(protocol, "FRECHET_IMAGES", 90)
    monkeypatch.setattr(protocol, "CLASSIFIER_STEPS", 5)
    reference = make_reference(fake, "classifier", CPU)
    train_run(Run("r", SETTINGS, "fake", "vae", 4, 0), fake, tmp_path, device="cpu")
    decoded, decode = [], trained.decode_images
    monkeypatch.setattr(
        trained, "decode_images", lambda model, z, device: (decoded.append(z), decode(model, z, device))[1]
    )
    row = evaluate_run(tmp_path, fake, [reference], importance=SWEEP, device=CPU).row
    assert row["fd_classifier_images"] == 90 and {len(z) for z in decoded} == {90}
    drawn = reference_test_images(fake)
    assert len({tuple(image.flatten().tolist()) for image in drawn}) == 90
    assert torch.equal(decoded[2], posterior_means(load_run(tmp_path)[0], drawn, CPU))


def test_attributes_are_probed_one_by_one_and_balanced(fake):
    """The first follows from the first latent. The second follows from the other, but of 5 of 40 test images not."""
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 2, generator=generator).sign() * 2 for n in (400, 40))
    test[:, 1] = torch.tensor([2.0, -2.0]).repeat(20)
    of_train, of_test = ((latents > 0).long() for latents in (train, test))
    of_test[0:10:2, 1] = 0  # of 20 positive answers 5 are wrong: 15 of 15 ones and 20 of 25 zeros are right
    attributes = {"train_attributes": of_train, "test_attributes": of_test}
    images = {"train_images": torch.zeros(400, 1, 8, 8).byte(), "test_images": fake.test_images[:40]}
    dataset = make(name="a", source="here", licence="none", attribute_names=("a", "b"), **images, **attributes)
    row, empty = classify(dataset, train, test, CPU)
    assert row["probe_accuracy_per_attribute"] == pytest.approx([1.0, (1 + 20 / 25) / 2])
    assert row["probe_accuracy"] == pytest.approx((1 + 0.9) / 2)
    assert row["probe_unbalanced_accuracy"] == pytest.approx(75 / 80)
    assert row["knn_accuracy"] is None and "knn_accuracy" in empty
