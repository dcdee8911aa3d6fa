"""Importance-weighted bounds and the decomposition of beta-TCVAE against what is known of them."""

import math
from itertools import combinations, pairwise

import pytest
import torch

from bvae.networks import BVAE, VAE, Layout
from bvae.objective import (
    OBJECTIVES,
    Bernoulli,
    Gaussian,
    elbo_loss,
    iwae_loss,
    kl_divergence,
    log_importance_weights,
    log_normal,
    total_correlation_terms,
)
from helpers.small import SMALL_LAYOUTS


def exact_linear_vae(sigma: float) -> tuple[VAE, torch.Tensor, torch.Tensor]:
    """A linear VAE with its exact posterior, images (n, 6, 1, 1), and ln p(x) of each image in nats."""
    torch.manual_seed(0)
    model = VAE(Layout("mlp", 6, 1, 2, activation="identity"), Gaussian(sigma))
    weight = torch.linalg.qr(torch.randn(6, 2))[0] * torch.tensor([1.5, 0.7])  # x = W z + noise, W with W'W diagonal
    precision = weight.T @ weight + sigma**2 * torch.eye(2)
    with torch.no_grad():
        model.decoder_weights[0].weight.copy_(weight.T)
        model.encoder_weights[0].weight.copy_(torch.linalg.solve(precision, weight.T))
        model.encoder.log_variance.bias.copy_((sigma**2 / precision.diagonal()).log())
    x = torch.randn(40, 6)
    covariance = weight @ weight.T + sigma**2 * torch.eye(6)
    log_evidence = torch.distributions.MultivariateNormal(torch.zeros(6), covariance).log_prob(x)
    return model, x.view(40, 6, 1, 1), log_evidence


def test_weights_are_constant_at_the_exact_posterior(float64):
    """ln w is then ln p(x) for every z: the bound is exact for every k, and its variance 0."""
    model, images, log_evidence = exact_linear_vae(0.5)
    noise = torch.randn(7, 40, 2)
    with torch.no_grad():
        log_weights, _ = log_importance_weights(model, images, noise)
        bounds = [-iwae_loss(model, images, noise[:k])[0].item() for k in (1, 2, 7)]
    torch.testing.assert_close(log_weights, log_evidence.expand(7, 40), rtol=1e-10, atol=1e-10)
    assert bounds == pytest.approx([float(log_evidence.mean())] * 3, rel=1e-12)


def test_iwae_loss_of_five_samples_by_a_loop(float64):
    """-ln of the mean weight of each image, then the mean over the images: not the ln of a mean over both."""
    torch.manual_seed(6)
    layout = SMALL_LAYOUTS["mlp"]
    model = BVAE(layout, Bernoulli())
    images, noise = torch.rand(4, 1, 8, 8), torch.randn(5, 4, layout.latent_dim)
    with torch.no_grad():
        singles = [[-iwae_loss(model, images[[i]], noise[[k]][:, [i]])[0].item() for k in range(5)] for i in range(4)]
        loss, _ = iwae_loss(model, images, noise)
    wanted = -sum(math.log(sum(math.exp(weight) for weight in row) / 5) for row in singles) / 4
    assert loss.item() == pytest.approx(wanted, rel=1e-12)
    assert abs(loss.item() + sum(map(sum, singles)) / 20) > 1e-3  # a mean of ln w would be another number


def test_bounds_are_ordered_below_the_evidence(float64):
    """ELBO = L_1 < L_5 < L_50 < ln p(x) for a wrong posterior, each in expectation, by more than 4 standard errors."""
    model, images, log_evidence = exact_linear_vae(0.5)
    with torch.no_grad():
        model.encoder.log_variance.bias.add_(0.7)
        model.encoder.mean_bias.add_(0.2)
        log_weights, terms = log_importance_weights(model, images, torch.randn(4000, 40, 2))

    def bound(k: int) -> torch.Tensor:
        groups = log_weights.view(-1, k, 40)
        return (groups.logsumexp(1) - math.log(k)).mean(1)  # one estimate a group

    bounds = [bound(k) for k in (1, 5, 50)]
    assert bounds[0].mean() == pytest.approx(float(terms.elbo.mean()), abs=5 * float(bounds[0].std()) / 4000**0.5)
    for lower, higher in pairwise(bounds):
        error = (lower.var() / len(lower) + higher.var() / len(higher)).sqrt()
        assert higher.mean() - lower.mean() > 4 * error
    assert bounds[2].mean() < log_evidence.mean()
    everything = (log_weights.logsumexp(0) - math.log(4000)).mean()
    assert float(everything) == pytest.approx(float(log_evidence.mean()), abs=0.01)


