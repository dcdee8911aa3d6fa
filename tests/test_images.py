"""Folders and zip archives of images: what arrives, what is refused, and how little memory it takes."""

import io
import logging
import os
import re
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bvae.data import dataset as data
from bvae.data import image_files as images
from bvae.data.readers import read_celeba, read_image_folder
from bvae.data.summary import Reading
from bvae.errors import InputError
from helpers import fake_data

FOLDER, ZIP, LABELS = Path("own"), Path("own.zip"), Path("labels.csv")
OUTPUT = Path("out/own.safetensors")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(i: int, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Image.Image:
    """The i-th random picture of PIL's `mode`, (width, height) pixels, smooth."""
    pixels = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def png(i: int, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> bytes:
    return fake_data.encode(picture(i, mode, size), "PNG")


def jpeg(i: int, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> bytes:
    return fake_data.encode(picture(i, mode, size), "JPEG")


def classes(n: int = 6, **changes: bytes | None) -> dict[str, bytes]:
    """The members of cat/<i>.png and dog/<i>.png, `n` each; `changes` are to files of cat, by number."""
    members = {f"{label}/{i}.png": png(i + 100 * (label == "dog")) for label in ("cat", "dog") for i in range(n)}
    return members | {f"cat/{name[1:]}.png": content for name, content in changes.items()}


def deep(members: dict[str, bytes], *tops: str) -> dict[str, bytes]:
    return {f"{top}/{name}": content for top in tops for name, content in members.items()}


def read(path: Path, **options) -> dict:
    """Read, save and load, as a fetch does; what was read."""
    found = read_image_folder(path, **options, scratch=OUTPUT.parent)
    data.save(data.make(name="own", source="own", licence="none", **found), OUTPUT)
    assert data.load(OUTPUT).classes == found.get("classes", ())
    assert os.listdir(OUTPUT.parent) == [OUTPUT.name]
    OUTPUT.unlink()
    return found


def arrays(contents: list[bytes]) -> np.ndarray:
    """(n, c, h, w) as PIL decodes them."""
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in contents])
    return pixels.reshape(*pixels.shape[:3], -1).transpose(0, 3, 1, 2)


def same(one: dict, other: dict) -> bool:
    tensors = [name for name in one if isinstance(one[name], torch.Tensor)]
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in tensors)


# --- what arrives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", ["", "own/", "a/b/"])
@pytest.mark.parametrize("zipped", [False, True])
def test_train_and_test_with_classes(top, zipped):
    train, test = classes(3), {"cat/7.png": png(7), "dog/8.jpeg": jpeg(8)}
    members = deep(train, f"{top}train") | deep(test, f"{top}test") | {f"{top}.hidden/9.png": b"", "LICENCE": b""}
    (fake_data.write_zip if zipped else fake_data.write_files)(path := ZIP if zipped else FOLDER, members)
    found = read(path)
    assert found["classes"] == ("cat", "dog")
    assert found["train_labels"].tolist() == [0] * 3 + [1] * 3 and found["test_labels"].tolist() == [0, 1]
    assert np.array_equal(found["train_images"].numpy(), arrays([train[name] for name in sorted(train)]))
    assert np.array_equal(found["test_images"].numpy(), arrays(list(test.values())))


def test_other_folders_beside_train_and_test_are_left_out_and_noted():
    members = deep(classes(2), "train", "test", "validation") | {"__MACOSX/train/cat/1.png": b"", "cover.png": png(3)}
    fake_data.write_zip(ZIP, members)
    reading = Reading()
    assert len(read(ZIP, reading=reading)["train_images"]) == 4
    [note] = reading.notes
    assert re.search(r"left out 5 images .*1 in \., 4 in validation", note) and not reading.drawn


def of_pixels(found: dict, members: dict[str, bytes]) -> dict[str, list[str]]:
    """The names that each split holds, from the pixels, which are all different."""
    name_of = {arrays([content]).tobytes(): name for name, content in members.items()}
    return {split: [name_of[x.numpy().tobytes()] for x in found[f"{split}_images"]] for split in ("train", "test")}


def test_the_test_images_are_a_fixed_draw_of_each_class():
    members = classes(12) | {f"fox/{i}.png": png(200 + i) for i in range(2)}
    fake_data.write_files(FOLDER, members)
    fake_data.write_zip(ZIP, deep(dict(reversed(members.items())), "some"))
    found = read(FOLDER, identity="own")
    drawn = of_pixels(found, members)
    assert sorted(drawn["train"] + drawn["test"]) == sorted(members)
    assert torch.bincount(found["test_labels"]).tolist() == [2, 2, 1]  # 1/6 of each class, at least one
    for split, names in drawn.items():
        assert [found["classes"][k] for k in found[f"{split}_labels"]] == [name.split("/")[0] for name in names]
        assert names == sorted(names, key=lambda name: (name.split("/")[0], name))
    assert same(found, read(FOLDER, identity="own")) and same(found, read(ZIP, identity="own"))
    assert of_pixels(read(FOLDER, identity="other"), members) != drawn
    half = read(FOLDER, identity="own", test_fraction=0.5)
    assert torch.bincount(half["test_labels"]).tolist() == [6, 6, 1]
    assert torch.bincount(read(FOLDER, test_fraction=0.99)["train_labels"]).tolist() == [1, 1, 1]


