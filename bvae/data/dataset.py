"""A data set is one file, `resources/data/<name>.safetensors`. This module is the only gate to it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bvae.data.checks import pixel_problems
from bvae.errors import InputError
from bvae.system.files import read_tensors, write_tensors

FORMAT = "bvae-data-1"

# Every tensor a file may hold, in the order in which it is hashed: (dtype, rank).
TENSORS = {
    "train_images": (torch.uint8, 4),  # (n, c, h, w)
    "test_images": (torch.uint8, 4),
    "train_labels": (torch.int64, 1),  # (n,), class numbers
    "test_labels": (torch.int64, 1),
    "train_attributes": (torch.uint8, 2),  # (n, k), 0 or 1
    "test_attributes": (torch.uint8, 2),
}
TEXT_FIELDS = ("name", "source", "licence", "sha256")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as uint8 (n, c, h, w), with class labels (n,), with 0/1 attributes (n, k), or with neither."""

    name: str
    train_images: torch.Tensor
    test_images: torch.Tensor
    train_labels: torch.Tensor | None
    test_labels: torch.Tensor | None
    train_attributes: torch.Tensor | None
    test_attributes: torch.Tensor | None
    classes: tuple[str, ...]
    attribute_names: tuple[str, ...]
    source: str
    licence: str
    sha256: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.shape[0]

    @property
    def size(self) -> int:
        """Height and width of the square images, in pixels."""
        return self.shape[1]

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors that this data set has, by name, in the order of TENSORS."""
        return {name: getattr(self, name) for name in TENSORS if getattr(self, name) is not None}


def make(
    *,
    name: str,
    train_images: torch.Tensor,
    test_images: torch.Tensor,
    train_labels: torch.Tensor | None = None,
    test_labels: torch.Tensor | None = None,
    train_attributes: torch.Tensor | None = None,
    test_attributes: torch.Tensor | None = None,
    classes: tuple[str, ...] = (),
    attribute_names: tuple[str, ...] = (),
    source: str,
    licence: str,
) -> Dataset:
    """A Dataset with its hash computed. `save` checks it; images other than uint8 tensors are an InputError here."""
    for key, images in (("train_images", train_images), ("test_images", test_images)):
        if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
            found = f"{type(images).__name__} of {getattr(images, 'dtype', 'no dtype')}"
            remedy = "Scale the pixels to 0..255, round them, and pass them as such a tensor."
            raise InputError(f"{name}: found {key}, a {found}, wanted a Tensor of torch.uint8. {remedy}")
    arrays = (train_images, test_images, train_labels, test_labels, train_attributes, test_attributes)
    named = {key: value for key, value in zip(TENSORS, arrays, strict=True) if value is not None}
    return Dataset(name, *arrays, tuple(classes), tuple(attribute_names), source, licence, arrays_sha256(named))


def arrays_sha256(tensors: Mapping[str, torch.Tensor], order: Iterable[str] = TENSORS) -> str:
    """SHA-256, as 64 hex digits, over the names, dtypes, shapes and bytes of `tensors`, in this order of names."""
    digest = hashlib.sha256()
    for name in order:
        if name in tensors:
            array = tensors[name].contiguous().numpy()
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes() if array.size == 0 else array.data)
    return digest.hexdigest()


def save(dataset: Dataset, path: str | Path) -> None:
    """Write `dataset` to `path`, whole or not at all. Raises InputError when `load` would refuse it."""
    refuse_unsound(dataset, path)
    facts = {key: getattr(dataset, key) for key in TEXT_FIELDS}
    facts |= {"classes": list(dataset.classes), "attributes": list(dataset.attribute_names)}
    write_tensors(path, dataset.tensors(), form=FORMAT, facts=facts)


def refuse_unsound(dataset: Dataset, path: str | Path) -> None:
    """Raise InputError unless `dataset` may be written to `path`."""
    validate(dataset, path, remedy=f"Nothing was written. Correct the source, {dataset.source}.")


def load(path: str | Path) -> Dataset:
    """Read and check a data set file. Raises InputError that names the file, what is wrong with it and the remedy."""
    path = Path(path)
    remedy = f"Delete it and run `snakemake {path}` again (a file of your own: write it with bvae.data.save)."
    tensors, facts = read_tensors(path, form=FORMAT, remedy=remedy)
    missing = [key for key in TEXT_FIELDS if key not in facts]
    missing += [name for name in ("train_images", "test_images") if name not in tensors]
    if missing:
        raise InputError(f"{path}: found no {' and no '.join(missing)}, wanted all of them. {remedy}")
    if unknown := sorted(set(tensors) - set(TENSORS)):
        raise InputError(f"{path}: found an unknown tensor {unknown[0]}, wanted only {', '.join(TENSORS)}. {remedy}")
    classes, attributes = (tuple(facts.get(key, ())) for key in ("classes", "attributes"))
    texts = {key: facts[key] for key in TEXT_FIELDS}
    arrays: dict[str, Any] = {name: tensors.get(name) for name in TENSORS}
    dataset = Dataset(**arrays, **texts, classes=classes, attribute_names=attributes)
    validate(dataset, path, remedy=remedy)
    return dataset


def validate(dataset: Dataset, path: str | Path, *, remedy: str) -> None:
    """Raise InputError, which names `path` and ends in `remedy`, unless `dataset` is sound in every respect."""
    for found, wanted in _problems(dataset):
        raise InputError(f"{path}: found {found}, wanted {wanted}. {remedy}")


def _problems(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Yield (found, wanted). Each check relies on those before it: only the first problem counts."""
    for name, tensor in dataset.tensors().items():
        dtype, rank = TENSORS[name]
        if tensor.dtype != dtype:
            yield f"{name} of {tensor.dtype}", str(dtype)
        if tensor.ndim != rank:
            yield f"{name} of shape {tuple(tensor.shape)}", f"{rank} dimensions"
        if len(tensor) == 0:
            yield f"0 {name}", "at least one"
    channels, height, width = dataset.shape
    test_shape = tuple(dataset.test_images.shape[1:])
    if test_shape != dataset.shape:
        yield f"test_images of shape {test_shape}", f"{dataset.shape}, as in training"
    if height != width or height == 0:
        yield f"images of {height} x {width} pixels", "square ones"
    if channels not in (1, 3):
        yield f"{channels} channels", "1 (grey) or 3 (colour)"
    for kind, names in (("labels", dataset.classes), ("attributes", dataset.attribute_names)):
        have = [f"{split}_{kind}" in dataset.tensors() for split in ("train", "test")]
        if have != [bool(names)] * 2:
            yield f"{len(names)} names and {sum(have)} tensors of {kind}", "names and both tensors, or nothing"
    for name, tensor in dataset.tensors().items():
        split, kind = name.split("_")
        if kind == "images":
            continue
        n = len(getattr(dataset, f"{split}_images"))
        if len(tensor) != n:
            yield f"{len(tensor)} {name}", f"{n}, one for each image"
        if kind == "attributes" and tensor.shape[1] != len(dataset.attribute_names):
            yield f"{tensor.shape[1]} {name}", f"{len(dataset.attribute_names)}, one for each name"
        highest = len(dataset.classes) - 1 if kind == "labels" else 1
        if not 0 <= int(tensor.min()) <= int(tensor.max()) <= highest:
            yield f"{name} from {int(tensor.min())} to {int(tensor.max())}", f"0 to {highest}"
    for label, name in enumerate(dataset.classes):
        if dataset.train_labels is None or not (dataset.train_labels == label).any():
            yield f"no training image of class {name!r}", "at least one"
    yield from pixel_problems({name: tensor for name, tensor in dataset.tensors().items() if "images" in name})
    if (sha256 := arrays_sha256(dataset.tensors())) != dataset.sha256:
        yield f"arrays of SHA-256 {sha256}", f"{dataset.sha256}, as its metadata say"


def to_batch(images: torch.Tensor) -> torch.Tensor:
    """uint8 (n, c, h, w) -> float32 in [0, 1], channels last in memory. Raises InputError for any other dtype."""
    if images.dtype != torch.uint8:
        raise InputError(f"found images of {images.dtype}, wanted torch.uint8, 0 to 255. Scale and round them first.")
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)
