"""Which split and which class each image of a folder, or of a zip archive of one, belongs to."""

import csv
import logging
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import numpy as np

from bvae.data.image_files import ImageFiles, refuse_html
from bvae.errors import InputError
from bvae.system.seeds import derive_seed

log = logging.getLogger(__name__)

SPLITS = ("train", "test")
SPLIT_LIKE = {*SPLITS, "val", "valid", "validation"}  # folders of these names alone are no classes
TEST_FRACTION = 1 / 6
LAYOUTS = "{train,test}/<class>/<image>, <class>/<image>, {train,test}/<image> or <image>"


@dataclass(frozen=True)
class Placed:
    """An image: its name, its name below the folder that all share, its split and its class; None where it has none."""

    name: str
    short: str
    split: str | None
    label: str | None


def place_images(
    files: ImageFiles, *, labels: Path | None = None, test_fraction: float | None = None, identity: str = ""
) -> list[Placed]:
    """Every image with its split, and with its class if it has one; by class, then by name.

    `bvae.data.readers.read_image_folder` says which layouts there are and what the options do. Raises InputError for
    any other layout, for a class without images in a split, and for an option that the layout contradicts.
    """
    if test_fraction is not None and not 0 < test_fraction < 1:
        raise InputError(f"--test-fraction: found {test_fraction}, wanted a number between 0 and 1.")
    placed = _by_folders(files)
    if labels is not None:
        if placed[0].label is not None:
            raise InputError(f"{files.path}: found class folders and --labels {labels}. Leave the option out.")
        label_of = _read_labels(labels, files.path, {image.short for image in placed})
        placed = [replace(image, label=label_of[image.short]) for image in placed]
    placed.sort(key=lambda image: (image.label or "", image.short))
    if placed[0].split is None:
        return _draw_test(placed, test_fraction or TEST_FRACTION, files.path, identity)
    if test_fraction is not None:
        raise InputError(f"{files.path}: found folders train and test, and --test-fraction. Leave the option out.")
    return placed


def _by_folders(files: ImageFiles) -> list[Placed]:
    """The images as their folders place them."""
    parts = {name: tuple(name.split("/")) for name in files.names}
    filled = {image[:i] for image in parts.values() for i in range(len(image))}  # folders with images below them
    empty = {tuple(name.split("/")) for name in files.folders} - filled
    tops = [top for top in sorted(filled) if {(*top, split) for split in SPLITS} <= filled]
    if len(tops) > 1:
        found = " and in ".join("/".join(top) or "." for top in tops[:2])
        raise InputError(f"{files.path}: found folders train and test in {found}, wanted them once.")
    if tops:
        [top] = tops
        below = [(*top, split) for split in SPLITS]
        chosen = {name: image for name, image in parts.items() if image[: len(top) + 1] in below}
        if n := len(parts) - len(chosen):
            log.warning("%s: left out %s images that are in neither train nor test", files.path, f"{n:,}")
    else:
        top, chosen = _common_folder({image[:-1] for image in parts.values()} | empty), parts
    short = {name: image[len(top) :] for name, image in chosen.items()}
    if not tops and (alone := {image[0] for image in short.values()}) <= SPLIT_LIKE:
        wanted = f"both train and test. To draw the test images, give the folder {min(alone)} itself"
        raise InputError(f"{files.path}: found the folders {', '.join(sorted(alone))} alone, wanted {wanted}.")

    n_splits = len(tops)  # levels of folders: 1 or 0
    n_classes = {len(image) - 1 - n_splits: "/".join(image) for image in short.values()}
    if len(n_classes) > 1 or max(n_classes) > 1:
        found = " and ".join(name for _, name in sorted(n_classes.items()))
        raise InputError(f"{files.path}: found {found}, wanted every image in one of the layouts {LAYOUTS}.")
    labelled = 1 in n_classes
    for folder in sorted(empty):
        rest = folder[len(top) :]
        if labelled and folder[: len(top)] == top and len(rest) == n_splits + 1 and (not tops or rest[0] in SPLITS):
            name = "/".join(folder)
            raise InputError(f"{files.path}: found no image of class {name}, wanted some. Or remove the folder.")
    return [
        Placed(name, "/".join(image), image[0] if n_splits else None, image[-2] if labelled else None)
        for name, image in short.items()
    ]


def _common_folder(folders: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The deepest folder that holds all of them and is in none that is named like a split."""
    levels = zip(*folders, strict=False)
    return tuple(names[0] for names in takewhile(lambda n: len(set(n)) == 1 and n[0] not in SPLIT_LIKE, levels))


def _read_labels(path: Path, folder: Path, names: set[str]) -> dict[str, str]:
    """The class of every image of `names`, from a CSV file with rows name,label and perhaps that header."""
    remedy = "Correct the file of labels."
    try:
        content = path.read_bytes()
        refuse_html(path, content)
        rows = [[cell.strip() for cell in row] for row in csv.reader(content.decode("utf-8-sig").splitlines()) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}), wanted a CSV file with rows name,label.") from None
    label_of: dict[str, str] = {}
    for row in rows[1:] if rows[:1] == [["name", "label"]] else rows:
        if len(row) != 2 or "" in row:
            raise InputError(f"{path}: found the row {','.join(row)[:80]!r}, wanted name,label. {remedy}")
        name, label = row
        if name in label_of:
            raise InputError(f"{path}: found two rows for {name}, wanted one. {remedy}")
        if name not in names:
            raise InputError(f"{path}: found {name}, which is no image of {folder}, wanted its images alone. {remedy}")
        label_of[name] = label
    if missing := sorted(names - set(label_of)):
        found = f"no row for {len(missing):,} images of {folder}: {', '.join(missing[:5])}"
        raise InputError(f"{path}: found {found}, wanted one for each. {remedy}")
    return label_of


def _draw_test(placed: list[Placed], fraction: float, path: Path, identity: str) -> list[Placed]:
    """The images with splits: `fraction` of each class, at least one image, drawn for the test.

    The draw depends on `identity`, on the short names and on the classes, not on what the images show.
    """
    generator = np.random.default_rng(derive_seed(identity, "test images"))
    of_class: dict[str | None, list[Placed]] = {}
    for image in placed:
        of_class.setdefault(image.label, []).append(image)
    drawn = []
    for label, images in of_class.items():
        if len(images) < 2:
            of = f" of class {label!r}" if label is not None else ""
            raise InputError(f"{path}: found 1 image{of}, {images[0].name}, wanted 2: to train and to test. Add some.")
        n_test = min(max(1, round(len(images) * fraction)), len(images) - 1)
        test = set(generator.permutation(len(images))[:n_test].tolist())
        drawn += [replace(image, split="test" if i in test else "train") for i, image in enumerate(images)]
    return drawn
