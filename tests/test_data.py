"""The data set file, its one gate, and the readers of every published format. No test uses the network."""

import functools
import gzip
import hashlib
import http.server
import io
import re
import shutil
import textwrap
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import gdown
import numpy as np
import pooch
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from bvae.data import dataset as data
from bvae.data import fetch, sources
from bvae.data.describe import describe
from bvae.errors import InputError
from bvae.system.files import read_yaml, whole_file, write_tensors
from helpers import fake_data

WORKFLOW = Path(__file__).parents[1] / "workflow"
PUBLISHED = read_yaml(WORKFLOW / "datasets.yaml")
OUTPUT = Path("resources/data/fake.safetensors")
REAL_STREAM_DOWNLOAD = pooch.core.stream_download


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Run each test in an empty folder, with an empty mirror and without a network."""

    def refuse(*args, **kwargs):
        raise OSError("no network in the tests")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pooch.core, "stream_download", refuse)
    monkeypatch.setattr(gdown, "download", refuse)
    Path("mirror").mkdir()
    monkeypatch.setenv("BVAE_MIRROR", "mirror")


@pytest.fixture
def web_server(tmp_path, monkeypatch):
    """Serve the folder `mirror` on this machine; the address."""
    monkeypatch.setattr(pooch.core, "stream_download", REAL_STREAM_DOWNLOAD)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "mirror"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def fetch_fake(source: str, expected_sha256: str | None = None) -> data.Dataset:
    """Fetch to OUTPUT, and read it back through the gate."""
    made = fetch.fetch(source, name="fake", output=OUTPUT, expected_sha256=expected_sha256)
    loaded = data.load(OUTPUT)
    assert (loaded.sha256, loaded.classes, loaded.attribute_names) == (made.sha256, made.classes, made.attribute_names)
    assert (loaded.name, loaded.source) == ("fake", source)
    return loaded


ATTRIBUTES = {
    "train_attributes": torch.zeros(20, 2, dtype=torch.uint8),
    "test_attributes": torch.ones(10, 2, dtype=torch.uint8),
    "attribute_names": ("round", "red"),
}


def small_dataset(**changes) -> data.Dataset:
    """A sound data set of 20 + 10 grey images, hashed after `changes`."""
    arrays = fake_data.fake_splits(20, 10, channels=1, size=8, seed=0)
    settings = {key: torch.from_numpy(value) for key, value in arrays.items()}
    settings |= {"name": "fake", "classes": tuple("abcdefghij"), "source": "here", "licence": "none"} | changes
    return data.make(**settings)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if path.is_file())


# --- what arrives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_arrives_exactly(packed):
    arrays = fake_data.write_mnist(Path("mirror"), n_train=12, n_test=8, seed=1, packed=packed)
    dataset = fetch_fake("torchvision:MNIST")
    fake_data.assert_same(dataset, arrays)
    assert (dataset.shape, dataset.channels, dataset.size) == ((1, 28, 28), 1, 28)
    assert dataset.classes == tuple("0123456789")


def test_fashion_mnist_arrives_exactly():
    arrays = fake_data.write_fashion_mnist(Path("mirror"), n_train=12, n_test=8, seed=2)
    dataset = fetch_fake("torchvision:FashionMNIST")
    fake_data.assert_same(dataset, arrays)
    assert dataset.classes[9] == "Ankle boot"


def test_binarized_mnist_is_one_fixed_draw_with_the_greys_as_probabilities(monkeypatch):
    arrays = fake_data.write_mnist(Path("mirror"), n_train=300, n_test=20, seed=1)
    monkeypatch.setattr(sources, "N_TRAIN_BINARIZED", 250)
    dataset = fetch_fake("mnist_binarized")
    assert torch.equal(dataset.train_labels, torch.from_numpy(arrays["train_labels"][:250]))
    drawn, greys = dataset.train_images.numpy(), arrays["train_images"][:250]
    assert drawn.shape == (250, 1, 28, 28) and set(np.unique(drawn)) == {0, 255}
    assert not drawn[greys == 0].any() and drawn[greys == 255].all()
    probability = greys / 255
    for dark in (True, False):  # dark greys alone, and light greys alone
        chosen = (probability < 0.5) == dark
        error = np.sqrt((probability * (1 - probability))[chosen].sum())
        assert abs((drawn[chosen] / 255 - probability[chosen]).sum()) < 4 * error
    again = fetch.fetch("mnist_binarized", name="fake", output=OUTPUT, expected_sha256=dataset.sha256)
    assert again.sha256 == dataset.sha256


def test_flat_mirror_and_file_address(monkeypatch, tmp_path):
    arrays = fake_data.write_mnist(Path("elsewhere"), n_train=12, n_test=8, seed=1)
    for path in Path("elsewhere/MNIST/raw").iterdir():
        shutil.move(path, Path("mirror") / path.name)
    monkeypatch.setenv("BVAE_MIRROR", (tmp_path / "mirror").as_uri())
    fake_data.assert_same(fetch_fake("torchvision:MNIST"), arrays)


def test_cifar10_arrives_exactly():
    arrays = fake_data.write_cifar10(Path("mirror"), n_train=13, n_test=8, seed=3)
    dataset = fetch_fake("cifar10")
    fake_data.assert_same(dataset, arrays)
    assert dataset.shape == (3, 32, 32)
    assert dataset.classes == tuple(fake_data.CIFAR10_CLASSES)


@pytest.mark.parametrize("zipped", [False, True])
def test_celeba_is_cropped_and_resized_as_pil_does(zipped):
    written = fake_data.write_celeba(Path("mirror"), n_train=5, n_test=3, seed=4, zipped=zipped)
    dataset = fetch_fake("celeba64")
    assert dataset.shape == (3, 64, 64)
    assert dataset.attribute_names == tuple(f"Attribute_{i}" for i in range(40))
    for split, n in (("train", 5), ("test", 3)):
        images, jpegs = dataset.tensors()[f"{split}_images"], written[f"{split}_jpegs"]
        assert images.shape == (n, 3, 64, 64)
        for pixels, jpeg in zip(images, jpegs.values(), strict=True):
            crop = Image.open(io.BytesIO(jpeg)).crop((19, 39, 159, 179))  # the central 140 of 178 x 218
            wanted = np.asarray(crop.resize((64, 64), Image.Resampling.BILINEAR))
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), wanted)
        assert np.array_equal(dataset.tensors()[f"{split}_attributes"].numpy(), written[f"{split}_attributes"])


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_class_folders_arrive_exactly(channels, size):
    arrays = fake_data.write_class_folders(
        Path("mirror/some.zip"), n_train=24, n_test=11, seed=5, channels=channels, size=size
    )
    dataset = fetch_fake("zip:some.zip")
    fake_data.assert_same(dataset, arrays)
    assert dataset.shape == (channels, size, size)
    assert dataset.classes == tuple(sorted(fake_data.CIFAR10_CLASSES))


def test_digits_have_the_hash_of_the_table():
    pinned = PUBLISHED["digits"]["sha256"]
    dataset = fetch_fake("sklearn:digits", expected_sha256=pinned)
    assert dataset.sha256 == pinned
    assert (len(dataset.train_images), len(dataset.test_images)) == (1437, 360)
    assert (dataset.shape, int(dataset.train_images.max())) == ((1, 8, 8), 255)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_data_set_says_what_it_is_and_where_it_comes_from(name):
    entry = PUBLISHED[name]
    assert entry.keys() - {"sha256", "validation"} == {"about", "licence", "shape", "source"}
    assert re.match(r"\d+x\d+ .*(classes|attributes).*, [\d,]+ \+ [\d,]+", entry["about"])
    assert sources.known(entry["source"])
    assert ("validation" in entry) == name.endswith("_validation")
    assert re.fullmatch(r"[0-9a-f]{64}", entry.get("sha256", "0" * 64))


def test_the_rule_on_the_page_is_of_a_data_set_of_ones_own():
    """It names its data set in every place; `test_workflow.py` runs it."""
    page = (WORKFLOW.parent / "docs/extending.md").read_text(encoding="utf-8")
    rule = re.search(r"^( +)# 32x32 grey birds(?:\n?.+)+?--log \{log:q\}\"\n", page, re.MULTILINE)
    text = textwrap.dedent(rule[0])
    for line in ("rule data_birds:", '"resources/data/birds.safetensors",', '"logs/data/birds.log",', "ENVIRONMENT"):
        assert line in text
    assert sources.known(re.search(r'source="([^"]+)"', text)[1])


# --- where it comes from --------------------------------------------------------------------------------------------


def test_web_mirror(web_server, monkeypatch):
    arrays = fake_data.write_mnist(Path("mirror"), n_train=12, n_test=8, seed=1, packed=True)
    monkeypatch.setenv("BVAE_MIRROR", web_server)
    fake_data.assert_same(fetch_fake("torchvision:MNIST"), arrays)


def serve_as_the_canonical_mnist(web_server, monkeypatch) -> dict[str, np.ndarray]:
    arrays = fake_data.write_mnist(Path("mirror"), n_train=12, n_test=8, seed=1, packed=True)
    sums = [
        (name, hashlib.md5((Path("mirror/MNIST/raw") / name).read_bytes()).hexdigest())
        for name, _ in torchvision.datasets.MNIST.resources
    ]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{web_server}/MNIST/raw/"])
    monkeypatch.delenv("BVAE_MIRROR")
    return arrays


def test_download_is_kept_and_used_again(web_server, monkeypatch):
    arrays = serve_as_the_canonical_mnist(web_server, monkeypatch)
    fake_data.assert_same(fetch_fake("torchvision:MNIST"), arrays)
    kept = files_below(Path("resources/downloads"))
    assert kept == sorted(f"resources/downloads/MNIST/raw/{name}" for name, _ in torchvision.datasets.MNIST.resources)
    shutil.rmtree("mirror")
    OUTPUT.unlink()
    fake_data.assert_same(fetch_fake("torchvision:MNIST"), arrays)


def test_damaged_download_is_refused_and_not_kept(web_server, monkeypatch):
    serve_as_the_canonical_mnist(web_server, monkeypatch)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    Path("mirror/MNIST/raw/t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte\.gz"):
        fetch_fake("torchvision:MNIST")
    assert not [name for name in files_below(Path("resources")) if "t10k-labels" in name]
    assert len(files_below(Path("resources"))) == 3  # the good ones stay


def test_google_drive_download(monkeypatch):
    fake_data.write_celeba(Path("drive"), n_train=3, n_test=2, seed=4)
    listed = []
    for drive_id, _, name in torchvision.datasets.CelebA.file_list:
        path = Path("drive/celeba") / name
        listed.append((drive_id, hashlib.md5(path.read_bytes()).hexdigest() if path.exists() else "", name))
    monkeypatch.setattr(torchvision.datasets.CelebA, "file_list", listed)
    monkeypatch.setattr(gdown, "download", lambda url, output, quiet: shutil.copy(by_id[url.split("=")[1]], output))
    by_id = {drive_id: Path("drive/celeba") / name for drive_id, _, name in listed}
    assert len(fetch_fake("celeba64").train_images) == 3
    assert len(files_below(Path("resources/downloads/celeba"))) == 3


def test_missing_files_are_listed_with_where_to_place_them():
    with pytest.raises(InputError) as refusal:
        fetch_fake("torchvision:MNIST")
    for wanted in ("BVAE_MIRROR", "mirror", "no network in the tests", "MNIST/raw/t10k-labels-idx1-ubyte"):
        assert wanted in str(refusal.value)
    for name, _ in torchvision.datasets.MNIST.resources:
        assert f"resources/downloads/MNIST/raw/{name}" in str(refusal.value)
    assert not files_below(Path("resources"))


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("cifar10", "resources/downloads/cifar-10-binary.tar.gz"),
        ("celeba64", "resources/downloads/celeba/list_attr_celeba.txt"),
        ("zip:own.zip", "resources/downloads/own.zip"),
        ("torchvision:QMNIST", "torchvision:FashionMNIST"),
        ("torchvision:CIFAR10", "cifar10"),
        ("folder:", "folder:PATH"),
        ("sklearn:iris", "sklearn:digits"),
    ],
)
def test_what_cannot_be_had_is_refused(source, wanted):
    with pytest.raises(InputError, match=re.escape(wanted)) as refusal:
        fetch_fake(source)
    assert source in str(refusal.value)
    assert not files_below(Path("resources"))


@pytest.mark.parametrize("mirror", ["no-such-folder", "s3://bucket/data"])
def test_wrong_mirror_is_refused(mirror, monkeypatch):
    monkeypatch.setenv("BVAE_MIRROR", mirror)
    with pytest.raises(InputError, match=f"BVAE_MIRROR.*{mirror}"):
        fetch_fake("cifar10")


def test_cached_file_that_is_not_the_published_one_is_refused(monkeypatch):
    monkeypatch.delenv("BVAE_MIRROR")
    fake_data.write_cifar10(Path("resources/downloads"), n_train=12, n_test=8, seed=3)
    with pytest.raises(InputError, match=r"resources/downloads/cifar-10-binary\.tar\.gz.*MD5.*c32a1d4ab5d"):
        fetch_fake("cifar10")
    assert not OUTPUT.exists()


# --- damaged published files ----------------------------------------------------------------------------------------

TRAIN_IMAGES = Path("mirror/MNIST/raw/train-images-idx3-ubyte")
TRAIN_LABELS = Path("mirror/MNIST/raw/train-labels-idx1-ubyte")
CIFAR10 = Path("mirror/cifar-10-binary.tar.gz")
CELEBA = Path("mirror/celeba")
HTML = b"<!DOCTYPE html><html>404</html>\nnot\nfound\n"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def change_celeba_list(name: str, old: str, new: str) -> None:
    path = CELEBA / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def change_zip(path: Path, change) -> None:
    """Rewrite a zip with its members, a dict, changed in place by `change`."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    fake_data.write_zip(path, members)


