"""A trained run with its data: what its metrics are computed from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bvae.data import Dataset, to_batch
from bvae.evaluation import protocol
from bvae.evaluation.draws import fixed_draw
from bvae.evaluation.measures import active_latents, latent_trustworthiness, neighbour_accuracy
from bvae.evaluation.probes import Features, linear_probes
from bvae.evaluation.references import Reference
from bvae.networks import VAE
from bvae.objective import log_importance_weights, sample_posterior
from bvae.runs import Run
from bvae.system.batching import in_batches, on_card
from bvae.system.seeds import derive_seed

BATCH = 500  # images encoded or decoded at once
WEIGHED = 20  # images encoded together for importance weights
DRAWN = 25  # importance samples of these images that one draw of noise is for: with others, it is other noise
GPU_PIXELS = 2**22  # decoded at once for importance weights on a GPU: 5,349 images of 28x28
PROBE_MINIMUM_IMAGES = 6  # of training: a sixth is held out
TRUSTWORTHINESS_MINIMUM_IMAGES = 3  # one neighbour, and one image that is none


@dataclass(frozen=True)
class Trained:
    """A trained run, its data, and what evaluation is told besides."""

    model: VAE
    run: Run
    dataset: Dataset
    device: torch.device
    settings: Mapping[str, Any] = field(default_factory=dict)  # `importance` of the recipe, hashes of `references`
    references: Sequence[Reference] = ()

    @cached_property
    def test_posteriors(self) -> tuple[Tensor, Tensor]:
        """Means and log-variances of the posteriors of the test images, (n, latent_dim) each."""
        return posteriors(self.model, self.dataset.test_images, self.device)

    @property
    def test_means(self) -> Tensor:
        """Posterior means of the test images, (n, latent_dim)."""
        return self.test_posteriors[0]

    @cached_property
    def why_empty(self) -> str | None:
        """Why every metric but the size is empty: weights or posteriors are no numbers. None for a sound model."""
        if not all(tensor.isfinite().all() for tensor in self.model.state_dict().values()):
            return "its weights are not finite"
        mean, log_variance = self.test_posteriors
        return why_not_finite(mean + log_variance, "test")

    @cached_property
    def train_posteriors(self) -> tuple[Tensor, Tensor]:
        """Means and log-variances of the posteriors of the training images, (n, latent_dim) each."""
        return posteriors(self.model, self.dataset.train_images, self.device)

    @property
    def train_means(self) -> Tensor:
        """Posterior means of the training images, (n, latent_dim)."""
        return self.train_posteriors[0]

    @property
    def compares(self) -> bool:
        """Whether distances to the features of a reference can be computed."""
        return any(reference.features is not None for reference in self.references)

    @cached_property
    def nll_images(self) -> tuple[Tensor, Tensor]:
        """The test images of the NLL, a fixed draw of as many as the recipe says, and their indices."""
        return fixed_draw(self.dataset, "nll images", self.settings["importance"]["images"])

    @cached_property
    def log_weights(self) -> Tensor:
        """ln p(x, z) / q(z|x) in nats, (K, n) in float64: of `nll_images`, by the recipe's greatest K.

        The noise is drawn on the CPU in blocks of one size, so it is the same however many are decoded at once.
        """
        run, samples = self.run, max(self.settings["importance"]["samples"])
        generator = torch.Generator().manual_seed(derive_seed(run.dataset, run.seed, "importance noise"))
        columns = []
        with torch.inference_mode(), on_card():  # one turn on the GPU for all of its many small batches
            for batch in self.nll_images[0].split(WEIGHED):
                shown = to_batch(batch.to(self.device))

                def weigh(noise: Tensor, shown: Tensor = shown) -> Tensor:
                    return log_importance_weights(self.model, shown, noise.to(self.device))[0].double()

                counts = [min(DRAWN, samples - first) for first in range(0, samples, DRAWN)]
                blocks = [torch.randn(n, len(batch), run.latent_dim, generator=generator) for n in counts]
                size = samples_at_once(self.device, self.dataset.size)
                columns.append(torch.cat(in_batches(weigh, torch.cat(blocks), size=size)))
        return torch.cat(columns, 1).cpu()  # once, so that a GPU decodes while the CPU draws


def samples_at_once(device: torch.device, size: int) -> int:
    """How many importance samples of WEIGHED images of `size` pixels a side are decoded in one call.

    On the CPU DRAWN, because more do not make it faster. A GPU would wait for the host between calls of so few; it gets
    GPU_PIXELS pixels, the same on every card: what does not fit is halved (bvae/system/batching.py).

    >>> samples_at_once(torch.device("cpu"), 28), samples_at_once(torch.device("cuda"), 28)
    (25, 267)
    """
    return DRAWN if device.type == "cpu" else max(1, GPU_PIXELS // (WEIGHED * size**2))


def posteriors(model: VAE, images: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Means and log-variances, (n, latent_dim) each, of the posteriors of uint8 images (n, c, h, w), on the CPU."""

    def encode(batch: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = model.encode(to_batch(batch.to(device)))
        return mean.cpu(), log_variance.cpu()

    with torch.inference_mode():
        means, log_variances = zip(*in_batches(encode, images, size=BATCH), strict=True)
    return torch.cat(means), torch.cat(log_variances)


def posterior_means(model: VAE, images: Tensor, device: torch.device) -> Tensor:
    """Posterior means (n, latent_dim) of uint8 images (n, c, h, w), on the CPU."""
    return posteriors(model, images, device)[0]


def decode_images(model: VAE, z: Tensor, device: torch.device) -> Tensor:
    """Mean images of latents (n, latent_dim) as uint8 (n, c, h, w), rounded: what a person or a network is shown."""

    def decode(batch: Tensor) -> Tensor:
        return model.decode_mean(batch.to(device)).mul(255).round().to(torch.uint8).cpu()

    with torch.inference_mode():
        return torch.cat(in_batches(decode, z, size=BATCH))


def why_not_finite(posteriors: Tensor, split: str) -> str | None:
    """How many posteriors (n, latent_dim) of the images of a split are no numbers; None where all are."""
    lost = int((~posteriors.isfinite().all(1)).sum())
    return f"the posteriors of {lost} of {len(posteriors)} {split} images are not finite" if lost else None


def finite(numbers: Mapping[str, float]) -> dict[str, Any]:
    """Numbers by name, None in place of each that is not finite; and under `empty`, why."""
    lost = {name: f"it came out as {value}" for name, value in numbers.items() if not math.isfinite(value)}
    return {**numbers, **dict.fromkeys(lost), "empty": lost}


def labels_of(dataset: Dataset) -> tuple[NDArray, NDArray] | None:
    """Class labels (n,) or attributes (n, k) of the training and of the test images; None where there are none."""
    if dataset.train_attributes is not None and dataset.test_attributes is not None:
        return dataset.train_attributes.numpy(), dataset.test_attributes.numpy()
    if dataset.train_labels is not None and dataset.test_labels is not None:
        return dataset.train_labels.numpy(), dataset.test_labels.numpy()
    return None


def why_unclassified(dataset: Dataset) -> str | None:
    """Why no classifier means anything on a data set; None where one does."""
    if (labels := labels_of(dataset)) is None:
        return "no labels"
    return "all training images have the same label" if (labels[0] == labels[0][0]).all() else None


def why_no_probe(dataset: Dataset) -> str | None:
    """Why a data set has no linear probe; None where it has."""
    few = f"{len(dataset.train_images)} training images; a probe needs {PROBE_MINIMUM_IMAGES}, to hold some out"
    return why_unclassified(dataset) or (few if len(dataset.train_images) < PROBE_MINIMUM_IMAGES else None)


def classify(dataset: Dataset, train: Tensor, means: Tensor, device: torch.device) -> tuple[dict, dict[str, str]]:
    """Linear probe and nearest neighbours on posterior means, and trustworthiness; and why some of them are None.

    Only the neighbours are searched on `device`. Probes stay on the CPU: docs/performance.md says why.
    """
    row: dict = {"probe_accuracy": None, "knn_accuracy": None, "trustworthiness": None}
    empty = {}
    labels, broken = labels_of(dataset), why_not_finite(train, "training")
    if reason := why_no_probe(dataset) or broken:
        empty["probe_accuracy"] = reason
    elif labels is not None:
        [probed] = linear_probes([_features(dataset, train, means)], identity=dataset.name)
        row |= {f"probe_{name}": value for name, value in probed.items()}
    if reason := why_unclassified(dataset) or broken:
        empty["knn_accuracy"] = reason
    elif labels is not None and labels[0].ndim == 1:
        row["knn_accuracy"] = neighbour_accuracy(train.to(device), labels[0], means.to(device), labels[1])
    else:
        empty["knn_accuracy"] = "attributes; it is of classes"
    shown, index = fixed_draw(dataset, "trustworthiness", protocol.TRUSTWORTHINESS_IMAGES)
    if len(shown) < TRUSTWORTHINESS_MINIMUM_IMAGES:
        empty["trustworthiness"] = f"{len(shown)} test images; it needs {TRUSTWORTHINESS_MINIMUM_IMAGES}"
    else:
        row["trustworthiness"] = latent_trustworthiness(shown.flatten(1).numpy() / 255, means[index].numpy())
    return row, empty


def latents_of_probes(
    dataset: str, seed: int, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """What the probes `sampled` and `unscaled` see of training and test images, (n, latent_dim) each, by their names.

    `train` and `test` are means and log-variances. The first is one sample of z for each image, with noise that
    derives from the data set and the seed; the second is the posterior means.
    """
    samples = []
    for split, (mean, log_variance) in (("training", train), ("test", test)):
        generator = torch.Generator().manual_seed(derive_seed(dataset, seed, f"probe noise of {split} images"))
        samples.append(sample_posterior(mean, log_variance, torch.randn(mean.shape, generator=generator)))
    return {"sampled": (samples[0], samples[1]), "unscaled": (train[0], test[0])}


def probe_unstandardised(dataset: Dataset, latents: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[dict, dict[str, str]]:
    """Linear probes on `latents_of_probes`; and why some of them are None."""
    found: dict = {f"probe_{name}_accuracy": None for name in latents}
    reason = why_no_probe(dataset) or _why_not_finite(latents)
    if reason:
        return found, dict.fromkeys(found, reason)
    asked = [_features(dataset, train, test, scale=scale_of(train)) for train, test in latents.values()]
    for name, probed in zip(latents, linear_probes(asked, identity=dataset.name), strict=True):
        probed.pop("accuracy_per_attribute", None)
        found |= {f"probe_{name}_{what}": value for what, value in probed.items()}
    return found, {}


def probe_inactive(dataset: Dataset, latents: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[dict, dict[str, str]]:
    """The same probes, and the one on standardised means, on inactive latents only; and why they are None.

    The probes see a fixed draw of PROBE_CONTROL_IMAGES training images at most. Latents keep the scale that the probe
    on all of them gives them. A latent is inactive if `active_units` does not count it.
    """
    names = {name: f"probe_{name}_inactive_accuracy" for name in latents} | {"": "probe_inactive_accuracy"}
    means = latents["unscaled"][1]
    reason = why_no_probe(dataset) or _why_not_finite(latents)
    if len(means) < 2:
        reason = reason or "1 test image: its means have no variance"
    elif not (inactive := ~active_latents(means)).any():
        reason = reason or "every latent is active"
    if reason:
        return dict.fromkeys(names.values()), dict.fromkeys(names.values(), reason)
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, "probe control images"))
    drawn = torch.randperm(len(dataset.train_images), generator=generator)[: protocol.PROBE_CONTROL_IMAGES]
    asked = []
    for name in names:
        train, test = latents[name or "unscaled"]
        scale = scale_of(train) if name else None
        asked.append(_features(dataset, train[:, inactive], test[:, inactive], scale=scale, drawn=drawn))
    found = linear_probes(asked, identity=dataset.name)
    return {called: probed["accuracy"] for called, probed in zip(names.values(), found, strict=True)}, {}


def _why_not_finite(latents: Mapping[str, tuple[Tensor, Tensor]]) -> str | None:
    """Why probes on these latents mean nothing: some means or samples of training or test images are no numbers."""
    columns = (torch.cat(split, 1) for split in zip(*latents.values(), strict=True))
    return next(filter(None, map(why_not_finite, columns, ("training", "test"))), None)


def scale_of(latents: Tensor) -> float:
    """The root of the mean variance of latents (n, latent_dim): the one number that the probe's C is relative to."""
    return float(latents.double().var(0, correction=0).mean().sqrt()) or 1.0


def _features(
    dataset: Dataset, train: Tensor, test: Tensor, *, scale: float | None = None, drawn: Tensor | None = None
) -> Features:
    """What a probe on these latents sees: all training images, or those `drawn`, (n,) of indices."""
    labels = labels_of(dataset)
    assert labels is not None  # the callers have asked `why_no_probe`
    train_labels = labels[0]
    if drawn is not None:
        train, train_labels = train[drawn], train_labels[drawn.numpy()]
    return Features(train.double().numpy(), train_labels, test.double().numpy(), labels[1], scale)
