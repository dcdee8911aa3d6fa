"""What every figure shares: its subject, the look of its page, and the colours of the arms."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bvae.arms import ARMS
from bvae.data import Dataset
from bvae.errors import InputError
from bvae.networks import VAE
from bvae.runs import load_run
from bvae.study.runs import expand_runs, first_settings, found_results, run_name
from bvae.system.files import read_json, whole_file

STYLE = {"font.family": "DejaVu Sans", "font.size": 8, "svg.hashsalt": "bvae", "svg.fonttype": "path"}
DPI = 200
Look = dict[str, Any]  # keyword arguments of Matplotlib
WIDTH, LABELS, MARGIN = 7.0, 1.12, 0.08  # of a page, of the labels beside images, of the page's edge: inches


@dataclass(frozen=True)
class DatasetFacts:
    """What figures of numbers say of a data set whose images are not here, in the place of a `Dataset`."""

    name: str
    sha256: str
    test_images: range  # as many as there are test images
    test_attributes: tuple | None  # None: its images have classes, or no labels


@dataclass(frozen=True)
class Subject:
    """What a figure is about: the runs of a study that share recipe, data set and latent dimension."""

    recipe: str
    dataset: Any  # a Dataset; DatasetFacts do for figures of numbers alone
    latent_dim: int
    seeds: Mapping[str, Sequence[int]]  # of each arm
    seed: int  # whose runs the pictures show
    paths: Mapping[tuple[str, int], Path]  # of the results of each run, by arm and seed
    settings: Mapping[str, Any]  # of training, but for the arms' own rates

    def folder(self, arm: str, seed: int) -> Path:
        """The folder of a run of the subject."""
        return self.paths[arm, seed].parent

    def diverged(self, arm: str, seed: int) -> bool:
        """Whether a run diverged. Raises InputError when it was trained on other data."""
        row = read_json(self.paths[arm, seed])
        if row["dataset_sha256"] != self.dataset.sha256:
            folder = self.folder(arm, seed)
            raise InputError(f"{folder}: trained on another {self.dataset.name}. Delete it and run `snakemake`.")
        return row["status"] == "diverged"

    def models(self) -> dict[str, VAE | None]:
        """The models of the shown seed by arm, on the CPU; None for a run that diverged."""
        arms = {arm: self.diverged(arm, self.seed) for arm, seeds in self.seeds.items() if self.seed in seeds}
        return {arm: None if lost else load_run(self.folder(arm, self.seed))[0] for arm, lost in arms.items()}


def find_subject(
    study: dict, recipe: str, dataset: Dataset | DatasetFacts, latent_dim: int, root: Path = Path()
) -> Subject:
    """The subject of a checked study. It shows the study's `figure_seed` if there are runs of it, else the least."""
    wanted = {"recipe": recipe, "dataset": dataset.name, "latent_dim": latent_dim}
    runs = [run for run in expand_runs(study) if wanted.items() <= run.items()]
    if not runs:
        raise InputError(f"study '{study['study']}' has no run of {', '.join(f'{k} {v}' for k, v in wanted.items())}")
    seeds = {arm: sorted(run["seed"] for run in runs if run["arm"] == arm) for arm in ARMS}
    every = {run["seed"] for run in runs}
    seed = study["figure_seed"] if study.get("figure_seed") in every else min(every)
    results = found_results(study, root)
    paths = {(run["arm"], run["seed"]): root / results[run_name(run)] for run in runs}
    found = {arm: of_arm for arm, of_arm in seeds.items() if of_arm}
    return Subject(recipe, dataset, latent_dim, found, seed, paths, first_settings(study["recipes"][recipe]))


def page(subject: Subject, title: str, caption: str, body: float) -> tuple[Figure, Callable[..., Axes]]:
    """A page with title and caption around a body of so many inches, and what puts axes into that body, in inches."""
    caption = "\n".join(textwrap.wrap(f"{caption} Recipe {subject.recipe}.", 138, break_on_hyphens=False))
    head, foot = 0.3, 0.3 + 0.14 * caption.count("\n")
    height = head + body + foot
    figure = Figure((WIDTH, height), dpi=DPI)  # has an Agg canvas of its own: no pyplot, no state
    title = f"{title}: {subject.dataset.name}, latent dimension = {subject.latent_dim}"
    figure.text(MARGIN / WIDTH, 1 - MARGIN / height, title, va="top", fontsize=10, fontweight="bold")
    figure.text(MARGIN / WIDTH, 0.07 / height, caption, va="bottom", fontsize=7, linespacing=1.3)

    def place(left: float, top: float, width: float, tall: float) -> Axes:
        return figure.add_axes((left / WIDTH, 1 - (head + top + tall) / height, width / WIDTH, tall / height))

    return figure, place


def save_figure(draw: Callable[[], Figure], output: str | Path) -> None:
    """Draw in STYLE, not the user's matplotlibrc, into `<output>.svg` and `.png`, the same bytes every time.

    Raises InputError where `draw` returns something else than a figure.
    """
    with matplotlib.style.context(["default", STYLE]):
        figure = draw()
        if not isinstance(figure, Figure):
            raise InputError(f"{output}: its function returned {type(figure).__name__}, wanted a figure of Matplotlib")
        with whole_file(f"{output}.svg") as svg, whole_file(f"{output}.png") as png:
            figure.savefig(svg, format="svg", dpi=DPI, metadata={"Date": None})
            figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})


def bare(axes: Axes, arm: str | None, *, message: str) -> None:
    """Axes without ticks and frame, but for a bar in the arm's colour on the left; a message fills empty ones."""
    axes.set(xticks=[], yticks=[])
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    if arm:
        axes.spines["left"].set(visible=True, color=ARMS[arm].colour, linewidth=2.5, position=("outward", 4))
    if message:
        axes.set_facecolor("0.95")
        axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", va="center", color="0.35")
