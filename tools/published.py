"""The published studies: the only place where the generator of pages reads results, from csv and json files."""

import io
import re
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path

import pandas as pd

from bvae.errors import InputError
from bvae.report.publication import newest
from bvae.report.published_data import read_data
from bvae.system.files import read_json

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "results/published"
NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10_jpeg": "CIFAR-10 (JPEG)"}
VARIANTS = {  # by recipe, where its first word does not tell it from another study's on the same data set
    "mlp_relu": "MLP with ReLU",
    "mlp_gain": "MLP with gains on every unit",
    "mlp_skip": "MLP with skipped steps",
    "mlp-e10": "MLP, 10 epochs",
    "mlp-e90": "MLP, 90 epochs",
}


class Published:
    """The studies of a folder, each in its newest version."""

    def __init__(self, folder: Path = PUBLISHED) -> None:
        """Nothing is read before it is asked for, and every file is read once."""
        self.folder = folder
        self.read, self.data = cache(self._read), cache(self._data)
        self.found: dict[tuple[str, str], pd.DataFrame] = {}  # what was computed of a study, by its name

    @cached_property
    def folders(self) -> dict[str, Path]:
        """The folder of each study, by its name."""
        return newest(self.folder)

    def path(self, study: str, name: str = "") -> Path:
        """A file of a study. Raises InputError for a study that is not there."""
        if study not in self.folders:
            raise InputError(f"{study}: not in {self.folder}. Publish it first: snakemake -- publish")
        return self.folders[study] / name

    def _read(self, study: str, name: str) -> pd.DataFrame:
        return pd.read_csv(self.path(study, name))

    def _data(self, study: str) -> dict:
        return read_data(self.path(study))

    @cached_property
    def gpu(self) -> dict[str, list[dict]]:
        """The rows that `make gpu-check` has published, by section."""
        return {name: found["rows"] for name, found in read_json(self.folder / "gpu.json")["sections"].items()}

    def runs(self, study: str, arm: str = "") -> pd.DataFrame:
        """The finished runs of a study, or of one of its arms."""
        found = self.read(study, "tables/runs.csv").query("status == 'finished'")
        return found[found["arm"] == arm] if arm else found

    def lost(self, study: str, arm: str) -> int:
        """How many runs of an arm diverged."""
        every = self.read(study, "tables/runs.csv")
        return int((every[every["arm"] == arm]["status"] == "diverged").sum())

    def claims(self, study: str) -> pd.DataFrame:
        """The judged claims of a study by their ids."""
        return self.read(study, "claims.csv").set_index("claim")

    def history(self, study: str, run: str) -> pd.DataFrame:
        """The training of a run, a row an epoch, of a study with published data. `run` is as in its path of results.

        Raises InputError where there is not one such run.
        """
        found = [text for path, text in self.data(study)["histories"].items() if run in path]
        if len(found) != 1:
            raise InputError(f"{study}: {len(found)} runs are '{run}', expected one. Name its recipe, arm and seed.")
        return pd.read_csv(io.StringIO(found[0]))

    def manifest(self, study: str) -> dict:
        """What a publication says of itself."""
        return read_json(self.path(study, "manifest.json"))


def place_name(row: Mapping) -> str:
    """The data set, network and latent dimension of a row of any table."""
    network = VARIANTS.get(row["recipe"]) or re.sub(r"[-_].*", "", row["recipe"]).replace("mlp", "MLP")
    if width := re.search(r"-w(\d+)$", row["recipe"]):
        network += f" of width {int(width[1]):,}"
    return f"{NAMES.get(row['dataset'], row['dataset'])}, {network}, z{row['latent_dim']}"
