"""Features of images for Fréchet distances: Inception's for `fid`, a small classifier's for `fd_classifier`.

FID means Inception features and nothing else. The classifier is trained here, on the data set's own training images:
its distances rank models of one data set and can be compared with nothing outside this suite.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bvae.data import Dataset, to_batch
from bvae.data.published_files import PublishedFile, find
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.metrics import ball_radii, frechet_distance, gaussian_statistics, kernel_distance, precision_recall
from bvae.system.batching import in_batches
from bvae.system.files import read_tensors, sha256_of_file, whole_file, write_tensors
from bvae.system.seeds import derive_seed

log = logging.getLogger(__name__)

FORMAT = "bvae-reference-3"
BATCH = 250


class SmallClassifier(nn.Module):
    """Two strided convolutions and a linear layer of `features` units, whose outputs are the features."""

    def __init__(self, channels: int, size: int, outputs: int, features: int):
        super().__init__()
        self.first = nn.Conv2d(channels, 32, 3, stride=2, padding=1)
        self.second = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        pooled = min(-(-size // 4), 8)
        self.pool = nn.AdaptiveAvgPool2d(pooled)
        self.features = nn.Linear(64 * pooled**2, features)
        self.outputs = nn.Linear(features, outputs)

    def extract(self, images: Tensor) -> Tensor:
        """uint8 (n, c, h, w) -> (n, features)"""
        x = F.relu(self.first(to_batch(images)))
        x = F.relu(self.second(x))
        return self.features(self.pool(x).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (n, c, h, w) -> logits (n, outputs)"""
        return self.outputs(F.relu(self.extract(images)))


def train_classifier(dataset: Dataset, features: int, device: torch.device) -> tuple[SmallClassifier, float]:
    """Train the classifier behind `fd_classifier`; returns it and its accuracy on the test images.

    Adam with a one-cycle rate for CLASSIFIER_STEPS batches of 128; every random number derives from the data set.
    """
    attributes = dataset.train_attributes is not None
    train: Any = dataset.train_attributes if attributes else dataset.train_labels
    test: Any = dataset.test_attributes if attributes else dataset.test_labels
    labels = train.float() if attributes else train
    outputs = labels.shape[1] if attributes else len(dataset.classes)
    loss_of = F.binary_cross_entropy_with_logits if attributes else F.cross_entropy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(dataset.name, "classifier weights"))
        model = SmallClassifier(dataset.channels, dataset.size, outputs, features).to(device)
    images, labels = dataset.train_images.to(device), labels.to(device)
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, "classifier order"))
    steps, batch_size = protocol.CLASSIFIER_STEPS, min(128, len(images))
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1, cycle_momentum=False)
    for _ in range(steps):
        index = torch.randint(len(images), (batch_size,), generator=generator).to(device)
        loss = loss_of(model(images[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(batch.to(device)).cpu() for batch in dataset.test_images.split(BATCH)])
    right = (logits > 0) == test.bool() if attributes else logits.argmax(1) == test
    return model, float(right.float().mean())


def check_inception_weights(weights: Path) -> None:
    """Refuse a file that is missing or is not torch-fidelity's Inception weights, before anything opens it."""
    if not weights.exists():
        raise InputError(
            f"{weights}: no such file. `fid` needs these weights of torch-fidelity: place the file there, or set"
            " BVAE_MIRROR to a folder or address that holds it; or take `features: [classifier]` in the study."
        )
    found = sha256_of_file(weights)
    if not found.startswith(protocol.INCEPTION_SHA256):
        raise InputError(
            f"{weights}: SHA-256 {found} does not begin with {protocol.INCEPTION_SHA256}: not the Inception weights of"
            " torch-fidelity, or damaged. Delete the file and fetch it again."
        )


def fetch_inception_weights(output: str | Path) -> None:
    """Fetch Inception's weights for `fid`, check their SHA-256 and write them to `output`, whole or not at all."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    name = URL_INCEPTION_V3.rsplit("/", 1)[1]
    [path] = find("Inception weights", [PublishedFile((name, f"weights/{name}"), home=name, urls=(URL_INCEPTION_V3,))])
    check_inception_weights(path)
    with whole_file(output) as temporary:
        shutil.copyfile(path, temporary)


def load_inception(weights: Path, device: torch.device) -> nn.Module:
    """Inception v3 as in the original FID code, by torch-fidelity, from a weights file whose SHA-256 is checked."""
    check_inception_weights(weights)
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    features = [str(protocol.INCEPTION_FEATURES)]
    extractor = FeatureExtractorInceptionV3("inception", features, feature_extractor_weights_path=str(weights))
    return extractor.to(device).eval()


class RealFeatures(NamedTuple):
    """Features of real images, with what every comparison needs of them: computed once, by `real_features`."""

    values: Tensor  # (n, d)
    mean: Tensor  # (d,), float64
    covariance: Tensor  # (d, d), float64
    radii: Tensor  # (n,), the distance of each to its third nearest


def real_features(values: Tensor) -> RealFeatures:
    """Features (n, d) with their statistics."""
    mean, covariance = (torch.from_numpy(array) for array in gaussian_statistics(values))
    return RealFeatures(values, mean, covariance, ball_radii(values.float()))


@dataclass(frozen=True)
class Reference:
    """The real side of a Fréchet distance for one data set and one extractor, computed once.

    `why_empty` says why the distance means nothing here; `features` are then None. `floor` compares as many training
    images with the test images: no generator can be expected to do better.
    """

    extractor: str
    features: RealFeatures | None  # of the test images
    images: int
    floor: dict[str, float]  # by metric name without prefix: fd, kid, precision, recall
    why_empty: str | None
    dataset_sha256: str
    classifier: SmallClassifier | None = None
    classifier_accuracy: float | None = None


def extract(network: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Features (n, d) of uint8 images (n, c, h, w); Inception is shown grey images as three equal channels."""
    size = BATCH if isinstance(network, SmallClassifier) else 50

    def features_of(batch: Tensor) -> Tensor:
        batch = batch.to(device)
        if isinstance(network, SmallClassifier):
            return network.extract(batch).cpu()
        return network(batch.expand(-1, 3, -1, -1).contiguous())[0].cpu()

    with torch.inference_mode():
        return torch.cat(in_batches(features_of, images, size=size))


def reference_test_images(dataset: Dataset) -> Tensor:
    """The test images that distances are against: all, or a fixed draw of FRECHET_IMAGES."""
    count = len(dataset.test_images)
    if count <= protocol.FRECHET_IMAGES:
        return dataset.test_images
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, "reference images"))
    return dataset.test_images[torch.randperm(count, generator=generator)[: protocol.FRECHET_IMAGES]]


