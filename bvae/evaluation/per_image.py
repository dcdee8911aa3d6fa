"""Values of each test image of a run, in a file beside its metrics: what a standard error over images is made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bvae.system.files import read_tensors, sha256_of_file, write_tensors

FORMAT = "bvae-per-image-1"
REMEDY = "Delete it if it is there, and run `snakemake` or `python -m bvae evaluate`."
IDENTITY = ("recipe", "dataset", "arm", "latent_dim", "seed", "model_sha256", "dataset_sha256")


class PerImage(NamedTuple):
    """What `read_per_image` returns."""

    values: dict[str, Tensor]  # float32 (n,) by name; int64 where they are indices
    facts: dict  # of the run: `IDENTITY`


def write_per_image(path: Path, values: Mapping[str, Tensor], row: Mapping) -> str:
    """Write the values of each image (n,) of the run whose results are `row`; returns the SHA-256 of the file."""
    facts = {key: row[key] for key in IDENTITY}
    write_tensors(path, {name: as_kept(tensor) for name, tensor in values.items()}, form=FORMAT, facts=facts)
    return sha256_of_file(path)


def as_kept(values: Tensor) -> Tensor:
    """Values as they are kept: floating-point numbers in float32, indices as they are."""
    return values.to(torch.float32) if values.is_floating_point() else values


def read_per_image(path: Path) -> PerImage:
    """The values of each test image of a run, and whose they are.

    `elbo` and `mse_per_pixel` are of all test images, in their order: nats (by ELBO_SAMPLES samples of z) and squared
    pixels. `nll` and `elbo_of_nll_images` are nats of the test images whose indices are `nll_images`, by the greatest
    K of the recipe. A value may be infinite or no number where the model overflows; a run that diverged has no values.
    Raises InputError for a file that is missing, damaged or of another form.
    """
    return PerImage(*read_tensors(path, form=FORMAT, remedy=REMEDY))
