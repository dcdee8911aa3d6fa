"""The figures of a study: a file of this folder for each, found by itself.

A new figure is a new file here, with one function that `figure` decorates. It takes a Subject (_page.py), the runs of
one recipe, data set and latent dimension, and returns a figure of Matplotlib. Nothing else has to be edited: the rules,
the report and the documentation read FIGURES. A file whose name begins with "_" holds what several figures share.

Figures import torch and Matplotlib inside their functions: Snakemake and `--help` read this folder and do without them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bvae.arms import ARMS
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
    models: bool  # of trained models, which a run that is only recorded has not
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
    models: bool = False,
    numbers: "Callable[[Subject], pd.DataFrame] | None" = None,
) -> Callable:
    """Enter the decorated function in FIGURES: it draws a Subject. Raises InputError for an unknown `arm`."""

    def decorate(draw: Callable) -> Callable:
        if arm is not None and arm not in ARMS:
            raise InputError(f"{draw.__module__}: found the arm '{arm}', wanted one of {', '.join(ARMS)}")
        record = Figure(draw.__name__, caption, category, slow, network, arm, models, numbers, draw)
        enter(FIGURES, record, draw.__module__)
        return draw

    return decorate


def kinds_of(study: dict, *, recorded: bool = False) -> dict[str, list[str]]:
    """The kinds of figures that a checked study has, by the rule that draws them.

    Where a run is only `recorded`, there are none of models.
    """
    arms = {arm for block in study["blocks"] for arm in block["arms"]}
    kinds: dict[str, list[str]] = {"figures": [], "slow_figures": [], "diagrams": []}
    for found in FIGURES.values():
        if (found.arm is None or found.arm in arms) and not (found.models and recorded):
            kinds["diagrams" if found.network else "slow_figures" if found.slow else "figures"].append(found.name)
    return kinds


import_files(__name__, __path__)