def classifier_features(images: int) -> int:
    """How many features the classifier has for so many test images: a power of two, one for each ten images."""
    features = protocol.CLASSIFIER_FEATURES
    while features * protocol.CLASSIFIER_IMAGES_PER_FEATURE > images:
        features //= 2
    return features


def _why_empty(extractor: str, dataset: Dataset, images: int) -> str | None:
    if extractor == "inception":
        if dataset.size < protocol.FID_MINIMUM_SIZE:
            return f"images of {dataset.size} pixels; fid needs {protocol.FID_MINIMUM_SIZE}"
        if images < protocol.FID_MINIMUM_IMAGES:
            return f"{images} test images; fid needs {protocol.FID_MINIMUM_IMAGES}"
        return None
    if dataset.train_labels is None and dataset.train_attributes is None:
        return "no labels to train the classifier on"
    needed = protocol.CLASSIFIER_MINIMUM_FEATURES * protocol.CLASSIFIER_IMAGES_PER_FEATURE
    return f"{images} test images; distances over the classifier need {needed}" if images < needed else None


def make_reference(dataset: Dataset, extractor: str, *, weights: Path, device: torch.device) -> Reference:
    """Compute the real side of a distance: train the classifier if that is the extractor, statistics, floor."""
    real = reference_test_images(dataset)
    if reason := _why_empty(extractor, dataset, len(real)):
        return Reference(extractor, None, len(real), {}, reason, dataset.sha256)
    classifier, accuracy = None, None
    if extractor == "classifier":
        classifier, accuracy = train_classifier(dataset, classifier_features(len(real)), device)
        log.info("classifier: accuracy %.4f on %d test images", accuracy, len(dataset.test_images))
    network = classifier if classifier is not None else load_inception(weights, device)
    features = real_features(extract(network, real, device))
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, "floor images"))
    drawn = dataset.train_images[torch.randperm(len(dataset.train_images), generator=generator)[: len(real)]]
    floor = compare(extract(network, drawn, device), features)
    return Reference(extractor, features, len(real), floor, None, dataset.sha256, classifier, accuracy)


def compare(generated: Tensor, real: RealFeatures) -> dict[str, float]:
    """`fd`, `kid` with `kid_spread` (from 1,000 images on), `precision` and `recall` of features (n, d)."""
    statistics = real.mean.numpy(), real.covariance.numpy()
    row = {"fd": frechet_distance(gaussian_statistics(generated), statistics)}
    if kernel := kernel_distance(generated, real.values):
        row |= {"kid": kernel[0], "kid_spread": kernel[1]}
    row["precision"], row["recall"] = precision_recall(generated, real.values, real.radii)
    return row


def save_reference(reference: Reference, path: Path) -> None:
    """Write a reference, the classifier's weights with it."""
    tensors, shape = {"empty": torch.zeros(1)}, None
    if reference.features is not None:
        tensors = reference.features._asdict()
    if reference.classifier is not None:
        classifier = reference.classifier
        shape = [classifier.first.in_channels, classifier.pool.output_size]
        tensors |= {f"classifier.{name}": tensor for name, tensor in classifier.state_dict().items()}
    facts = {key: getattr(reference, key) for key in ("extractor", "images", "floor", "why_empty", "dataset_sha256")}
    facts |= {"classifier_accuracy": reference.classifier_accuracy, "classifier_shape": shape}
    write_tensors(path, tensors, form=FORMAT, facts=facts)


def load_reference(path: Path) -> Reference:
    """Read a reference file; a missing or damaged one raises InputError that names it."""
    tensors, facts = read_tensors(path, form=FORMAT, remedy="Delete it if it is there, and run `snakemake`.")
    shape = facts.pop("classifier_shape")
    classifier = None
    if shape is not None:
        state = {name.removeprefix("classifier."): value for name, value in tensors.items() if "." in name}
        channels, pooled = shape
        outputs, features = state["outputs.weight"].shape
        classifier = SmallClassifier(channels, 4 * pooled, outputs, features)
        classifier.load_state_dict(state)
        classifier.eval()
    features = None
    if "values" in tensors:
        features = RealFeatures(**{name: tensors[name] for name in RealFeatures._fields})
    return Reference(features=features, classifier=classifier, **facts)
