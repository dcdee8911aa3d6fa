"""Likelihoods and the objective: nats per image, summed over pixels and latents, the same in training and test."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bernoulli(nn.Module):
    """p(x|z) = prod Bernoulli(x | sigmoid(logits)). On grey pixels it is a bound by convention, not a likelihood."""

    name = "bernoulli"

    def log_likelihood(self, logits: Tensor, images: Tensor) -> Tensor:
        """ln p(x|z) in nats, (n,), from logits and images (n, c, h, w)."""
        return -F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(1)

    def mean(self, logits: Tensor) -> Tensor:
        """The mean image, in [0, 1]."""
        return logits.sigmoid()


class Gaussian(nn.Module):
    """p(x|z) = prod N(x | means, sigma²), one scalar sigma, fixed or learned, for pixels in [0, 1]."""

    name = "gaussian"

    def __init__(self, sigma: float = 0.1, *, learned: bool = False):
        super().__init__()
        log_sigma = torch.tensor(math.log(sigma))
        if learned:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.log_sigma = float(log_sigma)

    @property
    def sigma(self) -> float:
        """The scale of the pixel noise, for pixels in [0, 1]."""
        return math.exp(torch.as_tensor(self.log_sigma).detach())

    def log_likelihood(self, means: Tensor, images: Tensor) -> Tensor:
        """ln p(x|z) = -SSE / (2 sigma²) - d ln sigma - d/2 ln 2 pi in nats, (n,), from (n, c, h, w)."""
        log_sigma = torch.as_tensor(self.log_sigma, device=images.device)
        squared_errors = (means - images).square().flatten(1)  # (n, d)
        per_pixel = -0.5 * torch.exp(-2 * log_sigma) * squared_errors - log_sigma - 0.5 * math.log(2 * math.pi)
        return per_pixel.sum(1)

    def mean(self, means: Tensor) -> Tensor:
        """The mean image, clamped to [0, 1]."""
        return means.clamp(0, 1)


def build_likelihood(settings: dict, *, channels: int) -> nn.Module:
    """The likelihood that a recipe names; `auto`: Bernoulli for grey images, Gaussian with learned sigma for colour."""
    name = settings["name"]
    if name == "auto":
        name, settings = ("bernoulli", {}) if channels == 1 else ("gaussian", {"sigma": 0.1, "learned": True})
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


def elbo_loss(model: nn.Module, images: Tensor, noise: Tensor, *, beta: float = 1.0) -> tuple[Tensor, Elbo]:
    """The training loss, -(E_q[ln p(x|z)] - beta KL) averaged over images, and the terms it came from."""
    terms = evaluate_elbo(model, images, noise)
    return -(terms.log_likelihood - beta * terms.kl).mean(), terms
