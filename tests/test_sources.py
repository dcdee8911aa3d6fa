"""Where files are found, the formats of further sources, and users' own data. No test uses the network."""

import gzip
import io
import os
import pickle
import re
import resource
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import gdown
import numpy as np
import pooch
import pytest
import torch
import torchvision
from PIL import Image
from scipy.io import savemat

from bvae.__main__ import main
from bvae.data import dataset as data
from bvae.data import fetch, sources
from bvae.errors import InputError
from bvae.system.options import IMAGE_OPTIONS
from helpers import fake_data

OUTPUT = Path("resources/data/fake.safetensors")
HTML = b"<!DOCTYPE html><html>404</html>\nnot\nfound\n"


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Run each test in an empty folder, with the empty mirror `data` and without a network."""

    def refuse(url, *args, **kwargs):
        raise OSError(f"no network in the tests for {url}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pooch.core, "stream_download", refuse)
    monkeypatch.setattr(gdown, "download", refuse)
    Path("data").mkdir()
    monkeypatch.setenv("BVAE_MIRROR", "data")


def fetch_fake(source: str, **options) -> data.Dataset:
    """Fetch to OUTPUT, and read it back through the gate."""
    made = fetch.fetch(source, name="fake", output=OUTPUT, options=options)
    loaded = data.load(OUTPUT)
    assert (loaded.sha256, loaded.classes, loaded.source) == (made.sha256, made.classes, made.source)
    return loaded


def files_below(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


# --- where files are found ------------------------------------------------------------------------------------------


def test_the_first_place_that_has_a_file_gives_it(monkeypatch):
    """Other images at each place: they are taken in the documented order, as the earlier places are emptied."""
    places = {"mirror": 1, "resources/downloads": 2}
    written = [
        fake_data.write_fashion_mnist(Path(place), n_train=12, n_test=10, seed=seed) for place, seed in places.items()
    ]
    monkeypatch.setenv("BVAE_MIRROR", "mirror")
    for place, arrays in zip(places, written, strict=True):
        fake_data.assert_same(fetch_fake("torchvision:FashionMNIST"), arrays)
        for path in Path(place).rglob("*ubyte*"):
            path.unlink()
    with pytest.raises(InputError, match="no network"):
        fetch_fake("torchvision:FashionMNIST")


def test_a_mirror_packed_anew_passes_the_check_of_the_arrays(monkeypatch):
    fake_data.write_mnist(Path("mirror"), n_train=12, n_test=10, seed=1, packed=True)
    monkeypatch.setenv("BVAE_MIRROR", "mirror")
    sha256 = fetch_fake("torchvision:MNIST").sha256
    for path in Path("mirror/MNIST/raw").iterdir():
        old = path.read_bytes()
        path.write_bytes(gzip.compress(gzip.decompress(old), compresslevel=1, mtime=1))
        assert path.read_bytes() != old
    made = fetch.fetch("torchvision:MNIST", name="fake", output=OUTPUT, expected_sha256=sha256)
    assert made.sha256 == sha256


def test_a_download_falls_back_to_every_address():
    with pytest.raises(InputError) as refusal:
        fetch_fake("torchvision:FashionMNIST")
    for address in (*torchvision.datasets.FashionMNIST.mirrors, sources.FASHION_MNIST_FALLBACK):
        assert f"no network in the tests for {address}" in str(refusal.value)
    for wanted in ("resources/downloads/FashionMNIST/raw", "BVAE_MIRROR"):
        assert wanted in str(refusal.value)


def test_a_mirror_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("BVAE_MIRROR", "no-such-folder")
    with pytest.raises(InputError, match="BVAE_MIRROR: found no folder no-such-folder"):
        fetch_fake("torchvision:MNIST")


def test_the_log_names_the_files_and_the_hash(caplog):
    fake_data.write_mnist(Path("data"), n_train=12, n_test=10, seed=1)
    with caplog.at_level("INFO"):
        made = fetch_fake("torchvision:MNIST")
    assert "reading data/MNIST/raw/t10k-labels-idx1-ubyte" in caplog.text
    assert f"SHA-256 of the arrays {made.sha256}" in caplog.text


# --- published formats ----------------------------------------------------------------------------------------------


def write_kmnist() -> dict[str, np.ndarray]:
    arrays = fake_data.write_mnist(Path("elsewhere"), n_train=12, n_test=10, seed=1, packed=True)
    Path("data/KMNIST").mkdir(parents=True)
    Path("elsewhere/MNIST/raw").rename("data/KMNIST/raw")
    return arrays


def write_emnist() -> dict[str, np.ndarray]:
    """EMNIST's zip with the split "balanced" and another; the images are transposed in it, as in the published one."""
    arrays = fake_data.fake_splits(94, 47, channels=1, size=28, seed=1)
    arrays |= {"train_labels": np.arange(94) % 47, "test_labels": np.arange(47)}
    members = {"gzip/emnist-letters-train-images-idx3-ubyte.gz": b"not read"}
    for split in ("train", "test"):
        images = arrays[f"{split}_images"][:, 0].transpose(0, 2, 1)
        for name, array in (("images-idx3", images), ("labels-idx1", arrays[f"{split}_labels"])):
            members[f"gzip/emnist-balanced-{split}-{name}-ubyte.gz"] = gzip.compress(fake_data.idx_bytes(array))
    Path("data/EMNIST/raw").mkdir(parents=True)
    fake_data.write_zip(Path("data/EMNIST/raw/gzip.zip"), members)
    return arrays