def damage_mnist(damage: str) -> str:
    """Write an MNIST with this damage; a pattern that its refusal must match."""
    fake_data.write_mnist(Path("mirror"), n_train=12, n_test=8, seed=1)
    content = TRAIN_IMAGES.read_bytes()
    if damage == "truncated gzip":
        TRAIN_IMAGES.write_bytes(gzip.compress(content)[:-500])
        return f"{TRAIN_IMAGES}.*gzip"
    if damage == "damaged gzip":
        packed = bytearray(gzip.compress(content))
        packed[100] ^= 255
        TRAIN_IMAGES.write_bytes(packed)
        return f"{TRAIN_IMAGES}.*gzip"
    if damage == "HTML page":
        TRAIN_IMAGES.write_bytes(HTML)
        return f"{TRAIN_IMAGES}.*HTML"
    if damage == "wrong magic":
        TRAIN_IMAGES.write_bytes(b"\x00\x00\x0d\x03" + content[4:])
        return f"{TRAIN_IMAGES}.*00000d03.*00000803"
    if damage == "labels in place of images":
        shutil.copy(TRAIN_LABELS, TRAIN_IMAGES)
        return f"{TRAIN_IMAGES}.*00000801.*00000803"
    if damage == "truncated":
        truncate(TRAIN_IMAGES)
        return f"{TRAIN_IMAGES}.*9,388 bytes.*9,408"
    if damage == "header only in part":
        TRAIN_IMAGES.write_bytes(content[:9])
        return f"{TRAIN_IMAGES}.*9 bytes.*header of 16"
    if damage == "empty":
        TRAIN_IMAGES.write_bytes(b"")
        return str(TRAIN_IMAGES)
    if damage == "wrong count":
        TRAIN_LABELS.write_bytes(fake_data.idx_bytes(np.arange(11) % 10))
        return "11 train_labels.*12"
    if damage == "label out of range":
        TRAIN_LABELS.write_bytes(fake_data.idx_bytes(np.arange(12)))
        return "train_labels from 0 to 11.*0 to 9"
    if damage == "non-square":
        for path, n in ((TRAIN_IMAGES, 12), (TRAIN_IMAGES.with_name("t10k-images-idx3-ubyte"), 8)):
            path.write_bytes(fake_data.idx_bytes(np.zeros((n, 28, 27), np.uint8)))
        return "28 x 27.*square"
    raise ValueError(damage)


