"""Evaluation: a trained run to `metrics.json`, one flat row."""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import bvae
from bvae.data import Dataset, to_batch
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.features import Reference, compare, extract, load_inception, reference_test_images
from bvae.evaluation.metrics import (
    active_units,
    importance_sweep,
    latent_trustworthiness,
    linear_probe,
    mse_per_pixel,
    neighbour_accuracy,
    path_ratio,
    psnr,
    side_by_side,
    ssim,
)
from bvae.evaluation.protocol import metric_name
from bvae.networks import VAE, parameter_breakdown
from bvae.objective import kl_divergence, log_importance_weights, sample_posterior
from bvae.runs import Run, load_run
from bvae.system.batching import in_batches
from bvae.system.seeds import derive_seed

log = logging.getLogger(__name__)

BATCH = 500  # images; fixed, so that a number does not depend on the machine's memory
IMPORTANCE_IMAGES = 20  # encoded together, with BATCH / IMPORTANCE_IMAGES decodings each


def posterior_means(model: VAE, images: Tensor, device: torch.device) -> Tensor:
    """Posterior means (n, latent_dim) of uint8 images (n, c, h, w), on the CPU."""

    def encode(batch: Tensor) -> Tensor:
        return model.encode(to_batch(batch.to(device)))[0].cpu()

    with torch.inference_mode():
        return torch.cat(in_batches(encode, images, size=BATCH))


def decode_images(model: VAE, z: Tensor, device: torch.device) -> Tensor:
    """Mean images of latents (n, latent_dim) as uint8 (n, c, h, w), rounded: what a person or a network is shown."""

    def decode(batch: Tensor) -> Tensor:
        return model.decode_mean(batch.to(device)).mul(255).round().to(torch.uint8).cpu()

    with torch.inference_mode():
        return torch.cat(in_batches(decode, z, size=BATCH))


def interpolation_pairs(dataset: str, images: int, pairs: int) -> Tensor:
    """Indices (2, pairs) of random pairs of different test images, the same for every run of a data set."""
    generator = torch.Generator().manual_seed(derive_seed(dataset, "interpolation pairs"))
    first = torch.randint(images, (pairs,), generator=generator)
    other = torch.randint(1, images, (pairs,), generator=generator)
    return torch.stack([first, (first + other) % images])


def prior_samples(dataset: str, seed: int, samples: int, latent_dim: int) -> Tensor:
    """Latents (samples, latent_dim) from N(0, I), the same for every arm of (data set, seed)."""
    generator = torch.Generator().manual_seed(derive_seed(dataset, seed, "prior samples"))
    return torch.randn(samples, latent_dim, generator=generator)


def evaluate_run(
    folder: Path,
    dataset: Dataset,
    references: Sequence[Reference],
    *,
    importance: dict,
    weights: Path,
    device: torch.device,
) -> dict:
    """Every metric of a trained run on the test images of its data set, flat, with identity and protocol.

    `importance` is the recipe's: `samples`, the sweep over K, and `images`, how many test images it is done on.
    A metric that means nothing here is None, and `empty` says why. A run that diverged has its identity and no metric.
    """
    model, run, row = _open_run(folder, dataset, device)
    row["importance"] = importance
    if row["status"] != "finished":
        return row
    means = posterior_means(model, dataset.test_images, device)
    train = posterior_means(model, dataset.train_images, device)
    row |= _distances(model, dataset, run, train, means, references, weights=weights, device=device)
    row |= _reconstruction(model, dataset, run, means, device)
    row |= _importance(model, dataset, run, importance, device)
    row |= classification(dataset, train, means)
    row["path_ratio_interpolations"] = interpolation_path_ratio(model, dataset, means, device)
    if row["probe_accuracy"] is None:
        row["empty"]["probe_accuracy"] = "no labels"
    if row["ssim"] is None:
        row["empty"]["ssim"] = f"images of {dataset.size} pixels; its window needs {protocol.SSIM_WINDOW}"
    return row


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
    model, run, row = _open_run(folder, dataset, device)
    if row["status"] != "finished":
        return row
    means = posterior_means(model, dataset.test_images, device)
    found = _reconstruction(model, dataset, run, means, device)
    return row | {name: found[name] for name in ("elbo", "elbo_noise_error", "reconstruction", "kl")}