def write_svhn(**changes) -> dict[str, np.ndarray]:
    """SVHN's two MATLAB files, in which the digit 0 is the class 10."""
    arrays = fake_data.fake_splits(20, 10, channels=3, size=32, seed=1)
    Path("data").mkdir(exist_ok=True)
    for split in ("train", "test"):
        labels = arrays[f"{split}_labels"].astype(np.uint8)[:, None]
        content = {"X": arrays[f"{split}_images"].transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)}
        content = {key: value for key, value in (content | changes).items() if value is not None}
        savemat(f"data/{split}_32x32.mat", content, do_compression=True)
    return arrays


def write_omniglot() -> dict[str, np.ndarray]:
    """Omniglot's two zips of 1-bit drawings, black on white; the arrays as they must arrive."""
    rng, arrays = np.random.default_rng(0), {}
    Path("data/omniglot-py").mkdir(parents=True)
    for split, stem, n in (("train", "images_background", 6), ("test", "images_evaluation", 4)):
        drawings = np.ones((n, 105, 105), bool)
        for drawing in drawings:
            left, top = rng.integers(5, 60, 2)
            drawing[top : top + 40, left : left + 6] = False  # a stroke
        names = [f"{stem}/Alphabet_{i % 2}/character{i:02d}/{i:04d}_01.png" for i in range(n)]
        pngs = {name: fake_data.encode(Image.fromarray(d), "PNG") for name, d in zip(names, drawings, strict=True)}
        assert Image.open(io.BytesIO(pngs[names[0]])).mode == "1"
        fake_data.write_zip(Path(f"data/omniglot-py/{stem}.zip"), {f"{stem}/": b"", **dict(reversed(pngs.items()))})
        order = sorted(range(n), key=lambda i: names[i])
        grey = [Image.fromarray(255 * drawings[i].astype(np.uint8)).resize((28, 28), 2) for i in order]
        arrays[f"{split}_images"] = 255 - np.stack([np.asarray(image) for image in grey])[:, None]
    return arrays


