"""Fixtures of several modules: small data sets, one quick study for all workers, one thread."""

import logging
import shutil
from pathlib import Path

import pytest
import torch

from bvae.data import dataset as data
from bvae.data import fetch
from bvae.evaluation import measures, protocol
from bvae.evaluation.references import Reference, make_reference
from helpers.checkouts import QUICK, finished_once, make_checkout
from helpers.small import make_dataset
from helpers.training_runs import CPU


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_logging():
    """The command line sets it up for its process: a test that runs it here changes nothing for those after it."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def float64(monkeypatch):
    """Compute everything in float64, the float32 terms of the ELBO too: identities then hold to rounding."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(torch.float32)


CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


@pytest.fixture(params=["cpu", "torch on the cpu", CUDA])
def place(request, monkeypatch) -> torch.device:
    """The device of features: the CPU; the CPU, but by the functions of a GPU; and a GPU where there is one."""
    if request.param == "torch on the cpu":
        monkeypatch.setattr(measures, "by_torch", lambda features: True)
    return torch.device("cuda" if request.param == "cuda" else "cpu")


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> data.Dataset:
    """The digits that ship with scikit-learn: 1,437 + 360 grey images of 8 pixels, 10 classes."""
    path = tmp_path_factory.mktemp("data") / "digits.safetensors"
    fetch.fetch("sklearn:digits", name="digits", output=path, expected_sha256=None)
    return data.load(path)


@pytest.fixture(scope="session")
def fake() -> data.Dataset:
    """120 + 100 fake grey images of 8 pixels, 10 classes."""
    return make_dataset(120, 100)


@pytest.fixture(scope="session")
def reference(fake) -> Reference:
    """The classifier's side of the fake data set, trained for 300 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "CLASSIFIER_STEPS", 300)
        return make_reference(fake, "classifier", CPU)


@pytest.fixture(scope="session")
def quick(tmp_path_factory) -> Path:
    """A checkout in which the quick study has run to its end, once for all workers: read it, and change a copy."""
    return finished_once(tmp_path_factory.getbasetemp(), "quick", *QUICK)


@pytest.fixture
def quick_copy(quick, tmp_path) -> Path:
    """A copy of the finished quick study, to change."""
    return Path(shutil.copytree(quick, tmp_path / quick.name))


@pytest.fixture
def plan(tmp_path) -> Path:
    """A checkout in which nothing has run."""
    return make_checkout(tmp_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that wait for the quick study: it takes longest, and other workers go on meanwhile."""
    items.sort(key=lambda item: "quick" not in getattr(item, "fixturenames", ()))
