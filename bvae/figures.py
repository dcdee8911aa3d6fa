"""The figures of a study, one recipe, data set and latent dimension each; an arm has its colour in all of them."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
import matplotlib.style
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor

from bvae import ARMS, protocol
from bvae.config import expand_runs, run_folder
from bvae.data import Dataset, load
from bvae.evaluation import decode_images, interpolation_pairs, posterior_means, prior_samples
from bvae.files import InputError, read_json, whole_file
from bvae.networks import VAE
from bvae.runs import load_run, read_record
from bvae.seeds import derive_seed
from bvae.tables import ARM_NAMES

# Okabe and Ito's colours: blues are tied, reds are not. The dashes tell the arms apart in grey.
ARM_COLOURS = {"bvae": "#0072B2", "bvae_gain": "#56B4E9", "vae": "#D55E00", "vae_narrow": "#E69F00"}
ARM_DASHES = {"bvae": "-", "bvae_gain": (0, (5, 1.5)), "vae": (0, (6, 1.5, 1, 1.5)), "vae_narrow": (0, (1, 1.2))}
# Tol's muted colours and black, told apart with every kind of colour vision.
CLASS_COLOURS = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "k")
STYLE = {"font.family": "DejaVu Sans", "font.size": 8, "svg.hashsalt": "bvae", "svg.fonttype": "path"}
DPI = 200
WIDTH, LABELS, MARGIN = 7.0, 0.95, 0.08  # of a page, of the labels beside images, of the page's edge: inches
COLUMNS, SAMPLES = 10, 20  # images side by side, and from the prior
PAIRS, STEPS = 2, 8  # of the interpolations
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """What a figure is about: the runs of a study that share recipe, data set and latent dimension."""

    recipe: str
    dataset: Dataset
    latent_dim: int
    seeds: Mapping[str, Sequence[int]]  # of each arm
    seed: int  # whose runs the pictures show

    def folder(self, arm: str, seed: int) -> Path:
        """Where a run of the subject lives."""
        return Path(run_folder(self.recipe, self.dataset.name, arm, self.latent_dim, seed))

    def diverged(self, arm: str, seed: int) -> bool:
        """Whether a run diverged. Raises InputError when it was trained on other data."""
        folder = self.folder(arm, seed)
        record = read_record(folder / "model.safetensors")
        if record["dataset_sha256"] != self.dataset.sha256:
            raise InputError(f"{folder}: trained on another {self.dataset.name}. Delete it and run `snakemake`.")
        return record["status"] == "diverged"

    def models(self) -> dict[str, VAE | None]:
        """The models of the shown seed by arm, on the CPU; None for a run that diverged."""
        arms = {arm: self.diverged(arm, self.seed) for arm, seeds in self.seeds.items() if self.seed in seeds}
        return {arm: None if lost else load_run(self.folder(arm, self.seed))[0] for arm, lost in arms.items()}


def find_subject(study: dict, recipe: str, dataset: Dataset, latent_dim: int) -> Subject:
    """The subject of a checked study. It shows the study's `figure_seed` if there are runs of it, else the least."""
    wanted = {"recipe": recipe, "dataset": dataset.name, "latent_dim": latent_dim}
    runs = [run for run in expand_runs(study) if wanted.items() <= run.items()]
    if not runs:
        raise InputError(f"study '{study['study']}' has no run of {', '.join(f'{k} {v}' for k, v in wanted.items())}")
    seeds = {arm: sorted(run["seed"] for run in runs if run["arm"] == arm) for arm in ARMS}
    every = {run["seed"] for run in runs}
    seed = study["figure_seed"] if study.get("figure_seed") in every else min(every)
    return Subject(recipe, dataset, latent_dim, {arm: found for arm, found in seeds.items() if found}, seed)


def _page(subject: Subject, title: str, caption: str, body: float) -> tuple[Figure, Callable[..., Axes]]:
    """A page with title and caption around a body of so many inches, and what puts axes into that body, in inches."""
    caption = "\n".join(textwrap.wrap(f"{caption} Recipe {subject.recipe}.", 138, break_on_hyphens=False))
    head, foot = 0.3, 0.3 + 0.14 * caption.count("\n")
    height = head + body + foot
    figure = Figure((WIDTH, height), dpi=DPI)  # has an Agg canvas of its own: no pyplot, no state
    title = f"{title}: {subject.dataset.name}, latent dimension = {subject.latent_dim}"
    figure.text(MARGIN / WIDTH, 1 - MARGIN / height, title, va="top", fontsize=10, fontweight="bold")
    figure.text(MARGIN / WIDTH, 0.07 / height, caption, va="bottom", fontsize=7, linespacing=1.3)

    def place(left: float, top: float, width: float, tall: float) -> Axes:
        return figure.add_axes((left / WIDTH, 1 - (head + top + tall) / height, width / WIDTH, tall / height))

    return figure, place


