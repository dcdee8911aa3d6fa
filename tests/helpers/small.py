"""Small networks, settings and data sets for the tests of several modules."""

import torch

from bvae.data import dataset as data
from bvae.networks import Layout
from helpers import fake_data

SMALL_LAYOUTS = {
    "mlp": Layout("mlp", 1, 8, 3, hidden=(10, 7)),
    "conv": Layout("conv", 1, 8, 3, (5,), neck=4, hidden=(6,)),
    "resnet": Layout("resnet", 3, 8, 3, (4, 6), neck=3, hidden=(5,), blocks=2),
}
SETTINGS = {  # of a small recipe, trained for a moment
    "network": {"architecture": "mlp", "hidden": [16]},
    "objective": {"name": "elbo", "beta": 1},
    "likelihood": {"name": "bernoulli"},
    "precision": "float32",
    "threads": 1,
    "training": {"epochs": 2, "batch_size": 20, "learning_rate": 1e-3},
}
SHORT_SWEEP = {"samples": [1, 10], "images": 100}  # of importance samples


def make_dataset(n_train: int, n_test: int, *, channels: int = 1, size: int = 8, labels: bool = True) -> data.Dataset:
    """A fake data set, a pattern for each of ten classes plus noise."""
    arrays = fake_data.fake_splits(n_train, n_test, channels, size, seed=0)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items() if labels or "images" in name}
    classes = tuple("abcdefghij") if labels else ()
    return data.make(name="fake", classes=classes, source="here", licence="none", **tensors)


def float64s(*shape: int, seed: int) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
