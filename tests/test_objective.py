"""The objective against closed forms: nats, sums over pixels, and the linear models whose optimum is known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, distributions

from bvae.networks import BVAE, VAE, Layout
from bvae.objective import (
    Bernoulli,
    Gaussian,
    build_likelihood,
    elbo_loss,
    evaluate_elbo,
    kl_divergence,
    sample_posterior,
)
from helpers.small import SMALL_LAYOUTS

# --- terms ----------------------------------------------------------------------------------------------------------


def test_kl_is_that_of_torch(float64):
    torch.manual_seed(0)
    mean, log_variance = torch.randn(50, 7), torch.randn(50, 7)
    normal = distributions.Normal(mean, torch.exp(0.5 * log_variance))
    wanted = distributions.kl_divergence(normal, distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, log_variance), wanted, rtol=1e-12, atol=1e-14)


def test_kl_by_hand(float64):
    mean, log_variance = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, math.log(4.0)]])
    wanted = torch.tensor([[0.0, 0.5, 0.5 * (4 - 1 - math.log(4.0))]])
    torch.testing.assert_close(kl_divergence(mean, log_variance), wanted, rtol=1e-12, atol=1e-14)


def test_kl_is_the_monte_carlo_average_of_the_log_ratio(float64):
    torch.manual_seed(0)
    mean, log_variance = torch.tensor([[0.7, -1.2, 0.1]]), torch.tensor([[0.3, -0.9, -2.0]])
    z = sample_posterior(mean, log_variance, torch.randn(200_000, 3))
    posterior = distributions.Normal(mean, torch.exp(0.5 * log_variance))
    ratio = (posterior.log_prob(z) - distributions.Normal(0.0, 1.0).log_prob(z)).sum(1)
    standard_error = float(ratio.std()) / math.sqrt(len(ratio))
    assert abs(float(ratio.mean() - kl_divergence(mean, log_variance).sum())) < 5 * standard_error
    assert standard_error < 0.01


def test_bernoulli_log_likelihood_is_that_of_torch(float64):
    torch.manual_seed(0)
    logits, images = 3 * torch.randn(5, 2, 4, 4), torch.randint(2, (5, 2, 4, 4)).double()
    wanted = distributions.Bernoulli(logits=logits).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(Bernoulli().log_likelihood(logits, images), wanted, rtol=1e-12, atol=1e-12)


def test_bernoulli_on_grey_pixels_is_the_cross_entropy(float64):
    images, logits = torch.full((1, 1, 2, 2), 0.25), torch.full((1, 1, 2, 2), math.log(0.25 / 0.75))
    wanted = 4 * (0.25 * math.log(0.25) + 0.75 * math.log(0.75))  # at its optimum, minus the entropy
    assert Bernoulli().log_likelihood(logits, images).item() == pytest.approx(wanted, rel=1e-12)
    torch.testing.assert_close(Bernoulli().mean(logits), images, rtol=1e-12, atol=0)


@pytest.mark.parametrize("sigma", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("learned", [False, True])
def test_gaussian_log_likelihood_is_that_of_torch(float64, sigma, learned):
    torch.manual_seed(0)
    means, images = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4)
    likelihood = Gaussian(sigma, learned=learned)
    wanted = distributions.Normal(means, sigma).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(likelihood.log_likelihood(means, images), wanted, rtol=1e-12, atol=1e-12)
    assert likelihood.sigma == pytest.approx(sigma, rel=1e-12)
    assert sum(p.numel() for p in likelihood.parameters()) == int(learned)


def test_gaussian_in_float32_is_near_enough_for_a_table():
    torch.manual_seed(0)
    means, images = torch.rand(5, 3, 32, 32), torch.rand(5, 3, 32, 32)
    wanted = distributions.Normal(means.double(), 0.1).log_prob(images.double()).sum((1, 2, 3))
    found = Gaussian(0.1).log_likelihood(means, images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=0)


def test_gaussian_is_a_sum_over_pixels_in_nats(float64):
    images, means = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.2)
    pixels = 3 * 8 * 8
    wanted = -pixels * (0.2**2 / (2 * 0.1**2) + math.log(0.1) + 0.5 * math.log(2 * math.pi))
    assert Gaussian(0.1).log_likelihood(means, images).item() == pytest.approx(wanted, rel=1e-12)


def test_learned_sigma_of_the_best_fit_is_the_residual_spread(float64):
    """d/d ln sigma of ln p vanishes where sigma² is the mean squared error."""
    torch.manual_seed(0)
    means, images = torch.rand(5, 1, 4, 4), torch.rand(5, 1, 4, 4)
    likelihood = Gaussian(float((means - images).square().mean().sqrt()), learned=True)
    likelihood.log_likelihood(means, images).mean().backward()
    assert abs(likelihood.log_sigma.grad.item()) < 1e-10


def test_gaussian_mean_image_is_clamped():
    assert Gaussian().mean(torch.tensor([-0.5, 0.25, 1.5])).tolist() == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(
    ("settings", "channels", "kind", "sigma", "learned"),
    [
        ({"name": "auto"}, 1, Bernoulli, None, None),
        ({"name": "auto"}, 3, Gaussian, 0.1, True),
        ({"name": "bernoulli"}, 3, Bernoulli, None, None),
        ({"name": "gaussian"}, 1, Gaussian, 0.1, False),
        ({"name": "gaussian", "sigma": 0.3, "learned": True}, 1, Gaussian, 0.3, True),
    ],
)
def test_likelihood_of_a_recipe(settings, channels, kind, sigma, learned):
    likelihood = build_likelihood(settings, channels=channels)
    assert type(likelihood) is kind
    if kind is Gaussian:
        assert likelihood.sigma == pytest.approx(sigma, rel=1e-6)
        assert len(list(likelihood.parameters())) == learned


def test_sample_posterior_by_hand(float64):
    z = sample_posterior(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, math.log(9.0)]]), torch.tensor([[2.0, -1.0]]))
    torch.testing.assert_close(z, torch.tensor([[3.0, -1.0]]))


def test_elbo_is_likelihood_minus_kl_of_one_sample(float64):
    torch.manual_seed(0)
    model, images, noise = BVAE(SMALL_LAYOUTS["mlp"], Bernoulli()), torch.rand(5, 1, 8, 8), torch.randn(5, 3)
    with torch.no_grad():
        model.encoder.log_variance.weight.normal_(std=0.2)
        terms = evaluate_elbo(model, images, noise)
        mean, log_variance = model.encode(images)
        logits = model.decode(mean + torch.exp(log_variance / 2) * noise)
    likelihood = distributions.Bernoulli(logits=logits, validate_args=False).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(terms.log_likelihood, likelihood)
    torch.testing.assert_close(terms.kl, 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1))
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl)


def test_beta_scales_the_kl_of_the_loss_and_not_the_reported_elbo(float64):
    torch.manual_seed(0)
    model, images, noise = BVAE(SMALL_LAYOUTS["mlp"], Bernoulli()), torch.rand(5, 1, 8, 8), torch.randn(5, 3)
    with torch.no_grad():
        (plain, terms), (weighted, same) = (elbo_loss(model, images, noise[None], beta=beta) for beta in (1.0, 4.0))
    assert plain.item() == pytest.approx(-terms.elbo.mean().item(), rel=1e-12)
    assert (weighted - plain).item() == pytest.approx(3 * terms.kl.mean().item(), rel=1e-12)
    for name in terms._fields:
        assert torch.equal(getattr(terms, name), getattr(same, name))


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.1, learned=True)], ids=["bernoulli", "gaussian"])
@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
def test_bfloat16_networks_give_float32_terms(architecture, likelihood):
    layout = SMALL_LAYOUTS[architecture]
    torch.manual_seed(0)
    model = BVAE(layout, likelihood)
    images, noise = torch.rand(5, layout.channels, 8, 8), torch.randn(5, 3)
    exact = evaluate_elbo(model, images, noise)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.encode(images)[1].dtype == torch.bfloat16  # autocast reached the layers
        loss, terms = elbo_loss(model, images, noise[None])
    loss.backward()
    assert {term.dtype for term in terms} | {loss.dtype} == {torch.float32}
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}
    for name in terms._fields:  # bfloat16 has 8 significant bits
        torch.testing.assert_close(getattr(terms, name), getattr(exact, name), rtol=0.03, atol=0.03)


# --- linear models: the optimum is known ----------------------------------------------------------------------------
# Untied, it is the likelihood of probabilistic PCA (Tipping and Bishop 1999; Lucas et al., arXiv 1911.02469). A
# strictly tied encoder is Wᵀ, but the exact posterior needs (Wᵀ W + sigma² I)⁻¹ Wᵀ: it stays 0.86 nats below, and one
# gain per latent makes up for that.

VARIANCES = (4.0, 2.0, 0.5, 0.3, 0.2, 0.1)  # of the data, along its principal directions
Q, NOISE_VARIANCE = 2, 0.275  # latents; the mean of the four variances that two latents leave
LINEAR = Layout("mlp", 6, 1, Q, activation="identity")  # six "channels" of one pixel
PPCA, TIED, TIED_BEST_SIGMA = -6.97138, -7.8334, -7.8306  # nats per sample


def principal_directions() -> Tensor:
    return torch.from_numpy(np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0])


def linear_data() -> Tensor:
    """Twelve samples (12, 6, 1, 1) whose mean is exactly 0 and whose covariance has exactly VARIANCES."""
    half = torch.diag(torch.tensor([math.sqrt(6 * variance) for variance in VARIANCES])) @ principal_directions().T
    return torch.cat([half, -half])[:, :, None, None]


def noise_points(images: int) -> Tensor:
    """Four noises for each of `images` that average every quadratic function exactly as N(0, I) does."""
    points = math.sqrt(Q) * torch.cat([torch.eye(Q), -torch.eye(Q)])  # (4, q)
    return points.repeat(images, 1)


def expected_elbo(model: VAE, images: Tensor) -> Tensor:
    """The ELBO of a linear Gaussian model for each image, its expectation over the noise exact, (n,)."""
    terms = evaluate_elbo(model, images.repeat_interleave(2 * Q, 0), noise_points(len(images)))
    return terms.elbo.view(len(images), 2 * Q).mean(1)


def log_density(images: Tensor) -> Tensor:
    """ln p(x) under probabilistic PCA at its optimum: N(0, W Wᵀ + sigma² I)."""
    variances = torch.tensor([*VARIANCES[:Q], *[NOISE_VARIANCE] * (6 - Q)])
    basis = principal_directions()
    covariance = basis @ torch.diag(variances) @ basis.T
    return distributions.MultivariateNormal(torch.zeros(6), covariance).log_prob(images.flatten(1))


def optimal_decoder() -> Tensor:
    """W (q, 6) of probabilistic PCA: the leading directions, each of length sqrt(lambda - sigma²)."""
    lengths = torch.tensor([math.sqrt(variance - NOISE_VARIANCE) for variance in VARIANCES[:Q]])
    return lengths[:, None] * principal_directions()[:, :Q].T


def install(model: VAE, *, encoder: Tensor | None, decoder: Tensor) -> None:
    """Decoder weights, encoder weights if they are apart, and the exact posterior's variances sigma² / lambda."""
    with torch.no_grad():
        model.decoder_weights[0].weight.copy_(decoder)
        if encoder is not None:
            model.encoder_weights[0].weight.copy_(encoder)
        model.encoder.log_variance.bias.copy_(torch.tensor([NOISE_VARIANCE / v for v in VARIANCES[:Q]]).log())