def test_images_without_classes_have_no_labels():
    members = {f"{i}.png": png(i, "L") for i in range(12)}
    fake_data.write_files(FOLDER, members)
    found = read(FOLDER)
    assert set(found) == {"train_images", "test_images"}
    assert (len(found["train_images"]), len(found["test_images"])) == (10, 2)
    assert found["train_images"].shape[1:] == (1, 8, 8)
    fake_data.write_zip(ZIP, deep(members, "top/train", "top/test"))
    found = read(ZIP)
    assert torch.equal(found["train_images"], found["test_images"])
    assert found.keys() == {"train_images", "test_images"}


@pytest.mark.parametrize("header", ["", "name,label\n", "\ufeffname,label\n"])
def test_labels_from_a_file(header):
    members = {f"{i}.png": png(i) for i in range(12)}
    fake_data.write_files(FOLDER, members)
    LABELS.write_text(header + "".join(f'{i}.png,"{"odd, " if i % 2 else ""}x"\n' for i in reversed(range(12))))
    found = read(FOLDER, labels=LABELS)
    assert found["classes"] == ("odd, x", "x")
    for split, names in of_pixels(found, members).items():
        assert found[f"{split}_labels"].tolist() == [1 - int(name.split(".")[0]) % 2 for name in names]
    fake_data.write_zip(ZIP, deep(members, "train", "test"))
    LABELS.write_text(header + "".join(f"{split}/{i}.png,{i % 3}\n" for split in ("test", "train") for i in range(12)))
    assert sorted(read(ZIP, labels=LABELS)["test_labels"].tolist()) == [0] * 4 + [1] * 4 + [2] * 4


OPTIONS = [
    {"size": 5},
    {"crop": 7},
    {"crop": 8, "mode": "grey"},
    {"size": 24, "mode": "rgb"},
    {"crop": 9, "size": 4, "mode": "grey"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_options_do_what_pil_does(options):
    contents = [png(i, size=(10 + i, 14)) for i in range(4)] + [jpeg(9, size=(30, 15))]
    fake_data.write_zip(ZIP, deep({f"{i}.png": content for i, content in enumerate(contents)}, "train", "test"))
    wanted = []
    for content in contents:
        image = Image.open(io.BytesIO(content)).convert("L" if options.get("mode") == "grey" else "RGB")
        if crop := options.get("crop"):
            left, top = (image.width - crop) // 2, (image.height - crop) // 2
            image = image.crop((left, top, left + crop, top + crop))
        if size := options.get("size"):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        wanted.append(np.asarray(image))
    pixels = read(ZIP, **options)["train_images"].permute(0, 2, 3, 1).numpy()
    assert np.array_equal(pixels, np.stack(wanted).reshape(pixels.shape))


def palette_png(*, transparent: bool) -> bytes:
    stream = io.BytesIO()
    picture(1, "P").save(stream, "PNG", **({"transparency": bytes([128] * 256)} if transparent else {}))
    return stream.getvalue()


def test_palettes_and_opaque_alpha_are_converted_on_request():
    members = {"1.png": palette_png(transparent=False), "2.png": png(2, "RGBA"), "3.png": png(3, "LA"), "4.png": png(4)}
    fake_data.write_zip(ZIP, deep(members | {"5.png": png(5, "1")}, "train", "test"))
    for mode, pil_mode in (("rgb", "RGB"), ("grey", "L")):
        found = read(ZIP, mode=mode)["train_images"]
        for pixels, content in zip(found, [*members.values(), png(5, "1")], strict=True):
            wanted = np.asarray(Image.open(io.BytesIO(content)).convert("RGB").convert(pil_mode)).reshape(8, 8, -1)
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), wanted)


@pytest.mark.parametrize("n", [1, 4])
def test_the_number_of_threads_changes_nothing(n, monkeypatch):
    members = classes(images.BATCH + 3)
    fake_data.write_zip(ZIP, members)
    one = read(ZIP)
    monkeypatch.setattr(os, "cpu_count", lambda: n)
    assert same(read(ZIP), one)


