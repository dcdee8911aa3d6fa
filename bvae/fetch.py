"""Where data comes from: make `resources/data/<name>.safetensors` from the files as they are published.

Every published file is looked for in the folder or at the address in the environment variable BVAE_MIRROR, then in
`resources/downloads/`, and is otherwise downloaded to there.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import torch

from bvae import data, readers
from bvae.files import InputError, whole_file

DOWNLOADS = Path("resources/downloads")
MIRROR_VARIABLE = "BVAE_MIRROR"
N_TEST_DIGITS = 360
BINARIZED_SEED = 0  # published: the images of mnist_binarized are one fixed draw
N_TRAIN_BINARIZED = 50_000  # as in the split of Larochelle and Murray (2011), which leaves 10,000 for validation


@dataclass(frozen=True)
class PublishedFile:
    """One file that a data set is made from, and where it may be found."""

    places: tuple[str, ...]  # paths below a mirror or DOWNLOADS, best first
    home: str  # the place below DOWNLOADS that a download goes to
    urls: tuple[str, ...] = ()  # canonical addresses, best first
    md5: str | None = None  # of the file at `home`


def fetch(source: str, *, name: str, output: str | Path, expected_sha256: str | None = None) -> data.Dataset:
    """Make the data set file `output` from `source`, one of SOURCES, whole or not at all.

    Raises InputError, with nothing written, for an unknown source, files that cannot be found or are damaged, and
    arrays whose SHA-256 (bvae.data.arrays_sha256) is not `expected_sha256`.
    """
    read = SOURCES.get("zip:NAME.zip" if source.startswith("zip:") else source)
    if read is None:
        raise InputError(f"{name}: found the unknown source {source!r}, wanted one of {', '.join(SOURCES)}.")
    dataset = data.make(name=name, source=source, **read(source))
    if expected_sha256 not in (None, dataset.sha256):
        raise InputError(
            f"{output}: found arrays of SHA-256 {dataset.sha256} in {source}, wanted {expected_sha256}. Nothing was "
            f"written. Delete the files in {MIRROR_VARIABLE} or {DOWNLOADS} that are not the published ones; if the "
            "data are meant to differ, give them a rule file of their own."
        )
    data.save(dataset, output)
    return dataset


def digits(source: str) -> dict[str, Any]:
    """scikit-learn's 1,797 digits, (n, 1, 8, 8): 360 for the test by a fixed permutation, the rest for training."""
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * 255 / 16).astype(np.uint8)).unsqueeze(1)  # 0..16 -> 0..255
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    test, train = order[:N_TEST_DIGITS], order[N_TEST_DIGITS:]
    return {
        "train_images": images[train],
        "test_images": images[test],
        "train_labels": labels[train],
        "test_labels": labels[test],
        "classes": tuple(str(digit) for digit in range(10)),
        "licence": "CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)",
    }


def mnist(source: str) -> dict[str, Any]:
    """The four IDX files of MNIST, (n, 1, 28, 28)."""
    from torchvision.datasets import MNIST

    classes = tuple(str(digit) for digit in range(10))
    return _idx_files(source, MNIST) | {"classes": classes, "licence": "CC BY-SA 3.0"}


def mnist_binarized(source: str) -> dict[str, Any]:
    """MNIST with each pixel drawn once, black or white, with its grey as the probability; (n, 1, 28, 28), 0 or 255.

    Salakhutdinov and Murray (2008), by a draw of our own: NumPy's default generator, seed BINARIZED_SEED, training
    images first. The training images are the first 50,000, the test images all 10,000.
    """
    import numpy as np

    grey, generator = mnist(source), np.random.default_rng(BINARIZED_SEED)
    for split in ("train_images", "test_images"):
        drawn = generator.random(tuple(grey[split].shape)) * 255 < grey[split].numpy()
        grey[split] = torch.from_numpy(drawn.astype(np.uint8) * 255)
    return grey | {name: grey[name][:N_TRAIN_BINARIZED] for name in ("train_images", "train_labels")}


