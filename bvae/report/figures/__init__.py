"""The figures of a study, one recipe, data set and latent dimension each; an arm has its colour in all of them."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

from bvae.data import load
from bvae.report.figures.diagrams import architecture, belbo_training, blocks
from bvae.report.figures.page import Subject, find_subject, save_figure
from bvae.report.figures.pictures import backward, interpolations, reconstructions, samples, tsne
from bvae.report.figures.plots import (
    gain_table,
    latent_gains,
    latent_variances,
    quality,
    rate_distortion,
    training_curves,
)
from bvae.system.files import write_text

FIGURES: dict[str, Callable[[Subject], Figure]] = {
    figure.__name__: figure
    for figure in (
        architecture,
        belbo_training,
        blocks,
        reconstructions,
        backward,
        samples,
        interpolations,
        tsne,
        training_curves,
        quality,
        rate_distortion,
        latent_variances,
        latent_gains,
    )
}
NUMBERS = {"latent_gains": gain_table}  # of FIGURES_WITH_NUMBERS


def draw(kinds: Iterable[str], study: dict, recipe: str, dataset_path: Path, latent_dim: int, folder: Path) -> None:
    """Draw some of FIGURES for a checked study into a folder: an SVG and a PNG each, the same bytes every time.

    Of those in FIGURES_WITH_NUMBERS also a csv.
    """
    subject = find_subject(study, recipe, load(dataset_path), latent_dim)
    torch.set_num_threads(study["recipes"][recipe]["threads"])
    for kind in kinds:
        output = folder / f"{kind}-{recipe}-{subject.dataset.name}-z{latent_dim}"
        save_figure(partial(FIGURES[kind], subject), output)
        if kind in NUMBERS:
            write_text(f"{output}.csv", NUMBERS[kind](subject).to_csv(index=False, lineterminator="\n"))
