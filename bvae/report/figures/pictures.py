"""Figures of images: reconstructions, samples, interpolations, and the latents of test images as t-SNE maps."""

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from bvae.arms import ARMS
from bvae.evaluation import protocol
from bvae.evaluation.evaluate import decode_images, interpolation_pairs, posterior_means, prior_samples
from bvae.networks import VAE
from bvae.report.figures.page import LABELS, MARGIN, WIDTH, Look, Subject, bare, page
from bvae.system.files import read_json
from bvae.system.seeds import derive_seed

# Tol's muted colours and black, told apart with every kind of colour vision.
CLASS_COLOURS = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "k")
COLUMNS, SAMPLES = 10, 20  # images side by side, and from the prior
PAIRS, STEPS = 2, 8  # of the interpolations
CPU = torch.device("cpu")


class Strip(NamedTuple):
    """A labelled block of images, COLUMNS a row, or the word "diverged" in its place."""

    arm: str | None  # None: the data themselves
    images: Tensor | None  # uint8 (n, c, h, w); None: the run diverged
    rows: int = 1
    heads: Sequence[str] = ()  # above the columns


def tile(strip: Strip, size: int, gap: int) -> np.ndarray:
    """The images of a strip, `size` pixels each, as one uint8 (height, width, 3) picture with `gap` pixels between."""
    height, width = (count * (size + gap) - gap for count in (strip.rows, COLUMNS))
    picture = np.full((height, width, 3), 242 if strip.images is None else 255, np.uint8)
    for index, image in enumerate(() if strip.images is None else strip.images):
        top, left = (place * (size + gap) for place in divmod(index, COLUMNS))
        picture[top : top + size, left : left + size] = image.permute(1, 2, 0)  # grey spreads over three channels
    return picture


def _draw_strips(subject: Subject, title: str, caption: str, strips: Sequence[Strip]) -> Figure:
    size, gap = subject.dataset.size, subject.dataset.size // 12 + 1
    pictures = [tile(strip, size, gap) for strip in strips]
    inch = (WIDTH - LABELS - MARGIN) / pictures[0].shape[1]  # of one pixel
    gaps = [0.25 * bool(strip.heads) + strip.rows * gap * inch for strip in strips]  # above each picture
    body = sum(gaps) + sum(map(len, pictures)) * inch
    figure, place = page(subject, title, f"{caption} Seed {subject.seed}, n = 1.", body)
    top = 0.0
    for strip, picture, above in zip(strips, pictures, gaps, strict=True):
        axes = place(LABELS, top + above, picture.shape[1] * inch, len(picture) * inch)
        axes.imshow(picture, aspect="auto")
        bare(axes, strip.arm, message="diverged" if strip.images is None else "")
        label = ARMS[strip.arm].label if strip.arm else "test images"
        axes.text(-0.16 / inch, len(picture) / 2, label, ha="right", va="center")
        for column, head in enumerate(strip.heads):
            middle = column * (size + gap) + (size - 1) / 2
            axes.text(middle, -0.06 / inch, head, ha="center", fontsize=6.5, color="0.3")
        top += above + len(picture) * inch
    return figure


def decode_backward(model: VAE, z: Tensor, device: torch.device) -> Tensor:
    """As `decode_images`, but through the encoder's weights run backward, which a tied model does anyway."""
    with torch.inference_mode():
        images = model.likelihood.mean(model.decoder(model.encoder_weights, z.to(device)))
    return images.mul(255).round().to(torch.uint8).cpu()


def reconstruction_strips(subject: Subject, decode: Callable[..., Tensor] = decode_images) -> list[Strip]:
    """The first test images, then for each arm the images decoded from their posterior means."""
    images = subject.dataset.test_images[: protocol.FIGURE_IMAGES]
    strips = [Strip(None, images)]
    for arm, model in subject.models().items():
        strips.append(Strip(arm, None if model is None else decode(model, posterior_means(model, images, CPU), CPU)))
    return strips


def reconstructions(subject: Subject) -> Figure:
    """Test images above their reconstructions, one row an arm."""
    caption = "The first images of the test set, and what each arm decodes from their posterior means."
    return _draw_strips(subject, "Reconstructions", caption, reconstruction_strips(subject))


def backward(subject: Subject) -> Figure:
    """Test images above what the encoder's weights, run backward, make of their posterior means, one row an arm."""
    errors = []
    for arm, model in subject.models().items():
        if model is not None:
            row = read_json(subject.paths[arm, subject.seed])
            errors.append(f"{ARMS[arm].label} {row['backward_mse_per_pixel']:.4f} ({row['mse_per_pixel']:.4f})")
    caption = (
        "The first images of the test set, and what comes out when the weights of each arm's encoder are run backward"
        " from their posterior means, with the biases of its decoder. A BVAE decodes in just this way."
        f" Squared error per pixel on all {len(subject.dataset.test_images):,} test images, in brackets that of the"
        f" ordinary decoding: {', '.join(errors) or 'none, every run diverged'}."
    )
    return _draw_strips(subject, "Encoder run backward", caption, reconstruction_strips(subject, decode_backward))


