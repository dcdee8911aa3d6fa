"""Probes on samples, on means as they are and on inactive latents: made-up posteriors, whose answers are known."""

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bvae.evaluation import protocol
from bvae.evaluation.probes import Features, fit_logistic, linear_probe, linear_probes
from bvae.evaluation.trained import classify, latents_of_probes, probe_inactive, probe_unstandardised, scale_of
from bvae.report.tables import OF_PROBES
from helpers.small import float64s, make_dataset

TWO = make_dataset(600, 1_000)
TWO = replace(TWO, train_labels=TWO.train_labels % 2, test_labels=TWO.test_labels % 2, classes=("even", "odd"))
AT_CHANCE = 5 * math.sqrt(0.25 / 1_000)


def posteriors_of(dataset, columns) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Means and log-variances of training and test images; `columns` makes both of labels (n, 1) and noise (n, 3)."""
    found = []
    for seed, labels in enumerate((dataset.train_labels, dataset.test_labels)):
        mean, log_variance = columns(labels[:, None].float(), float64s(len(labels), 3, seed=seed).float())
        found.append((mean, log_variance.expand_as(mean)))
    return found


def probed(dataset, columns) -> tuple[dict, dict]:
    """All probes on made-up posteriors, and why some are empty."""
    train, test = posteriors_of(dataset, columns)
    latents = latents_of_probes(dataset.name, 0, train, test)
    row, empty = probe_unstandardised(dataset, latents)
    controls, also = probe_inactive(dataset, latents)
    classified, _ = classify(dataset, train[0], test[0], torch.device("cpu"))
    return row | controls | {"probe_accuracy": classified["probe_accuracy"]}, empty | also


def test_a_dead_latent_is_read_where_means_are_standardised_and_not_in_samples():
    """Two latents vary and do not tell the class; the mean of the third is 0.001 times the label, its variance 1."""
    row, empty = probed(TWO, lambda label, noise: (torch.cat([noise[:, :2], 1e-3 * label], 1), torch.zeros(1)))
    assert empty == {}
    assert (row["probe_accuracy"], row["probe_inactive_accuracy"]) == (1.0, 1.0)
    for name in ("probe_sampled_accuracy", "probe_sampled_inactive_accuracy"):
        assert abs(row[name] - 0.5) < AT_CHANCE, name


def test_probes_agree_where_the_class_is_in_the_active_latents():
    row, empty = probed(TWO, lambda label, noise: (torch.cat([4 * label - 2, noise], 1), torch.tensor(-6.0)))
    probes = ("probe_accuracy", "probe_sampled_accuracy", "probe_unscaled_accuracy")
    assert [row[name] for name in probes] == [1.0, 1.0, 1.0]
    inactive = {name for name in row if name.endswith("inactive_accuracy")}
    assert len(inactive) == 3 and {row[name] for name in inactive} == {None}
    assert empty == dict.fromkeys(inactive, "every latent is active")


def test_probes_where_no_latent_is_active():
    """The control is then the probe itself; as all means are scaled by one number, they too tell the class."""
    row, _ = probed(TWO, lambda label, noise: (1e-3 * (label + 0.01 * noise), torch.zeros(1)))
    exact = ("probe_accuracy", "probe_unscaled_accuracy", "probe_inactive_accuracy", "probe_unscaled_inactive_accuracy")
    assert [row[name] for name in exact] == [1.0] * 4
    assert abs(row["probe_sampled_accuracy"] - 0.5) < AT_CHANCE


def test_a_probe_on_samples_is_as_good_as_the_noise_lets_it_be():
    """Means of -1 and 1 with a posterior variance of 1: the best threshold is 0, right with probability Phi(1)."""
    row, _ = probed(TWO, lambda label, noise: (2 * label - 1, torch.zeros(1)))
    wanted = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert abs(row["probe_sampled_accuracy"] - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / 1_000)
    assert (row["probe_accuracy"], row["probe_unscaled_accuracy"]) == (1.0, 1.0)


def test_the_noise_derives_from_data_set_seed_and_split():
    zeros = (torch.zeros(50, 2), torch.zeros(50, 2))
    drawn = {key: latents_of_probes(*key, zeros, zeros)["sampled"] for key in (("a", 0), ("a", 1), ("b", 0))}
    parts = [part for pair in drawn.values() for part in pair]
    assert not any(torch.equal(one, other) for i, one in enumerate(parts) for other in parts[:i])
    assert torch.equal(drawn["a", 0][1], latents_of_probes("a", 0, zeros, zeros)["sampled"][1])
    assert latents_of_probes("a", 0, zeros, zeros)["unscaled"][0] is zeros[0]


def test_controls_see_a_fixed_draw_of_training_images(monkeypatch):
    seen = []
    monkeypatch.setattr(protocol, "PROBE_CONTROL_IMAGES", 100)
    monkeypatch.setattr(
        "bvae.evaluation.trained.linear_probes",
        lambda asked, **_: [
            seen.append((each.train, each.train_labels, each.scale)) or {"accuracy": 1.0} for each in asked
        ],
    )
    train, test = posteriors_of(TWO, lambda label, noise: (torch.cat([noise, 1e-3 * label], 1), torch.zeros(1)))
    latents = latents_of_probes("fake", 0, train, test)
    probe_inactive(TWO, latents)
    scales = [scale_of(latents["sampled"][0]), scale_of(train[0]), None]  # that of all latents, not of the inactive
    assert [(x.shape, scale) for x, _, scale in seen] == [((100, 1), scale) for scale in scales]
    x, labels, _ = seen[1]
    assert np.allclose(x[:, 0], 1e-3 * labels) and labels.tolist() != TWO.train_labels[:100].tolist()


def test_probes_of_attributes():
    attributes = torch.stack([torch.arange(600) % 2, torch.arange(600) % 3 == 0], 1).byte()
    dataset = replace(TWO, train_labels=None, test_labels=None, train_attributes=attributes)
    dataset = replace(dataset, test_attributes=attributes[:500], test_images=TWO.test_images[:500])
    means = 6 * attributes.float() - 3
    train, test = ((x, torch.full_like(x, -8.0)) for x in (means, means[:500]))
    row, _ = probe_unstandardised(dataset, latents_of_probes("fake", 0, train, test))
    assert {row[name] for name in OF_PROBES} == {1.0}
    assert "probe_sampled_accuracy_per_attribute" not in row


def test_latents_that_are_not_finite_or_have_no_labels_leave_probes_empty():
    def columns(label, noise):
        return torch.cat([noise, label], 1), torch.tensor(200.0)  # exp(100) is beyond float32

    _, empty = probed(TWO, columns)
    assert "not finite" in empty["probe_sampled_accuracy"] and "not finite" in empty["probe_inactive_accuracy"]
    train, test = posteriors_of(TWO, lambda label, noise: (noise, torch.zeros(1)))
    unlabelled = replace(TWO, train_labels=None, test_labels=None)
    row, empty = probe_unstandardised(unlabelled, latents_of_probes("fake", 0, train, test))
    assert set(row.values()) == {None} and set(empty.values()) == {"no labels"}


# --- the solver -----------------------------------------------------------------------------------------------------


def unlike_scales(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """2,000 features (n, 12) of classes that overlap, with scales from 1 to 0.001, correlated, far from zero."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=2_000)
    x = 0.7 * rng.normal(size=(classes, 12))[labels] + rng.normal(size=(2_000, 12))
    mixed = x @ (np.eye(12) + 0.3 * rng.normal(size=(12, 12)))
    return mixed * np.geomspace(1, 1e-3, 12) + 2.0, labels


