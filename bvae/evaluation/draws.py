"""Random draws of test images and of latents, and the ways between latents: the same for every arm."""

import numpy as np
import torch
from torch import Tensor

from bvae.data import Dataset
from bvae.evaluation import protocol
from bvae.evaluation.measures import side_by_side
from bvae.runs import Run
from bvae.system.seeds import derive_seed


def interpolation_pairs(dataset: str, images: int, pairs: int) -> Tensor:
    """Indices (2, pairs) of random pairs of different test images, the same for every run of a data set.

    A single image has no other: there are then no pairs, (2, 0).
    """
    if images < 2:
        return torch.empty(2, 0, dtype=torch.int64)
    generator = torch.Generator().manual_seed(derive_seed(dataset, "interpolation pairs"))
    first = torch.randint(images, (pairs,), generator=generator)
    other = torch.randint(1, images, (pairs,), generator=generator)
    return torch.stack([first, (first + other) % images])


def path_shares(dataset: str, pairs: int) -> Tensor:
    """For each pair a share of its way, (pairs, 1), even between 0 and 1, the same for every run of a data set."""
    generator = torch.Generator().manual_seed(derive_seed(dataset, "shares of the paths"))
    return torch.rand(pairs, 1, generator=generator)


def prior_samples(dataset: str, seed: int, samples: int, latent_dim: int) -> Tensor:
    """Latents (samples, latent_dim) from N(0, I), the same for every arm of (data set, seed)."""
    generator = torch.Generator().manual_seed(derive_seed(dataset, seed, "prior samples"))
    return torch.randn(samples, latent_dim, generator=generator)


def mixture_samples(run: Run, train: Tensor, count: int) -> Tensor | None:
    """Latents (count, latent_dim) from a mixture of 10 Gaussians fitted to training latents, by scikit-learn.

    It is fitted on one core of the CPU, also where there is a GPU: its last digits depend on how products are computed
    (two threads give others than one), and by them the steps of the fit and which samples are drawn.
    None where no mixture can be fitted, because latents are too large for the precision of their covariance.
    """
    from sklearn.mixture import GaussianMixture

    seed = derive_seed(run.dataset, run.seed, "mixture") % 2**32
    latents = train[: protocol.MIXTURE_IMAGES].numpy()
    components = min(protocol.MIXTURE_COMPONENTS, len(np.unique(latents, axis=0)))  # one, of an encoder that is dead
    unfitted = GaussianMixture(components, reg_covar=1e-4, max_iter=100, random_state=seed)
    try:
        (mixture,) = side_by_side(unfitted.fit, [latents])  # in float32: half the time
    except ValueError:  # a covariance that is not positive definite
        return None
    weights = mixture.weights_.astype(np.float64)
    if weights[:-1].sum() > 1:  # by float32's rounding, where the last has next to none: NumPy refuses such shares
        mixture.weights_ = weights / weights[:-1].sum()
    covariances = mixture.covariances_.astype(np.float64)
    mixture.covariances_ = 0.5 * (covariances + covariances.swapaxes(1, 2))  # symmetric but for float32's rounding
    return torch.from_numpy(mixture.sample(count)[0]).float()


def fixed_draw(dataset: Dataset, purpose: str, count: int) -> tuple[Tensor, Tensor]:
    """`count` test images (all, if there are fewer) and their indices, drawn by (data set, purpose) alone."""
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, purpose))
    index = torch.randperm(len(dataset.test_images), generator=generator)[:count]
    return dataset.test_images[index], index


def lerp(first: Tensor, second: Tensor, t: float | Tensor) -> Tensor:
    """The point at share t of the straight line between latents (n, d); t is a number, or one for each, (n, 1)."""
    return first + t * (second - first)


def slerp(first: Tensor, second: Tensor, t: float | Tensor) -> Tensor:
    """The point at share t of the way between latents (n, d) whose direction turns evenly (Shoemake, 1985).

    t is a number, or one for each, (n, 1). The norm goes evenly from the one to the other. Latents of parallel or
    opposite directions are joined straight.
    """
    a, b = first.double(), second.double()  # in float32, rounding turns opposite latents into an arc far away
    norms = [z.norm(dim=1, keepdim=True).clamp_min(1e-12) for z in (a, b)]
    unit_a, unit_b = a / norms[0], b / norms[1]
    angle = torch.acos((unit_a * unit_b).sum(1, keepdim=True).clamp(-1, 1))
    sine = torch.sin(angle)
    direction = (torch.sin((1 - t) * angle) * unit_a + torch.sin(t * angle) * unit_b) / sine.clamp_min(1e-6)
    return torch.where(sine < 1e-6, lerp(a, b, t), direction * lerp(norms[0], norms[1], t)).to(first.dtype)