def _open_run(folder: Path, dataset: Dataset, device: torch.device) -> tuple[VAE, Run, dict]:
    """A trained run of `dataset`: its model, what it is, and the part of its results that needs no computing."""
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
        "evaluation_version": bvae.EVALUATION_VERSION,
        "likelihood": model.likelihood.name,
        "binary_pixels": _binary(dataset.test_images),
        "train_images": len(dataset.train_images),
        "test_images": len(dataset.test_images),
        "empty": {},
    }
    breakdown = parameter_breakdown(model)
    row |= {f"parameters_{line}": count for line, count in breakdown.items()}
    row["parameters"] = row.pop("parameters_total")
    row["model_mb"] = 4 * row["parameters"] / 2**20
    return model, run, row


def _binary(images: Tensor) -> bool:
    """Whether every pixel of uint8 images is black or white, so that a Bernoulli is a likelihood of them."""
    return bool(((images == 0) | (images == 255)).all())


def _reconstruction(model: VAE, dataset: Dataset, run: Run, means: Tensor, device: torch.device) -> dict:
    """ELBO and its terms by ELBO_SAMPLES of z an image; errors of the images decoded from the posterior mean."""
    generator = torch.Generator().manual_seed(derive_seed(run.dataset, run.seed, "evaluation noise"))
    noise = torch.randn(len(means), protocol.ELBO_SAMPLES, run.latent_dim, generator=generator)
    windowed = dataset.size >= protocol.SSIM_WINDOW

    def measure(batch: Tensor, z: Tensor, draws: Tensor) -> dict[str, Tensor]:
        images = to_batch(batch.to(device))
        mean, log_variance = model.encode(images)
        kl = kl_divergence(mean, log_variance).double()
        log_likelihoods = [
            model.likelihood.log_likelihood(model.decode(sample_posterior(mean, log_variance, draw)), images)
            for draw in draws.to(device).unbind(1)
        ]
        shown = model.decode_mean(z.to(device))  # from the posterior mean, no noise
        # the encoder run backward: what a BVAE is trained for, and a unidirectional network is not
        backward = model.likelihood.mean(model.decoder(model.encoder_weights, z.to(device)))
        found = {
            "log_likelihood": torch.stack(log_likelihoods, 1),  # (n, ELBO_SAMPLES)
            "kl": kl.sum(1),
            "kl_per_latent": kl.sum(0, keepdim=True),  # of these images
            "mse_per_pixel": mse_per_pixel(images, shown),
            "psnr": psnr(images, shown),
            "backward_mse_per_pixel": mse_per_pixel(images, backward),
        } | ({"ssim": ssim(images, shown)} if windowed else {})
        return {name: column.double().cpu() for name, column in found.items()}

    with torch.inference_mode():
        found = in_batches(measure, dataset.test_images, means, noise, size=BATCH)
    table = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    kl_per_latent: Any = sum(table.pop("kl_per_latent"))
    draws = table.pop("log_likelihood")
    row = {name: float(column.mean()) for name, column in table.items()}
    elbos = draws.mean(1) - table["kl"]
    pixels = dataset.channels * dataset.size**2
    return row | {
        "elbo": float(elbos.mean()),
        "elbo_noise_error": float((draws.var(1).mean() / draws.numel()).sqrt()),  # standard error from the draws of z
        "elbo_image_error": float(elbos.std() / len(elbos) ** 0.5),  # from the choice of images, that noise included
        "reconstruction": -float(draws.mean()),
        "kl_bits_per_pixel": row["kl"] / math.log(2) / pixels,  # the rate of a code for z; its distortion is the MSE
        "kl_per_latent": (kl_per_latent / len(means)).tolist(),
        "variance_per_latent": means.double().var(0).tolist(),
        "active_units": active_units(means),
        **({"sigma": model.likelihood.sigma} if model.likelihood.name == "gaussian" else {}),
        **({} if windowed else {"ssim": None}),
    }


