"""Small runs, trained for a moment, and what they wrote."""

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bvae import training
from bvae.data import Dataset
from bvae.runs import Run, read_record, train_run

CPU = torch.device("cpu")
NETWORKS = {
    "mlp": {"architecture": "mlp", "hidden": [12]},
    "conv with batch norm": {
        "architecture": "conv",
        "width": 4,
        "neck": 3,
        "hidden": [6],
        "normalization": "batch",
    },
    "resnet": {"architecture": "resnet", "width": 4, "neck": 3, "hidden": [6]},
}


def make_run(
    arm: str = "bvae",
    *,
    seed: int = 0,
    network: dict | None = None,
    likelihood: str | dict = "bernoulli",
    objective: dict | None = None,
    **changes,
):
    """A run of 4 epochs of 6 steps on the fake data set; `changes` are to its training, or its precision."""
    if isinstance(likelihood, str):
        likelihood = {"name": likelihood} | ({"learned": True} if likelihood == "gaussian" else {})
    training_settings = {"epochs": 4, "batch_size": 20, "learning_rate": 3e-3, "weight_decay": 0.01}
    settings = {
        "network": network or NETWORKS["mlp"],
        "objective": objective or {"name": "elbo", "beta": 1},
        "likelihood": likelihood,
        "precision": changes.pop("precision", "float32"),
        "threads": 1,
        "training": training_settings | changes,
    }
    return Run("recipe", settings, "fake", arm, 4, seed)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def results(folder: Path) -> dict[str, object]:
    """All that a run wrote: the bytes of each tensor by name, its record, and the bytes of its history."""
    path = folder / "model.safetensors"
    tensors = {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}
    return tensors | {"record": read_record(path), "history": (folder / "history.csv").read_bytes()}


def read_history(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open(encoding="utf-8", newline="") as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def train_into(run: Run, dataset: Dataset, folder: Path, *, device: str = "cpu", **settings) -> dict[str, object]:
    assert train_run(run, dataset, folder, device=device, **settings) == "finished"
    return results(folder)


class Killed(Exception):
    """What stands for a killed process."""


def interrupt(
    run: Run, dataset: Dataset, folder: Path, monkeypatch, *, after_batches: int, device: str = "cpu"
) -> None:
    """Train as many batches, saving the state after each, then die."""
    batches = 0

    def dying(steps, **_):
        nonlocal batches
        for step in steps:
            if batches == after_batches:
                raise Killed
            batches += 1
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(training, "tqdm", dying)
        with pytest.raises(Killed):
            train_run(run, dataset, folder, device=device, resume_interval=0)
