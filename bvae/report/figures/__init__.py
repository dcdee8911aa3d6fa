"""The figures of a study: a file of this folder for each, found by itself.

A new figure is a new file here, with one function that `figure` decorates. It takes a Subject (_page.py), the runs of
one recipe, data set and latent dimension, and returns a figure of Matplotlib. Nothing else has to be edited: the rules,
the report and the documentation read FIGURES. A file whose name begins with "_" holds what several figures share.

Figures import torch and Matplotlib inside their functions: Snakemake and `--help` read this folder and do without them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bvae.errors import InputError
from bvae.system.records import enter, import_files

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

    from bvae.report.figures._page import Subject


@dataclass(frozen=True)
class Figure:
    """One kind of figure: what it shows, where the report has it, and how it is drawn."""

    name: str  # in the names of files: that of its function
    caption: str  # in the report and in the documentation
    category: str  # of the report, which lists categories by name
    slow: bool  # drawn by a job of its own
    network: bool  # of a network as it is before training, and drawn once for all studies
    arm: str | None  # drawn where a study has it; None: always
    numbers: "Callable[[Subject], pd.DataFrame] | None"  # written as a csv beside the picture: they stand in no table
    draw: "Callable[[Subject], Drawing]"

    @property
    def suffixes(self) -> list[str]:
        """Of its files."""
        return ["svg", "png", *(["csv"] if self.numbers else [])]


FIGURES: dict[str, Figure] = {}  # by name


def figure(
    *,
    caption: str,
    category: str = "6 Networks and training",
    slow: bool = False,
    network: bool = False,
    arm: str | None = None,
    numbers: "Callable[[Subject], pd.DataFrame] | None" = None,
) -> Callable:
    """Enter the decorated function in FIGURES: it draws a Subject."""

    def decorate(draw: Callable) -> Callable:
        enter(FIGURES, Figure(draw.__name__, caption, category, slow, network, arm, numbers, draw), draw.__module__)
        return draw

    return decorate


def draw(names: Iterable[str], study: dict, folder: Path) -> None:
    """Draw some figures of a checked study into a folder: an SVG and a PNG each, the same bytes every time.

    A name is a kind, one of FIGURES, for each recipe, data set and latent dimension of the study; or a file's without
    suffix, <kind>-<recipe>-<data set>-z<latent dim>. Kinds with numbers have a csv as well. Raises InputError for a
    name that means no figure of the study.
    """
    import torch

    from bvae.data import load
    from bvae.report.figures._page import find_subject, save_figure
    from bvae.study.runs import first_name, group_paths
    from bvae.system.files import write_text

    groups: dict[str, dict] = {}
    called: dict[str, str] = {}  # the names of groups, by those with the folder of their network's diagrams
    for group in group_paths(study):
        of = f"{group['dataset']}-z{group['latent_dim']}"
        groups[f"{group['recipe']}-{of}"] = group
        called[f"{Path(group['network']).parts[2]}-{of}"] = f"{group['recipe']}-{of}"
    asked: dict[str, list[Figure]] = {}
    for name in names:
        kind, dash, of = name.partition("-")
        of = called.get(of, of)
        if kind not in FIGURES or (dash and of not in groups):
            raise InputError(
                f"{name}: no figure of study '{study['study']}'. Wanted a kind, of {', '.join(FIGURES)}; or with it"
                f" what it is of, <kind>-{next(iter(groups))}"
            )
        for each in [of] if of else groups:
            asked.setdefault(each, []).append(FIGURES[kind])
    for of, figures in asked.items():
        group, diagram = groups[of], Path(groups[of]["network"])
        dataset = load(Path(f"resources/data/{group['dataset']}.safetensors"))
        subject = find_subject(study, group["recipe"], dataset, group["latent_dim"])
        torch.set_num_threads(study["recipes"][group["recipe"]]["threads"])
        for found in figures:
            output, about = folder / f"{found.name}-{of}", subject
            if found.network:  # for every study the same, so its recipe is that which names the folder
                output = diagram.with_name(f"{found.name}-{diagram.name}")
                about = replace(subject, recipe=first_name(diagram.parts[2]))
            save_figure(partial(found.draw, about), output)
            if found.numbers:
                write_text(f"{output}.csv", found.numbers(about).to_csv(index=False, lineterminator="\n"))


import_files(__name__, __path__)