def _importance(model: VAE, dataset: Dataset, run: Run, settings: dict, device: torch.device) -> dict:
    """The importance-weighted bound on a fixed draw of test images, the same for every run of a data set."""
    images, index = fixed_draw(dataset, "nll images", settings["images"])
    generator = torch.Generator().manual_seed(derive_seed(run.dataset, run.seed, "importance noise"))
    samples = max(settings["samples"])
    columns = []
    with torch.inference_mode():
        for batch in images.split(IMPORTANCE_IMAGES):
            weigh, rows = partial(_log_weights, model, to_batch(batch.to(device))), []
            for count in torch.ones(samples).split(BATCH // IMPORTANCE_IMAGES):
                noise = torch.randn(len(count), len(batch), run.latent_dim, generator=generator)
                rows += in_batches(weigh, noise, size=len(noise))
            columns.append(torch.cat(rows))
    found = importance_sweep(torch.cat(columns, 1), settings["samples"])
    return found | {
        "nll": found[f"nll_k{samples}"],
        "nll_samples": samples,
        "nll_images": len(images),
        "nll_images_sha256": hashlib.sha256(index.numpy().tobytes()).hexdigest(),  # of their int64 indices
    }


def _log_weights(model: VAE, images: Tensor, noise: Tensor) -> Tensor:
    return log_importance_weights(model, images, noise.to(images.device))[0].double().cpu()


def fixed_draw(dataset: Dataset, purpose: str, count: int) -> tuple[Tensor, Tensor]:
    """`count` test images (all, if there are fewer) and their indices, drawn by (data set, purpose) alone."""
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, purpose))
    index = torch.randperm(len(dataset.test_images), generator=generator)[:count]
    return dataset.test_images[index], index


def labels_of(dataset: Dataset) -> tuple[NDArray, NDArray] | None:
    """Class labels (n,) or attributes (n, k) of the training and of the test images; None where there are none."""
    if dataset.train_attributes is not None and dataset.test_attributes is not None:
        return dataset.train_attributes.numpy(), dataset.test_attributes.numpy()
    if dataset.train_labels is not None and dataset.test_labels is not None:
        return dataset.train_labels.numpy(), dataset.test_labels.numpy()
    return None


def classification(dataset: Dataset, train: Tensor, means: Tensor) -> dict:
    """Linear probe and nearest neighbours on posterior means; trustworthiness, which needs no labels."""
    labels = labels_of(dataset)
    shown, index = fixed_draw(dataset, "trustworthiness", protocol.TRUSTWORTHINESS_IMAGES)
    row: dict = {
        "probe_accuracy": None,
        "knn_accuracy": None,
        "trustworthiness": latent_trustworthiness(shown.flatten(1).numpy() / 255, means[index].numpy()),
    }
    if labels is not None:
        features, test = train.double().numpy(), means.double().numpy()
        found = linear_probe(features, labels[0], test, labels[1], identity=dataset.name)
        row |= {f"probe_{name}": value for name, value in found.items()}
        if labels[0].ndim == 1:
            row["knn_accuracy"] = neighbour_accuracy(train.numpy(), labels[0], means.numpy(), labels[1])
    return row


def interpolation_path_ratio(model: VAE, dataset: Dataset, means: Tensor, device: torch.device) -> float:
    """`path_ratio` of the decoded ways between PATH_PAIRS random pairs of test images, PATH_STEPS images each."""
    first, second = interpolation_pairs(dataset.name, len(means), protocol.PATH_PAIRS)
    ways = [lerp(means[first], means[second], step / (protocol.PATH_STEPS - 1)) for step in range(protocol.PATH_STEPS)]
    with torch.inference_mode():
        images = torch.stack([model.decode_mean(way.to(device)).flatten(1).cpu() for way in ways], 1)
    return path_ratio(images)


def lerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    """The point at share t of the straight line between latents (n, d)."""
    return first + t * (second - first)


def slerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    """The point at share t of the way between latents (n, d) whose direction turns evenly (Shoemake, 1985).

    The norm goes evenly from the one to the other. Latents of parallel or opposite directions are joined straight.
    """
    a, b = first.double(), second.double()  # in float32, rounding turns opposite latents into an arc far away
    norms = [z.norm(dim=1, keepdim=True).clamp_min(1e-12) for z in (a, b)]
    unit_a, unit_b = a / norms[0], b / norms[1]
    angle = torch.acos((unit_a * unit_b).sum(1, keepdim=True).clamp(-1, 1))
    sine = torch.sin(angle)
    direction = (torch.sin((1 - t) * angle) * unit_a + torch.sin(t * angle) * unit_b) / sine.clamp_min(1e-6)
    return torch.where(sine < 1e-6, lerp(a, b, t), direction * lerp(norms[0], norms[1], t)).to(first.dtype)


def mixture_samples(run: Run, train: Tensor, count: int) -> Tensor:
    """Latents (count, latent_dim) from a mixture of 10 Gaussians fitted to training latents, by scikit-learn."""
    from sklearn.mixture import GaussianMixture

    seed = derive_seed(run.dataset, run.seed, "mixture") % 2**32
    latents = train[: protocol.MIXTURE_IMAGES].numpy()
    components = min(protocol.MIXTURE_COMPONENTS, len(latents))
    unfitted = GaussianMixture(components, reg_covar=1e-4, max_iter=100, random_state=seed)
    (mixture,) = side_by_side(unfitted.fit, [latents])  # in float32: half the time
    covariances = mixture.covariances_.astype(np.float64)
    mixture.covariances_ = 0.5 * (covariances + covariances.swapaxes(1, 2))  # symmetric but for float32's rounding
    return torch.from_numpy(mixture.sample(count)[0]).float()


def _distances(
    model: VAE,
    dataset: Dataset,
    run: Run,
    train: Tensor,
    means: Tensor,
    references: Sequence[Reference],
    *,
    weights: Path,
    device: torch.device,
) -> dict:
    """Samples, reconstructions and interpolations against the test images, over the features of each reference."""
    row: dict = {"empty": {}}
    shown = reference_test_images(dataset)
    first, second = interpolation_pairs(run.dataset, len(means), len(shown))
    latents = {
        "samples": prior_samples(run.dataset, run.seed, len(shown), run.latent_dim),
        "mixture_samples": mixture_samples(run, train, len(shown)),
        "reconstructions": means if len(shown) == len(means) else posterior_means(model, shown, device),
        "interpolations": lerp(means[first], means[second], 0.5),
        "slerp_interpolations": slerp(means[first], means[second], 0.5),
    }
    images = {what: decode_images(model, z, device) for what, z in latents.items()}
    for reference in references:
        extractor = reference.extractor
        row[f"{metric_name('fd', extractor)}_images"] = reference.images
        row |= {f"{metric_name(name, extractor)}_floor": value for name, value in reference.floor.items()}
        if reference.features is None:
            name = f"{metric_name('fd', extractor)}_samples"
            row[name], row["empty"][name] = None, reference.why_empty
            continue
        if reference.dataset_sha256 != dataset.sha256:
            raise InputError(
                f"reference of {extractor}: made from other data than {dataset.name}; delete it, run again"
            )
        classifier = reference.classifier
        network = classifier.to(device) if classifier is not None else load_inception(weights, device)
        features = [extract(network, decoded, device) for decoded in images.values()]
        compared = side_by_side(partial(compare, real=reference.features), features)
        for what, found in zip(images, compared, strict=True):
            row |= {f"{metric_name(name, extractor)}_{what}": value for name, value in found.items()}
        if "kid" not in found:
            name = f"{metric_name('kid', extractor)}_samples"
            row["empty"][name] = f"{reference.images} test images; its subsets need {protocol.KID_SUBSET_SIZE:,}"
    return row
