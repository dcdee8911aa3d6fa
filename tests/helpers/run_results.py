"""Results of the runs of a small study, made up, with its controls and costs, and as files."""

from pathlib import Path

import bvae
from bvae.evaluation.metrics import OF_CONTROLS, OF_UNTRAINED, TASKS, tasks_of, versions
from bvae.study.runs import group_paths, results_paths, run_name, training_settings
from bvae.system.files import write_json, write_tensors, write_text
from helpers.studies import FOUR

SETTINGS = {"threads": 1, "likelihood": {"name": "bernoulli"}, "training": {"epochs": 3, "learning_rate": 0.001}}
RECIPE = SETTINGS | {"importance": {"samples": [1, 10], "images": 5}}
PLACE = {"recipe": "r", "dataset": "fake", "latent_dim": 4}
GENERATED = ("samples", "mixture_samples", "reconstructions", "interpolations", "slerp_interpolations")


def run_row(arm: str, seed: int, **changes) -> dict:
    """What evaluation writes of a run: the ELBO is -100 minus the seed."""
    row = PLACE | {"arm": arm, "seed": seed, "status": "finished", "device": "CPU", "precision": "float32"}
    row |= {"settings": SETTINGS, "importance": RECIPE["importance"], "versions": {}}
    row |= {"training_version": bvae.TRAINING_VERSION}
    row |= {"tasks": {name: {"version": version} for name, version in versions(TASKS).items()}}
    row["tasks"]["importance"]["importance"] = RECIPE["importance"]
    row |= {"dataset_sha256": "0" * 64, "likelihood": "bernoulli", "binary_pixels": False, "test_images": 1_234}
    row |= {"parameters": 52 if arm == "bvae" else 100, "model_mb": 0.1, "elbo": -100.0 - seed, "ssim": None}
    row |= {"reconstruction": 70.0, "probe_accuracy": 0.9 + seed / 100, "nll": 95.0, "nll_samples": 10, "nll_images": 5}
    row |= {"fd_classifier_images": 1_234, "fd_classifier_floor": 2.0, "path_ratio_interpolations": 1.1}
    row |= {f"fd_classifier_{what}": 50.0 + seed for what in GENERATED}
    return row | {"empty": {"ssim": "images of 8 pixels"}} | changes


def made_today(study: dict, run: dict, dataset_sha256: str, status: str = "finished") -> dict:
    """What the results of a run of a checked study of protocol 1 say that they were made from, if that is today's."""
    recipe = study["recipes"][run["recipe"]]
    tasks = {name: {"version": TASKS[name].version} for name in tasks_of(status)}
    for task in tasks.keys() & {"importance"}:
        tasks[task]["importance"] = recipe["importance"]
    row = {key: run[key] for key in ("dataset", "arm", "latent_dim", "seed")}
    row |= {"settings": training_settings(recipe, run["arm"]), "importance": recipe["importance"], "tasks": tasks}
    return row | {"training_version": bvae.TRAINING_VERSION, "dataset_sha256": dataset_sha256, "status": status}


def model_today(study: dict, run: dict, folder: Path, dataset_sha256: str) -> None:
    """Write a model without weights, that says it is made from what `made_today` says, and its history."""
    facts = made_today(study, run, dataset_sha256)
    write_tensors(folder / "model.safetensors", {}, form="bvae-model", facts=facts | {"run": run})
    write_text(folder / "history.csv", "epoch\n")


def lost(row: dict) -> dict:
    """The row of a run that diverged: its identity and no metric."""
    kept = {*PLACE, "arm", "seed", "device", "precision", "settings", "importance", "versions", "likelihood"}
    kept |= {"training_version", "tasks", "dataset_sha256", "binary_pixels", "test_images"}
    lost = {key: row[key] for key in (*kept, "parameters", "model_mb")} | {"status": "diverged", "empty": {}}
    return lost | {"tasks": {"size": row["tasks"]["size"]}}


def study_of(rows: list[dict]) -> dict:
    seeds, arms = sorted({row["seed"] for row in rows}), list(dict.fromkeys(row["arm"] for row in rows))
    block = {"datasets": ["fake"], "recipes": ["r"], "latent_dims": [4], "arms": arms, "seeds": seeds}
    return {
        "study": "s",
        "title": "",
        "tuning": False,
        "features": ["classifier"],
        "blocks": [block],
        "recipes": {"r": RECIPE},
    }


def write_study(rows: list[dict], folder: Path) -> dict:
    """Write a study's runs, controls and cost below a folder, and return the study."""
    for row in rows:
        write_json(folder / results_paths(study_of(rows), folder)[run_name(row)], row)
    [group] = group_paths(study_of(rows))
    made_from = {"versions": versions(OF_CONTROLS), "dataset_sha256": "0" * 64, "settings": SETTINGS}
    made_from |= {"training_version": bvae.TRAINING_VERSION, **{key: group[key] for key in ("latent_dim", "seed")}}
    controls = made_from | {"mean_image_log_likelihood_bernoulli": -200.0, "probe_accuracy_raw_pixels": 0.8}
    write_json(folder / "results/controls/fake/controls.json", controls | {"majority_accuracy": 0.125})
    write_json(folder / group["pca"], made_from | {"probe_accuracy": 0.7, "mse_per_pixel": 0.01})
    untrained = {"versions": versions(OF_UNTRAINED), "probe_accuracy": 0.6, "probe_sampled_accuracy": 0.5}
    write_json(folder / group["untrained"], made_from | untrained)
    arm = {"head_share": 0.05, "model_mb": 0.1, "training_state_mb": 0.4, "peak_training_mb": 1.0}
    arm |= {"macs_encode": 2e6, "macs_decode": 1e6, "images_per_second_training_quartiles": [1.0, 2.0]}
    arm |= {f"images_per_second_{what}": 1_500.0 for what in ("training", "encoding", "decoding")}
    arms = {name: arm | {"parameters_total": 52 if "bvae" in name else 100} for name in FOUR}
    write_json(folder / group["cost"], made_from | {"device": "CPU", "precision": "float32", "arms": arms})
    return study_of(rows)
