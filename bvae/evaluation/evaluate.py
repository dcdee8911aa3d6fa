"""Evaluation: a trained run to its results, one flat row."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bvae.data import Dataset
from bvae.errors import InputError
from bvae.evaluation.metrics import TASKS, Task, tasks_of
from bvae.evaluation.per_image import as_kept
from bvae.evaluation.references import Reference
from bvae.evaluation.trained import Trained
from bvae.runs import Run, load_run
from bvae.system.files import sha256_of_file


class Evaluated(NamedTuple):
    """What `evaluate_run` returns."""

    row: dict  # every metric, flat, with identity and protocol
    images: dict[str, Tensor]  # values of each image, (n,) by name; none of a study of protocol 1


def evaluate_run(
    folder: Path,
    dataset: Dataset,
    references: Sequence[Reference],
    *,
    importance: dict,
    device: torch.device,
    known: dict | None = None,
    known_images: Mapping[str, Tensor] | None = None,
    protocol: int = 1,
) -> Evaluated:
    """Every metric of a trained run on the test images of its data set, by the tasks of the study's `protocol`.

    `importance` is the recipe's: `samples`, the sweep over K, and `images`, how many test images it is done on. `known`
    is an earlier row and `known_images` its values of each image: tasks that would give the same again are taken from
    them. A metric that means nothing here is None, and `empty` says why: so is every metric of a model whose weights or
    posteriors are not finite. A run that diverged has its identity and size, and no other metric.
    Raises InputError for a run or a reference of other data, and for a damaged model.
    """
    settings = {"importance": importance, "references": [[found.extractor, found.identity] for found in references]}
    trained, row = _open_run(folder, dataset, device, settings, references)
    row["importance"] = importance
    tasks = [TASKS[name] for name in tasks_of(row["status"], protocol=protocol)]
    images = None if protocol == 1 else dict(known_images or {})
    return Evaluated(*_compute(tasks, trained, row, known or {}, images))


def validate_run(folder: Path, dataset: Dataset, *, device: torch.device) -> dict:
    """The ELBO of a trained run and its terms on held-out training images, which stand as test images in `dataset`.

    Raises InputError for a data set that was not made by `fetch --validation`: settings are not chosen on test images.
    """
    if "--validation" not in dataset.source.split():
        raise InputError(
            f"{dataset.name}: found the test images of {dataset.source}, wanted training images held out by `python -m"
            " bvae fetch --validation`, as mnist_validation in workflow/datasets.yaml. A study with `tuning: true`"
            " chooses settings, and test images are for its results alone."
        )
    trained, row = _open_run(folder, dataset, device)
    row, _ = _compute([TASKS["size"]], trained, row, {})
    if row["status"] != "finished":
        return row
    found, _ = _compute([TASKS["reconstruction"]], trained, {"empty": {}}, {})
    if found["elbo"] is None:  # it was finite in training, and is not on images held out: no setting to choose
        return row | {"status": "diverged"}
    row["tasks"] |= found["tasks"]
    return row | {name: found[name] for name in ("elbo", "elbo_noise_error", "reconstruction", "kl")}


def _compute(
    tasks: Sequence[Task], trained: Trained, row: dict, known: dict, known_images: Mapping[str, Tensor] | None = None
) -> tuple[dict, dict[str, Tensor]]:
    """The row with the numbers of some tasks, and what each of them was computed by; and the values of each image.

    `known_images` are those of `known`, None where they are not asked for.
    """
    row["tasks"] = {}
    images: dict[str, Tensor] = {}
    kept = known if all(known.get(key) == row.get(key) for key in ("model_sha256", "dataset_sha256")) else {}
    for task in tasks:
        by = {"version": task.version} | {name: trained.settings[name] for name in task.uses}
        before = kept.get("tasks", {}).get(task.name, {})
        of_images: Mapping[str, Tensor] = {}
        arrays = before.get("per_image", ())
        whole = kept.keys() >= {*before.get("gives", ())} and (known_images or {}).keys() >= {*arrays}
        if by.items() <= before.items() and whole:
            found: dict[str, Any] = {name: kept[name] for name in before["gives"]}
            of_images = {name: (known_images or {})[name] for name in arrays}
            empty = {name: reason for name, reason in kept["empty"].items() if name in before["empty"]}
        elif task.name not in tasks_of("diverged") and (reason := trained.why_empty):
            found = dict.fromkeys(_required(task))
            empty = dict.fromkeys(found, reason)
        else:
            found = task.compute(trained)
            if not isinstance(found, dict):
                raise InputError(f"the task {task.name} returns {type(found).__name__}, wanted numbers by name, a dict")
            empty, of_images = found.pop("empty", {}), found.pop("per_image", {})
        _check(task, found, row)
        row |= found
        row["empty"] |= empty
        row["tasks"][task.name] = by | {"gives": sorted(found), "empty": sorted(empty)}
        if known_images is not None and of_images:
            row["tasks"][task.name]["per_image"] = sorted(of_images)
            images |= {name: as_kept(values) for name, values in of_images.items()}
    return row, images


def _check(task: Task, found: dict, row: dict) -> None:
    """Raise InputError where a task returns what is another's, leaves out what it has a record of, or is no number."""
    for name in sorted(found.keys() & row.keys()):
        raise InputError(f"the task {task.name} returns '{name}', which is there already: call it otherwise")
    for name in sorted(_required(task) - found.keys()):
        raise InputError(f"the task {task.name} has a record of '{name}' and does not return it")
    metrics = {metric.name for metric in task.metrics}
    for name, found_values in found.items():
        for value in found_values if isinstance(found_values, list) else [found_values]:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if name in metrics and value is not None and not is_number:
                raise InputError(
                    f"the task {task.name} returns {type(value).__name__} for '{name}', wanted a Python number, a list"
                    " of them, or None. Take float(...) or .tolist() of a tensor or an array"
                )
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(
                    f"the task {task.name} returns {value} for '{name}', wanted a finite number. Where there is none,"
                    " return None, and say why under 'empty'"
                )


