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
from bvae.study.runs import data_path, first_name
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
    """Enter the decorated function in FIGURES: it draws a Subject."""

    def decorate(draw: Callable) -> Callable:
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


def draw(names: Iterable[str], study: dict, root: Path = Path()) -> None:
    """Draw some figures of a checked study where the workflow has them: an SVG and a PNG each, always the same bytes.

    A name is a kind, one of FIGURES, for each recipe, data set and latent dimension of the study; or a figure's path
    without suffix, or the end of that from a slash on. Kinds with numbers have a csv as well. Raises InputError for a
    name that means no figure of the study, and for a run that is missing or outdated.
    """
    import torch

    from bvae.data import load
    from bvae.report.figures._page import find_subject
    from bvae.report.outdated import Plan, note_made_from, refuse_outdated

    plan = Plan(study, root)
    groups = plan.groups
    places = [(found, group, _place(found, group)) for group in groups for found in FIGURES.values()]
    asked: dict[str, tuple[Figure, dict]] = {}
    for name in names:
        meant = {path: (found, group) for found, group, path in places if f"/{path}".endswith(f"/{name}")}
        if not meant:
            raise InputError(
                f"{name}: no figure of study '{study['study']}'. Expected a kind ({', '.join(FIGURES)}), or one figure,"
                f" for example {places[0][2].partition('/figures/')[2] or places[0][2]}"
            )
        asked |= meant
    for group in groups:
        wanted = {path: found for path, (found, of) in asked.items() if of is group}
        if not wanted:
            continue
        if not all(found.network for found in wanted.values()):
            refuse_outdated(plan, "figures", group)
        dataset = load(root / data_path(group["dataset"]))
        subject = find_subject(study, group["recipe"], dataset, group["latent_dim"], root)
        torch.set_num_threads(study["recipes"][group["recipe"]]["threads"])
        for path, found in wanted.items():
            about = subject
            if found.network:  # for every study the same, so its recipe is that which names the folder
                about = replace(subject, recipe=first_name(Path(path).parts[2]))
            draw_one(found, about, root / path)
        for rule, kinds in kinds_of(study, recorded=plan.recorded).items():
            if kinds and {_place(FIGURES[kind], group) for kind in kinds} <= wanted.keys():
                note_made_from(plan, rule, group)


def draw_one(found: Figure, subject: "Subject", output: Path) -> None:
    """Draw a figure into `<output>.svg` and `.png`, with its numbers, if it has any, in `.csv` beside them."""
    from bvae.report.figures._page import save_figure
    from bvae.system.files import write_text

    save_figure(partial(found.draw, subject), output)
    if found.numbers:
        write_text(f"{output}.csv", found.numbers(subject).to_csv(index=False, lineterminator="\n"))


def _place(found: Figure, group: dict) -> str:
    """The path of a figure without suffix."""
    return f"{group['network' if found.network else 'figures']}/{found.name}"


import_files(__name__, __path__)
