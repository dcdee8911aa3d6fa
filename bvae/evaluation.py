"""Evaluation: a trained run to `metrics.json`, one flat row; and the controls that every run must beat."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

import bvae
from bvae.data import Dataset
from bvae.features import Reference, extract, load_inception, reference_test_images
from bvae.files import InputError
from bvae.metrics import (
    active_units,
    frechet_distance,
    gaussian_statistics,
    linear_probe,
    mean_image_log_likelihood,
    mse_per_pixel,
    psnr,
)
from bvae.networks import VAE, parameter_breakdown
from bvae.objective import evaluate_elbo
from bvae.runs import Run, build_model, load_run
from bvae.seeds import derive_seed
from bvae.training import to_batch

log = logging.getLogger(__name__)

BATCH = 500  # images; fixed, so that a number does not depend on the machine's memory


def posterior_means(model: VAE, images: Tensor, device: torch.device) -> Tensor:
    """Posterior means (n, latent_dim) of uint8 images (n, c, h, w), on the CPU."""
    with torch.inference_mode():
        return torch.cat([model.encode(to_batch(batch.to(device)))[0].cpu() for batch in images.split(BATCH)])


def decode_images(model: VAE, z: Tensor, device: torch.device) -> Tensor:
    """Mean images of latents (n, latent_dim) as uint8 (n, c, h, w), rounded: what a person or a network is shown."""
    with torch.inference_mode():
        rows = [model.decode_mean(batch.to(device)).mul(255).round().to(torch.uint8).cpu() for batch in z.split(BATCH)]
    return torch.cat(rows)


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
    folder: Path, dataset: Dataset, references: Sequence[Reference], *, weights: Path, device: torch.device
) -> dict:
    """Every metric of a trained run on the test images of its data set, flat, with identity and protocol.

    A metric that means nothing here is None, and `empty` says why. A run that diverged has its identity and no metric.
    """
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
        "train_images": len(dataset.train_images),
        "test_images": len(dataset.test_images),
        "empty": {},
    }
    breakdown = parameter_breakdown(model)
    row |= {f"parameters_{line}": count for line, count in breakdown.items()}
    row["parameters"] = row.pop("parameters_total")
    row["model_mb"] = 4 * row["parameters"] / 2**20
    if record["status"] != "finished":
        return row
    means = posterior_means(model, dataset.test_images, device)
    row |= _reconstruction(model, dataset, run, means, device)
    row |= _probe(model, dataset, means, device)
    if row["probe_accuracy"] is None:
        row["empty"]["probe_accuracy"] = "no labels"
    row |= _distances(model, dataset, run, means, references, row["empty"], weights=weights, device=device)
    return row


def _reconstruction(model: VAE, dataset: Dataset, run: Run, means: Tensor, device: torch.device) -> dict:
    generator = torch.Generator().manual_seed(derive_seed(run.dataset, run.seed, "evaluation noise"))
    noise = torch.randn(len(means), run.latent_dim, generator=generator)
    sums = torch.zeros(5, dtype=torch.float64)
    elbos = []
    with torch.inference_mode():
        for batch, z, draw in zip(
            dataset.test_images.split(BATCH), means.split(BATCH), noise.split(BATCH), strict=True
        ):
            images = to_batch(batch.to(device))
            terms = evaluate_elbo(model, images, draw.to(device))
            shown = model.decode_mean(z.to(device))  # from the posterior mean, no noise
            elbos.append(terms.elbo.double().cpu())
            columns = (*terms, mse_per_pixel(images, shown), psnr(images, shown))
            sums += torch.stack([column.double().sum() for column in columns]).cpu()
    elbo, log_likelihood, kl, mse, ratio = (sums / len(means)).tolist()
    return {
        "elbo": elbo,
        "elbo_standard_error": float(torch.cat(elbos).std() / len(means) ** 0.5),  # over images and noise
        "reconstruction": -log_likelihood,
        "kl": kl,
        "mse_per_pixel": mse,
        "psnr": ratio,
        "active_units": active_units(means),
        **({"sigma": model.likelihood.sigma} if model.likelihood.name == "gaussian" else {}),
    }


def _labels(dataset: Dataset):
    if dataset.train_attributes is not None:
        return dataset.train_attributes.numpy(), dataset.test_attributes.numpy()
    if dataset.train_labels is not None:
        return dataset.train_labels.numpy(), dataset.test_labels.numpy()
    return None


def _probe(model: VAE, dataset: Dataset, means: Tensor, device: torch.device) -> dict:
    labels = _labels(dataset)
    if labels is None:
        return {"probe_accuracy": None, "probe_c": None}
    train = posterior_means(model, dataset.train_images, device).double().numpy()
    found = linear_probe(train, labels[0], means.double().numpy(), labels[1], identity=dataset.name)
    return {"probe_accuracy": found["accuracy"], "probe_c": found["c"]}


def _distances(
    model: VAE,
    dataset: Dataset,
    run: Run,
    means: Tensor,
    references: Sequence[Reference],
    empty: dict,
    *,
    weights: Path,
    device: torch.device,
) -> dict:
    """Fréchet distances of prior samples, reconstructions and interpolations against the test images."""
    row: dict = {}
    for reference in references:
        names = [f"{reference.distance}_{what}" for what in ("samples", "reconstructions", "interpolations")]
        row[f"{reference.distance}_images"] = reference.images
        row[f"{reference.distance}_floor"] = reference.floor
        if reference.statistics is None:
            row |= dict.fromkeys(names)
            empty |= dict.fromkeys(names, reference.why_empty)
            continue
        if reference.dataset_sha256 != dataset.sha256:
            raise InputError(
                f"reference of {reference.distance}: made from other data than {dataset.name}; make it again"
            )
        classifier = reference.classifier
        network = classifier.to(device) if classifier is not None else load_inception(weights, device)
        count = reference.images
        first, second = interpolation_pairs(run.dataset, len(means), count)
        shown = reference_test_images(dataset)
        latents = (
            prior_samples(run.dataset, run.seed, count, run.latent_dim),
            means if len(shown) == len(means) else posterior_means(model, shown, device),
            (means[first] + means[second]) / 2,
        )
        for name, z in zip(names, latents, strict=True):
            statistics = gaussian_statistics(extract(network, decode_images(model, z, device), device))
            row[name] = frechet_distance(statistics, reference.statistics)
    return row


def evaluate_controls(dataset: Dataset) -> dict:
    """What a data set gives without any autoencoder: the raw-pixel probe, the mean image's log-likelihood."""
    train, test = (to_batch(images) for images in (dataset.train_images, dataset.test_images))
    labels = _labels(dataset)
    row: dict = {
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "evaluation_version": bvae.EVALUATION_VERSION,
        "probe_accuracy_raw_pixels": None,
    }
    for likelihood in ("bernoulli", "gaussian"):
        row[f"mean_image_log_likelihood_{likelihood}"] = mean_image_log_likelihood(train, test, likelihood)
    if labels is not None:
        train_pixels, test_pixels = (images.flatten(1).double().numpy() for images in (train, test))
        found = linear_probe(train_pixels, labels[0], test_pixels, labels[1], identity=dataset.name)
        row |= {"probe_accuracy_raw_pixels": found["accuracy"], "probe_c_raw_pixels": found["c"]}
    return row


def evaluate_untrained(run: Run, dataset: Dataset, device: torch.device) -> dict:
    """The probe on the encoder of a run before training: the same initial weights for bvae, bvae_gain and vae."""
    torch.set_num_threads(run.settings["threads"])
    model, _ = build_model(run, channels=dataset.channels, size=dataset.size)
    model = model.to(device).eval()
    means = posterior_means(model, dataset.test_images, device)
    row = {
        "recipe": run.recipe,
        "dataset": dataset.name,
        "latent_dim": run.latent_dim,
        "seed": run.seed,
        "dataset_sha256": dataset.sha256,
        "evaluation_version": bvae.EVALUATION_VERSION,
    }
    return row | _probe(model, dataset, means, device)