@pytest.mark.parametrize("build", [BVAE, VAE])
@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
def test_iwae_with_one_sample_has_the_gradient_of_its_own_bound(float64, build, architecture):
    """ln w with one sample is ln p(x|z) + ln p(z) - ln q(z|x), written out by hand with torch.distributions."""
    torch.manual_seed(1)
    layout = SMALL_LAYOUTS[architecture]
    model = build(layout, Bernoulli())
    images, noise = torch.rand(5, layout.channels, 8, 8), torch.randn(1, 5, layout.latent_dim)
    loss, _ = iwae_loss(model, images, noise)
    mean, log_variance = model.encode(images)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    z = mean + (0.5 * log_variance).exp() * noise[0]
    likelihood = -torch.nn.functional.binary_cross_entropy_with_logits(model.decode(z), images, reduction="none")
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z)
    by_hand = -(likelihood.flatten(1).sum(1) + (prior - posterior.log_prob(z)).sum(1)).mean()
    torch.testing.assert_close(loss, by_hand, rtol=1e-12, atol=0)
    first = torch.autograd.grad(loss, list(model.parameters()))
    second = torch.autograd.grad(by_hand, list(model.parameters()))
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def gaussian_mixture_log_density(z: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    components = torch.distributions.Independent(torch.distributions.Normal(mean, (0.5 * log_variance).exp()), 1)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(len(mean)) / len(mean)), components
    )
    return mixture.log_prob(z)


def test_total_correlation_of_a_full_batch_is_exact(float64):
    """With the whole data set as the batch, q(z) is the mixture of all posteriors, and so are its marginals."""
    torch.manual_seed(2)
    mean, log_variance, noise = torch.randn(30, 3), torch.randn(30, 3) * 0.3 - 1, torch.randn(30, 3)
    z = mean + (0.5 * log_variance).exp() * noise
    information, correlation, dimension_wise = total_correlation_terms(z, mean, log_variance, 30)
    joint = gaussian_mixture_log_density(z, mean, log_variance)
    marginals = sum(gaussian_mixture_log_density(z[:, [j]], mean[:, [j]], log_variance[:, [j]]) for j in range(3))
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(z).sum(1)
    torch.testing.assert_close(information, posterior - joint)
    torch.testing.assert_close(correlation, joint - marginals)
    torch.testing.assert_close(dimension_wise, marginals - prior)
    torch.testing.assert_close(information + correlation + dimension_wise, posterior - prior)  # = KL in expectation