def damage_cifar10(damage: str) -> str:
    fake_data.write_cifar10(Path("mirror"), n_train=12, n_test=8, seed=1)
    if damage == "truncated":
        CIFAR10.write_bytes(CIFAR10.read_bytes()[: CIFAR10.stat().st_size // 2])
        return f"{CIFAR10}.*truncated"
    if damage == "HTML page":
        CIFAR10.write_bytes(HTML)
        return f"{CIFAR10}.*HTML"
    if damage == "python version":
        fake_data.write_tar_gz(CIFAR10, {"cifar-10-batches-py/data_batch_1": b"pickle"})
        return f"{CIFAR10}.*data_batch_1.bin.*binary version"
    if damage == "half a record":
        batches = [f"data_batch_{i}.bin" for i in range(1, 6)]
        members = {name: bytes(3073) for name in [*batches, "test_batch.bin"]} | {"batches.meta.txt": b"a\nb\n"}
        fake_data.write_tar_gz(CIFAR10, members | {"data_batch_4.bin": bytes(3000)})
        return f"{CIFAR10}.*data_batch_4.bin of 3,000 bytes.*3,073"
    raise ValueError(damage)


def damage_celeba(damage: str) -> str:
    small = damage == "images too small"
    fake_data.write_celeba(Path("mirror"), n_train=4, n_test=2, seed=1, image_size=(130, 218) if small else (178, 218))
    images = CELEBA / "img_align_celeba.zip"
    if small:
        return f"{images}.*00000..jpg.*130 x 218.*140"
    if damage == "image missing":
        change_zip(images, lambda members: members.pop("img_align_celeba/000002.jpg"))
        return f"{images}.*no image 000002.jpg"
    if damage == "truncated jpeg":
        name = "img_align_celeba/000003.jpg"
        change_zip(images, lambda members: members.update({name: members[name][:700]}))
        return f"{images}.*000003.jpg"
    if damage == "truncated zip":
        truncate(images)
        return f"{images}.*truncated"
    if damage == "HTML list":
        (CELEBA / "list_eval_partition.txt").write_bytes(HTML)
        return "list_eval_partition.txt.*HTML"
    if damage == "empty list":
        (CELEBA / "list_attr_celeba.txt").write_bytes(b"")
        return "list_attr_celeba.txt.*0 lines"
    if damage == "row too short":
        change_celeba_list("list_eval_partition.txt", "000002.jpg 0", "000002.jpg")
        return "list_eval_partition.txt.*'000002.jpg'.*2 columns"
    if damage == "wrong count":
        change_celeba_list("list_attr_celeba.txt", "8\n", "9\n")
        return "list_attr_celeba.txt.*8 rows.*'9'"
    if damage == "attribute neither -1 nor 1":
        change_celeba_list("list_attr_celeba.txt", " -1", "  0")
        return "list_attr_celeba.txt.*-1 and 1"
    if damage == "row missing":
        change_celeba_list("list_attr_celeba.txt", "000002.jpg", "000200.jpg")
        return "list_attr_celeba.txt.*000002.jpg"
    if damage == "no test split":
        path = CELEBA / "list_eval_partition.txt"
        path.write_text(path.read_text().replace(".jpg 2", ".jpg 1"))
        return "0 test_images"
    raise ValueError(damage)


def damage_zip(damage: str) -> str:
    path = Path("mirror/some.zip")
    fake_data.write_class_folders(path, n_train=12, n_test=10, seed=1)
    victim = "some/train/cat/0005.png"
    if damage == "no test folder":
        change_zip(path, lambda members: [members.pop(name) for name in list(members) if "/test/" in name])
        return f"{path}.*folders train alone.*both train and test"
    if damage == "mixed sizes":
        other = fake_data.encode(Image.new("RGB", (16, 32)), "PNG")
        change_zip(path, lambda members: members.update({victim: other}))
        return f"{path}.*{victim}.*16 x 32"
    if damage == "mixed modes":
        other = fake_data.encode(Image.new("L", (32, 32)), "PNG")
        change_zip(path, lambda members: members.update({victim: other}))
        return f"{path}.*{victim}.*mode L"
    if damage == "four channels":
        other = fake_data.encode(Image.new("RGBA", (32, 32)), "PNG")
        change_zip(path, lambda members: members.update(dict.fromkeys(members, other)))
        return f"{path}.*RGBA.*RGB"
    if damage == "damaged image":
        change_zip(path, lambda members: members.update({victim: members[victim][:200]}))
        return f"{path}.*{victim}"
    if damage == "not an image":
        change_zip(path, lambda members: members.update({victim: HTML}))
        return f"{path}.*{victim}"
    if damage == "flipped byte":
        content = bytearray(path.read_bytes())
        content[content.index(b"IDAT") + 20] ^= 255
        path.write_bytes(content)
        return f"{path}: found 1 of 22 images.*some/.*CRC"
    if damage == "class only in test":
        change_zip(path, lambda members: [members.pop(name) for name in list(members) if "train/cat/" in name])
        return "no training image of class 'cat'"
    if damage == "not a zip":
        path.write_bytes(b"something else")
        return f"{path}.*not a zip"
    raise ValueError(damage)


DAMAGES = {
    ("torchvision:MNIST", damage_mnist): [
        "truncated gzip",
        "damaged gzip",
        "HTML page",
        "wrong magic",
        "labels in place of images",
        "truncated",
        "header only in part",
        "empty",
        "wrong count",
        "label out of range",
        "non-square",
    ],
    ("cifar10", damage_cifar10): ["truncated", "HTML page", "python version", "half a record"],
    ("celeba64", damage_celeba): [
        "images too small",
        "image missing",
        "truncated jpeg",
        "truncated zip",
        "HTML list",
        "empty list",
        "row too short",
        "wrong count",
        "attribute neither -1 nor 1",
        "row missing",
        "no test split",
    ],
    ("zip:some.zip", damage_zip): [
        "no test folder",
        "mixed sizes",
        "mixed modes",
        "four channels",
        "damaged image",
        "not an image",
        "flipped byte",
        "class only in test",
        "not a zip",
    ],
}


@pytest.mark.parametrize(
    ("source", "write_damaged", "damage"),
    [
        pytest.param(source, write_damaged, damage, id=f"{source}-{damage}")
        for (source, write_damaged), damages in DAMAGES.items()
        for damage in damages
    ],
)
def test_damaged_published_file_is_refused_by_name(source, write_damaged, damage):
    pattern = write_damaged(damage)
    with pytest.raises(InputError, match=pattern):
        fetch_fake(source)
    assert not files_below(Path("resources"))


def test_unexpected_hash_is_refused_naming_both():
    fake_data.write_mnist(Path("mirror"), n_train=12, n_test=8, seed=1)
    with pytest.raises(InputError) as refusal:
        fetch_fake("torchvision:MNIST", expected_sha256="0" * 64)
    assert len(re.findall(r"\b[0-9a-f]{64}\b", str(refusal.value))) == 2
    assert "0" * 64 in str(refusal.value)
    assert not files_below(Path("resources"))


# --- the gate -------------------------------------------------------------------------------------------------------


def test_save_and_load_return_the_same():
    dataset = small_dataset()
    data.save(dataset, OUTPUT)
    loaded = data.load(OUTPUT)
    fake_data.assert_same(loaded, {name: tensor.numpy() for name, tensor in dataset.tensors().items()})
    plain = ("name", "classes", "attribute_names", "source", "licence", "sha256", "shape")
    assert all(getattr(loaded, key) == getattr(dataset, key) for key in plain)


def test_neither_labels_nor_attributes_are_needed():
    data.save(small_dataset(train_labels=None, test_labels=None, classes=()), OUTPUT)
    assert data.load(OUTPUT).train_labels is None


def test_describe_names_what_matters():
    dataset = small_dataset(**ATTRIBUTES)
    text = describe(dataset)
    train, test = dataset.train_images.numpy(), dataset.test_images.numpy()
    pixels = [f"{images.min()} to {images.max()}, mean {images.mean():.1f}" for images in (train, test)]
    for wanted in (
        "fake: 20 training and 10 test",
        "1 x 8 x 8",
        "10: images",
        "licence     none",
        dataset.sha256,
        *pixels,
    ):
        assert wanted in text
    assert re.findall(r"^    ([a-j]) +2 \+ 1$", text, re.MULTILINE) == list("abcdefghij")
    assert re.findall(r"^    (\w+) +0 \+ 10$", text, re.MULTILINE) == ["round", "red"]
    text = describe(small_dataset(train_labels=None, test_labels=None, classes=()))
    assert "classes     none\n" in text


def test_hash_depends_on_values_dtypes_shapes_and_names():
    x = torch.arange(16, dtype=torch.uint8)
    variants = [
        {"train_images": x},
        {"test_images": x},
        {"train_images": x.reshape(4, 4)},
        {"train_images": x.flip(0)},
        {"train_images": x.view(torch.int64)},
    ]
    assert len({data.arrays_sha256(variant) for variant in variants}) == len(variants)
    wanted = hashlib.sha256(b"train_images uint8 (16,)\n" + bytes(range(16))).hexdigest()
    assert data.arrays_sha256({"train_images": x}) == wanted


UNSOUND = {
    "int32 labels": ({"train_labels": torch.zeros(20, dtype=torch.int32)}, "train_labels of torch.int32.*int64"),
    "rank": ({"test_images": torch.zeros(10, 8, 8, dtype=torch.uint8)}, r"test_images of shape \(10, 8, 8\).*4"),
    "no test": ({"test_images": torch.zeros(0, 1, 8, 8, dtype=torch.uint8)}, "0 test_images.*at least one"),
    "no training": ({"train_images": torch.zeros(0, 1, 8, 8, dtype=torch.uint8)}, "0 train_images.*at least one"),
    "shapes differ": ({"test_images": torch.zeros(10, 1, 4, 4, dtype=torch.uint8)}, r"\(1, 4, 4\).*\(1, 8, 8\)"),
    "non-square": (
        {f"{split}_images": torch.zeros(n, 1, 8, 6, dtype=torch.uint8) for split, n in (("train", 20), ("test", 10))},
        "8 x 6 pixels.*square",
    ),
    "two channels": (
        {f"{split}_images": torch.zeros(n, 2, 8, 8, dtype=torch.uint8) for split, n in (("train", 20), ("test", 10))},
        "2 channels.*1.*3",
    ),
    "label count": ({"test_labels": torch.arange(9)}, "9 test_labels.*10"),
    "label too high": ({"test_labels": torch.arange(1, 11)}, "test_labels from 1 to 10.*0 to 9"),
    "label negative": ({"test_labels": torch.arange(-1, 9)}, "test_labels from -1 to 8.*0 to 9"),
    "empty class": ({"train_labels": torch.arange(20) % 9}, "class 'j'"),
    "labels for one split": ({"test_labels": None}, "1 tensors of labels"),
    "labels without classes": ({"classes": ()}, "0 names and 2 tensors of labels"),
    "attribute count": (ATTRIBUTES | {"attribute_names": ("round",)}, "2 train_attributes.*1"),
    "attribute value": (ATTRIBUTES | {"test_attributes": ATTRIBUTES["test_attributes"] * 2}, "from 2 to 2.*0 to 1"),
}


UNREADABLE_PIXELS = {
    "0 and 1": (
        lambda x: x // 128,
        lambda x: x // 128,
        "train_images with pixels from 0 to 1, .*255 .white.. Multiply the pixels by 255,",
    ),
    "five bits": (lambda x: x // 8, lambda x: x // 8, "from 0 to 31.*Multiply the pixels by 255/31"),
    "other scale in training": (lambda x: x // 128, lambda x: x, "train_images with pixels from 0 to 1"),
    "other scale in the test": (lambda x: x, lambda x: x // 16, "test_images with pixels from 0 to 15.*255/15"),
    "black": (lambda x: x * 0, lambda x: x, "train_images of equal pixels, all 0"),
    "white": (lambda x: x, lambda x: x * 0 + 255, "test_images of equal pixels, all 255"),
    "-1 and 1": (lambda x: x // 128 * 2 + 255, lambda x: x, "train_images with no other pixels than 0, 1 and 255"),
    "-1, 0 and 1": (lambda x: x // 86 + 255, lambda x: x // 86 + 255, "no other pixels than 0, 1 and 255.*Scale -1"),
}


@pytest.mark.parametrize("name", UNREADABLE_PIXELS)
def test_pixels_on_a_wrong_scale_are_neither_saved_nor_loaded(name):
    change_train, change_test, pattern = UNREADABLE_PIXELS[name]
    sound = small_dataset()
    assert int(sound.train_images.max()) > 240 < int(sound.test_images.max())
    changes = {"train_images": change_train(sound.train_images), "test_images": change_test(sound.test_images)}
    check_that_it_is_refused(small_dataset(**changes), pattern)


@pytest.mark.parametrize("change", [lambda x: x // 7 + 1, lambda x: x // 128 * 255, lambda x: x // 64 * 85])
def test_dark_grey_and_black_and_white_images_are_sound(change):
    sound = small_dataset()
    dark = {name: change(getattr(sound, name)) for name in ("train_images", "test_images")}
    data.save(small_dataset(**dark), OUTPUT)
    assert int(data.load(OUTPUT).train_images.max()) in (36, 37, 255)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_images_that_are_not_uint8_are_neither_made_nor_saved(dtype, split):
    images = small_dataset().tensors()[f"{split}_images"].to(dtype)
    with pytest.raises(InputError, match=f"fake: found {split}_images, a Tensor of {dtype}, wanted .*uint8.*0..255"):
        small_dataset(**{f"{split}_images": images})
    if dtype != torch.bfloat16:
        unchecked = replace(small_dataset(), **{f"{split}_images": images})
        with pytest.raises(InputError, match=f"{split}_images of {dtype}.*uint8.*Nothing was written"):
            data.save(unchecked, OUTPUT)
    assert not files_below(Path("resources"))


def test_only_uint8_becomes_a_batch():
    """Floats would be divided by 255 once more."""
    with pytest.raises(InputError, match="found images of torch.float32, wanted torch.uint8"):
        data.to_batch(torch.rand(2, 1, 8, 8))


def test_arrays_of_numpy_are_no_images():
    with pytest.raises(InputError, match="found train_images, a ndarray of uint8, wanted a Tensor"):
        small_dataset(train_images=np.zeros((20, 1, 8, 8), np.uint8))


@pytest.mark.parametrize("name", UNSOUND)
def test_unsound_data_set_is_neither_saved_nor_loaded(name):
    changes, pattern = UNSOUND[name]
    check_that_it_is_refused(small_dataset(**changes), pattern)


def check_that_it_is_refused(dataset: data.Dataset, pattern: str) -> None:
    """It is neither saved, nor loaded when it was saved unchecked."""
    with pytest.raises(InputError, match=f"{OUTPUT}.*{pattern}.*Nothing was written"):
        data.save(dataset, OUTPUT)
    assert not files_below(Path("resources"))
    write_unchecked(dataset)
    with pytest.raises(InputError, match=f"{OUTPUT}.*{pattern}.*Delete it and run `snakemake"):
        data.load(OUTPUT)


def write_unchecked(dataset: data.Dataset, *, form: str = data.FORMAT, leave_out: str = "", extra: str = "") -> None:
    """What `save` writes, but unchecked, in another form, without one part, or with the labels twice."""
    facts = {key: getattr(dataset, key) for key in data.TEXT_FIELDS}
    facts |= {"classes": dataset.classes, "attributes": dataset.attribute_names}
    tensors = dataset.tensors()
    if extra:
        tensors[extra] = dataset.train_labels.clone()
    facts.pop(leave_out, None)
    tensors.pop(leave_out, None)
    write_tensors(OUTPUT, tensors, form=form, facts=facts)


def flip_last_byte() -> None:
    content = bytearray(OUTPUT.read_bytes())
    content[-1] ^= 1
    OUTPUT.write_bytes(content)


BROKEN = {
    "missing": (lambda: OUTPUT.unlink(), "no such file.*snakemake"),
    "truncated": (lambda: truncate(OUTPUT), "damaged"),
    "empty": (lambda: OUTPUT.write_bytes(b""), "damaged"),
    "HTML": (lambda: OUTPUT.write_bytes(HTML), "not a safetensors file"),
    "flipped byte": (flip_last_byte, "SHA-256"),
    "without images": (lambda: write_unchecked(small_dataset(), leave_out="test_images"), "no test_images"),
    "without licence": (lambda: write_unchecked(small_dataset(), leave_out="licence"), "no licence"),
    "no metadata": (lambda: save_file(small_dataset().tensors(), OUTPUT), "format None.*bvae-data-1"),
    "other format": (lambda: write_unchecked(small_dataset(), form="bvae-data-9"), "bvae-data-9"),
    "metadata not JSON": (lambda: save_file(small_dataset().tensors(), OUTPUT, {"bvae": "a, b"}), "damaged"),
    "unknown tensor": (lambda: write_unchecked(small_dataset(), extra="train_lables"), "train_lables"),
    "wrong hash": (lambda: write_unchecked(replace(small_dataset(), sha256="f" * 64)), "f" * 64),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_set_file_is_refused(name):
    data.save(small_dataset(), OUTPUT)
    break_it, pattern = BROKEN[name]
    break_it()
    with pytest.raises(InputError, match=f"(?s){OUTPUT}.*{pattern}"):
        data.load(OUTPUT)


def test_whole_file_leaves_nothing_behind_and_keeps_the_old():
    OUTPUT.parent.mkdir(parents=True)
    OUTPUT.write_text("old")
    with pytest.raises(RuntimeError), whole_file(OUTPUT) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert files_below(Path("resources")) == [str(OUTPUT)]
    assert OUTPUT.read_text() == "old"


def test_equal_data_sets_give_equal_bytes(tmp_path):
    """Snakemake compares checksums: a data file made again must not retrain every run."""
    for name in ("one", "two", "three", "four"):
        data.save(small_dataset(), tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in ("one", "two", "three", "four")}) == 1
