"""What the tests of several modules share: small data sets, small layouts, one thread."""

import logging

import fake_data
import pytest
import torch

from bvae import data, fetch
from bvae.networks import Layout

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


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def level_of_logging():
    """The command line sets it for its process: a test that runs it here changes nothing for those after it."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture
def float64(monkeypatch):
    """Compute everything in float64, the float32 terms of the ELBO too: identities then hold to rounding."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> data.Dataset:
    """The digits that ship with scikit-learn: 1,437 + 360 grey images of 8 pixels, 10 classes."""
    path = tmp_path_factory.mktemp("data") / "digits.safetensors"
    fetch.fetch("sklearn:digits", name="digits", output=path, expected_sha256=None)
    return data.load(path)


def make_dataset(n_train: int, n_test: int, *, channels: int = 1, size: int = 8, labels: bool = True) -> data.Dataset:
    """A fake data set, a pattern for each of ten classes plus noise."""
    arrays = fake_data.fake_splits(n_train, n_test, channels, size, seed=0)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items() if labels or "images" in name}
    classes = tuple("abcdefghij") if labels else ()
    return data.make(name="fake", classes=classes, source="here", licence="none", **tensors)


@pytest.fixture(scope="session")
def fake() -> data.Dataset:
    """120 + 100 fake grey images of 8 pixels, 10 classes."""
    return make_dataset(120, 100)
