"""Readers of further formats: SVHN's, EMNIST's and Omniglot's files, and a user's own arrays (.npz, IDX files).

As in bvae/data/readers.py: every reader returns what `bvae.data.make` takes, unpickles nothing, and raises InputError
that names the damaged file or array.
"""

import contextlib
import io
import itertools
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bvae.data.image_files import DAMAGED, REMEDY, Form, decode, open_files, open_zip, refuse_html
from bvae.data.image_folders import ROLES
from bvae.data.readers import read_idx
from bvae.data.summary import Reading, by_suffix, shortened
from bvae.errors import InputError

SVHN_CLASSES = tuple(str(digit) for digit in range(10))
OMNIGLOT_FORM = Form(mode="grey", size=28)  # published as 105 x 105 pixels, black or white
SPLITS = {"train": "train", "test": "t10k"}  # the prefixes of MNIST's files
RANKS = {"images": 3, "labels": 1}  # of IDX files
HELD_OUT = [name for name, role in ROLES.items() if role not in SPLITS]  # left out, as a folder of that name is


def read_svhn(train: Path, test: Path) -> dict[str, Any]:
    """SVHN's cropped digits, two MATLAB files: images (n, 3, 32, 32), labels (n,); the file's 10 is the digit 0."""
    result: dict[str, Any] = {"classes": SVHN_CLASSES}
    for split, path in (("train", train), ("test", test)):
        arrays = _read_mat(path)
        images, labels = arrays["X"], arrays["y"]  # (h, w, c, n), (n, 1)
        if images.dtype != np.uint8 or images.ndim != 4:
            found = f"X of {images.dtype}, shape {images.shape}"
            raise InputError(f"{path}: found {found}, wanted uint8 of (32, 32, 3, n). {REMEDY}")
        if labels.dtype.kind not in "iu" or labels.size == 0 or not 1 <= labels.min() <= labels.max() <= 10:
            raise InputError(f"{path}: found labels y other than 1 to 10, wanted only these. {REMEDY}")
        result[f"{split}_images"] = torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1)))
        result[f"{split}_labels"] = torch.from_numpy(labels.reshape(-1).astype(np.int64) % 10)
    return result


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    """The arrays X and y of a MATLAB file, version 5."""
    from scipy.io import loadmat

    content = path.read_bytes()
    refuse_html(path, content)
    try:
        arrays = loadmat(io.BytesIO(content), variable_names=["X", "y"])
    except Exception as error:  # scipy raises all kinds for a damaged file
        raise InputError(f"{path}: truncated, or not a MATLAB file ({error}). {REMEDY}") from None
    if missing := {"X", "y"} - set(arrays):
        raise InputError(f"{path}: found no array {' and no '.join(sorted(missing))}, wanted X and y. {REMEDY}")
    return arrays


def read_emnist(path: Path, *, split: str) -> dict[str, Any]:
    """One split of EMNIST's gzip.zip, for example "balanced": images (n, 1, 28, 28), labels (n,).

    The images are transposed in the files; here they are upright. The classes are left to the caller.
    """
    arrays = {}
    with open_zip(path) as archive:
        for part, kind, rank in [(part, kind, rank) for part in ("train", "test") for kind, rank in RANKS.items()]:
            name = f"gzip/emnist-{split}-{part}-{kind}-idx{rank}-ubyte.gz"
            try:
                arrays[f"{part}_{kind}"] = read_idx(zipfile.Path(archive, name), rank=rank)
            except FileNotFoundError:
                raise InputError(f"{path}: found no member {name}, wanted EMNIST as published. {REMEDY}") from None
            except DAMAGED as error:
                raise InputError(f"{path}: member {name} is damaged ({error}). {REMEDY}") from None
    upright = {name: array.transpose(1, 2).unsqueeze(1) for name, array in arrays.items() if "images" in name}
    return upright | {name: array.long() for name, array in arrays.items() if "labels" in name}