def loss(x, labels, c, weights, bias) -> float:
    """What logistic regression minimises, in float64, divided by c and the number of images."""
    scores = x @ weights + bias
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    right = scores[np.arange(len(x)), labels]
    return float((np.logaddexp.reduce(scores, axis=1) - right).mean() + 0.5 * np.square(weights).sum() / (c * len(x)))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("c", [1e-3, 1.0, 1e4])
def test_the_solver_finds_the_optimum_of_newtons_method(classes, c):
    from sklearn.linear_model import LogisticRegression

    x, labels = unlike_scales(classes)
    newton = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-10, max_iter=1_000).fit(x, labels)
    best = loss(x, labels, c, newton.coef_.T, newton.intercept_)
    found = fit_logistic(x, labels, c)
    assert found.weights.shape == newton.coef_.T.shape
    assert loss(x, labels, c, found.weights, found.bias) == pytest.approx(best, rel=2e-6)
    assert np.mean(found.predict(x) == newton.predict(x)) > 0.998


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_scikit_learns_default_is_far_from_the_optimum_after_500_steps_where_scales_differ():
    from sklearn.linear_model import LogisticRegression

    x, labels = unlike_scales(5)
    usual, found = LogisticRegression(C=100, max_iter=500).fit(x, labels), fit_logistic(x, labels, 100)
    excess = loss(x, labels, 100, usual.coef_.T, usual.intercept_) - loss(x, labels, 100, found.weights, found.bias)
    assert excess > 0.01