def fashion_mnist(source: str) -> dict[str, Any]:
    """The four IDX files of Fashion-MNIST, (n, 1, 28, 28)."""
    from torchvision.datasets import FashionMNIST

    return _idx_files(source, FashionMNIST) | {"classes": tuple(FashionMNIST.classes), "licence": "MIT"}


def _idx_files(source: str, published: type) -> dict[str, Any]:
    """Images and labels of a torchvision class that lists `mirrors` and `resources` as MNIST does."""
    files = []
    for packed_name, md5 in published.resources:
        raw, name = f"{published.__name__}/raw", packed_name.removesuffix(".gz")
        places = (f"{raw}/{name}", f"{raw}/{packed_name}", name, packed_name)
        urls = tuple(mirror + packed_name for mirror in published.mirrors)
        files.append(PublishedFile(places, home=f"{raw}/{packed_name}", urls=urls, md5=md5))
    train_images, train_labels, test_images, test_labels = find(source, files)
    return {
        "train_images": readers.read_idx(train_images, rank=3).unsqueeze(1),
        "train_labels": readers.read_idx(train_labels, rank=1).long(),
        "test_images": readers.read_idx(test_images, rank=3).unsqueeze(1),
        "test_labels": readers.read_idx(test_labels, rank=1).long(),
    }


def cifar10(source: str) -> dict[str, Any]:
    """CIFAR-10's canonical binary archive, (n, 3, 32, 32)."""
    name = "cifar-10-binary.tar.gz"
    urls = (f"https://www.cs.toronto.edu/~kriz/{name}",)
    archive = PublishedFile((name,), home=name, urls=urls, md5="c32a1d4ab5d03f1284b67883e8d87530")
    [path] = find(source, [archive])
    return readers.read_cifar10(path) | {"licence": "none stated; research use (Krizhevsky, 2009)"}


def celeba64(source: str) -> dict[str, Any]:
    """CelebA, cropped and resized to (n, 3, 64, 64), with its 40 attributes."""
    from torchvision.datasets import CelebA

    published = {name: (drive_id, md5) for drive_id, md5, name in CelebA.file_list}
    files = []
    for name in ("img_align_celeba.zip", "list_eval_partition.txt", "list_attr_celeba.txt"):
        drive_id, md5 = published[name]
        names = (name, name.removesuffix(".zip")) if name.endswith(".zip") else (name,)  # the zip, or its folder
        places = tuple(f"celeba/{name}" for name in names) + names
        urls = (f"https://drive.google.com/uc?id={drive_id}",)
        files.append(PublishedFile(places, home=f"celeba/{name}", urls=urls, md5=md5))
    images, partition, attributes = find(source, files)
    licence = "non-commercial research only (Liu et al., 2015)"
    return readers.read_celeba(images, partition, attributes) | {"licence": licence}


def zip_of_class_folders(source: str) -> dict[str, Any]:
    """A zip archive of images in <top>/{train,test}/<class>/ that the user has placed; `source` is zip:NAME.zip."""
    name = source.removeprefix("zip:")
    [path] = find(source, [PublishedFile((name,), home=name)])
    return readers.read_class_folders(path) | {"licence": "not stated in the archive"}