def _bare(axes: Axes, arm: str | None, *, message: str) -> None:
    """Axes without ticks and frame, but for a bar in the arm's colour on the left; a message fills empty ones."""
    axes.set(xticks=[], yticks=[])
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    if arm:
        axes.spines["left"].set(visible=True, color=ARM_COLOURS[arm], linewidth=2.5, position=("outward", 4))
    if message:
        axes.set_facecolor("0.95")
        axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", va="center", color="0.35")


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
    figure, place = _page(subject, title, f"{caption} Seed {subject.seed}, n = 1.", body)
    top = 0.0
    for strip, picture, above in zip(strips, pictures, gaps, strict=True):
        axes = place(LABELS, top + above, picture.shape[1] * inch, len(picture) * inch)
        axes.imshow(picture, aspect="auto")
        _bare(axes, strip.arm, message="diverged" if strip.images is None else "")
        label = ARM_NAMES[strip.arm] if strip.arm else "test images"
        axes.text(-0.16 / inch, len(picture) / 2, label, ha="right", va="center")
        for column, head in enumerate(strip.heads):
            middle = column * (size + gap) + (size - 1) / 2
            axes.text(middle, -0.06 / inch, head, ha="center", fontsize=6.5, color="0.3")
        top += above + len(picture) * inch
    return figure


def reconstruction_strips(subject: Subject) -> list[Strip]:
    """The first test images, then for each arm the images decoded from their posterior means."""
    images = subject.dataset.test_images[: protocol.FIGURE_IMAGES]
    strips = [Strip(None, images)]
    for arm, model in subject.models().items():
        strips.append(Strip(arm, model and decode_images(model, posterior_means(model, images, CPU), CPU)))
    return strips


def reconstructions(subject: Subject) -> Figure:
    """Test images above their reconstructions, one row an arm."""
    caption = "The first images of the test set, and what each arm decodes from their posterior means."
    return _draw_strips(subject, "Reconstructions", caption, reconstruction_strips(subject))


def sample_strips(subject: Subject) -> list[Strip]:
    """For each arm the images decoded from the same SAMPLES draws of the prior."""
    z, rows = prior_samples(subject.dataset.name, subject.seed, SAMPLES, subject.latent_dim), SAMPLES // COLUMNS
    shown = {arm: model and decode_images(model, z, CPU) for arm, model in subject.models().items()}
    return [Strip(arm, images, rows) for arm, images in shown.items()]


def samples(subject: Subject) -> Figure:
    """Images decoded from the prior, one block an arm."""
    caption = f"Mean images of {SAMPLES} draws from the prior N(0, I), not selected, the same for every arm."
    return _draw_strips(subject, "Samples from the prior", caption, sample_strips(subject))


def interpolation_strips(subject: Subject) -> list[Strip]:
    """For each pair of test images and each arm: one image, STEPS decoded latents on the way, the other image."""
    dataset, models, strips = subject.dataset, subject.models(), []
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
    perplexity = min(protocol.TSNE_PERPLEXITY, (len(means) - 1) / 3)
    init = "pca" if (means.std(axis=0) > 0).sum() >= 2 else "random"  # two principal components need two columns
    return TSNE(perplexity=perplexity, init=init, learning_rate="auto", random_state=0).fit_transform(means)


def tsne(subject: Subject) -> Figure:
    """t-SNE of posterior means of test images, one panel an arm, coloured by class (the paper's Figure 4)."""
    dataset, models, classes = subject.dataset, subject.models(), subject.dataset.classes
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, "t-sne images"))
    chosen = torch.randperm(len(dataset.test_images), generator=generator)[: protocol.TSNE_IMAGES]
    named = 0 < len(classes) <= len(CLASS_COLOURS)
    colours = [CLASS_COLOURS[label] for label in dataset.test_labels[chosen]] if named else "0.3"
    colouring = "coloured by class" if named else f"in one colour ({len(classes) or 'no'} classes)"
    caption = (
        f"Posterior means of {len(chosen):,} test images, {colouring}. Probe: a linear classifier on"
        f" posterior means, tested on all test images. Seed {subject.seed}, n = 1."
    )
    legend = 0.06 + 0.18 * math.ceil(len(classes) / 5) if named else 0.0  # five names a row
    wide, tall, above = (WIDTH - 3 * MARGIN) / 2, 2.5, 0.25  # of a panel, and of the title above it
    below = math.ceil(len(models) / 2) * (tall + above)
    figure, place = _page(subject, "t-SNE of posterior means", caption, below + legend + 0.05)
    for index, (arm, model) in enumerate(models.items()):
        row, column = divmod(index, 2)
        axes = place(MARGIN + 0.05 + column * (wide + MARGIN), row * (tall + above) + above, wide - 0.05, tall)
        if model is not None:
            points = embed(posterior_means(model, dataset.test_images[chosen], CPU).numpy())
            axes.scatter(*points.T, s=min(12, 8000 / len(points)), c=colours, linewidths=0, alpha=0.8, rasterized=True)
            axes.set_aspect("equal", adjustable="datalim")
        _bare(axes, arm, message="diverged" if model is None else "")
        accuracy = read_json(subject.folder(arm, subject.seed) / "metrics.json").get("probe_accuracy")
        score = "" if accuracy is None else f": probe accuracy {100 * accuracy:.1f} %"
        axes.set_title(ARM_NAMES[arm] + score, loc="left", fontsize=8, pad=4)
    if named:
        axes = place(0.0, below, WIDTH, legend)
        axes.set_axis_off()
        for index in sorted(range(len(classes)), key=lambda i: i % 5):  # a legend fills columns: so it reads along rows
            name = textwrap.shorten(classes[index], 18, placeholder="…")
            axes.scatter([], [], s=25, color=CLASS_COLOURS[index], label=name)
        axes.legend(loc="center", ncols=5, frameon=False, fontsize=7.5, handletextpad=0.2)
    return figure