def test_the_solver_weighs_two_values_the_same_as_scikit_learn_does():
    from sklearn.linear_model import LogisticRegression

    x, labels = unlike_scales(5)
    labels = (labels == 0).astype(np.uint8)
    newton = LogisticRegression(C=10, class_weight="balanced", solver="newton-cholesky", tol=1e-10).fit(x, labels)
    found = fit_logistic(x, labels, 10, balanced=True)
    np.testing.assert_allclose(found.weights, newton.coef_.T, rtol=0.02, atol=0.02 * abs(newton.coef_).max())
    assert found.predict(x).dtype == labels.dtype


def test_a_solver_that_does_not_converge_warns(monkeypatch, caplog):
    x, labels = unlike_scales(5)
    monkeypatch.setattr("bvae.evaluation.probes.MOST_STEPS", 2)
    with caplog.at_level(logging.WARNING):
        fit_logistic(x, labels, 1e4)
    assert "not converged" in caplog.text


def test_features_that_are_constant_or_one_are_fitted():
    x, labels = np.hstack([np.full((40, 1), 3.0), np.arange(40.0)[:, None]]), (np.arange(40) >= 20).astype(int)
    assert fit_logistic(x, labels, 100.0).predict(x).tolist() == labels.tolist()
    assert fit_logistic(x[:, 1:], labels, 100.0).predict(x[:, 1:]).tolist() == labels.tolist()
    constant = fit_logistic(x[:30, :1], labels[:30], 1.0)
    assert constant.predict(x[:, :1]).tolist() == [0] * 40  # the more frequent class


def test_a_probe_of_one_scale_gives_the_same_for_all_latents_larger():
    """C is relative to the scale, so an arm whose latents are all ten times larger has the same probe."""
    x, labels = unlike_scales(5)
    split = (x[:1_000], labels[:1_000], x[1_000:], labels[1_000:])
    found = linear_probe(*split, identity="oracle", scale=0.5)
    larger = linear_probe(10 * split[0], split[1], 10 * split[2], split[3], identity="oracle", scale=5.0)
    assert larger == found
    assert found["c"] in protocol.PROBE_STRENGTHS


@pytest.mark.parametrize("threads", [1, 3])
def test_probes_fitted_side_by_side_are_those_fitted_alone(threads):
    asked = []
    for classes, size, scale in ((5, 1_000, 0.5), (2, 300, None), (3, 700, 2.0)):
        x, labels = unlike_scales(classes)
        asked.append(Features(x[:size], labels[:size], x[size:], labels[size:], scale))
    alone = [linear_probe(*features[:4], scale=features.scale, identity="oracle") for features in asked]
    torch.set_num_threads(threads)
    try:
        assert linear_probes(asked, identity="oracle") == alone
    finally:
        torch.set_num_threads(1)
    assert len({found["accuracy"] for found in alone}) == 3
