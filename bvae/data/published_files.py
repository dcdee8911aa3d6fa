"""Finding published files: a mirror, `resources/downloads/`, the internet.

A mirror is the folder or the address in the environment variable BVAE_MIRROR; a torchvision root is one. What is
downloaded is kept in `resources/downloads/`.
"""

import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bvae.errors import InputError

log = logging.getLogger(__name__)

DOWNLOADS = Path("resources/downloads")
MIRROR_VARIABLE = "BVAE_MIRROR"


@dataclass(frozen=True)
class PublishedFile:
    """One file that a data set is made from, and where it may be found."""

    places: tuple[str, ...]  # paths below a mirror or DOWNLOADS, best first
    home: str  # the place below DOWNLOADS that a download goes to
    urls: tuple[str, ...] = ()  # canonical addresses, best first
    md5: str | None = None  # of the file at `home`


def find(source: str, files: Sequence[PublishedFile]) -> list[Path]:
    """The path of each file: in the mirror, in DOWNLOADS, or downloaded, the first that has it.

    Raises InputError that lists every file that is missing, and where to place it.
    """
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    paths = [_in_mirror(mirror, file) or _in_downloads(file) for file in files]
    missing = [file for file, path in zip(files, paths, strict=True) if path is None]
    for file in missing:
        try:
            paths[files.index(file)] = _download_from_any(file)
        except OSError as error:
            raise InputError(_missing_message(source, missing, mirror, error)) from None
    found = [path for path in paths if path is not None]
    for path in found:
        log.info("%s: reading %s", source, path)
    return found


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
    return _first_below(folder, file.places)


def _in_web_mirror(mirror: str, file: PublishedFile) -> Path | None:
    address = urlsplit(mirror)
    for place in file.places:
        copy = DOWNLOADS / "mirror" / address.netloc / address.path.strip("/") / place
        try:
            if not copy.exists():
                download(f"{mirror.rstrip('/')}/{place}", copy, md5=None, retries=0)
            return copy
        except OSError as error:  # not at this place: the next one, then elsewhere
            absent = getattr(getattr(error, "response", None), "status_code", None) == 404
            log.log(logging.INFO if absent else logging.WARNING, "%s: no %s there (%s)", MIRROR_VARIABLE, place, error)
    return None


def _in_downloads(file: PublishedFile) -> Path | None:
    path = _first_below(DOWNLOADS, file.places)
    if path == DOWNLOADS / file.home and file.md5 and (found := _md5(path)) != file.md5:
        raise InputError(
            f"{path}: found a file of MD5 {found}, wanted {file.md5} as published. Delete it and run again, "
            f"or, if it is meant to differ, put it into a folder of your own and set {MIRROR_VARIABLE} to that."
        )
    return path


def _first_below(folder: Path, places: Sequence[str]) -> Path | None:
    return next((folder / place for place in places if (folder / place).exists()), None)


def _download_from_any(file: PublishedFile) -> Path:
    """Download to the file's home from the first address that works; OSError gives every address's failure."""
    failures = []
    for url in file.urls:
        try:
            log.info("downloading %s", url)
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
