"""The sources of data: what each is made from, and how it is read. `SOURCES`, at the end, names them all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bvae.data import formats, readers
from bvae.data.published_files import PublishedFile, find
from bvae.data.summary import Reading

N_TEST_DIGITS = 360
BINARIZED_SEED = 0  # published: the images of mnist_binarized are one fixed draw
N_TRAIN_BINARIZED = 50_000  # as in the split of Larochelle and Murray (2011), which leaves 10,000 for validation
FASHION_MNIST_FALLBACK = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
OWN_LICENCE = "not stated in the files"


@dataclass(frozen=True)
class Request:
    """What a source is asked for."""

    source: str  # as in a rule file
    name: str  # of the data set
    scratch: Path  # an existing folder for temporary files
    options: Mapping[str, Any]  # by the names of IMAGE_OPTIONS (bvae/system/options.py); only those that were given
    reading: Reading = field(default_factory=Reading)  # what a reader of the user's own data notes

    @property
    def argument(self) -> str:
        """What follows the colon of the source."""
        return self.source.partition(":")[2]


def digits(request: Request) -> dict[str, Any]:
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


def mnist(request: Request) -> dict[str, Any]:
    """The four IDX files of MNIST, (n, 1, 28, 28)."""
    from torchvision.datasets import MNIST

    classes = tuple(str(digit) for digit in range(10))
    return _idx_files(request, MNIST) | {"classes": classes, "licence": "CC BY-SA 3.0"}


def mnist_binarized(request: Request) -> dict[str, Any]:
    """MNIST with each pixel drawn once, black or white, with its grey as the probability; (n, 1, 28, 28), 0 or 255.

    Salakhutdinov and Murray (2008), by a draw of our own: NumPy's default generator, seed BINARIZED_SEED, training
    images first. The training images are the first 50,000, the test images all 10,000.
    """
    import numpy as np

    grey, generator = mnist(request), np.random.default_rng(BINARIZED_SEED)
    for split in ("train_images", "test_images"):
        drawn = generator.random(tuple(grey[split].shape)) * 255 < grey[split].numpy()
        grey[split] = torch.from_numpy(drawn.astype(np.uint8) * 255)
    return grey | {name: grey[name][:N_TRAIN_BINARIZED] for name in ("train_images", "train_labels")}


def fashion_mnist(request: Request) -> dict[str, Any]:
    """The four IDX files of Fashion-MNIST, (n, 1, 28, 28)."""
    from torchvision.datasets import FashionMNIST

    files = _idx_files(request, FashionMNIST, (FASHION_MNIST_FALLBACK,))
    return files | {"classes": tuple(FashionMNIST.classes), "licence": "MIT"}


def kmnist(request: Request) -> dict[str, Any]:
    """The four IDX files of Kuzushiji-MNIST, (n, 1, 28, 28)."""
    from torchvision.datasets import KMNIST

    return _idx_files(request, KMNIST) | {"classes": tuple(KMNIST.classes), "licence": "CC BY-SA 4.0"}


def _idx_files(request: Request, published: Any, fallbacks: tuple[str, ...] = ()) -> dict[str, Any]:
    """Images and labels of a torchvision class that lists `mirrors` and `resources` as MNIST does.

    `fallbacks` are further addresses.
    """
    files = []
    for packed_name, md5 in published.resources:
        raw, name = f"{published.__name__}/raw", packed_name.removesuffix(".gz")
        laid_out = (f"{raw}/{name}", f"{raw}/{packed_name}")
        files.append(
            PublishedFile(
                places=(*laid_out, name, packed_name),
                home=f"{raw}/{packed_name}",
                urls=tuple(mirror + packed_name for mirror in (*published.mirrors, *fallbacks)),
                md5=md5,
            )
        )
    train_images, train_labels, test_images, test_labels = find(request.source, files)
    return {
        "train_images": readers.read_idx(train_images, rank=3).unsqueeze(1),
        "train_labels": readers.read_idx(train_labels, rank=1).long(),
        "test_images": readers.read_idx(test_images, rank=3).unsqueeze(1),
        "test_labels": readers.read_idx(test_labels, rank=1).long(),
    }


def emnist(request: Request) -> dict[str, Any]:
    """The split "balanced" of EMNIST, upright, (n, 1, 28, 28)."""
    from torchvision.datasets import EMNIST

    home = "EMNIST/raw/gzip.zip"
    archive = PublishedFile((home, "gzip.zip"), home, (EMNIST.url,), EMNIST.md5)
    [path] = find(request.source, [archive])
    classes = tuple(EMNIST.classes_split_dict["balanced"])
    return formats.read_emnist(path, split="balanced") | {"classes": classes, "licence": "none stated (NIST)"}


def svhn(request: Request) -> dict[str, Any]:
    """SVHN's cropped digits without its extra images, (n, 3, 32, 32)."""
    from torchvision.datasets import SVHN

    files = []
    for split in ("train", "test"):
        url, name, md5 = SVHN.split_list[split]
        files.append(PublishedFile((f"SVHN/{name}", name), f"SVHN/{name}", (url,), md5))
    train, test = find(request.source, files)
    return formats.read_svhn(train, test) | {"licence": "non-commercial use only (Netzer et al., 2011)"}


