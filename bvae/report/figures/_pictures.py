"""Figures of images: reconstructions, samples, interpolations, and the latents of test images as t-SNE maps."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from bvae.arms import ARMS
from bvae.evaluation import protocol
from bvae.evaluation.draws import interpolation_pairs, prior_samples
from bvae.evaluation.trained import decode_images, posterior_means
from bvae.networks import VAE
from bvae.report.figures._page import LABELS, MARGIN, WIDTH, Subject, bare, page

# Tol's muted colours and black, told apart with every kind of colour vision.
CLASS_COLOURS = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "k")
COLUMNS, SAMPLES = 10, 20  # images side by side, and from the prior
PAIRS, STEPS = 2, 8  # of the interpolations
TSNE_MINIMUM_IMAGES, LARGEST_LATENT = 4, 1e15  # squares of larger ones overflow
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


def draw_strips(subject: Subject, title: str, caption: str, strips: Sequence[Strip]) -> Figure:
    """A page with the strips below one another, each with its arm's label and colour."""
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


def sample_strips(subject: Subject) -> list[Strip]:
    """For each arm the images decoded from the same SAMPLES draws of the prior."""
    z, rows = prior_samples(subject.dataset.name, subject.seed, SAMPLES, subject.latent_dim), SAMPLES // COLUMNS
    models = subject.models()
    shown = {arm: None if model is None else decode_images(model, z, CPU) for arm, model in models.items()}
    return [Strip(arm, images, rows) for arm, images in shown.items()]


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


def why_no_map(means: np.ndarray) -> str | None:
    """Why posterior means (n, latent_dim) have no t-SNE map; None where they have.

    Its perplexity, a third of their number, is at least 1; and of equal points it shows the random start alone, or its
    tree never ends (scikit-learn#32789).
    """
    if len(means) < TSNE_MINIMUM_IMAGES:
        return f"{len(means)} test images; a map needs {TSNE_MINIMUM_IMAGES}"
    if not (np.abs(means) < LARGEST_LATENT).all():
        return "posterior means that are not finite, or too large"
    return "all posterior means are the same" if (means == means[0]).all() else None


def embed(means: np.ndarray) -> np.ndarray:
    """t-SNE points (n, 2) of posterior means (n, latent_dim) that have a map."""
    from sklearn.manifold import TSNE

    perplexity = min(protocol.TSNE_PERPLEXITY, (len(means) - 1) / 3)
    varying = (means != means[0]).any(axis=0).sum()
    init = "pca" if varying >= 2 else "random"  # two principal components need two columns
    return TSNE(perplexity=perplexity, init=init, learning_rate="auto", random_state=0).fit_transform(means)