def test_the_data_are_what_they_are_said_to_be(float64):
    images = linear_data().flatten(1)
    covariance = images.T @ images / len(images)
    wanted = principal_directions() @ torch.diag(torch.tensor(VARIANCES)) @ principal_directions().T
    torch.testing.assert_close(covariance, wanted)
    assert float(images.mean(0).abs().max()) < 1e-12
    assert log_density(linear_data()).mean().item() == pytest.approx(PPCA, abs=1e-5)


def test_elbo_is_the_density_where_the_posterior_is_exact(float64):
    images = linear_data()
    model = VAE(LINEAR, Gaussian(math.sqrt(NOISE_VARIANCE)))
    exact = optimal_decoder() / torch.tensor(VARIANCES[:Q])[:, None]  # Wᵀ (W Wᵀ + sigma² I)⁻¹
    install(model, encoder=exact, decoder=optimal_decoder())
    with torch.no_grad():
        torch.testing.assert_close(expected_elbo(model, images), log_density(images), rtol=1e-10, atol=0)
        install(model, encoder=0.9 * exact, decoder=optimal_decoder())
        assert bool((expected_elbo(model, images) < log_density(images)).any())
        assert bool((expected_elbo(model, images) < log_density(images) + 1e-9).all())  # a lower bound


def test_elbo_with_drawn_noise_averages_to_the_density(float64):
    torch.manual_seed(0)
    images = linear_data().repeat(5_000, 1, 1, 1)
    model = VAE(LINEAR, Gaussian(math.sqrt(NOISE_VARIANCE)))
    install(
        model,
        encoder=optimal_decoder() / torch.tensor(VARIANCES[:Q])[:, None],
        decoder=optimal_decoder(),
    )
    with torch.no_grad():
        elbo = evaluate_elbo(model, images, torch.randn(len(images), Q)).elbo - log_density(images)
    standard_error = float(elbo.std()) / math.sqrt(len(elbo))
    assert abs(float(elbo.mean())) < 5 * standard_error < 0.05


