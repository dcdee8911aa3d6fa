"""Controls: what every run must beat, without an autoencoder or before its training."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from bvae.data import Dataset, to_batch
from bvae.evaluation import protocol
from bvae.evaluation.measures import mean_image_log_likelihood, mse_per_pixel
from bvae.evaluation.metrics import OF_CONTROLS, OF_UNTRAINED, versions
from bvae.evaluation.probes import linear_probe, majority_baseline
from bvae.evaluation.trained import (
    classify,
    labels_of,
    latents_of_probes,
    posteriors,
    probe_unstandardised,
    why_no_probe,
    why_unclassified,
)
from bvae.runs import Run, build_model
from bvae.system.seeds import derive_seed


def _for_controls(dataset: Dataset) -> Dataset:
    """The data set, with CONTROL_IMAGES training images by a fixed draw if its images are large."""
    count = len(dataset.train_images)
    if not _is_large(dataset) or count <= protocol.CONTROL_IMAGES:
        return dataset
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, "control images"))
    index = torch.randperm(count, generator=generator)[: protocol.CONTROL_IMAGES]
    train: dict[str, Any] = {
        name: tensor[index] for name, tensor in dataset.tensors().items() if name.startswith("train_")
    }
    return replace(dataset, **train)


def _is_large(dataset: Dataset) -> bool:
    return math.prod(dataset.shape) > protocol.CONTROL_VALUES


def evaluate_controls(dataset: Dataset) -> dict:
    """What a data set gives without any autoencoder: raw-pixel probe, majority class, the mean image's likelihood."""
    dataset = _for_controls(dataset)
    _take_one_thread()
    train, test = (to_batch(images) for images in (dataset.train_images, dataset.test_images))
    labels = labels_of(dataset)
    row: dict = _identity(dataset) | {"probe_accuracy_raw_pixels": None, "majority_accuracy": None}
    for likelihood in ("bernoulli", "gaussian"):
        row[f"mean_image_log_likelihood_{likelihood}"] = mean_image_log_likelihood(train, test, likelihood)
    row["mean_image_mse_per_pixel"] = float(mse_per_pixel(test, train.mean(0).expand_as(test)).mean())
    if labels is not None and not why_no_probe(dataset):
        train_pixels, test_pixels = (images.flatten(1).double().numpy() for images in (train, test))
        strengths = protocol.CONTROL_STRENGTHS if _is_large(dataset) else ()
        pixels = (train_pixels, labels[0], test_pixels, labels[1])
        found = linear_probe(*pixels, identity=dataset.name, strengths=strengths)
        row |= {f"probe_{name}_raw_pixels": value for name, value in found.items()}
    if labels is not None and not why_unclassified(dataset):
        row |= {f"majority_{name}": value for name, value in majority_baseline(*labels).items()}
    return row


def evaluate_pca(dataset: Dataset, latent_dim: int) -> dict:
    """What `latent_dim` principal components of the training images give: the best linear autoencoder's test error.

    They are as many as there are pixels, or directions in which training images differ, at most; where all of these are
    the same there are none, and the error is that of the mean image. Classification as of posterior means.
    """
    from sklearn.decomposition import PCA

    dataset = _for_controls(dataset)
    _take_one_thread()
    row = _identity(dataset) | {"latent_dim": latent_dim}
    train, test = (to_batch(images).flatten(1).numpy() for images in (dataset.train_images, dataset.test_images))
    seed = derive_seed(dataset.name, "pca") % 2**32  # large images are projected at random first
    if (train == train[0]).all():
        row |= {"components": 0, "mse_per_pixel": float(np.square(train[0] - test).mean())}
        return row | {"probe_accuracy": None, "knn_accuracy": None, "trustworthiness": None}
    pca = PCA(min(latent_dim, len(train) - 1, train.shape[1]), random_state=seed).fit(train)
    latents = [torch.from_numpy(pca.transform(pixels)).float() for pixels in (train, test)]
    decoded = np.clip(pca.inverse_transform(latents[1].numpy()), 0, 1)
    row["components"] = pca.n_components_
    row["mse_per_pixel"] = float(np.square(decoded - test).mean())
    return row | classify(dataset, latents[0], latents[1], torch.device("cpu"))[0]


def _take_one_thread() -> None:
    """What the workflow gives these steps: with another number the last digits may differ."""
    torch.set_num_threads(1)
    threadpool_limits(1)


def _identity(dataset: Dataset) -> dict:
    return {
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "train_images": len(dataset.train_images),
        "versions": versions(OF_CONTROLS),
    }


def evaluate_untrained(run: Run, dataset: Dataset, device: torch.device) -> dict:
    """The probes on the encoder of a run before training: the same for all arms of the planned layer sizes."""
    torch.set_num_threads(run.settings["threads"])
    model, _ = build_model(run, channels=dataset.channels, size=dataset.size)
    model = model.to(device).eval()
    row = _identity(dataset) | {key: getattr(run, key) for key in ("recipe", "settings", "latent_dim", "seed")}
    row["versions"] = versions(OF_UNTRAINED)
    train, test = (posteriors(model, images, device) for images in (dataset.train_images, dataset.test_images))
    row |= classify(dataset, train[0], test[0], device)[0]
    return row | probe_unstandardised(dataset, latents_of_probes(dataset.name, run.seed, train, test))[0]
