"""Which split and which class each image of a folder, or of a zip archive of one, belongs to."""

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np

from bvae.data.image_files import DAMAGED, SUFFIXES, ImageFiles, refuse_html
from bvae.data.summary import Reading, by_suffix, shortened
from bvae.errors import InputError
from bvae.system.seeds import derive_seed

SPLITS = ("train", "test")
# What folders of these names, in capitals or not, hold; alone they are no classes. What is held out is not read.
ROLES = {"train": "train", "training": "train", "trainval": "train", "test": "test", "testing": "test"}
ROLES |= dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation", "holdout"), "held out")
# Files of these suffixes hold images, and are not read: to leave them out would leave out a part of the data.
UNREAD_IMAGES = re.compile(
    r"\.(tiff?|gif|apng|hei[cf]|hif|avif|jxl|j2k|jp[2x]|jif|jpg_large|dib|p[bgnp]m|pcx|tga|ico|psd|dng|cr2|nef|arw|exr"
    r"|hdr|dcm|npy)$",
    re.IGNORECASE,
)
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
    files: ImageFiles,
    *,
    labels: Path | None = None,
    test_fraction: float | None = None,
    identity: str = "",
    reading: Reading | None = None,
) -> list[Placed]:
    """Every image with its split, and with its class if it has one; by class, then by name.

    `bvae.data.readers.read_image_folder` says which layouts there are and what the options do. Raises InputError for
    any other layout, for a class without images in a split, for an option that the layout contradicts, for image files
    that are not read, and for a file of labels that is not given. `reading` notes what was left out.
    """
    reading = reading or Reading()
    if test_fraction is not None and not 0 < test_fraction < 1:
        raise InputError(f"--test-fraction: found {test_fraction}, wanted a number between 0 and 1.")
    _refuse_unread_images(files)
    placed = _by_folders(files, reading)
    if labels is None and placed[0].label is None:
        _refuse_unused_labels(files, placed)
    _refuse_copies(files, reading)
    used = labels and labels.resolve()
    if left_out := [name for name in files.others if (files.path / name).resolve() != used]:
        reading.notes.append(f"left out {len(left_out):,} files that are not images: {by_suffix(left_out)}")
    if labels is not None:
        if placed[0].label is not None:
            raise InputError(f"{files.path}: found class folders and --labels {labels}. Leave the option out.")
        label_of = _read_labels(labels, files.path, {image.short for image in placed})
        placed = [replace(image, label=label_of[image.short]) for image in placed]
    placed.sort(key=lambda image: (image.label or "", image.short))
    if placed[0].split is None:
        _refuse_splits_by_file_name(placed, files.path)
        reading.drawn = True
        return _draw_test(placed, test_fraction or TEST_FRACTION, files.path, identity)
    if test_fraction is not None:
        raise InputError(f"{files.path}: found folders train and test, and --test-fraction. Leave the option out.")
    return placed


def _refuse_unread_images(files: ImageFiles) -> None:
    if unread := [name for name in files.others if UNREAD_IMAGES.search(name)]:
        found = f"images that are not read: {by_suffix(unread)} ({unread[0]})"
        remedy = "Convert them, to PNG for example, or remove them."
        raise InputError(f"{files.path}: found {found}, wanted files {', '.join(SUFFIXES)}. {remedy}")


def _refuse_unused_labels(files: ImageFiles, placed: list[Placed]) -> None:
    """InputError for a table whose first column names images, where they would stay without classes."""
    names = {part for image in placed for part in (image.name, image.short, PurePosixPath(image.name).name)}
    stems = {PurePosixPath(image.name).stem for image in placed}
    for name in files.others:
        text = name.lower().endswith(".txt")
        if not text and not name.lower().endswith((".csv", ".tsv")):
            continue
        with contextlib.suppress(*DAMAGED):
            rows = files.read(name).decode("utf-8-sig", "replace").splitlines()
            cells = [re.split(r"[,;\s]+" if text else r"[,;\t]", row.strip()) for row in rows]
            first = {row[0].strip(' "') for row in cells if len(row) > 1}
            if first & (names if text else names | stems):
                remedy = f"Give --labels {files.path / name}, as rows name,label, or remove the file."
                if not files.path.is_dir():
                    remedy = "Take it out of the archive, and give it as --labels FILE, rows name,label."
                raise InputError(f"{files.path}: found {name}, which names the images, wanted --labels. {remedy}")


def _refuse_copies(files: ImageFiles, reading: Reading) -> None:
    """InputError where each image is there under two suffixes, as 1.png and 1.jpg; where some are, a note."""
    of_stem: dict[PurePosixPath, list[str]] = {}
    for name in files.names:
        of_stem.setdefault(PurePosixPath(name).with_suffix(""), []).append(name)
    twins = [names for names in of_stem.values() if len(names) > 1]
    if twins:
        found = (
            f"{sum(map(len, twins)):,} images that differ from another only in the suffix, as {' and '.join(twins[0])}"
        )
        if len(twins) == len(of_stem):
            raise InputError(f"{files.path}: found {found}, wanted each image once. Remove the copies.")
        reading.notes.append(f"{found}: are they copies?")


def _refuse_splits_by_file_name(placed: list[Placed], path: Path) -> None:
    """InputError where every file's name begins with the name of a split, and not all with the same."""
    first_of: dict[str, str] = {}
    for image in placed:
        word = re.match(r"[a-z]*", PurePosixPath(image.name).name.lower())
        role = ROLES.get(word[0]) if word else None
        if role is None:
            return
        first_of.setdefault(role, image.name)
    if len(first_of) > 1:
        found = " and ".join(sorted(first_of.values()))
        raise InputError(f"{path}: found {found} in one folder, wanted folders train and test. Move the images there.")