def test_one_gain_per_latent_makes_the_tied_encoder_exact(float64):
    images = linear_data()
    model = BVAE(LINEAR, Gaussian(math.sqrt(NOISE_VARIANCE)), latent_gain=True)
    install(model, encoder=None, decoder=optimal_decoder())
    with torch.no_grad():
        model.encoder.latent_gain.copy_(1 / torch.tensor(VARIANCES[:Q]))
        torch.testing.assert_close(expected_elbo(model, images), log_density(images), rtol=1e-10, atol=0)


def strictly_tied_optimum(variances: tuple[float, ...], q: int, noise_variance: float) -> float:
    """The best ELBO of a strictly tied linear model, by a fine search along each principal direction.

    With a weight w along a direction of variance l, the encoder's mean is w x and the decoder's w z: w² = t is best
    where -0.5 [(1 - t)² l / s² + t l + ln(1 + t / s²)] is, at the best posterior variance s² / (s² + t).
    """
    t = np.linspace(0, 3, 3_000_001)  # squared length of a weight
    best = 0.0
    for variance in variances[:q]:
        misfit = (1 - t) ** 2 * variance / noise_variance + t * variance + np.log1p(t / noise_variance)
        best -= 0.5 * misfit.min()
    rest = sum(variances[q:]) / noise_variance + len(variances) * math.log(2 * math.pi * noise_variance)
    return best - 0.5 * rest