def read_omniglot(background: Path, evaluation: Path, *, scratch: Path | None = None) -> dict[str, Any]:
    """Omniglot's images, by file name: the background alphabets for training, the evaluation alphabets for the test.

    Black ink on white becomes bright ink on black, and 105 x 105 pixels become 28 x 28 by an antialiased bilinear
    filter: (n, 1, 28, 28). The two have no character in common, so there are no labels. `scratch` is a folder for a
    temporary file.
    """
    result = {}
    for split, path in (("train", background), ("test", evaluation)):
        with open_files(path) as files:
            [(images, _)] = decode(files, {split: files.names}, OMNIGLOT_FORM, scratch=scratch).values()
        result[f"{split}_images"] = 255 - images
    return result


def read_idx_folder(folder: Path, *, reading: Reading | None = None) -> dict[str, Any]:
    """A folder of IDX files by MNIST's names, plain or .gz; the two files of labels may both be missing.

    An IDX file of another name is refused, and so is a table where labels are missing: they might be the labels.
    `reading` notes which other files were left out.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: found no such folder, wanted one with train-images-idx3-ubyte and so on.")
    tensors, wanted = {}, []
    for split, prefix in SPLITS.items():
        for kind, rank in RANKS.items():
            wanted.append(name := f"{prefix}-{kind}-idx{rank}-ubyte")
            paths = [folder / packed for packed in (name, f"{name}.gz") if (folder / packed).exists()]
            arrays = [read_idx(path, rank=rank) for path in paths]
            if len(arrays) == 2 and not torch.equal(*arrays):
                raise InputError(f"{paths[0]}: found another array in {paths[1].name}, wanted the same. Remove one.")
            if arrays:
                tensors[f"{split}_{kind}"] = arrays[0]
            elif kind == "images":
                raise InputError(f"{folder}: found no {name}, plain or .gz, wanted one of them. Put it there.")
    _refuse_unread_files(folder, wanted, labelled="train_labels" in tensors, reading=reading or Reading())
    images = {f"{split}_images": tensors[f"{split}_images"].unsqueeze(1) for split in SPLITS}
    return images | _own_labels(tensors.get("train_labels"), tensors.get("test_labels"), place=folder)


def _refuse_unread_files(folder: Path, wanted: list[str], *, labelled: bool, reading: Reading) -> None:
    """InputError for a file that may hold images or labels and is not read; others are noted."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    unread = [path for path in files if path.name.removesuffix(".gz") not in wanted]
    for path in unread:
        name = path.name.lower()
        table = not labelled and name.endswith((".csv", ".tsv", ".npy"))
        if table or "ubyte" in name or "idx" in name or name.endswith(".gz") or _is_idx(path):
            remedy = "Give it one of these names, or remove it."
            raise InputError(f"{folder}: found {path.name}, which is not read, wanted {', '.join(wanted)}. {remedy}")
    if unread:
        names = by_suffix(path.name for path in unread)
        reading.notes.append(f"left out {len(unread):,} files of other names: {names}")


def _is_idx(path: Path) -> bool:
    """Whether a file begins as IDX files do: two zeros, a type, and from 1 to 4 dimensions."""
    with path.open("rb") as stream:
        head = stream.read(4)
    return len(head) == 4 and head[:2] == b"\0\0" and 8 <= head[2] <= 14 and 1 <= head[3] <= 4


def read_npz(path: Path, *, reading: Reading | None = None) -> dict[str, Any]:
    """Arrays of a NumPy archive: train_images, test_images and, both or neither, train_labels, test_labels.

    Or x_train, x_test, y_train, y_test. Arrays of a validation split (val_images, x_val, ...) are left out, which
    `reading` notes; an array of any other name is refused. Images are uint8 (n, h, w), (n, h, w, c) or (n, c, h, w)
    with 1 or 3 channels, labels whole numbers (n,) or (n, 1).
    """
    with _open_npz(path) as archive:
        _refuse_unread_arrays(path, archive.files, reading or Reading())
        images = {f"{split}_images": _npz_images(archive, split, path) for split in SPLITS}
        labels = [_npz_labels(archive, split, path) for split in SPLITS]
    return images | _own_labels(*labels, place=path)


@contextlib.contextmanager
def _open_npz(path: Path) -> Iterator[Any]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is one array; save with numpy.savez")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Correct the path, or save it with numpy.savez.") from None
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: damaged, or not a NumPy archive ({error}). Save it again with numpy.savez."
        ) from None
    with archive:
        yield archive


