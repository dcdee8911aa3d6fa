"""Readers of the published file formats. Archives are streamed by member name: nothing is extracted or unpickled.

Every reader returns, by the names that `bvae.data.make` takes, torch tensors and the names of classes or attributes,
and raises InputError that names the damaged file or member.
"""

import gzip
import itertools
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import numpy as np
import torch

from bvae.data import image_files as images
from bvae.data.image_files import REMEDY, refuse_html
from bvae.data.image_folders import SPLITS, place_images
from bvae.data.summary import Reading
from bvae.errors import InputError

CIFAR10_RECORD = 1 + 3 * 32 * 32  # bytes: one label, then the red, the green and the blue plane
CELEBA_CROP, CELEBA_SIZE = 140, 64  # pixels
CELEBA_SPLITS = {"train": "0", "test": "2"}  # the numbers in list_eval_partition.txt; validation, "1", is left out
CELEBA_FOLDERS = ("img_align_celeba/", "img_align_celeba/img_align_celeba/", "")  # where a zip or folder has them


def read_idx(path: Path | zipfile.Path, *, rank: int) -> torch.Tensor:
    """A uint8 array of `rank` dimensions from an IDX file, plain or gzipped, as MNIST is published."""
    content = path.read_bytes()
    refuse_html(path, content)
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{path}: truncated or damaged gzip file ({error}). {REMEDY}") from None
    magic, wanted = content[:4], bytes([0, 0, 8, rank])  # 8: unsigned bytes
    if magic != wanted:
        raise InputError(f"{path}: found magic number {magic.hex()}, wanted {wanted.hex()} (IDX, uint8). {REMEDY}")
    header = 4 + 4 * rank
    if len(content) < header:
        raise InputError(f"{path}: found {len(content)} bytes, wanted a header of {header}. {REMEDY}")
    shape = struct.unpack(f">{rank}I", content[4:header])
    if len(content) != header + math.prod(shape):
        found = f"{len(content) - header:,} bytes of data"
        raise InputError(f"{path}: found {found}, wanted {math.prod(shape):,} for the shape {shape}. {REMEDY}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())


def read_cifar10(path: Path) -> dict[str, Any]:
    """The canonical binary archive, cifar-10-binary.tar.gz: images (n, 3, 32, 32), labels (n,), class names."""
    batches = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    wanted = {*batches["train"], *batches["test"], "batches.meta.txt"}
    with path.open("rb") as stream:
        refuse_html(path, stream.read(64))
    members = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.isfile() and (base := PurePosixPath(member.name).name) in wanted:
                    members[base] = cast(IO[bytes], archive.extractfile(member)).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path}: truncated or damaged tar.gz archive ({error}). {REMEDY}") from None
    if missing := sorted(wanted - set(members)):
        raise InputError(f"{path}: found no member {', '.join(missing)}, wanted the binary version. {REMEDY}")
    result: dict[str, Any] = {"classes": tuple(members["batches.meta.txt"].decode("ascii", "replace").split())}
    for split, names in batches.items():
        for name in names:
            if not members[name] or len(members[name]) % CIFAR10_RECORD:
                found = f"{name} of {len(members[name]):,} bytes"
                raise InputError(f"{path}: found {found}, wanted a multiple of {CIFAR10_RECORD:,}. {REMEDY}")
        content = np.frombuffer(b"".join(members[name] for name in names), np.uint8)
        records = content.reshape(-1, CIFAR10_RECORD)
        result[f"{split}_labels"] = torch.from_numpy(records[:, 0].astype(np.int64))
        result[f"{split}_images"] = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return result


