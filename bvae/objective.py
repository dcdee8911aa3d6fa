"""Likelihoods and the objective: nats per image, summed over pixels and latents, the same in training and test."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bvae.errors import InputError, check_name


class Bernoulli(nn.Module):
    """p(x|z) = prod Bernoulli(x | sigmoid(logits)). On grey pixels it is a bound by convention, not a likelihood."""

    name = "bernoulli"

    def log_likelihood(self, logits: Tensor, images: Tensor) -> Tensor:
        """ln p(x|z) in nats, (n,), from logits and images (n, c, h, w)."""
        return -F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(1)

    def mean(self, logits: Tensor) -> Tensor:
        """The mean images in [0, 1], from logits; both (n, c, h, w)."""
        return logits.sigmoid()


class Gaussian(nn.Module):
    """p(x|z) = prod N(x | means, sigma²), one scalar sigma, fixed or learned, for pixels in [0, 1].

    Raises InputError unless `sigma` is positive and finite.
    """

    name = "gaussian"

    def __init__(self, sigma: float = 0.1, *, learned: bool = False):
        super().__init__()
        if not 0 < sigma < math.inf:
            raise InputError(f"sigma: found {sigma}, wanted a positive number.")
        log_sigma = torch.tensor(math.log(sigma))
        self.log_sigma = nn.Parameter(log_sigma) if learned else float(log_sigma)

    @property
    def sigma(self) -> float:
        """The scale of the pixel noise, for pixels in [0, 1]."""
        return math.exp(torch.as_tensor(self.log_sigma).detach())

    def log_likelihood(self, means: Tensor, images: Tensor) -> Tensor:
        """ln p(x|z) = -SSE / (2 sigma²) - d ln sigma - d/2 ln 2 pi in nats, (n,), from (n, c, h, w)."""
        known = self.log_sigma
        # filled on the device: a copy from the host could not be part of a CUDA graph
        log_sigma = known if isinstance(known, Tensor) else torch.full((), known, device=images.device)
        squared_errors = (means - images).square().flatten(1)  # (n, d)
        per_pixel = -0.5 * torch.exp(-2 * log_sigma) * squared_errors - log_sigma - 0.5 * math.log(2 * math.pi)
        return per_pixel.sum(1)

    def mean(self, means: Tensor) -> Tensor:
        """The mean images, from means that it clamps to [0, 1]; both (n, c, h, w)."""
        return means.clamp(0, 1)


def build_likelihood(settings: dict, *, channels: int) -> nn.Module:
    """The likelihood that a recipe names; `auto`: Bernoulli for grey images, Gaussian with learned sigma for colour.

    Raises InputError for an unknown name.
    """
    name = settings["name"]
    if name == "auto":
        name, settings = ("bernoulli", {}) if channels == 1 else ("gaussian", {"sigma": 0.1, "learned": True})
    check_name("likelihood", name, ("auto", "bernoulli", "gaussian"))
    if name == "bernoulli":
        return Bernoulli()
    return Gaussian(settings.get("sigma", 0.1), learned=settings.get("learned", False))


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag exp log_variance) || N(0, I)) in nats for each latent, (n, latent_dim).

    0.5 (mu² + s² - 1 - ln s²): Kingma and Welling, arXiv 1312.6114, appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def sample_posterior(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """z = mean + s * noise, (n, latent_dim)."""
    return mean + torch.exp(0.5 * log_variance) * noise


class Elbo(NamedTuple):
    """The terms of the bound for each image, (n,), in nats."""

    elbo: Tensor  # log_likelihood - kl, whatever beta is
    log_likelihood: Tensor  # E_q[ln p(x|z)], by one sample
    kl: Tensor  # KL(q(z|x) || p(z))


def evaluate_elbo(model: nn.Module, images: Tensor, noise: Tensor) -> Elbo:
    """The ELBO of a VAE, the BELBO of a BVAE: E_q[ln p_b(x|z)] - KL(q_f(z|x) || p(z)), by one sample z.

    `images` (n, c, h, w) in [0, 1] and `noise` (n, latent_dim) from N(0, I). Bidirectional backpropagation is the
    gradient of this through both passes: where the weights are tied, autograd adds the two directions' gradients.
    """
    mean, log_variance = (term.float() for term in model.encode(images))
    z = sample_posterior(mean, log_variance, noise)
    log_likelihood = model.likelihood.log_likelihood(model.decode(z).float(), images)
    kl = kl_divergence(mean, log_variance).sum(1)
    return Elbo(log_likelihood - kl, log_likelihood, kl)


def log_normal(z: Tensor, mean: Tensor | float, log_variance: Tensor) -> Tensor:
    """ln N(z; mean, exp log_variance) of each latent in nats, before any sum over them."""
    return -0.5 * ((z - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi))


def log_importance_weights(model: nn.Module, images: Tensor, noise: Tensor) -> tuple[Tensor, Elbo]:
    """ln w = ln p(x|z) + ln p(z) - ln q(z|x), (k, n), for noise (k, n, latent_dim): one encoding, k decodings.

    The terms beside it are averages over the k samples.
    """
    samples, count, latent_dim = noise.shape
    mean, log_variance = (term.float() for term in model.encode(images))
    z = sample_posterior(mean, log_variance, noise)  # (k, n, latent_dim)
    decoded = model.decode(z.reshape(-1, latent_dim)).float()
    repeated = images.expand(samples, *images.shape).reshape(-1, *images.shape[1:])
    log_likelihood = model.likelihood.log_likelihood(decoded, repeated).view(samples, count)
    log_prior = log_normal(z, 0.0, torch.zeros_like(z)).sum(-1)
    log_posterior = log_normal(z, mean, log_variance).sum(-1)
    kl = kl_divergence(mean, log_variance).sum(1)
    terms = Elbo(log_likelihood.mean(0) - kl, log_likelihood.mean(0), kl)
    return log_likelihood + log_prior - log_posterior, terms


def total_correlation_terms(
    z: Tensor, mean: Tensor, log_variance: Tensor, dataset_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Index-code mutual information, total correlation and dimension-wise KL in nats, (n,) each, all (n, latent_dim).

    They add up to ln q(z|x) - ln p(z). The aggregate posterior q(z) is estimated from the minibatch: an image's own
    posterior weighs 1 / N, each of the others (N - 1) / (N (n - 1)), which makes q(z) unbiased for batches drawn
    without replacement from `dataset_size` = N images. Chen et al., arXiv 1802.04942, appendix C, give the same weights
    but for one image of the batch that takes the rest; public code puts 1 / N in the wrong place.
    """
    count = len(z)
    log_densities = log_normal(z[:, None], mean[None], log_variance[None])  # (n of z, n of posteriors, latent_dim)
    others = math.log((dataset_size - 1) / (dataset_size * max(count - 1, 1)))
    log_weights = torch.full((count, count), others, device=z.device)
    log_weights.fill_diagonal_(-math.log(dataset_size))
    log_aggregate = torch.logsumexp(log_weights + log_densities.sum(2), 1)  # ln q(z)
    log_marginals = torch.logsumexp(log_weights[..., None] + log_densities, 1).sum(1)  # ln prod_j q(z_j)
    log_posterior = log_densities.diagonal().sum(0)  # ln q(z|x)
    log_prior = log_normal(z, 0.0, torch.zeros_like(z)).sum(1)
    return log_posterior - log_aggregate, log_aggregate - log_marginals, log_marginals - log_prior


