"""What a data set file holds, for people: a few lines of text, and a sheet of its first images."""

import textwrap
from pathlib import Path

import matplotlib.style
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from bvae.data import Dataset
from bvae.system.files import whole_file

COLUMNS, MOST_CLASSES, MOST_UNLABELLED_ROWS = 10, 50, 5  # of a picture
TILE, LABELS, TITLE, MARGIN, DPI = 0.5, 1.3, 0.3, 0.1, 150  # inches: an image, the names at the left, the title above
CHUNK = 1000  # images


def describe(dataset: Dataset) -> str:
    """Counts, shape, pixels, the images of every class or attribute, source, licence and hash."""
    splits = (dataset.train_images, dataset.test_images)
    labels, attributes = _labels(dataset), _attributes(dataset)
    lines = [
        f"{dataset.name}: {len(splits[0]):,} training and {len(splits[1]):,} test images",
        f"  shape       {dataset.channels} x {dataset.size} x {dataset.size} (channels x height x width), uint8",
        f"  pixels      training {_pixels(splits[0])}; test {_pixels(splits[1])}",
        f"  classes     {len(dataset.classes) or 'none'}{_counts(dataset.classes, labels)}",
        f"  attributes  {len(dataset.attribute_names) or 'none'}{_counts(dataset.attribute_names, attributes)}",
        f"  source      {dataset.source}",
        f"  licence     {dataset.licence}",
        f"  sha256      {dataset.sha256}",
    ]
    return "\n".join(lines)


def _pixels(images: Tensor) -> str:
    """Least, greatest and mean pixel; by chunks, because a data set may fill the memory."""
    counts = sum(chunk.flatten().bincount(minlength=256) for chunk in images.split(CHUNK))  # (256,)
    present = counts.nonzero()
    mean = float((counts * torch.arange(256)).sum() / counts.sum())
    return f"{int(present.min())} to {int(present.max())}, mean {mean:.1f}"


def _labels(dataset: Dataset) -> list[Tensor]:
    """Images of each class, (classes,), in training and in test; nothing without labels."""
    labels = [split for split in (dataset.train_labels, dataset.test_labels) if split is not None]
    return [split.bincount(minlength=len(dataset.classes)) for split in labels]


def _attributes(dataset: Dataset) -> list[Tensor]:
    """Images that have each attribute, (attributes,), in training and in test; nothing without attributes."""
    attributes = [split for split in (dataset.train_attributes, dataset.test_attributes) if split is not None]
    return [split.sum(0) for split in attributes]


def _counts(names: tuple[str, ...], counts: list[Tensor]) -> str:
    """A line for each name: its images in training + test."""
    if not names:
        return ""
    width = max(map(len, names))
    rows = zip(names, *map(Tensor.tolist, counts), strict=True)
    return ": images" + "".join(f"\n    {name:<{width}}  {train:>9,} + {test:,}" for name, train, test in rows)


def draw_sheet(dataset: Dataset, output: str | Path) -> None:
    """Draw a sheet of the training images as a PNG: the first of every class in a row, or the first 50 of all."""
    rows, title = _rows(dataset)
    left, height = LABELS if dataset.classes else MARGIN, TILE * len(rows)
    page = (left + TILE * COLUMNS + MARGIN, TITLE + height + MARGIN)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=page)
        axes = figure.add_axes((left / page[0], MARGIN / page[1], TILE * COLUMNS / page[0], height / page[1]))
        axes.imshow(_tile([images for _, images in rows], dataset), interpolation="nearest", aspect="auto")
        step = dataset.size + 1
        names = [textwrap.shorten(name, 18, placeholder="…") for name, _ in rows]
        axes.set_yticks([(row + 0.5) * step - 1 for row in range(len(rows))], names, fontsize=8, parse_math=False)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.set_frame_on(False)
        axes.set_title(title, fontsize=9, loc="left", parse_math=False)
        with whole_file(output) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def _rows(dataset: Dataset) -> tuple[list[tuple[str, Tensor]], str]:
    """The name and the images (at most COLUMNS, c, h, w) of every row; the title."""
    if dataset.train_labels is None:
        images = dataset.train_images[: COLUMNS * MOST_UNLABELLED_ROWS]
        return [("", row) for row in images.split(COLUMNS)], f"{dataset.name}: the first training images"
    shown = dataset.classes[:MOST_CLASSES]
    which = "every class" if shown == dataset.classes else f"{len(shown)} of {len(dataset.classes):,} classes"
    rows = [
        (name, dataset.train_images[(dataset.train_labels == label).nonzero()[:COLUMNS, 0]])
        for label, name in enumerate(shown)
    ]
    return rows, f"{dataset.name}: the first training images of {which}"


def _tile(rows: list[Tensor], dataset: Dataset) -> np.ndarray:
    """One uint8 picture (height, width, 3) of all rows, a white pixel between images."""
    step = dataset.size + 1
    sheet = np.full((len(rows) * step - 1, COLUMNS * step - 1, 3), 255, np.uint8)
    for y, images in enumerate(rows):
        for x, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
            sheet[y * step : y * step + dataset.size, x * step : x * step + dataset.size] = image
    return sheet
