"""A few lines on what a fetch read, and on what it did not read."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from torch import Tensor

from bvae.data.checks import DARK, n_dark, n_of_classes, pixel_range, spelt_alike
from bvae.data.dataset import Dataset

MOST_NAMES = 8  # in a line
DIM = 128  # a brightest pixel below it is worth a line


@dataclass
class Reading:
    """What a reader did with a source that its arrays do not show."""

    notes: list[str] = field(default_factory=list)  # what was left out or changed, and why
    drawn: bool = False  # the test images were drawn here, not given


def summarize(dataset: Dataset, reading: Reading, *, repeated: int) -> str:
    """Counts, shape, pixels and classes in two lines, then a line for each thing that the user should know.

    `repeated` of the test images are training images too.
    """
    splits = {"training": dataset.train_images, "test": dataset.test_images}
    ranges = {split: pixel_range(images) for split, images in splits.items()}
    counts = " and ".join(f"{len(images):,} {split}" for split, images in splits.items())
    pixels = "; ".join(f"{split} {low} to {high}" for split, (low, high) in ranges.items())
    shape = " x ".join(map(str, dataset.shape))
    lines = [f"{dataset.name}: {counts} images of {shape} pixels (channels x height x width; {pixels})"]
    lines += [_classes(dataset), *reading.notes, *_remarks(dataset)]
    lines += [remark for split, images in splits.items() for remark in _on_darkness(split, images, ranges[split][1])]
    if repeated:
        lines.append(f"{repeated:,} of {len(dataset.test_images):,} test images are training images too, byte for byte")
    return "\n  ".join(lines)


def _classes(dataset: Dataset) -> str:
    n = len(dataset.classes)
    if not n:
        return f"{len(dataset.attribute_names)} attributes" if dataset.attribute_names else "no classes"
    counts = zip(
        dataset.classes, n_of_classes(dataset.train_labels, n), n_of_classes(dataset.test_labels, n), strict=True
    )
    shown = shortened([f"{name}: {train:,} + {test:,}" for name, train, test in counts])
    return f"{n:,} {'class' if n == 1 else 'classes'} (training + test): {shown}"


def _remarks(dataset: Dataset) -> list[str]:
    """What is no mistake for certain, and may be one."""
    names, remarks = dataset.classes, []
    if len(names) == 1:
        remarks.append("1 class: no probe")
    for labels, few, words in (
        (dataset.train_labels, 1, "1 training image"),
        (dataset.test_labels, 0, "no test image"),
    ):
        counts = n_of_classes(labels, len(names))
        if found := [name for name, count in zip(names, counts, strict=False) if count == few]:
            remarks.append(f"{words} of class {shortened(found)}")
    if alike := spelt_alike(names):
        remarks.append(f"classes that differ in capitals, spaces or accents only: {shortened(alike)}")
    return remarks


def _on_darkness(split: str, images: Tensor, brightest: int) -> Iterator[str]:
    if brightest < DIM:
        yield f"the brightest {split} pixel is {brightest} of 255: is the scale right?"
    if dark := n_dark(images):
        yield f"{dark:,} of {len(images):,} {split} images have no pixel above {DARK - 1}"


def shortened(words: Iterable[str]) -> str:
    """The first MOST_NAMES words, and how many more there are."""
    words = list(words)
    more = f" and {len(words) - MOST_NAMES:,} more" if len(words) > MOST_NAMES else ""
    return ", ".join(words[:MOST_NAMES]) + more


def by_suffix(names: Iterable[str]) -> str:
    """How many of these files have which suffix, the most frequent first: `3 .txt, 1 without a suffix`."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "without a suffix" for name in names)
    return shortened(f"{count:,} {suffix}" for suffix, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