# Objectives. All take the same arguments: images (n, c, h, w) in [0, 1] and noise (k, n, latent_dim) from N(0, I).
# Each returns the loss of the batch, a scalar in nats per image, and the terms of the ELBO, (n,).


def elbo_loss(
    model: nn.Module, images: Tensor, noise: Tensor, *, beta: float = 1.0, dataset_size: int = 0
) -> tuple[Tensor, Elbo]:
    """-(E_q[ln p(x|z)] - beta KL), by one sample: the (B)ELBO, or beta-VAE's (Higgins et al., 2017).

    `dataset_size` has no effect.
    """
    terms = evaluate_elbo(model, images, noise[0])
    return -(terms.log_likelihood - beta * terms.kl).mean(), terms


def iwae_loss(
    model: nn.Module, images: Tensor, noise: Tensor, *, beta: float = 1.0, dataset_size: int = 0
) -> tuple[Tensor, Elbo]:
    """-ln (1/k) sum of the k importance weights: Burda et al., arXiv 1509.00519. With k = 1 it is the ELBO's.

    `beta` and `dataset_size` have no effect.
    """
    log_weights, terms = log_importance_weights(model, images, noise)
    return -(torch.logsumexp(log_weights, 0) - math.log(len(noise))).mean(), terms


def beta_tc_loss(
    model: nn.Module, images: Tensor, noise: Tensor, *, beta: float = 1.0, dataset_size: int
) -> tuple[Tensor, Elbo]:
    """-(E_q[ln p(x|z)] - MI - beta TC - dimension-wise KL), by one sample: Chen et al., arXiv 1802.04942.

    `dataset_size` is the number of training images, from which the aggregate posterior is estimated.
    """
    mean, log_variance = (term.float() for term in model.encode(images))
    z = sample_posterior(mean, log_variance, noise[0])
    log_likelihood = model.likelihood.log_likelihood(model.decode(z).float(), images)
    information, correlation, dimension_wise = total_correlation_terms(z, mean, log_variance, dataset_size)
    kl = kl_divergence(mean, log_variance).sum(1)
    terms = Elbo(log_likelihood - kl, log_likelihood, kl)
    return -(log_likelihood - information - beta * correlation - dimension_wise).mean(), terms


OBJECTIVES = {"elbo": elbo_loss, "iwae": iwae_loss, "beta_tc": beta_tc_loss}