def _by_folders(files: ImageFiles, reading: Reading) -> list[Placed]:
    """The images as their folders place them."""
    parts = {name: tuple(name.split("/")) for name in files.names}
    filled = {image[:i] for image in parts.values() for i in range(len(image))}  # folders with images below them
    empty = {tuple(name.split("/")) for name in files.folders} - filled
    named = _splits_below(filled, files.path)
    tops = [top for top in sorted(named) if named[top].keys() >= set(SPLITS)]
    if len(tops) > 1:
        found = " and in ".join("/".join(top) or "." for top in tops[:2])
        raise InputError(f"{files.path}: found folders train and test in {found}, wanted them once.")
    if tops:
        [top] = tops
        split_of = {named[top][split]: split for split in SPLITS}
        below = {(*top, folder) for folder in split_of}
        chosen = {name: image for name, image in parts.items() if image[: len(top) + 1] in below}
        folders = ["/".join(image[:-1][: len(top) + 1]) or "." for name, image in parts.items() if name not in chosen]
        if folders:
            where = shortened(f"{count:,} in {folder}" for folder, count in sorted(Counter(folders).items()))
            reading.notes.append(f"left out {len(folders):,} images in neither {' nor '.join(split_of)}: {where}")
    else:
        split_of = {}
        top, chosen = _common_folder({image[:-1] for image in parts.values()} | empty), parts
    short = {name: image[len(top) :] for name, image in chosen.items()}
    if not tops:
        _refuse_other_splits({image[0] for image in short.values() if len(image) > 1}, files.path)

    n_splits = len(tops)  # levels of folders: 1 or 0
    n_classes = {len(image) - 1 - n_splits: "/".join(image) for image in short.values()}
    if len(n_classes) > 1 or max(n_classes) > 1:
        found = " and ".join(name for _, name in sorted(n_classes.items()))
        raise InputError(f"{files.path}: found {found}, wanted every image in one of the layouts {LAYOUTS}.")
    labelled = 1 in n_classes
    for folder in sorted(empty):
        rest = folder[len(top) :]
        if labelled and folder[: len(top)] == top and len(rest) == n_splits + 1 and (not tops or rest[0] in split_of):
            name = "/".join(folder)
            raise InputError(f"{files.path}: found no image of class {name}, wanted some. Or remove the folder.")
    return [
        Placed(name, "/".join(image), split_of[image[0]] if n_splits else None, image[-2] if labelled else None)
        for name, image in short.items()
    ]


def _splits_below(folders: set[tuple[str, ...]], path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """For each folder, by the name of the split, the folder in it that is named like that split."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for *top, name in sorted(filter(None, folders)):
        splits = found.setdefault(tuple(top), {})
        if (split := ROLES.get(name.lower())) in SPLITS and splits.setdefault(split, name) != name:
            both = " and ".join("/".join([*top, folder]) for folder in (splits[split], name))
            remedy = "Put the images into one of them, or rename the other."
            raise InputError(f"{path}: found {both}, wanted one folder of {split} images. {remedy}")
    return found


def _refuse_other_splits(names: set[str], path: Path) -> None:
    """InputError for folders, beside each other, that are named like splits and are not both train and test."""
    roles = {name: ROLES.get(name.lower()) for name in sorted(names)}
    if names and None not in roles.values():
        first = next((name for name, role in roles.items() if role == "train"), min(names))
        wanted = f"both train and test. To draw the test images, give the folder {first} itself"
        raise InputError(f"{path}: found the folders {', '.join(roles)} alone, wanted {wanted}.")
    if pair := _pair_of_splits(roles):
        remedy = "If they are splits, name them train and test; if they are classes, rename one."
        raise InputError(f"{path}: found the folders {' and '.join(pair)}, wanted splits or classes. {remedy}")


def _pair_of_splits(names: Iterable[str]) -> list[str]:
    """Two names that look like different splits, as train and test1, or trainset and testset; an empty list without."""
    role_of: dict[str, str] = {}
    for name in names:
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
        if roles := [ROLES[word.lower()] for word in words if word.lower() in ROLES]:
            role_of.setdefault("train" if "train" in roles else "other", name)
    if len(role_of) > 1:
        return sorted(role_of.values())
    rests: dict[str, dict[str, str]] = {}
    for name in names:
        for word, role in ROLES.items():
            if word in name.lower():
                rests.setdefault(name.lower().replace(word, "*", 1), {}).setdefault(role, name)
    return next((list(pair.values())[:2] for pair in rests.values() if len(pair) > 1), [])


def _common_folder(folders: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The deepest folder that holds all of them and is in none that is named like a split."""
    levels = zip(*folders, strict=False)
    return tuple(names[0] for names in takewhile(lambda n: len(set(n)) == 1 and n[0].lower() not in ROLES, levels))


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
            raise InputError(f"{path}: found {name}, which is no image of {folder}, wanted only its images. {remedy}")
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
            raise InputError(
                f"{path}: found 1 image{of}, {images[0].name}, wanted 2 or more, to train and to test. Add some."
            )
        n_test = min(max(1, round(len(images) * fraction)), len(images) - 1)
        test = set(generator.permutation(len(images))[:n_test].tolist())
        drawn += [replace(image, split="test" if i in test else "train") for i, image in enumerate(images)]
    return drawn
