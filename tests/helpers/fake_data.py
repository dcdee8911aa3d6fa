"""Small random data sets in the formats in which the real ones are published, laid out as BVAE_MIRROR expects.

Every `write_*` returns what it wrote, as numpy arrays. Class labels run 0, 1, ..., 9, 0, 1, ...; each class has a
pattern of its own, so that there is something to learn. Pixels depend on the seed only.
"""

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from bvae.data import Dataset

N_CLASSES = 10
N_ATTRIBUTES = 40
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def fake_images(n: int, channels: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, c, size, size), a pattern for each class plus noise, and their labels (n,)."""
    rng = np.random.default_rng(seed)
    blocks = np.random.default_rng(0).integers(0, 200, (N_CLASSES, channels, 4, 4))
    patterns = np.kron(blocks, np.ones((size // 4, size // 4), int))  # (10, c, size, size)
    labels = np.arange(n) % N_CLASSES
    noise = rng.integers(0, 56, (n, channels, size, size))
    return (patterns[labels] + noise).astype(np.uint8), labels


def fake_splits(n_train: int, n_test: int, channels: int, size: int, seed: int) -> dict[str, np.ndarray]:
    """Both splits, by the names of a data set file."""
    train_images, train_labels = fake_images(n_train, channels, size, 2 * seed)
    test_images, test_labels = fake_images(n_test, channels, size, 2 * seed + 1)
    return {
        "train_images": train_images,
        "test_images": test_images,
        "train_labels": train_labels,
        "test_labels": test_labels,
    }


def idx_bytes(array: np.ndarray) -> bytes:
    """A uint8 array as an IDX file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, *, n_train: int, n_test: int, seed: int, packed: bool = False) -> dict[str, np.ndarray]:
    """`folder`/MNIST/raw/ with four IDX files, gzipped if `packed`."""
    return _write_idx_files(folder / "MNIST" / "raw", n_train, n_test, seed, packed)


def write_fashion_mnist(folder: Path, *, n_train: int, n_test: int, seed: int) -> dict[str, np.ndarray]:
    """`folder`/FashionMNIST/raw/ with four IDX files."""
    return _write_idx_files(folder / "FashionMNIST" / "raw", n_train, n_test, seed, packed=False)