@pytest.mark.parametrize("layout", ["nested folder", "zip without a folder"])
def test_celeba_in_other_folders(layout):
    written = fake_data.write_celeba(Path(), n_train=4, n_test=2, seed=0)
    lists = [Path("celeba/list_eval_partition.txt"), Path("celeba/list_attr_celeba.txt")]
    usual = read_celeba(Path("celeba/img_align_celeba.zip"), *lists)
    with zipfile.ZipFile("celeba/img_align_celeba.zip") as archive:
        members = {name.split("/")[1]: archive.read(name) for name in archive.namelist()}
    if layout == "nested folder":
        fake_data.write_files(FOLDER / "img_align_celeba", members)
    else:
        fake_data.write_zip(FOLDER, members)
    found = read_celeba(FOLDER, *lists, scratch=OUTPUT.parent)
    assert same(found, usual)
    assert np.array_equal(found["train_attributes"].numpy(), written["train_attributes"])


# --- EXIF, formats and names of splits ------------------------------------------------------------------------------

ORIENTATION = 0x0112  # the EXIF tag
CORNERS = {1: "abcd", 2: "badc", 3: "dcba", 4: "cdab", 5: "acbd", 6: "cadb", 7: "dbca", 8: "bdac"}  # as a viewer shows


def tagged(orientation: int, form: str = "PNG") -> bytes:
    """2 x 2 blocks of 4 x 6 (width x height) pixels: the greys a, b and below them c, d; with this EXIF tag."""
    blocks = np.kron(np.array([[50, 100], [150, 200]], np.uint8), np.ones((6, 4), np.uint8))
    exif, stream = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = orientation
    Image.fromarray(blocks).save(stream, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", CORNERS)
def test_images_are_turned_upright_as_their_exif_says(orientation, form):
    """The four corners come where a viewer shows them, after --crop and in each format; the turned are counted."""
    suffix = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[form]
    fake_data.write_files(FOLDER, {f"{i}.{suffix}": tagged(orientation if i < 3 else 1, form) for i in range(4)})
    reading = Reading()
    found = read(FOLDER, crop=8, mode="grey", reading=reading)
    shown = [
        "".join("abcd"[round(int(image[0, y, x]) / 50) - 1] for y in (0, -1) for x in (0, -1))
        for image in [*found["train_images"], *found["test_images"]]
    ]
    assert sorted(shown) == sorted([CORNERS[orientation]] * 3 + ["abcd"])
    assert [note.split(" images")[0] for note in reading.notes] == ([] if orientation == 1 else ["turned 3 of 4"])


def test_the_turn_comes_before_the_comparison_of_shapes():
    """8 x 12 pixels lying on their side are 12 x 8: --size alone takes them, and the first image is seen upright."""
    square = picture(1, "L", (8, 8))
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    stream = io.BytesIO()
    square.save(stream, "PNG", exif=exif)
    fake_data.write_files(FOLDER, {"train/0.png": stream.getvalue(), "train/1.png": png(2, "L"), "test/0.png": png(3)})
    with pytest.raises(InputError, match="test/0.png.*mode RGB.*train/0.png"):
        read(FOLDER)
    turned = read(FOLDER, mode="grey")["train_images"][0, 0].numpy()
    assert np.array_equal(turned, np.rot90(np.asarray(square)))


def test_an_orientation_that_is_none_changes_nothing():
    fake_data.write_files(FOLDER, {f"{i}.png": tagged(orientation) for i, orientation in enumerate((0, 9, 1, 99))})
    reading = Reading()
    found = read(FOLDER, crop=8, reading=reading)
    assert not reading.notes
    assert (torch.cat([found["train_images"], found["test_images"]])[:, 0, 0, 0] == 50).all()


def test_published_files_are_never_turned():
    fake_data.write_files(FOLDER, {"1.png": tagged(6)})
    with images.open_files(FOLDER) as files:
        [(pixels, _)] = images.decode(files, {"train": files.names}, images.Form(crop=8)).values()
    assert pixels[0, 0, 0, 0] == 50 and pixels[0, 0, 0, -1] == 100


@pytest.mark.parametrize(
    ("suffix", "form"), [("JFIF", "JPEG"), ("jpe", "JPEG"), ("WebP", "WEBP"), ("bmp", "BMP"), ("PNG", "PNG")]
)
def test_every_suffix_that_is_an_image_is_read(suffix, form):
    members = classes(3) | {f"cat/{i}.{suffix}": fake_data.encode(picture(i), form) for i in range(10, 14)}
    fake_data.write_files(FOLDER, members)
    found = read(FOLDER)
    assert torch.bincount(torch.cat([found["train_labels"], found["test_labels"]])).tolist() == [7, 3]


def test_other_files_are_counted_by_suffix():
    members = classes(3) | {"cat/notes.txt": b"", "dog/a.TXT": b"", "Thumbs.db": b"", "cat/labels.csv": b"0.png,x\n"}
    fake_data.write_files(FOLDER, members | {"LICENCE": b"", ".DS_Store": b"", "cat/._0.png": b""})
    reading = Reading()
    read(FOLDER, reading=reading)
    [note] = reading.notes
    assert "left out 5 files" in note and note.endswith("2 .txt, 1 .csv, 1 .db, 1 without a suffix")
    assert reading.drawn


def test_the_file_of_labels_beside_the_images_is_not_counted_as_left_out():
    fake_data.write_files(FOLDER, {f"{i}.png": png(i) for i in range(6)})
    labels = FOLDER / "labels.csv"
    labels.write_text("".join(f"{i}.png,{i % 2}\n" for i in range(6)))
    reading = Reading()
    assert read(FOLDER, labels=FOLDER / ".." / labels, reading=reading)["classes"] == ("0", "1")
    assert not reading.notes


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("train", "test"),
    [("TRAIN", "TEST"), ("Training", "testing"), ("train", "Testing"), ("some/Training", "some/Test")],
)
def test_folders_named_like_splits_in_other_words_are_the_splits(train, test, zipped):
    """They are no classes, and the test images are not drawn anew."""
    members = deep(classes(3), train) | {f"{test}/{name}": png(900 + i) for i, name in enumerate(classes(2))}
    (fake_data.write_zip if zipped else fake_data.write_files)(path := ZIP if zipped else FOLDER, members)
    reading = Reading()
    found = read(path, reading=reading)
    assert found["classes"] == ("cat", "dog") and not reading.drawn
    assert np.array_equal(found["test_images"].numpy(), arrays([png(900 + i) for i in range(4)]))


