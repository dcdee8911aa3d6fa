"""Readers of the published file formats. Archives are streamed by member name: nothing is extracted or unpickled.

Every reader returns, by the names that `bvae.data.make` takes, torch tensors and the names of classes or attributes,
and raises InputError that names the damaged file or member.
"""

import contextlib
import gzip
import io
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from bvae.files import InputError

CIFAR10_RECORD = 1 + 3 * 32 * 32  # bytes: one label, then the red, the green and the blue plane
CELEBA_CROP, CELEBA_SIZE = 140, 64  # pixels
CELEBA_SPLITS = {"train": "0", "test": "2"}  # the numbers in list_eval_partition.txt; validation, "1", is left out
REMEDY = "Delete the file and get it again."


def read_idx(path: Path, *, rank: int) -> torch.Tensor:
    """A uint8 array of `rank` dimensions from an IDX file, plain or gzipped, as MNIST is published."""
    content = path.read_bytes()
    _refuse_html(path, content)
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
        _refuse_html(path, stream.read(64))
    members = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.isfile() and (base := PurePosixPath(member.name).name) in wanted:
                    members[base] = archive.extractfile(member).read()
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


def read_class_folders(path: Path) -> dict[str, Any]:
    """A zip of <top>/{train,test}/<class>/*.jpg or *.png, grey or RGB and all of one size; by class, then by name."""
    with _open_zip(path) as archive:
        members: dict[str, list[tuple[str, ...]]] = {"train": [], "test": []}
        for name in archive.namelist():
            parts = PurePosixPath(name).parts
            image = parts[-1].lower().endswith((".jpg", ".jpeg", ".png")) and not parts[-1].startswith(".")
            if image and len(parts) >= 3 and parts[-3] in members and parts[0] != "__MACOSX":
                members[parts[-3]].append((parts[-2], parts[-1], name))
        for split, found in members.items():
            if not found:
                raise InputError(f"{path}: found no image in a folder {split}/<class>/, wanted some. {REMEDY}")
        first = members["train"][0][2]
        (width, height), mode = _decode(first, read=archive.read, use=lambda image: (image.size, image.mode), path=path)
        if mode not in ("L", "RGB"):
            raise InputError(f"{path}: found image {first} of mode {mode}, wanted L (grey) or RGB. {REMEDY}")

        def pixels(image: Any) -> np.ndarray:
            if (image.size, image.mode) != ((width, height), mode):
                found = f"{image.size[0]} x {image.size[1]} pixels, mode {image.mode}"
                raise ValueError(f"{found}; {first} has {width} x {height}, mode {mode}")
            return np.asarray(image).reshape(height, width, -1)

        classes = sorted({member[0] for found in members.values() for member in found})
        number = {name: i for i, name in enumerate(classes)}
        result: dict[str, Any] = {"classes": tuple(classes)}
        for split, found in members.items():
            found.sort()
            shape = (len(found), 1 if mode == "L" else 3, height, width)
            names = [member[2] for member in found]
            result[f"{split}_images"] = _decode_all(names, read=archive.read, use=pixels, path=path, shape=shape)
            result[f"{split}_labels"] = torch.tensor([number[member[0]] for member in found])
    return result


def read_celeba(images: Path, partition: Path, attributes: Path) -> dict[str, Any]:
    """CelebA from img_align_celeba (zip or folder), list_eval_partition.txt and list_attr_celeba.txt.

    The official training and test splits, by file name. The central 140 x 140 pixels become 64 x 64 by an
    antialiased bilinear filter, (n, 3, 64, 64); the attributes, -1 or 1, become 0 or 1, (n, 40).
    """
    from PIL import Image

    split_of = dict(_rows(partition, _lines(partition), columns=2))
    count, header, *lines = _lines(attributes)
    attribute_names = tuple(header.split())
    attribute_rows = {name: values for name, *values in _rows(attributes, lines, columns=1 + len(attribute_names))}
    if count.strip() != str(len(attribute_rows)):
        raise InputError(f"{attributes}: found {len(attribute_rows)} rows, wanted {count!r} (its line 1). {REMEDY}")
    if unknown := sorted(set(split_of) - set(attribute_rows)):
        raise InputError(f"{attributes}: found no row for {unknown[0]}, wanted one as in {partition}. {REMEDY}")

    def pixels(image: Image.Image) -> np.ndarray:
        left, top = (image.width - CELEBA_CROP) // 2, (image.height - CELEBA_CROP) // 2
        if left < 0 or top < 0:
            raise ValueError(f"{image.width} x {image.height} pixels; at least {CELEBA_CROP} each way are needed")
        crop = image.convert("RGB").crop((left, top, left + CELEBA_CROP, top + CELEBA_CROP))
        return np.asarray(crop.resize((CELEBA_SIZE, CELEBA_SIZE), Image.Resampling.BILINEAR))

    result: dict[str, Any] = {"attribute_names": attribute_names}
    with contextlib.nullcontext() if images.is_dir() else _open_zip(images) as archive:

        def read(name: str) -> bytes:
            return archive.read(f"img_align_celeba/{name}") if archive else (images / name).read_bytes()

        for split, number in CELEBA_SPLITS.items():
            names = sorted(name for name in split_of if split_of[name] == number)
            shape = (len(names), 3, CELEBA_SIZE, CELEBA_SIZE)
            result[f"{split}_images"] = _decode_all(names, read=read, use=pixels, path=images, shape=shape)
            values = np.array([attribute_rows[name] for name in names]).reshape(-1, len(attribute_names))
            if not np.isin(values, ("-1", "1")).all():
                raise InputError(f"{attributes}: found a value other than -1 and 1, wanted only these. {REMEDY}")
            result[f"{split}_attributes"] = torch.from_numpy((values == "1").astype(np.uint8))
    return result


def _decode_all(
    names: Sequence[str], *, read: Callable[[str], bytes], use: Callable, path: Path, shape: tuple[int, ...]
) -> torch.Tensor:
    """uint8 (n, c, h, w): `use` of every image, as (h, w, c), decoded by a pool of threads (PIL frees the GIL)."""
    pixels = np.empty(shape, np.uint8)

    def fill(i: int) -> None:
        pixels[i] = _decode(names[i], read=read, use=use, path=path).transpose(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(len(names))):  # raises a thread's error and cancels the rest
            pass
    return torch.from_numpy(pixels)


def _decode(name: str, *, read: Callable[[str], bytes], use: Callable, path: Path) -> Any:
    """`use` of one image; what goes wrong is an InputError that names `path` and the image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(read(name))) as image:
            image.load()
            return use(image)
    except (KeyError, FileNotFoundError):
        raise InputError(f"{path}: found no image {name}, wanted it as listed. {REMEDY}") from None
    except (OSError, RuntimeError, SyntaxError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: image {name} cannot be used: {error}. {REMEDY}") from None


def _lines(path: Path) -> list[str]:
    """The lines of a text file, of which there must be three or more: CelebA's lists are never shorter."""
    content = path.read_bytes()
    _refuse_html(path, content)
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


def _open_zip(path: Path) -> zipfile.ZipFile:
    with path.open("rb") as stream:
        _refuse_html(path, stream.read(64))
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: truncated, or not a zip archive ({error}). {REMEDY}") from None


def _refuse_html(path: Path, content: bytes) -> None:
    if content[:64].lstrip().startswith(b"<"):
        raise InputError(f"{path}: found an HTML page, wanted data (a server's error page was saved?). {REMEDY}")
