"""Bidirectional variational autoencoders, benchmarked against ordinary ones.

As a library: `from bvae import BVAE, VAE, plan, Bernoulli, Gaussian, train, load_run`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bvae.networks import BVAE, VAE, plan
    from bvae.objective import Bernoulli, Gaussian
    from bvae.runs import load_run
    from bvae.training import train

__all__ = ["BVAE", "VAE", "Bernoulli", "Gaussian", "load_run", "plan", "train"]

__version__ = "0.1.0"

# Raise by one when a change to the code alters the numbers that training (or evaluation)
# produces: every run (or every metrics file) is then computed anew.
TRAINING_VERSION = 1
EVALUATION_VERSION = 4

FIGURES = (  # drawn by bvae.report.figures
    "architecture",
    "belbo_training",
    "blocks",
    "reconstructions",
    "backward",
    "samples",
    "interpolations",
    "tsne",
    "training_curves",
    "quality",
    "rate_distortion",
    "latent_variances",
    "latent_gains",
)
FIGURES_WITH_NUMBERS = ("latent_gains",)  # a csv beside the picture: they stand in no table

_HOMES = {
    "BVAE": "networks",
    "VAE": "networks",
    "plan": "networks",
    "Bernoulli": "objective",
    "Gaussian": "objective",
    "train": "training",
    "load_run": "runs",
}


def __getattr__(name: str) -> object:
    """Import a name of `__all__` when it is first asked for: Snakemake and `--help` do without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bvae' has no attribute '{name}'")
    return getattr(import_module(f"bvae.{_HOMES[name]}"), name)