def _write_idx_files(raw: Path, n_train: int, n_test: int, seed: int, packed: bool) -> dict[str, np.ndarray]:
    arrays = fake_splits(n_train, n_test, channels=1, size=28, seed=seed)
    raw.mkdir(parents=True, exist_ok=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = arrays[f"{split}_images"][:, 0], arrays[f"{split}_labels"]
        for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            content = idx_bytes(array)
            path = raw / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    return arrays


def write_cifar10(folder: Path, *, n_train: int, n_test: int, seed: int) -> dict[str, np.ndarray]:
    """`folder`/cifar-10-binary.tar.gz with five training batches (so n_train >= 5), a test batch and class names."""
    arrays = fake_splits(n_train, n_test, channels=3, size=32, seed=seed)
    records = {
        split: np.hstack([arrays[f"{split}_labels"][:, None], arrays[f"{split}_images"].reshape(n, -1)])
        for split, n in (("train", n_train), ("test", n_test))
    }
    batches = np.array_split(records["train"], 5)
    members = {f"data_batch_{i}.bin": batch.astype(np.uint8).tobytes() for i, batch in enumerate(batches, start=1)}
    members["test_batch.bin"] = records["test"].astype(np.uint8).tobytes()
    members["batches.meta.txt"] = ("\n".join(CIFAR10_CLASSES) + "\n\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    write_tar_gz(folder / "cifar-10-binary.tar.gz", {f"cifar-10-batches-bin/{k}": v for k, v in members.items()})
    return arrays


def write_tar_gz(path: Path, members: dict[str, bytes]) -> None:
    """A tar.gz archive of these members."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            information = tarfile.TarInfo(name)
            information.size = len(content)
            archive.addfile(information, io.BytesIO(content))


def write_celeba(
    folder: Path,
    *,
    n_train: int,
    n_test: int,
    seed: int,
    n_validation: int = 2,
    image_size: tuple[int, int] = (178, 218),
    zipped: bool = True,
) -> dict[str, dict[str, bytes] | np.ndarray]:
    """`folder`/celeba/: img_align_celeba (a zip, or a folder of files), list_eval_partition.txt, list_attr_celeba.txt.

    `image_size` is (width, height). Returns train_jpegs and test_jpegs, the files' bytes by name, and
    train_attributes and test_attributes, 0 or 1, (n, 40).
    """
    rng = np.random.default_rng(seed)
    n = n_train + n_validation + n_test
    splits = ["train"] * n_train + ["validation"] * n_validation + ["test"] * n_test
    attributes = rng.integers(0, 2, (n, N_ATTRIBUTES)).astype(np.uint8)
    names = [f"{i:06d}.jpg" for i in range(1, n + 1)]
    jpegs = {}
    for name in names:
        blobs = Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8))  # smooth when enlarged
        jpegs[name] = encode(blobs.resize(image_size, Image.Resampling.BICUBIC), "JPEG")

    celeba = folder / "celeba"
    celeba.mkdir(parents=True, exist_ok=True)
    if zipped:
        write_zip(celeba / "img_align_celeba.zip", {f"img_align_celeba/{name}": jpegs[name] for name in names})
    else:
        (celeba / "img_align_celeba").mkdir()
        for name in names:
            (celeba / "img_align_celeba" / name).write_bytes(jpegs[name])
    numbers = {"train": 0, "validation": 1, "test": 2}
    rows = [f"{name} {numbers[split]}" for name, split in zip(names, splits, strict=True)]
    (celeba / "list_eval_partition.txt").write_text("\n".join(rows) + "\n")
    header = " ".join(f"Attribute_{i}" for i in range(N_ATTRIBUTES))
    rows = [
        f"{name}  " + " ".join(f"{2 * int(v) - 1:2d}" for v in row) for name, row in zip(names, attributes, strict=True)
    ]
    (celeba / "list_attr_celeba.txt").write_text("\n".join([str(n), header, *rows]) + "\n")

    written: dict[str, dict[str, bytes] | np.ndarray] = {}
    for split in ("train", "test"):
        chosen = [i for i in range(n) if splits[i] == split]
        written[f"{split}_jpegs"] = {names[i]: jpegs[names[i]] for i in chosen}
        written[f"{split}_attributes"] = attributes[chosen]
    return written


def write_class_folders(
    path: Path, *, n_train: int, n_test: int, seed: int, channels: int = 3, size: int = 32
) -> dict[str, np.ndarray]:
    """A zip of <top>/{train,test}/<class>/<n>.png, exact pixels. Returns the arrays in the order of the reader."""
    arrays = fake_splits(n_train, n_test, channels, size, seed)
    members = {}
    for split in ("train", "test"):
        order = np.argsort(arrays[f"{split}_labels"], kind="stable")  # by class, then by number
        arrays[f"{split}_labels"] = arrays[f"{split}_labels"][order]
        arrays[f"{split}_images"] = arrays[f"{split}_images"][order]
        for i, (image, label) in enumerate(zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)):
            pixels = image[0] if channels == 1 else image.transpose(1, 2, 0)
            members[f"{path.stem}/{split}/{CIFAR10_CLASSES[label]}/{i:04d}.png"] = encode(
                Image.fromarray(pixels), "PNG"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_zip(path, dict(reversed(members.items())))  # the order inside the zip must not matter
    return arrays


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    """A zip archive of these members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_files(folder: Path, members: dict[str, bytes]) -> None:
    """Files below `folder`; a name that ends in "/" is an empty folder."""
    for name, content in members.items():
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(content)


def encode(image: Image.Image, form: str) -> bytes:
    """An image file's bytes; `form` is "PNG" or "JPEG"."""
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def assert_same(dataset: Dataset, arrays: dict[str, np.ndarray]) -> None:
    """The data set holds just these arrays."""
    tensors = dataset.tensors()
    assert set(tensors) == set(arrays)
    for name, array in arrays.items():
        assert np.array_equal(tensors[name].numpy(), array), name
