"""Known changes of images, and what they cost in Fréchet distance: a scale for the distances of models."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bvae.data import Dataset
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.draws import interpolation_pairs
from bvae.evaluation.measures import frechet_distance, gaussian_statistics
from bvae.evaluation.metrics._distortions import CHANGES, VERSION
from bvae.evaluation.references import Reference, compare, extract, reference_index
from bvae.system.seeds import derive_seed

BATCH = 500  # images that are changed at once


def blur(images: Tensor, sigma: float) -> Tensor:
    """uint8 images (n, c, h, w) under a Gaussian of `sigma` pixels, cut at four of these.

    Beyond its border an image goes on as at the border, so that an image of one colour stays as it is.
    """
    reach = int(4 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    profile = torch.exp(-0.5 * (offsets / sigma) ** 2)
    profile = profile / profile.sum()
    channels = images.shape[1]
    kernel = profile.expand(channels, 1, 1, -1)
    wide = torch.nn.functional.pad(images.float(), (reach,) * 4, mode="replicate")
    rows = torch.nn.functional.conv2d(wide, kernel, groups=channels)
    return _as_pixels(torch.nn.functional.conv2d(rows, kernel.mT, groups=channels))


def add_noise(images: Tensor, sigma: float, noise: Tensor) -> Tensor:
    """uint8 images (n, c, h, w) plus `sigma` times standard normal `noise`, where white is 1; clipped."""
    return _as_pixels(images.float() + 255 * sigma * noise)


def scale_contrast(images: Tensor, factor: float) -> Tensor:
    """uint8 images (n, c, h, w) times a factor, so that black stays black."""
    return _as_pixels(images.float() * factor)


def _as_pixels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def changed_images(dataset: str, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The blurred, noisy and paler versions of uint8 images (n, c, h, w), by the names in CHANGES.

    The noise derives from the data set; both strengths have the same.
    """
    for sigma in protocol.DISTORTION_BLURS:
        yield f"blur_{sigma}", torch.cat([blur(batch, sigma) for batch in images.split(BATCH)])
    for sigma in protocol.DISTORTION_NOISES:
        generator = torch.Generator().manual_seed(derive_seed(dataset, "distortion noise"))
        parts = [add_noise(x, sigma, torch.randn(x.shape, generator=generator)) for x in images.split(BATCH)]
        yield f"noise_{sigma}", torch.cat(parts)
    yield f"contrast_{protocol.DISTORTION_CONTRAST}", scale_contrast(images, protocol.DISTORTION_CONTRAST)


def between_halves(features: Tensor) -> float:
    """The Fréchet distance of the first half of features (n, d) to the second; of an odd n the last is left out."""
    half = len(features) // 2
    return frechet_distance(gaussian_statistics(features[:half]), gaussian_statistics(features[half : 2 * half]))


def without_each_class(features: Tensor, labels: Tensor) -> list[float]:
    """The Fréchet distance to features (n, d) of these without each class of labels (n,), in the classes' order."""
    whole = gaussian_statistics(features)
    kept = ((labels != label).to(features.device) for label in labels.unique())
    return [frechet_distance(gaussian_statistics(features[rows]), whole) for rows in kept]


def measure_distortions(dataset: Dataset, reference: Reference, device: torch.device) -> dict:
    """What each of CHANGES costs in Fréchet distance over the features of a reference, as a row for a JSON file.

    A distance that means nothing here is None, and `empty` says why. Raises InputError for a reference of other data.
    """
    if reference.dataset_sha256 != dataset.sha256:
        raise InputError(
            f"reference of {reference.extractor}: made from other data than {dataset.name}; delete it, run again"
        )
    row = {"dataset": dataset.name, "extractor": reference.extractor, "version": VERSION}
    row |= {"dataset_sha256": dataset.sha256, "reference_sha256": reference.identity, "images": reference.images}
    if reference.features is None:
        return row | {"distances": {}, "empty": {change.name: reference.why_empty for change in CHANGES}}
    known = reference.features.to(device)
    real, network, index = known.values, reference.network(device), reference_index(dataset)

    def distance(features: Tensor) -> float:
        return compare(features.to(device), known, ("fd",))["fd"]

    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(derive_seed(dataset.name, "halves")))
    first, _ = interpolation_pairs(dataset.name, len(dataset.test_images), len(real))
    distances: dict[str, float | None] = {
        "halves_at_random": between_halves(real[order]),
        "halves_in_order": between_halves(real[index.argsort()]),
        "ends_of_pairs": distance(extract(network, dataset.test_images[first], device)),
        "training_images": reference.floor.get("fd"),
        "class_dropped": None,
    }
    empty = {}
    if distances["training_images"] is None:
        empty["training_images"] = f"{len(dataset.train_images)} training images are fewer than {len(real)} test images"
    if dataset.test_labels is None:
        empty["class_dropped"] = "no class labels"
    elif len(dataset.test_labels[index].unique()) < 2:
        empty["class_dropped"] = "all test images have the same label"
    elif (left := len(real) - int(dataset.test_labels[index].unique(return_counts=True)[1].max())) < 2:
        empty["class_dropped"] = f"without its largest class {left} test image is left"
    else:
        distances["class_dropped"] = float(np.mean(without_each_class(real, dataset.test_labels[index])))
    for name, images in changed_images(dataset.name, dataset.test_images[index]):
        distances[name] = distance(extract(network, images, device))
    return row | {"distances": distances, "empty": empty}