def _names(split: str, kind: str) -> tuple[str, str]:
    """What an array may be called."""
    return f"{split}_{kind}", f"{'x' if kind == 'images' else 'y'}_{split}"


def _refuse_unread_arrays(path: Path, found: list[str], reading: Reading) -> None:
    """InputError for an array of an unknown name, or for two of one meaning; those held out are noted."""
    known = [_names(split, kind) for split in SPLITS for kind in RANKS]
    wanted = ", ".join(" or ".join(names) for names in known)
    for names in known:
        if set(names) <= set(found):
            raise InputError(f"{path}: found both {' and '.join(names)}, wanted one of them. Save it again with one.")
    held_out = {name for split in HELD_OUT for kind in RANKS for name in _names(split, kind)} & set(found)
    if unknown := sorted(set(found) - held_out - set(itertools.chain(*known))):
        meant = sorted({guess for name in unknown if (guess := _guess(name)) and guess not in found})
        hint = f" Did you mean {', '.join(meant)}?" if meant else ""
        remedy = f"Save it again with these names and without other arrays.{hint}"
        raise InputError(f"{path}: found {shortened(unknown)}, which would not be read, wanted {wanted}. {remedy}")
    if held_out:
        reading.notes.append(f"left out {', '.join(sorted(held_out))}, which are of neither train nor test")


def _guess(name: str) -> str | None:
    """Which array a name of another spelling may mean."""
    split = next((split for split in SPLITS if split in name.lower()), None)
    if split is None:
        return None
    rest = name.lower().replace(split, "").strip("_- ")
    labels = rest == "y" or any(word in rest for word in ("label", "target", "class", "lbl"))
    return _names(split, "labels" if labels else "images")[0]


def _npz_array(archive: Any, split: str, kind: str, path: Path) -> tuple[str, np.ndarray | None]:
    """The name of an array and the array, None if it is in the archive by neither of its names."""
    names = _names(split, kind)
    name = next((name for name in names if name in archive), None)
    if name is None:
        return " or ".join(names), None
    try:
        return name, archive[name]
    except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:  # ValueError: an object array
        wanted = "an array of numbers; lists and objects are refused"
        raise InputError(f"{path}: {name} cannot be read ({error}), wanted {wanted}. Save it again.") from None


def _npz_images(archive: Any, split: str, path: Path) -> Tensor:
    name, array = _npz_array(archive, split, "images", path)
    if array is None:
        found = ", ".join(archive.files) or "no array"
        raise InputError(f"{path}: found {found}, wanted {name}. Save it with numpy.savez under that name.")
    if array.dtype != np.uint8:
        remedy = "Scale the pixels to 0..255, round them, and save them as uint8."
        raise InputError(f"{path}: found {name} of {array.dtype}, wanted uint8. {remedy}")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        wanted = "(n, h, w), (n, h, w, c) or (n, c, h, w) with c 1 or 3"
        raise InputError(f"{path}: found {name} of shape {array.shape}, wanted {wanted}. Save it in one of these.")
    return torch.from_numpy(np.ascontiguousarray(array))


def _npz_labels(archive: Any, split: str, path: Path) -> Tensor | None:
    name, array = _npz_array(archive, split, "labels", path)
    if array is None:
        return None
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or array.size != len(array):
        found = f"{name} of {array.dtype}, shape {array.shape}"
        remedy = "Save one class number for each image."
        raise InputError(f"{path}: found {found}, wanted whole numbers of shape (n,). {remedy}")
    return torch.from_numpy(array.reshape(-1).astype(np.int64))


def _own_labels(train: Tensor | None, test: Tensor | None, *, place: Path) -> dict[str, Any]:
    """Labels numbered 0, 1, ... in the order of their values, which name the classes; nothing if there are none."""
    if train is None and test is None:
        return {}
    if train is None or test is None:
        found, missing = ("test", "training") if train is None else ("training", "test")
        raise InputError(
            f"{place}: found {found} labels alone, wanted those of both or neither. Add the {missing} labels."
        )
    values, numbers = torch.cat([train, test]).unique(return_inverse=True)
    classes = tuple(str(value) for value in values.tolist())
    return {"train_labels": numbers[: len(train)], "test_labels": numbers[len(train) :], "classes": classes}
