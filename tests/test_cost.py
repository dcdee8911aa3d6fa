"""Cost: counts by hand, memory within its bounds, and what tying does not halve."""

import math

import pytest
import torch

from bvae.evaluation import protocol
from bvae.evaluation.cost import measure_costs
from bvae.networks import VAE
from bvae.runs import Run
from helpers.small import SETTINGS, make_dataset
from helpers.studies import FOUR

NETWORK = {"architecture": "mlp", "hidden": [12]}
TRAINING = SETTINGS["training"] | {"batch_size": 30, "weight_decay": 0.0, "gradient_clip": 1000.0}


def costs(fake, monkeypatch, **changes) -> dict:
    """The costs of four arms, with timings cut short."""
    monkeypatch.setattr(protocol, "COST_ROUNDS", 2)
    monkeypatch.setattr(protocol, "COST_SECONDS", 1e-4)
    return measure_costs(
        Run("r", SETTINGS | {"network": NETWORK, "training": TRAINING} | changes, "fake", "bvae", 4, 0),
        fake,
        torch.device("cpu"),
        FOUR,
    )


def test_sizes_and_multiplications_of_a_perceptron_by_hand(fake, monkeypatch):
    found = costs(fake, monkeypatch)
    assert (found["batch_size"], found["precision"], list(found["arms"])) == (30, "float32", FOUR)
    shared, head, biases = 64 * 12 + 12 * 4, 12 * 4 + 4, (12 + 4) + (12 + 64)
    for arm, weights in (("bvae", shared), ("vae", 2 * shared)):
        row, count = found["arms"][arm], weights + head + biases
        assert (row["parameters_total"], row["parameters_weights"], row["parameters_biases"]) == (
            count,
            weights,
            biases,
        )
        assert row["head_share"] == pytest.approx(head / count, rel=1e-12)
        assert row["model_mb"] == pytest.approx(4 * count / 2**20, rel=1e-12)
        assert row["training_state_mb"] == pytest.approx(16 * count / 2**20, rel=1e-12)
        assert 4 * count < row["file_mb"] * 2**20 < 4 * count + 2_000  # names and shapes besides
        # both arms the same: what is shared is run twice all the same
        assert (row["macs_encode"], row["macs_decode"]) == (shared + 12 * 4, shared)


def test_only_the_arms_that_are_asked_for_are_measured(fake, monkeypatch):
    """And the matched VAE, which they are compared with."""
    monkeypatch.setattr(protocol, "COST_ROUNDS", 1)
    monkeypatch.setattr(protocol, "COST_SECONDS", 1e-4)
    run = Run("r", SETTINGS | {"network": NETWORK, "training": TRAINING}, "fake", "bvae", 4, 0)
    assert list(measure_costs(run, fake, torch.device("cpu"), ["bvae_gain"])["arms"]) == ["bvae_gain", "vae"]


def test_multiplications_of_convolutions_by_hand(fake, monkeypatch):
    network = {"architecture": "conv", "width": 5, "neck": 4, "hidden": [6]}
    row = costs(fake, monkeypatch, network=network)["arms"]["bvae"]
    # 8 pixels -> 4, kernel 4; then 1x1 to the neck; then 64 -> 6 -> 4 and the head
    weights = 16 * (4 * 4 * 5) + 16 * (5 * 4) + 64 * 6 + 6 * 4
    assert row["macs_encode"] == weights + 6 * 4
    assert row["macs_decode"] == weights


def test_peak_memory_is_the_state_and_what_a_step_holds(monkeypatch):
    """A wide network on one image: nearly all are weights, gradients and moments. A larger batch: more activations."""
    wide = {"architecture": "mlp", "hidden": [4_000]}
    data = make_dataset(400, 100)
    peaks = {}
    for batch_size in (1, 100, 400):
        training = TRAINING | {"batch_size": batch_size}
        for arm, row in costs(data, monkeypatch, network=wide, training=training)["arms"].items():
            peaks[arm, batch_size] = (row["peak_training_mb"], row["training_state_mb"])
    for arm in FOUR:
        peak, state = peaks[arm, 1]
        assert state < peak < 1.5 * state  # a tied gradient is the sum of two, which are there beside it for a moment
        # an image's activations: at least the 4,000 units of each direction, before and after their activation
        units = 2 * 2 * 4_000 * 4 / 2**20 if arm != "vae_narrow" else 0
        assert peaks[arm, 400][0] - peaks[arm, 100][0] > 300 * units
    assert peaks["bvae", 400][0] / peaks["vae", 400][0] > 0.75  # with activations, memory is not halved


def test_encoding_and_decoding_are_timed_in_evaluation(fake, monkeypatch):
    """Batch normalisation then uses its running averages, and does not move them."""
    modes = set()

    def spied(name: str):
        method = getattr(VAE, name)

        def spy(model, x):
            if torch.is_inference_mode_enabled():  # else it is a part of a step of training
                modes.add((name, model.training))
            return method(model, x)

        return spy

    for name in ("encode", "decode_mean"):
        monkeypatch.setattr(VAE, name, spied(name))
    costs(fake, monkeypatch)
    assert modes == {("encode", False), ("decode_mean", False)}


def test_speeds_are_medians_between_their_quartiles(fake, monkeypatch):
    for row in costs(fake, monkeypatch)["arms"].values():
        for what in ("training", "encoding", "decoding"):
            low, high = row[f"images_per_second_{what}_quartiles"]
            assert 0 < low <= row[f"images_per_second_{what}"] <= high < math.inf
