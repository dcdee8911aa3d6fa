"""References: the real side of the distances over an extractor's features, computed once for each data set."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bvae.data import Dataset, arrays_sha256
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.extractors import EXTRACTORS, Extractor, Network
from bvae.evaluation.measures import (
    ball_radii,
    frechet_distance,
    gaussian_statistics,
    kernel_distance,
    precision_recall,
    side_by_side,
)
from bvae.system.batching import in_batches
from bvae.system.files import read_tensors, sha256_of_json, write_tensors
from bvae.system.seeds import derive_seed

log = logging.getLogger(__name__)

FORMAT = "bvae-reference-5"
REMEDY = "Delete it if it is there, and run `snakemake` or `python -m bvae reference`."
ALL_KINDS = Extractor.kinds
NETWORK = "network."  # before the names of an extractor's tensors in the file


class RealFeatures(NamedTuple):
    """Features of real images, with what every comparison needs of them: computed once, by `real_features`."""

    values: Tensor  # (n, d)
    mean: Tensor  # (d,), float64
    covariance: Tensor  # (d, d), float64
    radii: Tensor  # (n,), the distance of each to its third nearest; (0,) where only Fréchet distances are asked for

    def to(self, device: torch.device) -> "RealFeatures":
        """The same on a device."""
        return RealFeatures(*(tensor.to(device) for tensor in self))


def real_features(values: Tensor, kinds: Collection[str] = ALL_KINDS) -> RealFeatures:
    """Features (n, d) with their statistics, for some `kinds` of metrics of `compare`, all on one device."""
    mean, covariance = (torch.as_tensor(array) for array in gaussian_statistics(values))
    return RealFeatures(values, mean, covariance, ball_radii(values.float()) if _balls(kinds) else torch.empty(0))


def _balls(kinds: Collection[str]) -> bool:
    return not {"precision", "recall"}.isdisjoint(kinds)


@dataclass(frozen=True)
class Reference:
    """The real side of a Fréchet distance for one data set and one extractor, computed once.

    `why_empty` says why the distance means nothing here; `features` are then None. `floor` compares as many training
    images with the test images: no generator can be expected to do better. It is empty where they are fewer, because a
    distance depends on how many images it is of.
    """

    extractor: str
    features: RealFeatures | None  # of the test images
    images: int
    floor: dict[str, float]  # by metric name without prefix: fd, kid, precision, recall
    why_empty: str | None
    dataset_sha256: str
    tensors: Mapping[str, Tensor] = field(default_factory=dict)  # what is kept of the extractor's network
    facts: Mapping[str, Any] = field(default_factory=dict)  # likewise

    @cached_property
    def identity(self) -> str:
        """SHA-256, as 64 hex digits, of all that the distances to it are of: data, images and the extractor's network.

        The features are not in it. They follow from these, but each kind of processor rounds them in its own way, as it
        rounds those of generated images.
        """
        tensors = {name: tensor.cpu() for name, tensor in self.tensors.items()}
        facts = {key: getattr(self, key) for key in ("extractor", "images", "why_empty", "dataset_sha256")}
        facts |= {"facts": dict(self.facts), "version": EXTRACTORS[self.extractor].version}
        return sha256_of_json(facts | {"tensors_sha256": arrays_sha256(tensors, sorted(tensors))})

    def network(self, device: torch.device) -> Network:
        """The extractor that these features are of."""
        return EXTRACTORS[self.extractor].load(self.tensors, self.facts, device)


def extract(network: Network, images: Tensor, device: torch.device) -> Tensor:
    """Features (n, d) of uint8 images (n, c, h, w), on the CPU."""

    def features_of(batch: Tensor) -> Tensor:
        return network.extract(batch.to(device)).cpu()

    with torch.inference_mode():
        return torch.cat(in_batches(features_of, images, size=network.images_at_once))


def reference_test_images(dataset: Dataset) -> Tensor:
    """The test images that distances are against: all, or a fixed draw of FRECHET_IMAGES."""
    if len(dataset.test_images) <= protocol.FRECHET_IMAGES:
        return dataset.test_images
    return dataset.test_images[reference_index(dataset)]


def reference_index(dataset: Dataset) -> Tensor:
    """The indices (n,) of `reference_test_images` among the test images."""
    count = len(dataset.test_images)
    if count <= protocol.FRECHET_IMAGES:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, "reference images"))
    return torch.randperm(count, generator=generator)[: protocol.FRECHET_IMAGES]


def make_reference(
    dataset: Dataset, extractor: str, device: torch.device, recorded: Reference | None = None
) -> Reference:
    """Compute the real side of a distance: the extractor's network, statistics, floor.

    The network is that of a `recorded` reference, if one is given and is of this data set. Each kind of processor
    trains another network, and distances over two networks cannot be compared. Raises InputError when the recorded
    one is of another extractor or number of images.
    """
    real, chosen = reference_test_images(dataset), EXTRACTORS[extractor]
    if reason := chosen.why_empty(dataset, len(real)):
        return Reference(extractor, None, len(real), {}, reason, dataset.sha256)
    if recorded and recorded.dataset_sha256 != dataset.sha256:
        log.warning("the recorded network of %s is of other images than %s: not taken", extractor, dataset.name)
        recorded = None
    if recorded and (recorded.extractor, recorded.images) != (extractor, len(real)):
        raise InputError(
            f"the recorded reference of {dataset.name} and {extractor} is one of {recorded.extractor} over"
            f" {recorded.images:,} images, expected {len(real):,}. Get it again from git."
        )
    network = recorded.network(device) if recorded else chosen.make(dataset, len(real), device)
    features = real_features(extract(network, real, device).to(device), chosen.kinds)
    floor = {}
    if len(dataset.train_images) >= len(real):
        generator = torch.Generator().manual_seed(derive_seed(dataset.name, "floor images"))
        drawn = dataset.train_images[torch.randperm(len(dataset.train_images), generator=generator)[: len(real)]]
        floor = compare(extract(network, drawn, device).to(device), features, chosen.kinds)
    features = features.to(torch.device("cpu"))
    return Reference(extractor, features, len(real), floor, None, dataset.sha256, network.tensors, network.facts)


def compare(generated: Tensor, real: RealFeatures, kinds: Collection[str] = ALL_KINDS) -> dict[str, float]:
    """`fd` of features (n, d); by `kinds` also `kid` (from 1,000 images on, with its spread), `precision`, `recall`.

    The generated and the real features are on one device, which computes them.
    """
    found, known = gaussian_statistics(generated), (real.mean, real.covariance)
    arrays = known if isinstance(found[0], Tensor) else (known[0].numpy(), known[1].numpy())
    row = {"fd": frechet_distance(found, arrays)}
    if "kid" in kinds and (kernel := kernel_distance(generated, real.values)):
        row |= {"kid": kernel[0], "kid_spread": kernel[1]}
    if _balls(kinds):
        row["precision"], row["recall"] = precision_recall(generated, real.values, real.radii)
    return row


def compare_each(
    generated: Sequence[Tensor], real: RealFeatures, kinds: Collection[str], device: torch.device
) -> list[dict[str, float]]:
    """`compare` of several sets of features (n, d): on the CPU side by side, on a GPU one after another."""
    if device.type == "cpu":
        return side_by_side(partial(compare, real=real, kinds=kinds), generated)
    real = real.to(device)
    return [compare(features.to(device), real, kinds) for features in generated]


def save_reference(reference: Reference, path: Path) -> None:
    """Write a reference, with what is kept of the extractor's network; without `features` this is all there is."""
    tensors = {"empty": torch.zeros(1)} if reference.features is None else reference.features._asdict()
    tensors |= {NETWORK + name: tensor for name, tensor in reference.tensors.items()}
    facts = {key: getattr(reference, key) for key in ("extractor", "images", "floor", "why_empty", "dataset_sha256")}
    version = EXTRACTORS[reference.extractor].version
    write_tensors(
        path,
        tensors,
        form=FORMAT,
        facts=facts | {"facts": dict(reference.facts), "version": version, "identity": reference.identity},
    )


def load_reference(path: Path) -> Reference:
    """Read a reference file; a missing or damaged one raises InputError that names it."""
    tensors, facts = read_tensors(path, form=FORMAT, remedy=REMEDY)
    identity = facts.pop("identity")  # for those who read no tensors: it follows from the rest
    version, wanted = facts.pop("version"), EXTRACTORS[facts["extractor"]].version
    if version != wanted:
        raise InputError(f"{path}: found version {version} of {facts['extractor']}, wanted {wanted}. {REMEDY}")
    network = {name.removeprefix(NETWORK): value for name, value in tensors.items() if name.startswith(NETWORK)}
    features = None
    if "values" in tensors:
        features = RealFeatures(**{name: tensors[name] for name in RealFeatures._fields})
    reference = Reference(features=features, tensors=network, **facts)
    if reference.identity != identity:
        raise InputError(f"{path}: changed after it was written. {REMEDY}")
    return reference