WRITERS = {
    "torchvision:KMNIST": (write_kmnist, tuple(torchvision.datasets.KMNIST.classes)),
    "torchvision:EMNIST": (write_emnist, tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")),
    "torchvision:SVHN": (write_svhn, tuple("0123456789")),
    "torchvision:Omniglot": (write_omniglot, ()),
}


@pytest.mark.parametrize("source", WRITERS)
def test_published_files_arrive_exactly(source):
    write, classes = WRITERS[source]
    arrays = write()
    dataset = fetch_fake(source)
    fake_data.assert_same(dataset, arrays)
    assert dataset.classes == classes
    assert dataset.source == source


def test_every_torchvision_source_knows_the_published_hashes(monkeypatch):
    """A file in `resources/downloads/` that is not the published one is refused by the MD5 of torchvision's class."""
    published = {
        "KMNIST/raw/train-images-idx3-ubyte.gz": torchvision.datasets.KMNIST.resources[0][1],
        "EMNIST/raw/gzip.zip": torchvision.datasets.EMNIST.md5,
        "SVHN/train_32x32.mat": torchvision.datasets.SVHN.split_list["train"][2],
        "omniglot-py/images_background.zip": torchvision.datasets.Omniglot.zips_md5["images_background"],
    }
    for source, (home, md5) in zip(WRITERS, published.items(), strict=True):
        path = Path("resources/downloads") / home
        path.parent.mkdir(parents=True)
        path.write_bytes(b"something else")
        with pytest.raises(InputError, match=f"{path}.*{md5}"):
            fetch_fake(source)


# --- a user's own data ----------------------------------------------------------------------------------------------


def own_arrays(channels: int = 1) -> dict[str, np.ndarray]:
    return fake_data.fake_splits(20, 10, channels=channels, size=8, seed=1)


def keras(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays by the names that Keras gives them, labels (n, 1)."""
    names = {"train_images": "x_train", "test_images": "x_test", "train_labels": "y_train", "test_labels": "y_test"}
    return {names[key]: array[:, None] if "labels" in key else array for key, array in arrays.items()}


def images_as(layout: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    change = {"nhw": lambda x: x[:, 0], "nhwc": lambda x: x.transpose(0, 2, 3, 1), "nchw": lambda x: x}[layout]
    return {key: change(array) if "images" in key else array for key, array in arrays.items()}


@pytest.mark.parametrize("names", [dict, keras])
@pytest.mark.parametrize(("channels", "layout"), [(1, "nhw"), (1, "nhwc"), (1, "nchw"), (3, "nhwc"), (3, "nchw")])
def test_npz_arrives_exactly(channels, layout, names):
    arrays = own_arrays(channels)
    np.savez_compressed("own.npz", **names(images_as(layout, arrays)))
    dataset = fetch_fake("npz:own.npz")
    fake_data.assert_same(dataset, arrays)
    assert dataset.classes == tuple("0123456789")
    assert dataset.source == "npz:own.npz"


def test_npz_without_labels_and_from_the_home_folder(monkeypatch):
    arrays = {key: array for key, array in own_arrays().items() if "images" in key}
    monkeypatch.setenv("HOME", str(Path.cwd()))
    np.savez("own.npz", **arrays)
    fake_data.assert_same(fetch_fake("npz:~/own.npz"), arrays)


def test_labels_of_any_values_are_numbered_in_their_order():
    arrays = own_arrays()
    values = {key: 7 - 3 * array.astype(np.int16) for key, array in arrays.items() if "labels" in key}
    np.savez("own.npz", **(arrays | values))
    dataset = fetch_fake("npz:own.npz")
    assert dataset.classes == tuple(str(value) for value in range(-20, 8, 3))
    assert np.array_equal(dataset.test_labels.numpy(), 9 - arrays["test_labels"])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("labels", [False, True])
def test_a_folder_of_idx_files_arrives_exactly(packed, labels):
    arrays = fake_data.write_mnist(Path("mirror"), n_train=20, n_test=10, seed=1, packed=packed)
    if not labels:
        arrays = {key: array for key, array in arrays.items() if "images" in key}
        for path in Path("mirror/MNIST/raw").glob("*labels*"):
            path.unlink()
    fake_data.assert_same(fetch_fake("idx:mirror/MNIST/raw"), arrays)


def test_other_files_beside_idx_files_are_said_and_equal_copies_are_read(capsys):
    """torchvision keeps each file packed and unpacked."""
    arrays = fake_data.write_mnist(Path("mirror"), n_train=20, n_test=10, seed=1)
    for path in list(RAW.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    fake_data.write_files(RAW, {"README.txt": b"", "labels.csv": b"", ".hidden": b""})
    fake_data.assert_same(fetch_fake(f"idx:{RAW}"), arrays)
    assert "left out 2 files of other names: 1 .csv, 1 .txt" in run_fetch(f"idx:{RAW}", capsys)


def write_pngs(folder: Path, *, size: int = 12) -> dict[str, np.ndarray]:
    """A folder {train,test}/<class>/<n>.png of grey images; the arrays in the reader's order."""
    arrays = fake_data.write_class_folders(Path("own.zip"), n_train=20, n_test=10, seed=1, channels=1, size=size)
    with zipfile.ZipFile("own.zip") as archive:
        archive.extractall("unpacked")
    Path("unpacked/own").rename(folder)
    return arrays


def test_a_folder_and_a_zip_of_it_give_the_same(monkeypatch):
    arrays = write_pngs(Path("pngs"))
    from_folder = fetch_fake("folder:pngs")
    fake_data.assert_same(from_folder, arrays)
    Path("resources/downloads").mkdir()
    Path("own.zip").rename("resources/downloads/own.zip")
    assert fetch_fake("zip:own.zip").sha256 == from_folder.sha256


def test_options_reach_the_reader_and_are_recorded():
    write_pngs(Path("pngs"))
    arguments = ("fetch", "folder:pngs", "--name", "fake", "--output", str(OUTPUT))
    assert main([*arguments, "--size", "8", "--crop", "10", "--mode", "rgb", "--skip-corrupt"]) == 0
    dataset = data.load(OUTPUT)
    assert dataset.shape == (3, 8, 8)
    assert dataset.source == "folder:pngs --size 8 --mode rgb --crop 10 --skip-corrupt"
    assert files_below("resources") == [str(OUTPUT)]


def test_images_held_out_are_training_images_and_the_test_images_are_never_seen():
    """--validation splits the training images by a draw that the name alone decides."""
    arrays = write_pngs(Path("pngs"))
    arguments = ("fetch", "folder:pngs", "--name", "fake", "--output", str(OUTPUT))
    assert main([*arguments, "--validation", "5"]) == 0
    dataset = data.load(OUTPUT)
    assert dataset.source == "folder:pngs --validation 5"
    assert len(dataset.test_images) == 5

    def pairs(images, labels) -> Counter:
        return Counter((image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True))

    kept, held = (pairs(getattr(dataset, f"{s}_images"), getattr(dataset, f"{s}_labels")) for s in ("train", "test"))
    whole = pairs(*(torch.from_numpy(arrays[name]) for name in ("train_images", "train_labels")))
    assert held.total() == 5 and kept + held == whole
    assert main([*arguments, "--validation", "5"]) == 0
    assert data.load(OUTPUT).sha256 == dataset.sha256
    assert main([*arguments[:3], "other", *arguments[4:], "--validation", "5"]) == 0
    assert data.load(OUTPUT).sha256 != dataset.sha256


@pytest.mark.parametrize("count", ["-1", "1000"])
def test_holding_out_too_many_images_is_refused(count, capsys):
    write_pngs(Path("pngs"))
    arguments = ("fetch", "folder:pngs", "--name", "fake", "--output", str(OUTPUT))
    assert main([*arguments, f"--validation={count}"]) == 1
    assert re.search(
        rf"fake: found --validation {count}, wanted 1 to \d+ of its \d+ training images", capsys.readouterr().err
    )
    assert not OUTPUT.exists()


def test_a_flat_folder_with_and_without_a_file_of_labels():
    write_pngs(Path("pngs"))
    Path("flat").mkdir()
    for i, path in enumerate(sorted(Path("pngs").rglob("*.png"))):
        path.rename(f"flat/{i:02d}.png")
    plain = fetch_fake("folder:flat", test_fraction=0.5)
    assert plain.train_labels is None
    assert len(plain.test_images) == 15
    rows = [f"{i:02d}.png,{'odd' if i % 2 else 'even'}" for i in range(30)]
    Path("labels.csv").write_text("\n".join(["name,label", *rows]) + "\n")
    assert fetch_fake("folder:flat", labels=Path("labels.csv")).classes == ("even", "odd")


def test_a_validation_split_of_an_npz_archive_is_left_out_and_said(capsys):
    """The arrays of MedMNIST's archives; each other array is read."""
    arrays = own_arrays()
    held_out = {
        "x_dev": arrays["test_images"],
        "val_images": arrays["test_images"][:3],
        "val_labels": arrays["test_labels"][:3],
    }
    np.savez("own.npz", **arrays, **held_out)
    fake_data.assert_same(fetch_fake("npz:own.npz"), arrays)
    shown = run_fetch("npz:own.npz", capsys)
    assert "x_dev" in shown and "val_images" in shown and "val_labels" in shown and "train_images" not in shown


# --- the summary and repeated images --------------------------------------------------------------------------------


def run_fetch(source: str, capsys, *options: str, status: int = 0) -> str:
    """Fetch as the workflow does; what the terminal shows."""
    capsys.readouterr()
    arguments = ["fetch", source, "--name", "fake", "--output", str(OUTPUT), "--log", "logs/fake.log", *options]
    assert main(arguments) == status
    return capsys.readouterr().err


def test_the_terminal_shows_a_summary_and_so_does_the_log(capsys):
    write_pngs(Path("pngs"))
    fake_data.write_files(
        Path("pngs"), {"val/cat/1.png": Path("own.zip").read_bytes(), "cat.txt": b"", "train/a.txt": b""}
    )
    shown = run_fetch("folder:pngs", capsys)
    for known in (
        "20 training and 10 test images of 1 x 12 x 12 pixels",
        "10 classes",
        "airplane: 2 + 1, ",
        " and 2 more",
        "1 images in neither train nor test: 1 in val",
        "2 files that are not images: 2 .txt",
    ):
        assert known in shown
    pixels = [data.load(OUTPUT).train_images, data.load(OUTPUT).test_images]
    assert "training {} to {}; test {} to {}".format(*[int(f()) for x in pixels for f in (x.min, x.max)]) in shown
    assert shown.strip() in Path("logs/fake.log").read_text()
    assert len(shown.splitlines()) == 4


def test_the_summary_is_shown_once_without_a_log(capsys):
    npz()
    assert main(["fetch", "npz:own.npz", "--name", "fake", "--output", str(OUTPUT)]) == 0
    streams = capsys.readouterr()
    assert (streams.out + streams.err).count("20 training and 10 test images") == 1


def test_a_refusal_shows_no_summary(capsys):
    npz(y_val=np.arange(3), train_images=own_arrays()["train_images"] // 128)
    shown = run_fetch("npz:own.npz", capsys, status=1)
    assert shown.count("\n") == 1 and shown.startswith("error: ") and "from 0 to 1" in shown


def test_turned_and_corrupt_images_are_in_the_summary(capsys):
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 3
    Image.fromarray(own_arrays()["train_images"][0, 0]).save(stream, "PNG", exif=exif)
    pngs = {
        f"{i}.png": fake_data.encode(Image.fromarray(x[0]), "PNG") for i, x in enumerate(own_arrays()["test_images"])
    }
    fake_data.write_files(Path("flat"), pngs | {"10.png": stream.getvalue(), "11.png": b""})
    shown = run_fetch("folder:flat", capsys, "--skip-corrupt")
    assert "turned 1 of 12 images" in shown and "left out 1 of 12 images" in shown


REMARKS = {
    "one class": ({"train_labels": np.zeros(20, int), "test_labels": np.zeros(10, int)}, "1 class: no probe"),
    "rare class": ({"train_labels": np.arange(20) // 19}, "1 training image of class 1\n"),
    "class not in the test": ({"test_labels": np.arange(10) % 9}, "no test image of class 9\n"),
    "dim images": ({"test_images": own_arrays()["test_images"] // 4}, "the brightest test pixel is 63 of 255"),
    "dark image": (
        {"train_images": own_arrays()["train_images"] // np.where(np.arange(20) < 3, 10, 1)[:, None, None, None]},
        "3 of 20 training images have no pixel above 31",
    ),
}


@pytest.mark.parametrize("name", REMARKS)
def test_what_may_be_a_mistake_is_remarked_and_not_refused(name, capsys):
    changes, remark = REMARKS[name]
    if name == "rare class":
        changes |= {"test_labels": np.arange(10) % 2}
    changes = {key: x.astype(np.uint8) if "images" in key else x for key, x in changes.items()}
    npz(**changes)
    assert remark in run_fetch("npz:own.npz", capsys)
    npz()
    assert remark not in run_fetch("npz:own.npz", capsys)


@pytest.mark.parametrize("alike", [("Cat", "cat"), ("caf\u00e9", "cafe\u0301")])
def test_class_names_that_are_spelt_alike_are_remarked(alike, capsys):
    pngs = {
        f"{i}.png": fake_data.encode(Image.fromarray(x[0]), "PNG") for i, x in enumerate(own_arrays()["test_images"])
    }
    fake_data.write_files(Path("flat"), pngs)
    Path("labels.csv").write_text("".join(f"{i}.png,{(*alike, 'dog')[i % 3]}\n" for i in range(10)))
    assert f"only: {', '.join(sorted(alike))}\n" in run_fetch("folder:flat", capsys, "--labels", "labels.csv")


@pytest.mark.parametrize(("copied", "count"), [(1, 1), (9, 9)])
def test_test_images_that_are_training_images_are_counted(copied, count, capsys):
    arrays = own_arrays()
    arrays["train_images"][5 : 5 + copied] = arrays["test_images"][:copied]
    np.savez("own.npz", **arrays)
    assert f"{count} of 10 test images are training images too" in run_fetch("npz:own.npz", capsys)
    np.savez("own.npz", **own_arrays())
    assert "training images too" not in run_fetch("npz:own.npz", capsys)


def copy_of_training() -> None:
    arrays = own_arrays()
    np.savez("own.npz", **arrays | {f"test_{kind}": arrays[f"train_{kind}"][::2] for kind in ("images", "labels")})


def copy_of_repeated_training() -> None:
    """The two splits are one, of 4 images that repeat each other."""
    arrays = own_arrays()
    four = {"images": arrays["train_images"][np.arange(20) % 4], "labels": np.arange(20) % 4}
    np.savez("own.npz", **{f"{split}_{kind}": four[kind] for split in ("train", "test") for kind in four})


@pytest.mark.parametrize("write", [copy_of_training, copy_of_repeated_training])
def test_a_test_split_that_is_trained_on_is_refused(write, capsys):
    write()
    shown = run_fetch("npz:own.npz", capsys, status=1)
    assert re.search(r"found (10|20) test images in npz:own.npz, every one a training image too", shown)
    assert not OUTPUT.exists()


def test_a_folder_that_tests_on_the_training_images_is_refused():
    write_pngs(Path("pngs"))
    shutil.rmtree("pngs/test")
    shutil.copytree("pngs/train", "pngs/test")
    with pytest.raises(InputError, match="found 20 test images in folder:pngs, every one a training image too"):
        fetch_fake("folder:pngs")
    assert not files_below("resources")


def test_repeated_images_are_no_mistake_where_the_test_is_drawn_or_few_images_are_possible(capsys):
    """Pairs of equal images in one folder; and 20 + 10 images that are drawn from 4."""
    pngs = [fake_data.encode(Image.fromarray(x[0]), "PNG") for x in own_arrays()["train_images"][:2]]
    fake_data.write_files(Path("flat"), {f"{i}.png": pngs[i % 2] for i in range(12)})
    assert "2 of 2 test images are training images too" in run_fetch("folder:flat", capsys)
    copy_of_repeated_training()
    with np.load("own.npz") as archive:
        arrays = dict(archive)
    np.savez("own.npz", **arrays | {f"test_{kind}": arrays[f"test_{kind}"][1:11] for kind in ("images", "labels")})
    assert "10 of 10 test images are training images too" in run_fetch("npz:own.npz", capsys)
    assert "5 of 5 test images are" in run_fetch("npz:own.npz", capsys, "--validation", "5")


# --- what is refused ------------------------------------------------------------------------------------------------


def npz(**changes) -> None:
    arrays = {key: value for key, value in (own_arrays() | changes).items() if value is not None}
    np.savez("own.npz", **arrays)


def damage(path: str, change) -> None:
    """Rewrite a file with its content, a bytearray, changed by `change`, which may return another."""
    content = bytearray(Path(path).read_bytes())
    Path(path).write_bytes(change(content) or content)


def flip(content: bytearray) -> None:
    content[len(content) // 2] ^= 255


def change_zip(path: str, **changes) -> None:
    """Replace members of a zip by the part of their name that is given; None takes them out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for part, content in changes.items():
        for name in [name for name in members if part in name]:
            members.pop(name)
            if content is not None:
                members[name] = content
    fake_data.write_zip(Path(path), members)


PLAIN = {"train_labels": None, "test_labels": None}
UNUSABLE_NPZ = {
    "object images": (lambda: npz(train_images=np.array([1, None] * 10)), "train_images.*refused"),
    "object labels": (lambda: npz(test_labels=np.array(["a"] * 10, object)), "test_labels.*refused"),
    "capital labels": (
        lambda: npz(Y_TRAIN=np.arange(20), Y_TEST=np.arange(10), **PLAIN),
        "found Y_TEST, Y_TRAIN, which would not be read.*Did you mean test_labels, train_labels",
    ),
    "turned names": (
        lambda: npz(labels_train=np.arange(20), labels_test=np.arange(10), **PLAIN),
        "found labels_test, labels_train.*Did you mean test_labels, train_labels",
    ),
    "targets": (lambda: npz(train_targets=np.arange(20), **PLAIN), "found train_targets.*Did you mean train_labels"),
    "capital images": (
        lambda: npz(train_images=None, test_images=None, X_train=np.zeros((20, 8, 8)), X_test=np.zeros((10, 8, 8))),
        "found X_test, X_train.*Did you mean test_images, train_images",
    ),
    "names of classes": (lambda: npz(classes=np.arange(10)), "found classes, which.* would not be read"),
    "attributes": (lambda: npz(train_attributes=np.zeros((20, 3))), "found train_attributes, which"),
    "an unread object": (lambda: npz(meta=np.array([{}], object)), "found meta, which"),
    "two namings": (lambda: npz(x_train=np.zeros((20, 8, 8), np.uint8)), "both train_images and x_train, wanted one"),
    "two kinds of labels": (lambda: npz(y_test=np.arange(10)), "both test_labels and y_test, wanted one"),
    "pixels of 0 and 1": (
        lambda: npz(**{f"{s}_images": own_arrays()[f"{s}_images"] // 200 for s in ("train", "test")}),
        "train_images with pixels from 0 to 1, .*Multiply the pixels by 255",
    ),
    "all black": (
        lambda: npz(**{f"{s}_images": own_arrays()[f"{s}_images"] * 0 for s in ("train", "test")}),
        "train_images of equal pixels, all 0",
    ),
    "float images": (lambda: npz(train_images=np.zeros((20, 8, 8))), "train_images of float64.*uint8.*Scale"),
    "16 bits": (lambda: npz(test_images=np.zeros((10, 8, 8), np.uint16)), "test_images of uint16.*uint8"),
    "black and white": (lambda: npz(train_images=np.zeros((20, 8, 8), bool)), "train_images of bool.*uint8"),
    "no test images": (lambda: npz(test_images=None, **PLAIN), "found train_images, wanted test_images or x_test"),
    "labels without images": (
        lambda: npz(train_images=None, test_images=None),
        "found train_labels, test_labels, wanted",
    ),
    "labels for training alone": (lambda: npz(test_labels=None), "training labels alone.*both or neither"),
    "labels for the test alone": (lambda: npz(train_labels=None), "test labels alone.*both or neither"),
    "float labels": (lambda: npz(train_labels=np.zeros(20)), "train_labels of float64.*whole numbers"),
    "names as labels": (lambda: npz(train_labels=np.array(list("ab") * 10)), "train_labels of <U1.*whole numbers"),
    "one-hot labels": (lambda: npz(train_labels=np.eye(20, 10, dtype=int)), r"\(20, 10\).*whole numbers"),
    "too few labels": (lambda: npz(train_labels=np.arange(19) % 10), "19 train_labels.*20"),
    "class only in the test": (lambda: npz(test_labels=np.arange(1, 11)), "no training image of class '10'"),
    "two channels": (lambda: npz(train_images=np.zeros((20, 2, 8, 8), np.uint8)), r"\(20, 2, 8, 8\).*c 1 or 3"),
    "one image alone": (lambda: npz(train_images=np.zeros((8, 8), np.uint8)), r"\(8, 8\).*\(n, h, w\)"),
    "not square": (lambda: npz(train_images=np.zeros((20, 8, 6), np.uint8)), "8 x 6|test_images of shape"),
    "empty": (lambda: npz(train_images=np.zeros((0, 8, 8), np.uint8), **PLAIN), "0 train_images"),
    "truncated": (lambda: (npz(), damage("own.npz", lambda content: content[:-40])), "damaged, or not a NumPy archive"),
    "flipped byte": (lambda: (npz(), damage("own.npz", flip)), "cannot be read.*CRC|damaged"),
    "HTML page": (lambda: Path("own.npz").write_bytes(HTML), "damaged, or not a NumPy archive"),
    "pickle": (lambda: Path("own.npz").write_bytes(pickle.dumps({})), "damaged, or not a NumPy archive"),
    "zero bytes": (lambda: Path("own.npz").write_bytes(b""), "damaged, or not a NumPy archive"),
    "one array": (
        lambda: (np.save("own.npy", np.zeros(3)), Path("own.npy").rename("own.npz")),
        "one array.*numpy.savez",
    ),
    "missing": (lambda: None, "no such file"),
    "a folder": (lambda: Path("own.npz").mkdir(), "own.npz"),
}


def cut_short(content: bytearray) -> bytearray:
    return content[: len(content) // 2]


RAW = Path("mirror/MNIST/raw")
EMNIST, BACKGROUND = "data/EMNIST/raw/gzip.zip", "data/omniglot-py/images_background.zip"
SVHN = "data/test_32x32.mat"


def idx_without(name: str) -> None:
    fake_data.write_mnist(Path("mirror"), n_train=20, n_test=10, seed=1)
    (RAW / name).unlink()


def idx_with(name: str, content: bytes, *, labels: bool = True) -> None:
    fake_data.write_mnist(Path("mirror"), n_train=20, n_test=10, seed=1)
    for path in [] if labels else RAW.glob("*labels*"):
        path.unlink()
    (RAW / name).write_bytes(content)


def idx_truncated() -> None:
    fake_data.write_mnist(Path("mirror"), n_train=20, n_test=10, seed=1, packed=True)
    damage(f"{RAW}/t10k-images-idx3-ubyte.gz", cut_short)


UNUSABLE = {
    "idx: no images": ("idx:mirror/MNIST/raw", lambda: idx_without("t10k-images-idx3-ubyte"), "no t10k-images-idx3"),
    "idx: labels once": (
        "idx:mirror/MNIST/raw",
        lambda: idx_without("t10k-labels-idx1-ubyte"),
        "training labels alone",
    ),
    "idx: singular labels": (
        "idx:mirror/MNIST/raw",
        lambda: idx_with("train-label-idx1-ubyte", fake_data.idx_bytes(np.arange(20)), labels=False),
        "found train-label-idx1-ubyte, which is not read, wanted train-images-idx3-ubyte, train-labels-idx1-ubyte",
    ),
    "idx: a dot": (
        "idx:mirror/MNIST/raw",
        lambda: idx_with("t10k-labels.idx1-ubyte", b"", labels=False),
        "t10k-labels[.]",
    ),
    "idx: packed": (
        "idx:mirror/MNIST/raw",
        lambda: idx_with("Train-Labels.gz", b"", labels=False),
        "Train-Labels.gz, which",
    ),
    "idx: by content": (
        "idx:mirror/MNIST/raw",
        lambda: idx_with("val.bin", fake_data.idx_bytes(np.zeros((3, 28, 28)))),
        "found val.bin, which is not read",
    ),
    "idx: a table": ("idx:mirror/MNIST/raw", lambda: idx_with("labels.csv", b"3\n", labels=False), "found labels.csv"),
    "idx: packed otherwise": (
        "idx:mirror/MNIST/raw",
        lambda: idx_with("train-labels-idx1-ubyte.gz", gzip.compress(fake_data.idx_bytes(np.zeros(20)))),
        "train-labels-idx1-ubyte: found another array in train-labels-idx1-ubyte.gz",
    ),
    "idx: truncated": ("idx:mirror/MNIST/raw", idx_truncated, "t10k-images-idx3-ubyte.gz.*truncated"),
    "idx: no folder": ("idx:mirror/MNIST/raw", lambda: None, "mirror/MNIST/raw: found no such folder"),
    "svhn: truncated": ("torchvision:SVHN", lambda: (write_svhn(), damage(SVHN, cut_short)), f"{SVHN}.*truncated"),
    "svhn: flipped": ("torchvision:SVHN", lambda: (write_svhn(), damage(SVHN, flip)), f"{SVHN}.*truncated, or not"),
    "svhn: HTML": ("torchvision:SVHN", lambda: (write_svhn(), damage(SVHN, lambda _: HTML)), f"{SVHN}.*HTML"),
    "svhn: empty": ("torchvision:SVHN", lambda: (write_svhn(), damage(SVHN, lambda _: b"\0")), f"{SVHN}.*truncated"),
    "svhn: no labels": ("torchvision:SVHN", lambda: write_svhn(y=None), "no array y"),
    "svhn: digit 0": ("torchvision:SVHN", lambda: write_svhn(y=np.arange(10)), "other than 1 to 10"),
    "svhn: floats": ("torchvision:SVHN", lambda: write_svhn(X=np.zeros((32, 32, 3, 10))), "X of float64"),
    "emnist: truncated": (
        "torchvision:EMNIST",
        lambda: (write_emnist(), damage(EMNIST, cut_short)),
        f"{EMNIST}.*trunc",
    ),
    "emnist: flipped": ("torchvision:EMNIST", lambda: (write_emnist(), damage(EMNIST, flip)), f"{EMNIST}.*CRC|damaged"),
    "emnist: HTML": ("torchvision:EMNIST", lambda: (write_emnist(), damage(EMNIST, lambda _: HTML)), f"{EMNIST}.*HTML"),
    "emnist: a file missing": (
        "torchvision:EMNIST",
        lambda: (write_emnist(), change_zip(EMNIST, **{"balanced-test-labels": None})),
        f"{EMNIST}.*emnist-balanced",
    ),
    "emnist: not gzip": (
        "torchvision:EMNIST",
        lambda: (write_emnist(), change_zip(EMNIST, **{"balanced-test-images": gzip.compress(b"0" * 99)[:-9]})),
        "balanced-test-images.*gzip",
    ),
    "omniglot: truncated": (
        "torchvision:Omniglot",
        lambda: (write_omniglot(), damage(BACKGROUND, cut_short)),
        f"{BACKGROUND}.*truncated",
    ),
    "omniglot: no images": (
        "torchvision:Omniglot",
        lambda: (write_omniglot(), change_zip(BACKGROUND, png=None)),
        f"{BACKGROUND}.*no image",
    ),
    "omniglot: damaged image": (
        "torchvision:Omniglot",
        lambda: (write_omniglot(), change_zip(BACKGROUND, **{"0003_01.png": HTML})),
        f"{BACKGROUND}.*0003_01.png",
    ),
} | {f"npz: {name}": ("npz:own.npz", write, pattern) for name, (write, pattern) in UNUSABLE_NPZ.items()}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_files_are_refused_by_name(name):
    source, write, pattern = UNUSABLE[name]
    write()
    with pytest.raises(InputError, match=pattern):
        fetch_fake(source)
    assert not files_below("resources")


def test_a_matlab_file_cut_anywhere_is_refused():
    write_svhn()
    whole = Path(SVHN).read_bytes()
    for length in range(0, len(whole), len(whole) // 40):
        Path(SVHN).write_bytes(whole[:length])
        with pytest.raises(InputError, match=SVHN):
            fetch_fake("torchvision:SVHN")


@pytest.mark.parametrize("source", ["torchvision:MNIST", "mnist_binarized", "celeba64", "npz:own.npz", "idx:own"])
def test_an_option_that_a_source_does_not_take_is_refused_by_name(source):
    with pytest.raises(
        InputError, match=f"--size and --test-fraction, which only folder:PATH and zip.* take. {source}"
    ):
        fetch_fake(source, size=8, test_fraction=0.2)


def test_an_option_out_of_its_range_is_refused_and_not_ignored():
    write_pngs(Path("pngs"))
    for option, value in (("size", 0), ("size", 4_097), ("crop", 0), ("test_fraction", 0.0), ("test_fraction", 1.5)):
        flag = f"--{option.replace('_', '-')}"
        with pytest.raises(InputError, match=flag):
            fetch_fake("folder:pngs", **{option: value})
        arguments = ["fetch", "folder:pngs", "--name", "fake", "--output", str(OUTPUT), flag, str(value)]
        assert main(arguments) == 1


def test_a_large_crop_is_one_of_large_images():
    """Only what images are resized to has a limit."""
    Path("large").mkdir()
    for index in range(2):
        Image.linear_gradient("L").rotate(90 * index).resize((4_200, 4_200)).save(f"large/{index}.png")
    assert fetch_fake("folder:large", crop=4_150, size=8, test_fraction=0.5).size == 8


def test_a_folder_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no-such-folder"):
        fetch_fake("folder:no-such-folder")


# --- writing --------------------------------------------------------------------------------------------------------


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read():
    Path("resources").write_text("a file where a folder is needed")
    with pytest.raises(InputError, match=f"fake: cannot read npz:own.npz or write {OUTPUT} .*permissions"):
        fetch_fake("npz:own.npz")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_write_protected_is_refused():
    npz()
    OUTPUT.parent.mkdir(parents=True)
    OUTPUT.parent.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        fetch_fake("npz:own.npz")


def test_a_full_disk_leaves_nothing_behind():
    """A limit on the size of files stands for the end of the disk."""
    np.savez_compressed(
        "own.npz",
        **{
            f"{s}_images": np.full((3000, 28, 28), 9 * i + np.arange(28), np.uint8) * 4
            for i, s in enumerate(("train", "test"))
        },
    )
    OUTPUT.parent.mkdir(parents=True)
    OUTPUT.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(InputError, match=str(OUTPUT)):
            fetch.fetch("npz:own.npz", name="fake", output=OUTPUT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_below("resources") == [str(OUTPUT)]
    assert OUTPUT.read_text() == "old"


def test_a_disk_that_fills_during_a_download_is_named(monkeypatch):
    def fill(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pooch.core, "stream_download", fill)
    with pytest.raises(InputError, match="cifar-10-binary.tar.gz.*No space left on device"):
        fetch_fake("cifar10")
    assert not files_below("resources")


# --- the command line -----------------------------------------------------------------------------------------------


def test_help_names_every_source(capsys):
    with pytest.raises(SystemExit):
        main(["fetch", "--help"])
    shown = capsys.readouterr().out
    for source in sources.SOURCES:
        assert re.sub("(PATH|NAME.zip)$", "", source) in shown
    for option in IMAGE_OPTIONS:
        assert f"--{option.replace('_', '-')}" in shown


def test_a_mistake_is_one_message_and_exit_status_1(capsys):
    np.savez("own.npz", train_images=np.zeros((20, 8, 8)))
    assert main(["fetch", "npz:own.npz", "--name", "fake", "--output", str(OUTPUT), "--log", "logs/fake.log"]) == 1
    shown = capsys.readouterr().err
    assert shown.count("error: ") == 1
    assert "own.npz: found train_images of float64, wanted uint8." in shown
    assert "Traceback" not in shown + Path("logs/fake.log").read_text()


@pytest.mark.parametrize("labels", [True, False])
def test_data_describe_prints_and_draws(labels, capsys):
    np.savez("own.npz", **{key: array for key, array in own_arrays().items() if labels or "images" in key})
    fetch_fake("npz:own.npz")
    assert main(["data", "describe", str(OUTPUT), "--picture", "out/sheet.png"]) == 0
    shown = capsys.readouterr().out
    assert "fake: 20 training and 10 test images" in shown
    assert ("    3  " in shown) == labels
    width, height = Image.open("out/sheet.png").size
    rows = 10 if labels else 2
    assert 75 * rows < height < 75 * rows + 80
    assert 750 < width < 1000


def test_data_describe_refuses_a_damaged_file_and_a_place_without_room():
    Path("own.safetensors").write_bytes(HTML)
    assert main(["data", "describe", "own.safetensors", "--picture", "sheet.png"]) == 1
    assert not Path("sheet.png").exists()
    npz()
    fetch_fake("npz:own.npz")
    assert main(["data", "describe", str(OUTPUT), "--picture", "own.npz/sheet.png"]) == 1


def test_every_class_has_its_row_in_the_picture():
    """The pixels of the sheet are those of the images: each class's row shows that class alone."""
    arrays = own_arrays()
    labels = {key: array for key, array in arrays.items() if "labels" in key}
    flat = {
        f"{s}_images": np.full((n, 8, 8), 20, np.uint8) * labels[f"{s}_labels"][:, None, None].astype(np.uint8)
        for s, n in (("train", 20), ("test", 10))
    }
    np.savez("own.npz", **(flat | labels))
    fetch_fake("npz:own.npz")
    main(["data", "describe", str(OUTPUT), "--picture", "sheet.png"])
    sheet = np.asarray(Image.open("sheet.png").convert("L"))
    top = sheet.shape[0] - 15 - 750  # the margin below, ten rows of 75 dots
    column = sheet[top + 37 :: 75, 195 + 37][:10]  # the middle of the first image of each row
    assert column.tolist() == [20 * label for label in range(10)]