@pytest.mark.parametrize(
    ("signs", "information", "correlation"),
    [
        pytest.param([(1, 1), (-1, -1)], math.log(2), math.log(2), id="two latents that say the same"),
        pytest.param([(1, 1), (1, -1), (-1, 1), (-1, -1)], math.log(4), 0.0, id="two latents that say two things"),
        pytest.param([(1, 0), (-1, 0)], math.log(2), 0.0, id="one latent that says nothing"),
        pytest.param([(0, 0)] * 4, 0.0, 0.0, id="no latent says anything"),
    ],
)
def test_decomposition_of_planted_posteriors(float64, signs, information, correlation):
    """Posteriors 40 standard deviations apart: nats that are known, and MI + TC + dimension-wise KL is the KL.

    Points +-sqrt(2) e_j average quadratic functions exactly as N(0, I) does.
    """
    count, spread = len(signs), 0.1
    mean = 2.0 * torch.tensor(signs, dtype=torch.float64)
    log_variance = torch.full((count, 2), 2 * math.log(spread))
    points = spread * math.sqrt(2) * torch.cat([torch.eye(2), -torch.eye(2)])
    draws = [torch.stack(total_correlation_terms(mean + point, mean, log_variance, count)).mean(1) for point in points]
    found = torch.stack(draws).mean(0).tolist()
    kl = float(kl_divergence(mean, log_variance).sum(1).mean())
    assert found == pytest.approx([information, correlation, kl - information - correlation], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_minibatch_weights_make_the_aggregate_posterior_unbiased(float64, place):
    """The mean of q(z) over all batches that hold an image and 2 of the 5 others is the mixture of all 6.

    At whatever place of the batch the image is: public code weighs the first image as if it were each one's own.
    """
    torch.manual_seed(3)
    mean, log_variance = torch.randn(6, 2), torch.randn(6, 2) * 0.2
    z = mean[:1] + 0.5
    whole = gaussian_mixture_log_density(z, mean, log_variance).exp()
    estimates = []
    for others in combinations(range(1, 6), 2):
        batch = torch.tensor([*others[:place], 0, *others[place:]])
        points = mean[batch]
        points[place] = z
        information, _, _ = total_correlation_terms(points, mean[batch], log_variance[batch], 6)
        posterior = log_normal(points, mean[batch], log_variance[batch]).sum(1)
        estimates.append((posterior - information).exp()[place])
    assert float(torch.stack(estimates).mean()) == pytest.approx(float(whole), rel=1e-12)


def test_beta_tc_with_beta_one_is_the_elbo_up_to_the_estimate_of_its_kl(float64):
    """At beta 1 the three terms telescope to ln q(z|x) - ln p(z): the one-sample estimate of the KL."""
    torch.manual_seed(4)
    layout = SMALL_LAYOUTS["mlp"]
    model = BVAE(layout, Bernoulli())
    images, noise = torch.rand(6, 1, 8, 8), torch.randn(1, 6, layout.latent_dim)
    loss, _ = OBJECTIVES["beta_tc"](model, images, noise, beta=1.0, dataset_size=100)
    torch.testing.assert_close(loss, iwae_loss(model, images, noise)[0], rtol=1e-10, atol=0)


def test_beta_of_beta_tc_weighs_the_total_correlation_alone(float64):
    """With the whole data set as the batch: that of the mixture of all posteriors."""
    torch.manual_seed(6)
    layout = SMALL_LAYOUTS["mlp"]
    model = BVAE(layout, Bernoulli())
    images, noise = torch.rand(12, 1, 8, 8), torch.randn(1, 12, layout.latent_dim)
    losses = [OBJECTIVES["beta_tc"](model, images, noise, beta=beta, dataset_size=12)[0] for beta in (1.0, 4.0)]
    mean, log_variance = model.encode(images)
    z = mean + (0.5 * log_variance).exp() * noise[0]
    marginals = sum(
        gaussian_mixture_log_density(z[:, [j]], mean[:, [j]], log_variance[:, [j]]) for j in range(layout.latent_dim)
    )
    correlation = gaussian_mixture_log_density(z, mean, log_variance) - marginals
    torch.testing.assert_close(losses[1] - losses[0], 3 * correlation.mean(), rtol=1e-8, atol=0)
    assert abs(correlation.mean()) > 1e-4


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("build", [BVAE, VAE])
def test_every_objective_trains_both_networks(name, build):
    """Every parameter has a gradient, and ten steps down it raise the ELBO."""
    torch.manual_seed(5)
    layout = SMALL_LAYOUTS["resnet"]
    model = build(layout, Bernoulli())
    images = (torch.rand(3, 8, 8) > 0.5).float().expand(8, 3, 8, 8)  # one black and white pattern
    noise = torch.randn(3, 8, layout.latent_dim)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    before = elbo_loss(model, images, noise)[1].elbo.mean()
    for _ in range(10):
        loss, _ = OBJECTIVES[name](model, images, noise, beta=1.0, dataset_size=50)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
    assert elbo_loss(model, images, noise)[1].elbo.mean() > before + 1