def sample_strips(subject: Subject) -> list[Strip]:
    """For each arm the images decoded from the same SAMPLES draws of the prior."""
    z, rows = prior_samples(subject.dataset.name, subject.seed, SAMPLES, subject.latent_dim), SAMPLES // COLUMNS
    models = subject.models()
    shown = {arm: None if model is None else decode_images(model, z, CPU) for arm, model in models.items()}
    return [Strip(arm, images, rows) for arm, images in shown.items()]


def samples(subject: Subject) -> Figure:
    """Images decoded from the prior, one block an arm."""
    caption = f"Mean images of {SAMPLES} draws from the prior N(0, I), not selected, the same for every arm."
    return _draw_strips(subject, "Samples from the prior", caption, sample_strips(subject))


def interpolation_strips(subject: Subject) -> list[Strip]:
    """For each pair of test images and each arm: one image, STEPS decoded latents on the way, the other image."""
    dataset, models = subject.dataset, subject.models()
    strips: list[Strip] = []
    names = ("test image", "0", *(f"{step}/{STEPS - 1}" for step in range(1, STEPS - 1)), "1", "test image")
    for pair in interpolation_pairs(dataset.name, len(dataset.test_images), PAIRS).T:
        ends = dataset.test_images[pair]
        for arm, model in models.items():
            row = None
            if model is not None:
                means = posterior_means(model, ends, CPU)
                z = torch.lerp(means[0], means[1], torch.linspace(0, 1, STEPS)[:, None])
                row = torch.cat([ends[:1], decode_images(model, z, CPU), ends[1:]])
            strips.append(Strip(arm, row, heads=() if len(strips) % len(models) else names))
    return strips


def interpolations(subject: Subject) -> Figure:
    """Images decoded on the line between two posterior means, for each pair one row an arm."""
    caption = f"{STEPS} latents on the line between the posterior means of two random test images, decoded."
    return _draw_strips(subject, "Interpolations", caption, interpolation_strips(subject))


def embed(means: np.ndarray) -> np.ndarray:
    """t-SNE points (n, 2) of posterior means (n, latent_dim)."""
    from sklearn.manifold import TSNE

    perplexity = min(protocol.TSNE_PERPLEXITY, (len(means) - 1) / 3)
    init = "pca" if (means.std(axis=0) > 0).sum() >= 2 else "random"  # two principal components need two columns
    return TSNE(perplexity=perplexity, init=init, learning_rate="auto", random_state=0).fit_transform(means)


def tsne(subject: Subject) -> Figure:
    """t-SNE of posterior means of test images, one panel an arm, coloured by class (the paper's Figure 4)."""
    dataset, models, classes = subject.dataset, subject.models(), subject.dataset.classes
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, "t-sne images"))
    chosen = torch.randperm(len(dataset.test_images), generator=generator)[: protocol.TSNE_IMAGES]
    named, labels = 0 < len(classes) <= len(CLASS_COLOURS), dataset.test_labels
    colours: Any = [CLASS_COLOURS[label] for label in labels[chosen]] if named and labels is not None else "0.3"
    colouring = "coloured by class" if named else f"in one colour ({len(classes) or 'no'} classes)"
    caption = (
        f"Posterior means of {len(chosen):,} test images, {colouring}. Probe: a linear classifier on"
        f" posterior means, tested on all test images. Seed {subject.seed}, n = 1."
    )
    legend = 0.06 + 0.18 * math.ceil(len(classes) / 5) if named else 0.0  # five names a row
    wide, tall, above = (WIDTH - 3 * MARGIN) / 2, 2.5, 0.25  # of a panel, and of the title above it
    below = math.ceil(len(models) / 2) * (tall + above)
    figure, place = page(subject, "t-SNE of posterior means", caption, below + legend + 0.05)
    for index, (arm, model) in enumerate(models.items()):
        row, column = divmod(index, 2)
        axes = place(MARGIN + 0.05 + column * (wide + MARGIN), row * (tall + above) + above, wide - 0.05, tall)
        if model is not None:
            points = embed(posterior_means(model, dataset.test_images[chosen], CPU).numpy())
            look: Look = {"s": min(12, 8000 / len(points)), "linewidths": 0, "alpha": 0.8, "rasterized": True}
            axes.scatter(points[:, 0], points[:, 1], c=colours, **look)
            axes.set_aspect("equal", adjustable="datalim")
        bare(axes, arm, message="diverged" if model is None else "")
        accuracy = read_json(subject.paths[arm, subject.seed]).get("probe_accuracy")
        score = "" if accuracy is None else f": probe accuracy {100 * accuracy:.1f} %"
        axes.set_title(ARMS[arm].label + score, loc="left", fontsize=8, pad=4)
    if named:
        axes = place(0.0, below, WIDTH, legend)
        axes.set_axis_off()
        for index in sorted(range(len(classes)), key=lambda i: i % 5):  # a legend fills columns: so it reads along rows
            name = textwrap.shorten(classes[index], 18, placeholder="…")
            axes.scatter([], [], s=25, color=CLASS_COLOURS[index], label=name)
        axes.legend(loc="center", ncols=5, frameon=False, fontsize=7.5, handletextpad=0.2)
    return figure