def spread(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, least and greatest value at each epoch, (epochs,) each, of one curve a seed."""
    stacked = np.stack(curves)  # (seeds, epochs)
    return stacked.mean(axis=0), stacked.min(axis=0), stacked.max(axis=0)


def axis_floor(curves: Sequence[np.ndarray]) -> float:
    """Where the axis of rising curves (epochs,) starts, so that their steep first epochs do not flatten the rest.

    Each curve of at least five epochs loses its first tenth, at least one, and then the worst tenth of what is left.
    """
    kept = [curve[max(1, len(curve) // 10) :] if len(curve) >= 5 else curve for curve in curves]
    return float(min(np.quantile(curve, 0.1 if len(curve) >= 10 else 0.0) for curve in kept))


def training_curves(subject: Subject) -> Figure:
    """Training ELBO against epoch, one line an arm: mean over seeds, and a band from the least to the greatest."""
    every = ", ".join(str(seed) for seed in sorted(set().union(*subject.seeds.values())))
    caption = f"Epochs' averages; the first may lie below the axis. Line: mean over seeds ({every}); band: their range."
    figure, place = _page(subject, "Training ELBO", caption, 3.55)
    axes, bands = place(0.75, 0.0, WIDTH - 0.9, 3.1), []
    for arm, seeds in subject.seeds.items():
        folders = [subject.folder(arm, seed) for seed in seeds if not subject.diverged(arm, seed)]
        elbos = [np.genfromtxt(folder / "history.csv", delimiter=",", names=True)["elbo"] for folder in folders]
        lost = f", {len(seeds) - len(elbos)} diverged" if len(elbos) < len(seeds) else ""
        mean, low, high = spread([np.atleast_1d(elbo) for elbo in elbos]) if elbos else np.empty((3, 0))
        epochs, colour = np.arange(1, len(mean) + 1), ARM_COLOURS[arm]
        label, marker = f"{ARM_NAMES[arm]} (n = {len(elbos)}{lost})", "o" if len(mean) == 1 else ""
        axes.plot(epochs, mean, color=colour, linestyle=ARM_DASHES[arm], marker=marker, linewidth=1.4, label=label)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        if elbos:
            bands.append((low, high))
    if bands:
        floor, top = axis_floor([low for low, _ in bands]), max(high.max() for _, high in bands)
        room = 0.04 * (top - floor) or 1.0
        axes.set_ylim(floor - room, top + room)
    axes.set(xlabel="epoch", ylabel="training ELBO (nats per image)")
    axes.locator_params(axis="x", integer=True, steps=[1, 2, 5, 10])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.legend(loc="lower right", framealpha=0.8, edgecolor="none", handlelength=3.5)
    return figure


FIGURES: dict[str, Callable[[Subject], Figure]] = {
    figure.__name__: figure for figure in (reconstructions, samples, interpolations, tsne, training_curves)
}


def draw(kind: str, study: dict, recipe: str, dataset_path: Path, latent_dim: int, output: Path) -> None:
    """Draw one of FIGURES for a checked study: `<output>.svg` and `<output>.png`, the same bytes every time."""
    subject = find_subject(study, recipe, load(dataset_path), latent_dim)
    torch.set_num_threads(study["recipes"][recipe]["threads"])
    with matplotlib.style.context(["default", STYLE]):  # not the user's own matplotlibrc
        figure = FIGURES[kind](subject)
        with whole_file(f"{output}.svg") as svg, whole_file(f"{output}.png") as png:
            figure.savefig(svg, format="svg", dpi=DPI, metadata={"Date": None})
            figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
