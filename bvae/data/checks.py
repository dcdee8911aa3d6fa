"""Mistakes that only the pixels show: a wrong scale, nothing to see, test images that are training images."""

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

DARK = 32  # a split whose brightest pixel is below it is on another scale than 0..255: 0..1, 0..16, 0..31
CHUNK_PIXELS, CHUNK_IMAGES = 2**20, 100  # looked at together


def pixel_problems(images: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield (found, wanted) for each of `images`, uint8 by name, that no eye could read as it is.

    All pixels equal; all pixels below DARK; or only 0, 1 and 255, which is what -1, 0 and 1 become as uint8.
    """
    ranges = {name: pixel_range(pixels) for name, pixels in images.items()}
    dark = [high for _, high in ranges.values() if high < DARK]
    for name, (low, high) in ranges.items():
        if low == high:
            yield f"{name} of equal pixels, all {low}", "images that show something. Check the program that wrote them"
        elif high < DARK:
            factor = "255" if max(dark) == 1 else f"255/{max(dark)}"
            wanted = f"0 (black) to 255 (white). Multiply the pixels by {factor}, round them and save them again"
            yield f"{name} with pixels from {low} to {high}", wanted
        elif high == 255 and _wrapped(images[name]):
            wanted = "0 (black) to 255 (white). Scale -1..1 to 0..255 before you save it as uint8"
            yield f"{name} with no other pixels than 0, 1 and 255 (-1 as uint8 is 255)", wanted


def pixel_range(images: Tensor) -> tuple[int, int]:
    """The least and the greatest pixel."""
    low, high = images.aminmax()
    return int(low), int(high)


def _wrapped(images: Tensor) -> bool:
    """Whether there are pixels of 1 and no others but 0 and 255."""
    ones = 0
    for chunk in images.reshape(-1).split(CHUNK_PIXELS):
        one = chunk == 1
        if not (one | (chunk == 0) | (chunk == 255)).all():
            return False
        ones += int(one.sum())
    return ones > 0


def n_dark(images: Tensor) -> int:
    """How many images have no pixel of DARK or more."""
    return sum(int((chunk.flatten(1).amax(1) < DARK).sum()) for chunk in images.split(CHUNK_IMAGES))


def n_repeated(train_images: Tensor, test_images: Tensor) -> int:
    """How many test images are training images as well, byte for byte. Keeps 16 bytes of each test image."""
    tested = list(_digests(test_images))
    distinct = set(tested)
    shared = {digest for digest in _digests(train_images) if digest in distinct}
    return sum(digest in shared for digest in tested)


def is_copied(train_images: Tensor, test_images: Tensor) -> bool:
    """Whether test images that are all training images are a mistake for certain.

    They are not where training images repeat each other, too: images drawn from a small number of possible ones.
    """
    trained = list(_digests(train_images))
    return len(set(trained)) > len(trained) // 2 or sorted(trained) == sorted(_digests(test_images))


def _digests(images: Tensor) -> Iterator[bytes]:
    for image in images:
        yield hashlib.blake2b(image.contiguous().numpy().data, digest_size=16).digest()


def spelt_alike(names: tuple[str, ...]) -> list[str]:
    """The names that another one differs from in capitals, spaces or the encoding of accents only."""
    spelt: dict[str, list[str]] = {}
    for name in names:
        spelt.setdefault(unicodedata.normalize("NFKC", name).casefold().strip(), []).append(name)
    return [name for group in spelt.values() if len(group) > 1 for name in group]


def n_of_classes(labels: Tensor | None, n_classes: int) -> list[int]:
    """Images of each class; an empty list without labels."""
    return [] if labels is None else torch.bincount(labels, minlength=n_classes).tolist()
