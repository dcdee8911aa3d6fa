"""Results of runs of a study that tunes, made up, and as files."""

from pathlib import Path

import torch

import bvae
from bvae.evaluation.metrics import tasks_of, versions
from bvae.runs import FORMAT
from bvae.study.runs import results_paths, run_name
from bvae.system.files import sha256_of_file, write_json, write_tensors, write_text


def result(recipe: str, arm: str, rate: float, elbo: float | None, *, seed: int = 0, **settings) -> dict:
    """What the step `evaluate` writes in a study that tunes; no ELBO: the run diverged."""
    row = {"recipe": recipe, "dataset": "fake_validation", "latent_dim": 3, "arm": arm, "seed": seed}
    row |= {"status": "diverged"} if elbo is None else {"status": "finished", "elbo": elbo}
    row |= {"training_version": bvae.TRAINING_VERSION}
    tasks = versions(tasks_of(row["status"], tuning=True))
    row |= {"tasks": {name: {"version": version} for name, version in tasks.items()}}
    row |= {"dataset_sha256": "0" * 64, "test_images": 50, "device": "CPU", "precision": "float32", "versions": {}}
    return row | {"settings": {"training": {"epochs": 2, "learning_rate": rate}} | settings}


def write_results(study: dict, rows: list[dict], folder: Path) -> None:
    """Put results where the study has them below a folder, each beside a model and a history of next to nothing."""
    for row in rows:
        path = folder / results_paths(study, folder)[run_name(row)]
        names = ("recipe", "dataset", "arm", "latent_dim", "seed", "settings")
        facts = {"run": {name: row[name] for name in names}}
        facts |= {name: row[name] for name in ("training_version", "dataset_sha256", "status")}
        write_tensors(path.with_name("model.safetensors"), {"bias": torch.zeros(1)}, form=FORMAT, facts=facts)
        write_text(path.with_name("history.csv"), "epoch\n")
        write_json(path, row | {"model_sha256": sha256_of_file(path.with_name("model.safetensors"))})