def fetch_inception_weights(output: str | Path) -> None:
    """Fetch Inception's weights for `fid`, check their SHA-256 and write them to `output`, whole or not at all."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    from bvae.features import check_inception_weights

    name = URL_INCEPTION_V3.rsplit("/", 1)[1]
    [path] = find("Inception weights", [PublishedFile((name, f"weights/{name}"), home=name, urls=(URL_INCEPTION_V3,))])
    check_inception_weights(path)
    with whole_file(output) as temporary:
        shutil.copyfile(path, temporary)


# Every source: its name in a rule file -> a function of that name that returns what `bvae.data.make` takes.
SOURCES: dict[str, Callable[[str], dict[str, Any]]] = {
    "sklearn:digits": digits,
    "torchvision:MNIST": mnist,
    "torchvision:FashionMNIST": fashion_mnist,
    "mnist_binarized": mnist_binarized,
    "cifar10": cifar10,
    "celeba64": celeba64,
    "zip:NAME.zip": zip_of_class_folders,
}


def find(source: str, files: Sequence[PublishedFile]) -> list[Path]:
    """The path of each file: in the mirror, else in DOWNLOADS, else downloaded. InputError lists what is missing."""
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    paths = [_in_mirror(mirror, file) or _in_downloads(file) for file in files]
    missing = [file for file, path in zip(files, paths, strict=True) if path is None]
    for file in missing:
        try:
            paths[files.index(file)] = _download_from_any(file)
        except OSError as error:
            raise InputError(_missing_message(source, missing, mirror, error)) from None
    return paths


def _in_mirror(mirror: str, file: PublishedFile) -> Path | None:
    if not mirror:
        return None
    scheme = urlsplit(mirror).scheme
    if scheme in ("http", "https"):
        return _in_web_mirror(mirror, file)
    if scheme not in ("", "file"):
        raise InputError(f"{MIRROR_VARIABLE}: found {mirror}, wanted a folder or an http, https or file address.")
    folder = Path(unquote(urlsplit(mirror).path) if scheme else mirror).expanduser()
    if not folder.is_dir():
        raise InputError(f"{MIRROR_VARIABLE}: found no folder {folder}. Correct or unset the environment variable.")
    return next((folder / place for place in file.places if (folder / place).exists()), None)


def _in_web_mirror(mirror: str, file: PublishedFile) -> Path | None:
    address = urlsplit(mirror)
    for place in file.places:
        copy = DOWNLOADS / "mirror" / address.netloc / address.path.strip("/") / place
        try:
            if not copy.exists():
                download(f"{mirror.rstrip('/')}/{place}", copy, md5=None, retries=0)
            return copy
        except OSError:  # not at this place: the next one, then elsewhere
            continue
    return None


def _in_downloads(file: PublishedFile) -> Path | None:
    for place in file.places:
        path = DOWNLOADS / place
        if path.exists():
            if place == file.home and file.md5 and (found := _md5(path)) != file.md5:
                raise InputError(
                    f"{path}: found a file of MD5 {found}, wanted {file.md5} as published. Delete it and run again, "
                    f"or, if it is meant to differ, put it into a folder of your own and set {MIRROR_VARIABLE} to that."
                )
            return path
    return None


def _download_from_any(file: PublishedFile) -> Path:
    """Download to the file's home from the first address that works; OSError gives every address's failure."""
    failures = []
    for url in file.urls:
        try:
            download(url, DOWNLOADS / file.home, md5=file.md5, retries=2)
            return DOWNLOADS / file.home
        except OSError as error:
            failures.append(f"{url}: {error}")
    raise OSError("; ".join(failures) or "there is no public address for it")


def download(url: str, path: Path, *, md5: str | None, retries: int) -> None:
    """Download `url` (http or Google Drive) to `path`, whole or not at all. Raises OSError, also for a wrong MD5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    show_progress = sys.stderr.isatty()
    if urlsplit(url).netloc == "drive.google.com":
        import gdown

        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            try:
                gdown.download(url, str(temporary), quiet=not show_progress)
            except gdown.exceptions.DownloadError as error:
                raise OSError(error) from None
            if md5 and (found := _md5(temporary)) != md5:
                raise OSError(f"found a file of MD5 {found}, wanted {md5}")
            os.replace(temporary, path)
        return
    import pooch

    known_hash = f"md5:{md5}" if md5 else None
    one_file = pooch.create(
        path.parent, base_url="", registry={path.name: known_hash}, urls={path.name: url}, retry_if_failed=retries
    )
    try:
        one_file.fetch(path.name, progressbar=show_progress)
    except ValueError as error:  # a wrong hash
        raise OSError(error) from None


def _missing_message(source: str, missing: Sequence[PublishedFile], mirror: str, error: OSError) -> str:
    homes = "\n".join(f"  {DOWNLOADS / file.home}" for file in missing)
    others = "\n".join(f"  {place}" for file in missing for place in file.places)
    return (
        f"{source}: {len(missing)} file(s) not found, and the download failed ({error}).\n"
        f"Place them by hand:\n{homes}\n"
        f"or set {MIRROR_VARIABLE} (now {mirror or 'not set'}) to a folder or an address that holds them. "
        f"Looked for, below the mirror and below {DOWNLOADS}:\n{others}"
    )


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
