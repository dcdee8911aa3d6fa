"""Image files, in a folder or in a zip archive, become uint8 arrays: the one place where PIL decodes.

Nothing is extracted. Pixels go to an unlinked file as they are decoded, so that the disk holds them, not the memory.
"""

import contextlib
import functools
import io
import logging
import os
import struct
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import torch

from bvae.data.summary import Reading, by_suffix
from bvae.errors import InputError

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # PIL's: it tries no others, whatever a file is called
STILL = ("PNG", "WEBP")  # of these, one file may hold many frames
PIL_MODES = {"grey": "L", "rgb": "RGB"}
TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM"}  # EXIF's orientation -> PIL's transposition
TURNS |= {5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # PIL's modes with at most 8 bits a channel, CMYK left out
BOMB_RATIO, BOMB_BYTES, MOST_BYTES = 100, 50 * 10**6, 64 * 2**30  # what a zip archive may not unpack to
MOST_PIXELS = 4_096  # of a side of what --size makes: many more could use up all memory
BATCH = 64  # images: no more than these wait in memory, decoded
DAMAGED = (EOFError, OSError, RuntimeError, SyntaxError, ValueError, struct.error, zlib.error, zipfile.BadZipFile)
REMEDY = "Delete the file and get it again."


@dataclass(frozen=True)
class ImageFiles:
    """The image files below a folder or in a zip archive; names are relative, with "/" between folders, sorted.

    `others` are the files of other suffixes than SUFFIXES, which are not read.
    """

    path: Path
    names: list[str]
    others: list[str]
    folders: list[str]
    read: Callable[[str], bytes]


@dataclass(frozen=True)
class Form:
    """How images are made alike: convert to `mode`, take the central `crop` pixels, then resize to `size`.

    mode: "grey" (PIL's luma) or "rgb"; crop and size in pixels, of squares; the filter is PIL's antialiased bilinear.
    What is None is not done, and every image must then be as it is needed. With `upright`, an image is first turned or
    mirrored as its EXIF orientation says, as viewers do.
    """

    mode: str | None = None
    crop: int | None = None
    size: int | None = None
    upright: bool = False

    def __post_init__(self) -> None:
        if self.mode not in (None, *PIL_MODES):
            raise InputError(f"--mode: found {self.mode!r}, wanted one of {', '.join(PIL_MODES)}.")
        for name in ("crop", "size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"--{name}: found {value}, wanted at least 1 pixel.")
        if self.size is not None and self.size > MOST_PIXELS:
            raise InputError(f"--size: found {self.size}, wanted at most {MOST_PIXELS:,} pixels.")


@contextlib.contextmanager
def open_files(path: Path) -> Iterator[ImageFiles]:
    """The image files of a folder or a zip archive, which stays open in the block. Hidden files are left out."""
    if path.is_dir():
        names, folders = _walk(path)
        yield _listing(path, names, folders, lambda name: (path / name).read_bytes())
    else:
        with open_zip(path) as archive:
            members = archive.namelist()
            names = [name for name in members if not name.endswith("/")]
            yield _listing(path, names, [name[:-1] for name in members if name.endswith("/")], archive.read)


def _listing(path: Path, names: list[str], folders: list[str], read: Callable[[str], bytes]) -> ImageFiles:
    visible = sorted(filter(_visible, names))
    images = [name for name in visible if name.lower().endswith(SUFFIXES)]
    others = [name for name in visible if not name.lower().endswith(SUFFIXES)]
    if not images:
        found = f"no image, but files: {by_suffix(others)}" if others else "no image"
        raise InputError(
            f"{path}: found {found}, wanted files {', '.join(SUFFIXES)}. Convert them, to PNG for example."
        )
    return ImageFiles(path, images, others, sorted(filter(_visible, folders)), read)


def _visible(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _walk(path: Path) -> tuple[list[str], list[str]]:
    """The names of all files and of all folders below `path`."""
    names, folders = [], []
    for folder, subfolders, files in os.walk(path, followlinks=True):
        prefix = Path(folder).relative_to(path).as_posix() + "/" if folder != str(path) else ""
        names += [prefix + name for name in files]
        folders += [prefix + name for name in subfolders]
    return names, folders


def open_zip(path: Path) -> zipfile.ZipFile:
    """An open archive whose members have harmless names and sizes; anything else is an InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder. Correct the path.")
    with path.open("rb") as stream:
        refuse_html(path, stream.read(64))
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: truncated, or not a zip archive ({error}). {REMEDY}") from None
    members = archive.infolist()
    try:
        for member in members:
            _refuse_unsafe(path, member)
        if len({member.filename for member in members}) < len(members):
            raise InputError(f"{path}: found two members of one name, wanted each once. Make the archive again.")
        if (total := sum(member.file_size for member in members)) > MOST_BYTES:
            raise InputError(f"{path}: found {total:,} bytes unpacked, wanted at most {MOST_BYTES:,}. Do not use it.")
    except InputError:
        archive.close()
        raise
    return archive


def _refuse_unsafe(path: Path, member: zipfile.ZipInfo) -> None:
    # orig_filename: Python cuts a name at a NUL, and what follows it should not go unseen
    name, packed, unpacked = member.orig_filename, member.compress_size, member.file_size
    if "\\" in name or "\0" in name or PureWindowsPath(name).anchor or ".." in name.split("/"):
        found, wanted = "an unsafe name", "a relative one without .. or backslashes"
    elif member.flag_bits & 1:
        found, wanted = "encryption", "no password"
    elif unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * packed:
        found, wanted = f"{unpacked:,} bytes in {packed:,} (a bomb?)", f"at most {BOMB_RATIO} times the packed ones"
    else:
        return
    raise InputError(f"{path}: member {name!r}: found {found}, wanted {wanted}. Make the archive again, if it is safe.")


def refuse_html(path: Path | zipfile.Path, content: bytes) -> None:
    """InputError when a file that begins with `content` is a web page."""
    if content[:64].lstrip().startswith(b"<"):
        raise InputError(f"{path}: found an HTML page, wanted data (a server's error page was saved?). {REMEDY}")


# --- decoding -------------------------------------------------------------------------------------------------------


def decode(
    files: ImageFiles,
    splits: Mapping[str, Sequence[str]],
    form: Form,
    *,
    skip_corrupt: bool = False,
    remedy: str = REMEDY,
    scratch: Path | None = None,
    reading: Reading | None = None,
) -> dict[str, tuple[torch.Tensor, list[str]]]:
    """For each split, the images of these names as uint8 (n, c, h, w), and the n names.

    All images are made alike by `form`, over all splits. The tensors are backed by an unlinked file in the folder
    `scratch`, by default that of temporary files: they take room there (n c h w bytes) until they are freed.

    Raises InputError: an image that does not fit is named, with the option that would make it fit; all images that
    cannot be decoded are counted and the first five named, ending in `remedy`. With `skip_corrupt` these, and no
    others, are left out instead, and logged. `reading` notes how many were left out, and how many were turned upright.
    """
    kept: dict[str, list[str]] = {split: [] for split in splits}
    shape, damaged = (0,), {}
    turned: list[str] = []
    reading = reading or Reading()
    scratch, started = Path(scratch or tempfile.gettempdir()), time.monotonic()
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch, buffering=0) as stream:
        for split, name, pixels in _decode_all(files, splits, form, turned):
            if isinstance(pixels, DamagedImage):
                damaged[name] = f"{name} ({pixels})"
            else:
                _write(stream, pixels, scratch)
                kept[split].append(name)
                shape = pixels.shape
        count, seconds = sum(map(len, splits.values())), time.monotonic() - started
        log.info("%s: %d images decoded, %.0f images/s", files.path, count, count / seconds)
        if damaged:
            more = f"; and {len(damaged) - 5:,} more" if len(damaged) > 5 else ""
            found = f"{len(damaged):,} of {count:,} images that cannot be decoded"
            found += f": {'; '.join(list(damaged.values())[:5])}{more}"
            if not skip_corrupt:
                raise InputError(f"{files.path}: found {found}. {remedy}")
            log.warning("%s: left out %s", files.path, found)
            reading.notes.append(f"left out {len(damaged):,} of {count:,} images that cannot be decoded")
        if turned:
            reading.notes.append(f"turned {len(turned):,} of {count:,} images upright, as their EXIF orientation says")
        result, start = {}, 0
        for split, names in kept.items():
            if splits[split] and not names:
                raise InputError(f"{files.path}: found no sound image for the {split} split, wanted some. {remedy}")
            pixels = np.empty((0, *shape), np.uint8)
            if names:  # an empty file cannot be mapped
                pixels = np.memmap(stream, np.uint8, "r+", start, (len(names), *shape))
            result[split] = torch.from_numpy(pixels), names
            start += pixels.nbytes
    return result


def _write(stream: io.FileIO, pixels: np.ndarray, scratch: Path) -> None:
    content = memoryview(pixels.data).cast("B")
    try:
        while content:  # one call may write a part
            content = content[stream.write(content) :]
    except OSError as error:
        raise InputError(f"{scratch}: cannot hold the decoded images ({error}). Free some space there.") from None


def _decode_all(
    files: ImageFiles, splits: Mapping[str, Sequence[str]], form: Form, turned: list[str]
) -> Iterator[tuple[str, str, "np.ndarray | DamagedImage"]]:
    """Yield (split, name, pixels) in order, decoded by a pool of threads (PIL frees the GIL).

    Appends to `turned` the names of the images that are turned upright.
    """
    from PIL import Image
    from tqdm import tqdm

    todo = [(split, name) for split, names in splits.items() for name in names]
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        model = next(filter(None, (_look(files, name, form) for _, name in todo)), None)

        def fit(name: str, image: Any) -> np.ndarray:
            upright = _upright(image) if form.upright else image
            if upright is not image:
                turned.append(name)
            return _fit(upright, form, model)

        def attempt(name: str) -> np.ndarray | DamagedImage:
            try:
                return _decode(files, name, functools.partial(fit, name))
            except DamagedImage as damage:
                return damage
            except Unfit as unfit:
                found, wanted, remedy = unfit.args
                message = f"{files.path}: image {name}: found {found}, wanted {wanted}. {remedy}"
                raise InputError(message) from None

        with tqdm(total=len(todo), unit=" images", desc=files.path.name, disable=None) as progress:
            for start in range(0, len(todo), BATCH):
                batch = todo[start : start + BATCH]
                decoded = pool.map(attempt, [name for _, name in batch])
                for (split, name), pixels in zip(batch, decoded, strict=True):  # raises a thread's error
                    yield split, name, pixels
                progress.update(len(batch))


class DamagedImage(Exception):
    """An image that cannot be decoded; the reason."""


class Unfit(Exception):
    """A sound image that cannot be used as it is: (found, wanted, remedy)."""


@dataclass(frozen=True)
class Model:
    """The image that the others must be like, where no option makes them alike."""

    name: str
    mode: str
    width: int
    height: int


def _look(files: ImageFiles, name: str, form: Form) -> Model | None:
    """What an image looks like, upright if `form` wants it; None for an image that cannot be decoded."""

    def look(image: Any) -> Model:
        image = _upright(image) if form.upright else image
        return Model(name, image.mode, image.width, image.height)

    with contextlib.suppress(DamagedImage, Unfit):
        return _decode(files, name, look)
    return None


def _upright(image: Any) -> Any:
    """A PIL image turned or mirrored as its EXIF orientation says; the image itself where that says nothing."""
    from PIL import ExifTags, Image

    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception as error:  # PIL raises all kinds for a damaged EXIF; without it nobody knows what is up
        raise DamagedImage(f"its EXIF cannot be read: {error}") from None
    return image if turn is None else image.transpose(Image.Transpose[turn])


def _decode(files: ImageFiles, name: str, use: Callable[[Any], Any]) -> Any:
    """What `use` makes of one image, whose pixels are decoded first."""
    from PIL import Image, UnidentifiedImageError

    try:
        content = files.read(name)
    except OSError as error:  # of the disk or of its rights: no fault of the image's
        raise InputError(f"{files.path}: image {name} cannot be read ({error}).") from None
    except DAMAGED as error:
        raise DamagedImage(error) from None
    try:
        if content.startswith(b"\x89PNG") and content[24:25] == b"\x10":  # PIL would cut the colours to 8 bits
            raise Unfit("16 bits a channel", "8", "Reduce it to 8 bits, and save it again.")
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.format in STILL and (frames := getattr(image, "n_frames", 1)) > 1:
                raise Unfit(f"{frames} frames", "1", "Save the frame that you want, or each frame in its own file.")
            image.load()  # a damaged file is no unfit image, whatever its head says
            return use(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unfit("more pixels", f"at most {Image.MAX_IMAGE_PIXELS:,}", "Remove it, or make it smaller.") from None
    except UnidentifiedImageError:
        raise DamagedImage(f"not of the formats {', '.join(FORMATS)}") from None
    except DAMAGED as error:
        raise DamagedImage(error) from None


def _fit(image: Any, form: Form, model: Any) -> np.ndarray:
    """The pixels of a PIL image as uint8 (c, h, w), in the form asked for. Raises Unfit."""
    from PIL import Image

    image = _in_mode(image, form.mode, model)
    width, height = image.size
    if crop := form.crop:
        left, top = (width - crop) // 2, (height - crop) // 2
        if left < 0 or top < 0:
            found, wanted = f"{width} x {height} pixels", f"at least {crop} each way for the crop"
            raise Unfit(found, wanted, "Remove or replace it, or crop less.")
        image = image.crop((left, top, left + crop, top + crop))
    elif not form.size:
        if width != height:
            remedy = f"Give --crop {min(width, height)}, or --size to squeeze it."
            raise Unfit(f"{width} x {height} pixels", "square images", remedy)
        if (width, height) != (model.width, model.height):
            remedy = f"Give --size {min(width, model.width, model.height)}."
            raise Unfit(f"{width} x {height} pixels", f"{model.width} x {model.height} as in {model.name}", remedy)
    if form.size:
        image = image.resize((form.size, form.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1))


def _in_mode(image: Any, mode: str | None, model: Model) -> Any:
    """`image` in PIL's mode L or RGB. Transparency is refused, because the background would be a guess."""
    transparent = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    found = f"mode {image.mode}{' with transparency' if transparent else ''}"
    if mode is None:
        if transparent or image.mode not in ("L", "RGB"):
            raise Unfit(found, "L (grey) or RGB without alpha", "Give --mode grey or --mode rgb.")
        if image.mode != model.mode:
            raise Unfit(found, f"mode {model.mode} as in {model.name}", "Give --mode grey or --mode rgb.")
        return image
    if image.mode not in CONVERTIBLE:
        raise Unfit(found, f"one of {', '.join(CONVERTIBLE)}", "Save it again as grey or RGB.")
    if transparent:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            raise Unfit(f"{found}, not opaque", "opaque images", "Put it on a background of your choice.")
    return image if image.mode == PIL_MODES[mode] else image.convert(PIL_MODES[mode])