def test_the_training_folder_of_pascal_voc():
    fake_data.write_files(FOLDER, deep(classes(3), "trainval") | deep(classes(1), "test"))
    assert len(read(FOLDER)["train_images"]) == 6


def test_some_images_under_two_suffixes_are_noted():
    fake_data.write_files(FOLDER, classes(3) | {"cat/1.jpg": jpeg(1), "cat/1.bmp": fake_data.encode(picture(1), "BMP")})
    reading = Reading()
    read(FOLDER, reading=reading)
    [note] = reading.notes
    assert note.startswith("3 images ") and "cat/1.bmp and cat/1.jpg and cat/1.png" in note


def test_a_text_that_gives_no_image_a_label_is_no_file_of_labels():
    fake_data.write_files(
        FOLDER, {f"{i}.png": png(i) for i in range(4)} | {"a.txt": b"0.png\n1.png\n", "b.csv": b"x,y\n"}
    )
    assert read(FOLDER).get("classes") is None


def test_labels_of_folders_in_capitals_are_named_as_the_files_are():
    fake_data.write_files(FOLDER, deep({f"{i}.png": png(i) for i in range(3)}, "TRAIN", "Testing"))
    LABELS.write_text("".join(f"{split}/{i}.png,{i}\n" for split in ("Testing", "TRAIN") for i in range(3)))
    assert read(FOLDER, labels=LABELS)["test_labels"].tolist() == [0, 1, 2]


def test_a_class_may_be_called_train():
    fake_data.write_files(FOLDER, {f"{label}/{i}.png": png(i) for label in ("bus", "train", "truck") for i in range(2)})
    assert read(FOLDER)["classes"] == ("bus", "train", "truck")


# --- what is refused ------------------------------------------------------------------------------------------------

HTML = b"<!DOCTYPE html><html>404</html>"


