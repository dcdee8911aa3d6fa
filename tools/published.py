"""The published studies: their tables, and what the pages call them."""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from bvae.errors import InputError
from bvae.report.publication import newest

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "results/published"
FOLDERS = newest(PUBLISHED)  # by study
NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10_jpeg": "CIFAR-10 (JPEG)"}
VARIANTS = {  # by recipe, where its first word does not tell it from another study's on the same data set
    "mlp_relu": "MLP with ReLU",
    "mlp_gain": "MLP with gains on every unit",
    "mlp_skip": "MLP with skipped steps",
    "mlp-e10": "MLP, 10 epochs",
    "mlp-e90": "MLP, 90 epochs",
}


def read(study: str, name: str) -> pd.DataFrame:
    """A csv file of a published study, in its newest version."""
    if study not in FOLDERS:
        raise InputError(f"{study}: not in {PUBLISHED.relative_to(ROOT)}. Publish it first: snakemake -- publish")
    return pd.read_csv(FOLDERS[study] / name)


def place_name(row: Mapping) -> str:
    """The data set, network and latent dimension of a row of any table."""
    network = VARIANTS.get(row["recipe"]) or re.sub(r"[-_].*", "", row["recipe"]).replace("mlp", "MLP")
    return f"{NAMES.get(row['dataset'], row['dataset'])}, {network}, z{row['latent_dim']}"
