"""Read what is published: the only module of the results page that knows the files of a publication."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bvae.errors import InputError
from bvae.study.runs import GROUP, protocol_of
from bvae.system.files import read_json

IDENTITY = {*GROUP, "arm", "seed", "status", "parameters"}  # columns of a run
OF_CLAIMS = {*GROUP, "text", "arms", "metric", "verdict"}


@dataclass(frozen=True)
class Publication:
    """One published version of a study."""

    folder: Path
    manifest: dict
    runs: list[dict]  # as `collect_runs` gives them, without lists; of a study that tunes there are none
    claims: list[dict]  # rows of claims.csv
    pictures: list[Path]  # PNG files that are there
    title: str  # what the page calls it: no other publication has it

    @property
    def config(self) -> dict:
        """The checked study that was published."""
        return self.manifest["provenance"]["config"]

    @property
    def protocol(self) -> int:
        """The protocol by which it was evaluated and judged: 1 or 2."""
        return protocol_of(self.config)


def read_publications(published: Path) -> list[Publication]:
    """Every published study in a folder, such as results/published, ordered by folder.

    Each is read from its manifest.json, tables/runs.csv, claims.csv and PNG files only. Empty cells become None; a
    column `layout.size` becomes row["layout"]["size"]. Raises InputError when the folder holds no publication, or a
    file lacks a column that the page needs.
    """
    manifests = {path.parent: read_json(path) for path in sorted(published.glob("*/manifest.json"))}
    if not manifests:
        raise InputError(
            f"{published}: found no published study, expected folders with a manifest.json, such as"
            " results/published/mnist-1. Publish a study first: snakemake -- publish"
        )
    titles = [_title(manifest) for manifest in manifests.values()]
    return [
        _read(folder, manifest, title if titles.count(title) == 1 else f"{folder.name}: {title}")
        for (folder, manifest), title in zip(manifests.items(), titles, strict=True)
    ]


def _title(manifest: dict) -> str:
    return manifest["provenance"]["config"].get("title") or manifest["study"]


def _read(folder: Path, manifest: dict, title: str) -> Publication:
    for name in ("tables/runs.csv", "claims.csv"):
        if name in manifest["files"] and not (folder / name).is_file():
            raise InputError(
                f"{folder / name}: no such file, but the manifest names it. Get it again, for example from git."
            )
    return Publication(
        folder,
        manifest,
        [_nested(row) for row in _rows(folder / "tables/runs.csv", IDENTITY)],
        _rows(folder / "claims.csv", OF_CLAIMS),
        sorted(folder.rglob("*.png")),
        title,
    )


def _rows(path: Path, wanted: set[str]) -> list[dict]:
    if not path.exists():
        return []
    try:
        frame = pd.read_csv(path)
    except (ValueError, pd.errors.ParserError) as error:  # pandas' and Unicode's errors are ValueErrors
        raise InputError(f"{path}: damaged ({error}). Get it again, for example from git.") from None
    if frame.empty:  # a study without claims has a table without their columns
        return []
    if missing := sorted(wanted - set(frame)):
        raise InputError(
            f"{path}: found no column {', '.join(missing)}, expected {', '.join(sorted(wanted))}."
            " Publish the study again."
        )
    rows = frame.to_dict("records")
    return [{str(key): None if pd.isna(value) else value for key, value in row.items()} for row in rows]


def _nested(row: dict) -> dict:
    found: dict = {}
    for key, value in row.items():
        *above, name = key.split(".")
        place = found
        for part in above:
            place = place.setdefault(part, {})
        place[name] = value
    return found
