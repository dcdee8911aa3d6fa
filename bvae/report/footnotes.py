"""What a reader must know to read a table: a sentence each, below it."""

from collections.abc import Sequence

from bvae.evaluation import protocol
from bvae.evaluation.extractors import EXTRACTORS


def bounds(rows: Sequence[dict]) -> set[str]:
    """Data sets whose Bernoulli terms are no likelihoods: their pixels are grey."""
    return {row["dataset"] for row in rows if row["likelihood"] == "bernoulli" and not row["binary_pixels"]}


def on_runs(
    rows: Sequence[dict],
    *,
    seeds: str = "Mean ± standard deviation over n seeds, on",
    images: str = "the test images",
) -> str:
    """On how many images, and on what the runs were trained; whether that differs between arms that are compared."""
    sizes = sorted({(row["dataset"], row["test_images"]) for row in rows})
    counts = ", ".join(f"{name}: {count:,}" for name, count in sizes)
    trained_on: dict[tuple, set[str]] = {}
    for row in rows:
        pair = (row["dataset"], row["recipe"], row["latent_dim"], row["seed"])
        trained_on.setdefault(pair, set()).add(f"{row['device']}, {row['precision']}")
    unlike = sum(len(found) > 1 for found in trained_on.values())
    warning = (
        f" {unlike} of {len(trained_on)} seeds have arms that were not trained on the same device in the same"
        " precision: their differences are not of the arms alone."
    )
    return (
        f"{seeds or 'On'} {images} ({counts}); trained on {'; '.join(sorted(set().union(*trained_on.values())))}."
        f"{warning if unlike else ''} Settings are ours; those of the paper are not available."
    )


def on_table1(rows: Sequence[dict]) -> list[str]:
    """The metrics of Table 1 and of the table of runs; which bounds are not likelihoods."""
    lines = [
        "Reconstruction is -E_q[ln p(x|z)], ELBO the (B)ELBO at beta 1: nats per image, summed over pixels,"
        f" {protocol.ELBO_SAMPLES} samples of z an image. PSNR and SSIM: mean over images decoded from posterior"
        " means.",
    ]
    lines += on_nll([row for row in rows if "nll_samples" in row])
    if bounds(rows):
        lines.append(
            "† Grey pixels under a Bernoulli: reconstruction, ELBO and NLL are bounds by convention there, not"
            " likelihoods; compare them with each other alone."
        )
    lines.append(
        "Probe: logistic regression on standardised posterior means, C chosen on held-out training images; of"
        " attributes the mean balanced accuracy."
        f" k-NN: {protocol.KNN_NEIGHBOURS} neighbours among the training latents."
        " Lines below the arms are controls: the untrained encoder, as many principal components, raw pixels, the most"
        " frequent class, and the mean training image as one image for all."
    )
    if any("probe_sampled_accuracy" in row for row in rows):
        lines.append(
            "Probe z: on one sample of z for each training and test image. Probe unscaled: on posterior means that are"
            " not standardised. Inactive: the probe, and that of z, on the inactive latents only, of"
            f" {protocol.PROBE_CONTROL_IMAGES:,} training images at most."
        )
    return lines + on_features(rows)


def on_nll(rows: Sequence[dict]) -> list[str]:
    """Of how many images the importance-weighted bound of rows that have one is, and whether the ELBO is of others."""
    sweeps = sorted({(row["nll_samples"], row["nll_images"], row["test_images"]) for row in rows})
    if not sweeps:
        return []
    counts = "; ".join(
        f"K = {samples:,} samples an image on {images:,}{'' if images == every else f' of the {every:,}'} test images"
        for samples, images, every in sweeps
    )
    text = (
        f"NLL: importance-weighted upper bound on -ln p(x) in nats, in float64, {counts}, a fixed draw; the sweep"
        " over K is in runs.csv."
    )
    if any(images < every for _, images, every in sweeps):
        text += (
            " NLL and ELBO are then of different images: an NLL above -ELBO does not mean that it is the looser bound."
        )
        if all("elbo_nll_images" in row for row in rows):
            text += " ELBO (same images) is of the images of the NLL, by its samples of z, and can be compared with it."
        elif all("nll_k1" in row for row in rows):
            text += " The -ELBO of the images of the NLL, by one sample of z, is nll_k1 in runs.csv."
    return [text]


def on_table2(rows: Sequence[dict]) -> list[str]:
    """What is generated and interpolated, and how."""
    lines = [
        "Samples, mixture samples, midpoints and reconstructions: Fréchet distance of as many images to the test"
        f" images. Mixture: {protocol.MIXTURE_COMPONENTS} Gaussians fitted to training latents. Midpoints: of the"
        " posterior means of random pairs of different test images, straight or with evenly turning direction (slerp)."
        f" KID, precision and recall ({protocol.PRECISION_NEIGHBOURS} neighbours): of prior samples; those of the"
        " others are in the csv. KID's kernel is cubic, so over the classifier's features, which have no fixed scale,"
        " its numbers are large and say nothing beyond their order.",
        f"Path ratio: length of the decoded way between two test images, in {protocol.PATH_STEPS} images, over the"
        " distance of its ends; 1 is a straight fade.",
    ]
    if any(name.endswith("_path_interpolations") for row in rows for name in row):
        lines.append(
            "Along path, along arc: of each pair one image, at a share of the straight way or of the arc that is drawn"
            " evenly from 0 to 1, the same for every run of a data set."
        )
    return lines


def on_features(rows: Sequence[dict]) -> list[str]:
    """Which features distances are over, and of how many images."""
    lines = []
    for extractor in EXTRACTORS.values():
        name = extractor.metric("fd")
        found = [row for row in rows if row.get(f"{name}_samples") is not None]
        counts = sorted({row[f"{name}_images"] for row in found})
        if counts:
            floor = "Real images: as many training images against the same, the floor."
            if without := sorted({row["dataset"] for row in found if f"{name}_floor" not in row}):
                floor += f" {', '.join(without)}: no floor, because there are fewer training images."
            lines.append(
                f"{extractor.note}; Fréchet distance of n = {', '.join(f'{count:,}' for count in counts)} generated"
                f" images against as many test images. {floor}"
            )
    return lines


def on_empty(rows: Sequence[dict], metrics: Sequence[str]) -> list[str]:
    """Why cells of these metrics are empty."""
    reasons = {
        f"{row['dataset']}, {metric}: empty because {reason}."
        for row in rows
        for metric, reason in row["empty"].items()
        if metric in metrics
    }
    return sorted(reasons)


def on_cost(devices: Sequence[str]) -> list[str]:
    """What is halved and what is not; how it was measured."""
    return [
        "What tying halves is parameters, and with them the model, its gradients and the optimiser's moments (training"
        " state: four numbers a parameter). What it does not halve: multiply-accumulates and activations, and so"
        " neither time nor most of the peak memory. Both passes still run through every layer.",
        "Cut: against the matched VAE. Head share: of the log-variance head, which only the forward pass has. Peak:"
        " model, optimiser and the most that a step of training holds at the recipe's batch size, without the data.",
        "MMACs: million multiply-accumulates an image in linear layers and convolutions. Images a second: median of"
        f" interleaved timings while no other job of the workflow runs, on {'; '.join(devices)}.",
    ]