def read_image_folder(
    path: Path,
    *,
    size: int | None = None,
    mode: str | None = None,
    crop: int | None = None,
    test_fraction: float | None = None,
    labels: Path | None = None,
    skip_corrupt: bool = False,
    identity: str = "",
    scratch: Path | None = None,
    reading: Reading | None = None,
) -> dict[str, Any]:
    """Images below a folder or in a zip archive of one, (n, c, h, w); by class, then by name.

    Layouts, below any folder: {train,test}/<class>/<image>, <class>/<image>, {train,test}/<image> or <image>; the
    folders may also be called training and testing, in capitals or not. Without them, `test_fraction` (1/6 if None) of
    each class, at least one image, is drawn for the test: a draw that depends on `identity` and on the names alone.
    Without class folders there are no labels, or those of `labels`, a CSV file of rows name,label, with the names as
    below the common folder (as train/1.png). Class numbers are those of the sorted names.

    Files of SUFFIXES are read, upright as their EXIF orientation says; image files of other kinds are refused. `mode`,
    `crop` and `size` are those of Form, and `skip_corrupt` and `scratch` those of decode, all in
    bvae.data.image_files, which says what is refused: without options every image is square, of one size and mode.
    `reading` notes what was left out or turned.
    """
    form = images.Form(mode, crop, size, upright=True)
    reading = reading or Reading()
    with images.open_files(path) as files:
        placed = place_images(files, labels=labels, test_fraction=test_fraction, identity=identity, reading=reading)
        class_of = {image.name: image.label for image in placed}
        splits = {split: [image.name for image in placed if image.split == split] for split in SPLITS}
        remedy = "Replace or remove them, or give --skip-corrupt to leave them out."
        decoded = images.decode(
            files, splits, form, skip_corrupt=skip_corrupt, remedy=remedy, scratch=scratch, reading=reading
        )
    classes = sorted({label for label in class_of.values() if label is not None})
    number: dict[str | None, int] = {name: i for i, name in enumerate(classes)}
    result: dict[str, Any] = {"classes": tuple(classes)} if classes else {}
    for split, (pixels, names) in decoded.items():
        result[f"{split}_images"] = pixels
        if classes:
            result[f"{split}_labels"] = torch.tensor([number[class_of[name]] for name in names])
    return result


def read_celeba(path: Path, partition: Path, attributes: Path, *, scratch: Path | None = None) -> dict[str, Any]:
    """CelebA from img_align_celeba (zip or folder), list_eval_partition.txt and list_attr_celeba.txt.

    The official training and test splits, by file name. The central 140 x 140 pixels become 64 x 64 by an
    antialiased bilinear filter, (n, 3, 64, 64); the attributes, -1 or 1, become 0 or 1, (n, 40). `scratch` is that of
    bvae.data.image_files.decode.
    """
    split_of = dict(_rows(partition, _lines(partition), columns=2))
    count, header, *lines = _lines(attributes)
    attribute_names = tuple(header.split())
    values, row_of = np.empty((len(lines), len(attribute_names)), np.uint8), {}
    for i, (name, *words) in enumerate(_rows(attributes, lines, columns=1 + len(attribute_names))):
        if not set(words) <= {"-1", "1"}:
            raise InputError(f"{attributes}: found a value other than -1 and 1, wanted only these. {REMEDY}")
        values[i], row_of[name] = [word == "1" for word in words], i
    if count.strip() != str(len(row_of)):
        raise InputError(f"{attributes}: found {len(row_of)} rows, wanted {count!r} (its line 1). {REMEDY}")
    if unknown := sorted(set(split_of) - set(row_of)):
        raise InputError(f"{attributes}: found no row for {unknown[0]}, wanted one as in {partition}. {REMEDY}")

    with images.open_files(path) as files:
        have, some = set(files.names), min(split_of)
        prefix = next((prefix for prefix in CELEBA_FOLDERS if prefix + some in have), "")
        splits = {
            split: sorted(n for n in split_of if split_of[n] == number) for split, number in CELEBA_SPLITS.items()
        }
        for name in itertools.chain(*splits.values()):
            if prefix + name not in have:
                raise InputError(f"{path}: found no image {name}, wanted it as listed in {partition}. {REMEDY}")
        wanted = {split: [prefix + name for name in names] for split, names in splits.items()}
        decoded = images.decode(files, wanted, images.Form("rgb", CELEBA_CROP, CELEBA_SIZE), scratch=scratch)
    result: dict[str, Any] = {"attribute_names": attribute_names}
    for split, names in splits.items():
        result[f"{split}_images"] = decoded[split][0]
        result[f"{split}_attributes"] = torch.from_numpy(values[[row_of[name] for name in names]])
    return result


def _lines(path: Path) -> list[str]:
    """The lines of a text file, of which there must be three or more: CelebA's lists are never shorter."""
    content = path.read_bytes()
    refuse_html(path, content)
    lines = content.decode("utf-8", "replace").splitlines()
    if len(lines) < 3:
        raise InputError(f"{path}: found {len(lines)} lines, wanted at least 3. {REMEDY}")
    return lines


def _rows(path: Path, lines: Sequence[str], *, columns: int) -> Iterator[list[str]]:
    """The words of every line; a line of another length is an InputError."""
    for line in lines:
        words = line.split()
        if len(words) != columns:
            raise InputError(f"{path}: found the line {line[:80]!r}, wanted {columns} columns. {REMEDY}")
        yield words