def test_known_optima_agree_with_their_closed_forms():
    kept = sum(math.log(variance) for variance in VARIANCES[:Q])
    ppca = -0.5 * (6 * math.log(2 * math.pi) + kept + (6 - Q) * math.log(NOISE_VARIANCE) + 6)
    assert ppca == pytest.approx(PPCA, abs=5e-6)
    assert strictly_tied_optimum(VARIANCES, Q, NOISE_VARIANCE) == pytest.approx(TIED, abs=5e-5)


def maximise(model: VAE, images: Tensor) -> float:
    """The expected ELBO after L-BFGS from the model's initial weights, in nats per image."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=1000, tolerance_grad=1e-9, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -expected_elbo(model, images).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return expected_elbo(model, images).mean().item()


@pytest.mark.parametrize(
    ("network", "gain", "learned", "optimum"),
    [
        pytest.param(VAE, False, False, PPCA, id="untied"),
        pytest.param(VAE, False, True, PPCA, id="untied, learned sigma"),
        pytest.param(BVAE, False, False, TIED, id="strictly tied"),
        pytest.param(BVAE, False, True, TIED_BEST_SIGMA, id="strictly tied, learned sigma"),
        pytest.param(BVAE, True, False, PPCA, id="tied with gain"),
        pytest.param(BVAE, True, True, PPCA, id="tied with gain, learned sigma"),
    ],
)
def test_optimum_of_linear_models(float64, network, gain, learned, optimum):
    """From four random starts the best reaches the known optimum: none passes it."""
    images, reached = linear_data(), []
    for seed in range(4):
        torch.manual_seed(seed)
        sigma = 0.8 if learned else math.sqrt(NOISE_VARIANCE)
        model = network(LINEAR, Gaussian(sigma, learned=learned), latent_gain=gain)
        reached.append((maximise(model, images), model.likelihood.sigma**2))
    elbo, noise_variance = max(reached)
    assert elbo == pytest.approx(optimum, abs=1e-4)
    if optimum == PPCA:  # the best sigma² is the mean of the variances left over
        assert noise_variance == pytest.approx(NOISE_VARIANCE, rel=1e-3)


@pytest.mark.parametrize(
    ("noise_variance", "untied", "tied"),
    [(0.1, -8.44818, -9.37358), (0.5, -7.26706, -8.04319), (1.0, -8.10335, -8.67273)],
    ids=["variance 0.1", "variance 0.5", "variance 1"],
)
@pytest.mark.parametrize(
    ("network", "gain"),
    [
        pytest.param(VAE, False, id="untied"),
        pytest.param(BVAE, False, id="strictly tied"),
        pytest.param(BVAE, True, id="tied with gain"),
    ],
)
def test_optimum_of_linear_models_at_another_sigma(float64, network, gain, noise_variance, untied, tied):
    """The gap between tied and untied is there at every sigma, and the gain closes it at every sigma."""
    images, reached = linear_data(), []
    for seed in range(3):
        torch.manual_seed(seed)
        reached.append(maximise(network(LINEAR, Gaussian(math.sqrt(noise_variance)), latent_gain=gain), images))
    assert max(reached) == pytest.approx(tied if network is BVAE and not gain else untied, abs=2e-5)