def png_of_16_bits(colours: int) -> bytes:
    """A PNG of 8 x 8 pixels; colours: 1 (grey) or 3."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 8, 8, 16, 2 if colours == 3 else 0, 0, 0, 0)}
    chunks |= {b"IDAT": zlib.compress(bytes(8 * (1 + 8 * 2 * colours))), b"IEND": b""}
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def see_through(mode: str) -> bytes:
    image = picture(1, mode)
    image.putalpha(128)
    return fake_data.encode(image, "PNG")


def frames(form: str) -> bytes:
    stream = io.BytesIO()
    picture(1).save(stream, form, save_all=True, append_images=[picture(2)])
    return stream.getvalue()


def gif() -> bytes:
    return fake_data.encode(picture(1, "P"), "GIF")


# Files of a folder, the options, and what the refusal must say, after the path.
FOLDERS = {
    "mixed sizes": (classes(_2=png(1, size=(6, 6))), {}, "cat/2.png: .*6 x 6 .*8 x 8 as in cat/0.png.*--size 6"),
    "non-square": (classes(_2=png(1, size=(8, 6))), {}, "cat/2.png: .*8 x 6 pixels.*square.*--crop 6.*--size"),
    "mixed modes": (classes(_2=png(1, "L")), {}, "cat/2.png: .*mode L.*mode RGB as in cat/0.png.*--mode grey"),
    "mixed modes, resized": (classes(_2=png(1, "L")), {"size": 4}, "cat/2.png: .*mode L.*mode RGB.*--mode"),
    "alpha": (classes(_0=png(1, "RGBA")), {}, "cat/0.png: .*mode RGBA with transparency.*--mode grey or --mode rgb"),
    "transparent": (classes(_2=see_through("RGB")), {"mode": "rgb"}, "cat/2.png: .*RGBA.*not opaque.*background"),
    "transparent grey": (classes(_2=see_through("L")), {"mode": "grey"}, "cat/2.png: .*LA.*not opaque.*background"),
    "transparent palette": (classes(_2=palette_png(transparent=True)), {"mode": "rgb"}, "cat/2.png: .*P .*not opaque"),
    "palette": (classes(_2=palette_png(transparent=False)), {}, "cat/2.png: .*mode P.*--mode"),
    "16-bit grey": (classes(_2=png_of_16_bits(1)), {"mode": "grey"}, "cat/2.png: .*16 bits"),
    "16-bit colour": (classes(_2=png_of_16_bits(3)), {}, "cat/2.png: .*16 bits"),
    "CMYK": (classes(_2=jpeg(1, "CMYK")), {"mode": "rgb"}, "cat/2.png: .*mode CMYK.*as grey or RGB"),
    "smaller than crop": (classes(_2=png(1, size=(9, 6))), {"crop": 8}, "cat/2.png: .*9 x 6.*at least 8"),
    "corrupt JPEG": (classes(_2=jpeg(1)[:20] + jpeg(2)[300:]), {}, r"1 of 12 .*cat/2.png \("),
    "truncated JPEG": (classes(_2=jpeg(1)[:-20]), {}, r"1 of 12 .*cat/2.png \(.*truncated"),
    "truncated PNG": (classes(_2=png(1)[:-30]), {}, r"1 of 12 .*cat/2.png \("),
    "text as PNG": (
        classes(_2=b"not a picture"),
        {},
        r"1 of 12 .*cat/2.png \(not of the formats JPEG, PNG, WEBP, BMP\)",
    ),
    "GIF as PNG": (classes(_2=gif()), {}, r"1 of 12 .*cat/2.png \(not of the formats JPEG, PNG, WEBP, BMP\)"),
    "empty file": (classes(_2=b""), {}, r"1 of 12 .*cat/2.png"),
    "many damaged": (
        classes(9, **{f"_{i}": b"" for i in range(7)}),
        {},
        "7 of 18 .*cat/0.png.*cat/4.png [^;]*; and 2 more. .*--skip-corrupt",
    ),
    "all damaged": ({"1.png": b"", "2.png": b""}, {"skip_corrupt": True}, "no sound image"),
    "empty class": (classes() | {"fox/": b""}, {}, "no image of class fox"),
    "empty class beside one": ({"cat/1.png": png(1), "cat/2.png": png(2), "fox/": b""}, {}, "no image of class fox"),
    "empty class in test": (
        deep(classes(), "train", "test") | {"test/fox/": b""},
        {},
        "no image of class test/fox",
    ),
    "class only in test": (
        deep(classes(), "train", "test") | {"test/fox/1.png": png(1)},
        {},
        "no training image of class 'fox'",
    ),
    "one-image class": (classes() | {"fox/1.png": png(1)}, {}, "1 image of class 'fox', fox/1.png, wanted 2"),
    "one image": ({"1.png": png(1)}, {}, "1 image, 1.png, wanted 2"),
    "no test folder": (deep(classes(), "train"), {}, "folders train alone.*both"),
    "no train folder": (deep(classes(), "some/test"), {}, "folders test alone.*both"),
    "empty test folder": (deep(classes(), "train") | {"test/": b""}, {}, "folders train alone.*both"),
    "train and validation": (deep({"1.png": png(1)}, "train", "val"), {}, "folders train, val alone.*both"),
    "no image": ({"cat/1.txt": b""}, {}, "no image.*png"),
    "image beside the classes": (classes() | {"cover.png": png(1)}, {}, "cover.png and dog/5.png.*<class>"),
    "too deep": (
        {"a/b/1.png": png(1), "a/c/2.png": png(2), "d/e/1.png": png(3)},
        {},
        "found d/e/1.png, wanted .*<class>",
    ),
    "train and test twice": (deep(classes(), "a/train", "a/test", "b/train", "b/test"), {}, "in a and in b"),
    "split twice": (deep(classes(), "train", "Training", "test"), {}, "Training and train, wanted one folder of train"),
    "split twice, no test": (deep(classes(), "Test", "testing"), {}, "Test and testing, wanted one folder of test"),
    "other splits": (deep(classes(), "Val", "Training"), {}, "Training, Val alone.*both.*give the folder Training"),
    "eval for test": (deep({"1.png": png(1)}, "eval", "train"), {}, "eval, train alone.*give the folder train itself"),
    "splits in longer names": (deep({"1.png": png(1)}, "seg_train", "seg_test", "seg_x"), {}, "seg_test and seg_train"),
    "splits of a year": (deep(classes(), "train2017", "val2017"), {}, "train2017 and val2017.*train and test"),
    "splits of a set": (deep({"1.png": png(1)}, "training_set", "test_set"), {}, "test_set and training_set"),
    "CycleGAN's splits": (deep({"1.png": png(1)}, "trainA", "trainB", "testA", "testB"), {}, "testA and trainA"),
    "Kaggle's splits": (deep({"1.png": png(1)}, "train", "test1"), {}, "test1 and train, wanted splits or classes"),
    "more than training": (deep({"1.png": png(1)}, "trainval", "validation", "x"), {}, "trainval and validation"),
    "splits of classes": (deep({"1.png": png(1)}, "cat_train", "CatTest", "dog_train"), {}, "CatTest and cat_train"),
    "joined words": (deep({"1.png": png(1)}, "trainset", "testset", "x"), {}, "testset and trainset"),
    "copies of another suffix": (
        classes() | {name.replace("png", "jpg"): jpeg(1) for name in classes()},
        {},
        "24 images .* as cat/0.jpg and cat/0.png, wanted each image once",
    ),
    "a class or a split": (deep({"1.png": png(1)}, "car", "train", "val"), {}, "train and val"),
    "splits by file name": (
        {f"{split}_{i}.png": png(i) for split in ("Train", "test") for i in range(3)},
        {},
        "Train_0.png and test_0.png in one folder",
    ),
    "TIFF": (classes() | {"dog/9.TIFF": b"", "dog/8.tif": b""}, {}, "1 .tif, 1 .tiff .*wanted files .jpg"),
    "GIF": (classes() | {"dog/9.gif": gif()}, {}, "1 .gif .dog/9.gif"),
    "HEIC": (deep(classes(), "train", "test") | {"extra/9.HEIC": b""}, {}, "1 .heic"),
    "arrays": (classes() | {"dog/9.npy": b""}, {}, "1 .npy"),
    "TIFF alone": ({"cat/1.tif": b"", "dog/1.tif": b""}, {}, "no image, but files: 2 .tif, wanted .*png"),
    "two frames": (classes(_2=frames("PNG")), {}, "cat/2.png: found 2 frames, wanted 1"),
    "moving WebP": (classes() | {"cat/9.webp": frames("WEBP")}, {}, "cat/9.webp: found 2 frames, wanted 1"),
    "16-bit TIFF as PNG": (classes(_2=fake_data.encode(picture(1), "TIFF")), {}, r"cat/2.png \(not of the formats"),
    "labels not given": (
        {f"{i}.png": png(i) for i in range(4)} | {"labels.csv": b"id,label\n0,cat\n1,dog\n"},
        {},
        "found labels.csv, which names the images, wanted --labels",
    ),
    "labels in a text": (
        deep({f"{i}.png": png(i) for i in range(4)}, "Train", "Test") | {"classes.txt": b"0.png  3\n1.png  4\n"},
        {},
        "found classes.txt, which names the images, wanted --labels",
    ),
    "labels of splits not given": (
        deep({f"{i}.png": png(i) for i in range(4)}, "train", "test") | {"a.tsv": b'name\tlabel\n"train/0.png"\tcat\n'},
        {},
        "found a.tsv, which names the images, wanted --labels",
    ),
    "fraction of a given test": (deep(classes(), "train", "test"), {"test_fraction": 0.2}, "--test-fraction"),
    "labels of classes": (classes(), {"labels": LABELS}, "class folders and --labels labels.csv"),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_does_not_fit_is_refused_by_name(name, zipped):
    members, options, pattern = FOLDERS[name]
    path = ZIP if zipped else FOLDER
    (fake_data.write_zip if zipped else fake_data.write_files)(path, members)
    assert_refused(path, pattern, **options)


def assert_refused(path: Path, pattern: str, **options) -> None:
    """The refusal names the path, matches, and nothing is written."""
    with pytest.raises(InputError, match=f"^({path}|{OUTPUT}): .*{pattern}"):
        read(path, **options)
    assert not OUTPUT.parent.exists() or not os.listdir(OUTPUT.parent)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    fake_data.write_files(FOLDER, classes(_2=png(1, size=(20, 20))))
    for limit in (100, 399):  # an error and a warning of PIL's
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert_refused(FOLDER, f"cat/2.png: found more pixels, wanted at most {limit}", skip_corrupt=True)


UNSAFE_NAMES = ["../1.png", "cat/../../1.png", "/etc/1.png", "C:/1.png", "cat\\1.png", "..\\1.png"]


@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_unsafe_member_names_are_refused(name):
    fake_data.write_zip(ZIP, classes() | {name: png(1)})
    assert_refused(ZIP, re.escape(f"{name!r}: found an unsafe name"))


def damage_zip(damage: str) -> str:
    """An archive with this damage, and what the refusal must say."""
    fake_data.write_zip(ZIP, classes())
    content = bytearray(ZIP.read_bytes())
    if damage == "bomb":
        with zipfile.ZipFile(ZIP, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("cat/bomb.png", bytes(images.BOMB_BYTES + 1))
        return "'cat/bomb.png': found 50,000,001 bytes in .*bomb"
    if damage == "encrypted":
        for record, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(record) + offset] |= 1
        ZIP.write_bytes(content)
        return "'cat/0.png': found encryption"
    if damage == "one name twice":
        with warnings.catch_warnings(), zipfile.ZipFile(ZIP, "a") as archive:
            warnings.simplefilter("ignore")
            archive.writestr("cat/1.png", png(1))
        return "two members of one name"
    if damage == "flipped byte":
        content[content.index(b"IDAT") + 9] ^= 255
        ZIP.write_bytes(content)
        return r"1 of 12 .*cat/0.png \(.*CRC"
    if damage == "truncated":
        ZIP.write_bytes(content[:-30])
        return "truncated"
    if damage == "HTML page":
        ZIP.write_bytes(HTML)
        return "HTML page"
    if damage == "empty file":
        ZIP.write_bytes(b"")
        return "not a zip"
    if damage == "missing":
        ZIP.unlink()
        return "no such file or folder"
    raise ValueError(damage)


ZIP_DAMAGES = ["bomb", "encrypted", "one name twice", "flipped byte", "truncated", "HTML page", "empty file", "missing"]


@pytest.mark.parametrize("damage", ZIP_DAMAGES)
def test_damaged_archives_are_refused_by_name(damage):
    assert_refused(ZIP, damage_zip(damage))


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(images, "MOST_BYTES", 1000)
    fake_data.write_zip(ZIP, classes())
    assert_refused(ZIP, "bytes unpacked, wanted at most 1,000")


ROWS = {f"{i}.png": "cat" for i in range(4)}
LABEL_FILES = {
    "missing image": (ROWS | {"9.png": "cat"}, "found 9.png, which is no image of own"),
    "image without label": ({f"{i}.png": "cat" for i in range(2)}, "no row for 2 images of own: 2.png, 3.png"),
    "duplicate row": ("name,label\n1.png,cat\n1.png,cat\n", "two rows for 1.png"),
    "three columns": ("name,label\n1.png,cat,dog\n", "row '1.png,cat,dog', wanted name,label"),
    "empty label": (ROWS | {"1.png": ""}, "row '1.png,', wanted name,label"),
    "other header": ("image,class\n1.png,cat\n", "found image, which is no image of own"),
    "HTML page": (HTML.decode(), "HTML page"),
    "not text": (b"\xff\xfe1.png", "cannot be read.*name,label"),
    "missing": (None, "cannot be read.*No such file"),
}


@pytest.mark.parametrize("name", LABEL_FILES)
def test_label_files_that_do_not_fit_are_refused_by_name(name):
    content, pattern = LABEL_FILES[name]
    fake_data.write_files(FOLDER, {name: png(i) for i, name in enumerate(ROWS)})
    if isinstance(content, dict):
        content = "".join(f"{image},{label}\n" for image, label in content.items())
    if content is not None:
        LABELS.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"^labels.csv: .*{pattern}"):
        read(FOLDER, labels=LABELS)
    assert not OUTPUT.parent.exists()


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"mode": "red"}, "--mode: found 'red', wanted one of grey, rgb"),
        ({"size": 0}, "--size: found 0"),
        ({"crop": -1}, "--crop: found -1"),
        ({"test_fraction": 0}, "--test-fraction: found 0"),
        ({"test_fraction": 1}, "--test-fraction: found 1"),
    ],
)
def test_wrong_options_are_refused_by_name(options, pattern):
    fake_data.write_files(FOLDER, classes())
    with pytest.raises(InputError, match=pattern):
        read(FOLDER, **options)


def test_an_image_that_cannot_be_read_is_refused_even_when_corrupt_ones_are_skipped():
    fake_data.write_files(FOLDER, classes())
    (FOLDER / "cat/9.png").symlink_to("nowhere")
    assert_refused(FOLDER, "cat/9.png cannot be read .*No such file", skip_corrupt=True)


@pytest.mark.filterwarnings("ignore:Tag data")  # of PIL, for an EXIF that is cut
def test_any_flipped_byte_gives_an_image_or_a_refusal():
    """No other exception leaves PIL's or zipfile's decoders."""
    rng = np.random.default_rng(0)
    outcomes = []
    for i in range(150):
        content = bytearray([png(i), jpeg(i), tagged(6, "JPEG"), tagged(6), tagged(3, "WEBP")][i % 5])
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        fake_data.write_zip(ZIP, {"1.png": bytes(content), "2.png": png(1), "3.png": png(2)})
        if i % 3 == 0:
            content = bytearray(ZIP.read_bytes())
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
            ZIP.write_bytes(content)
        try:
            found = read_image_folder(ZIP, size=8, mode="rgb")
            outcomes.append(len(found["train_images"]))
        except InputError as refusal:
            assert str(ZIP) in str(refusal)
            outcomes.append(None)
    assert {None, 2} <= set(outcomes)


# --- corrupt images, interruption and memory ------------------------------------------------------------------------


def test_skip_corrupt_leaves_out_exactly_the_corrupt_and_logs_them(caplog):
    sound = classes(12)
    fake_data.write_files(FOLDER, sound)
    drawn = of_pixels(read(FOLDER), sound)
    corrupt = {"cat/0.png": b"", "cat/7.png": png(7)[:40], "dog/3.png": HTML}
    fake_data.write_files(FOLDER, corrupt)
    with caplog.at_level(logging.WARNING):
        found = read(FOLDER, skip_corrupt=True)
    kept = of_pixels(found, sound)
    assert kept == {split: [name for name in names if name not in corrupt] for split, names in drawn.items()}
    for split, names in kept.items():
        assert [found["classes"][k] for k in found[f"{split}_labels"]] == [name.split("/")[0] for name in names]
    [record] = caplog.records
    assert "3 of 24" in record.getMessage() and all(name in record.getMessage() for name in corrupt)


def test_a_damaged_image_is_not_the_one_that_the_others_must_be_like():
    """Its head may be whole, and say another size."""
    fake_data.write_files(FOLDER, classes() | {"cat/0.jpg": jpeg(1, size=(30, 30))[:-20]})
    found = read(FOLDER, skip_corrupt=True)
    assert sum(len(found[f"{split}_images"]) for split in ("train", "test")) == 12


def test_an_interruption_leaves_nothing_and_nothing_is_ever_seen(monkeypatch):
    fake_data.write_files(FOLDER, classes(images.BATCH))
    seen, fit = [], images._fit

    def interrupt(*args):
        seen.append(os.listdir(OUTPUT.parent))
        if len(seen) == images.BATCH + 9:
            raise KeyboardInterrupt
        return fit(*args)

    monkeypatch.setattr(images, "_fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read(FOLDER)
    assert not any(seen) and not os.listdir(OUTPUT.parent)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_a_refusal(monkeypatch):
    fake_data.write_files(FOLDER, classes())

    full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115 (the code under test closes it)
    monkeypatch.setattr(images.tempfile, "TemporaryFile", lambda **kwargs: full)
    with pytest.raises(InputError, match="out: cannot hold the decoded images.*No space left"):
        read(FOLDER)


MEASURE = """
import re, sys, threading, time
from pathlib import Path
from bvae.data import dataset as data
from bvae.data import readers

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.005)

readers.read_image_folder(Path("small"))  # imports
start = anonymous()
peak = [start]
threading.Thread(target=watch, daemon=True).start()
found = readers.read_image_folder(Path("own"), scratch=Path("out"))
data.save(data.make(name="own", source="own", licence="none", **found), "out/own.safetensors")
pixels = sum(tensor.nbytes for name, tensor in found.items() if "images" in name)
del found
data.load("out/own.safetensors")
print(pixels, peak[0] - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from Linux's /proc")
def test_pixels_stay_out_of_memory(tmp_path):
    FOLDER.mkdir()
    for i in range(4):
        (FOLDER / f"{i}.jpg").write_bytes(jpeg(i, size=(256, 256)))
    shutil.copytree(FOLDER, "small")
    for i in range(4, 1024):
        os.link(FOLDER / f"{i % 4}.jpg", FOLDER / f"{i}.jpg")
    code = Path(images.__file__).parents[2]
    command = [sys.executable, "-c", MEASURE]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(code)}
    )
    pixels, growth = map(int, run.stdout.split())
    assert pixels == 1024 * 3 * 256 * 256  # 201 MB
    assert growth < pixels / 4, f"{growth:,} bytes"
