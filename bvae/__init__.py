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

# Raise by one when a change to the code alters the numbers that training produces: every run is then trained anew.
# Tasks of evaluation and extractors have versions of their own, in bvae/evaluation/.
TRAINING_VERSION = 1

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