def omniglot(request: Request) -> dict[str, Any]:
    """Omniglot without labels, (n, 1, 28, 28): the background alphabets for training, the others for the test."""
    from torchvision.datasets import Omniglot

    files = []
    for stem in ("images_background", "images_evaluation"):
        home, url = f"{Omniglot.folder}/{stem}.zip", f"{Omniglot.download_url_prefix}/{stem}.zip"
        files.append(PublishedFile((home, f"{stem}.zip"), home, (url,), Omniglot.zips_md5[stem]))
    background, evaluation = find(request.source, files)
    return formats.read_omniglot(background, evaluation, scratch=request.scratch) | {
        "licence": "MIT (Lake et al., 2015)"
    }


def cifar10(request: Request) -> dict[str, Any]:
    """CIFAR-10's canonical binary archive, (n, 3, 32, 32)."""
    name = "cifar-10-binary.tar.gz"
    urls = (f"https://www.cs.toronto.edu/~kriz/{name}",)
    archive = PublishedFile((name,), home=name, urls=urls, md5="c32a1d4ab5d03f1284b67883e8d87530")
    [path] = find(request.source, [archive])
    return readers.read_cifar10(path) | {"licence": "none stated; research use (Krizhevsky, 2009)"}


def celeba64(request: Request) -> dict[str, Any]:
    """CelebA, cropped and resized to (n, 3, 64, 64), with its 40 attributes."""
    from torchvision.datasets import CelebA

    published = {name: (drive_id, md5) for drive_id, md5, name in CelebA.file_list}
    files = []
    for name in ("img_align_celeba.zip", "list_eval_partition.txt", "list_attr_celeba.txt"):
        drive_id, md5 = published[name]
        names = (name, name.removesuffix(".zip")) if name.endswith(".zip") else (name,)  # the zip, or its folder
        laid_out = tuple(f"celeba/{name}" for name in names)
        urls = (f"https://drive.google.com/uc?id={drive_id}",)
        files.append(PublishedFile(laid_out + names, f"celeba/{name}", urls, md5))
    images, partition, attributes = find(request.source, files)
    arrays = readers.read_celeba(images, partition, attributes, scratch=request.scratch)
    return arrays | {"licence": "non-commercial research only (Liu et al., 2015)"}


def image_folder(request: Request) -> dict[str, Any]:
    """A folder of images of the user's; `readers.read_image_folder` says how it may be laid out."""
    return _images(Path(request.argument).expanduser(), request)


def image_zip(request: Request) -> dict[str, Any]:
    """A zip of such a folder, in the mirror or in DOWNLOADS."""
    [path] = find(request.source, [PublishedFile((request.argument,), home=request.argument)])
    return _images(path, request)


def _images(path: Path, request: Request) -> dict[str, Any]:
    found = readers.read_image_folder(
        path, **request.options, identity=request.name, scratch=request.scratch, reading=request.reading
    )
    return found | {"licence": OWN_LICENCE}


def npz(request: Request) -> dict[str, Any]:
    """A NumPy archive of the user's arrays; `formats.read_npz` names them."""
    return formats.read_npz(Path(request.argument).expanduser(), reading=request.reading) | {"licence": OWN_LICENCE}


def idx_folder(request: Request) -> dict[str, Any]:
    """A user's folder of IDX files by MNIST's names."""
    return formats.read_idx_folder(Path(request.argument).expanduser(), reading=request.reading) | {
        "licence": OWN_LICENCE
    }


# Every source: its name in a rule file -> a function of that name that returns what `bvae.data.make` takes.
SOURCES: dict[str, Callable[[Request], dict[str, Any]]] = {
    "sklearn:digits": digits,
    "torchvision:MNIST": mnist,
    "torchvision:FashionMNIST": fashion_mnist,
    "torchvision:KMNIST": kmnist,
    "torchvision:EMNIST": emnist,
    "torchvision:SVHN": svhn,
    "torchvision:Omniglot": omniglot,
    "mnist_binarized": mnist_binarized,
    "cifar10": cifar10,
    "celeba64": celeba64,
    "folder:PATH": image_folder,
    "zip:NAME.zip": image_zip,
    "npz:PATH": npz,
    "idx:PATH": idx_folder,
}
TAKE_IMAGE_OPTIONS = (image_folder, image_zip)


def known(source: str) -> str | None:
    """The key of SOURCES that `source` is one of; None if it is none."""
    kind, _, argument = source.partition(":")
    patterns = {pattern.partition(":")[0]: pattern for pattern in SOURCES if pattern.endswith(("PATH", "NAME.zip"))}
    pattern = patterns.get(kind, source) if argument else source
    return pattern if pattern in SOURCES else None