def _required(task: Task) -> set[str]:
    """The metrics that a task returns for every run, as numbers or as None."""
    return {metric.name for metric in task.metrics if not metric.optional and not metric.any_features}


def _open_run(
    folder: Path,
    dataset: Dataset,
    device: torch.device,
    settings: dict | None = None,
    references: Sequence[Reference] = (),
) -> tuple[Trained, dict]:
    """A trained run of `dataset`, and the part of its results that needs no computing."""
    model, record = load_run(folder, device=str(device))
    torch.set_num_threads(record["run"]["settings"]["threads"])
    if record["dataset_sha256"] != dataset.sha256:
        raise InputError(
            f"{folder}: trained on data {record['dataset_sha256'][:12]}…, but {dataset.name} is now"
            f" {dataset.sha256[:12]}…. Train it again: delete {folder} and run `snakemake`."
        )
    run = Run(**record["run"])
    row = {
        **{key: value for key, value in asdict(run).items() if key != "settings"},
        **{key: record[key] for key in ("status", "precision", "device", "versions", "dataset_sha256")},
        "settings": run.settings,
        "layout": record["layout"],
        "training_version": record["training_version"],
        "model_sha256": sha256_of_file(folder / "model.safetensors"),
        "likelihood": model.likelihood.name,
        "binary_pixels": _binary(dataset.test_images),
        "train_images": len(dataset.train_images),
        "test_images": len(dataset.test_images),
        "empty": {},
    }
    return Trained(model, run, dataset, device, settings or {}, references), row


def _binary(images: Tensor) -> bool:
    """Whether every pixel of uint8 images is black or white, so that a Bernoulli is a likelihood of them."""
    return bool(((images == 0) | (images == 255)).all())
