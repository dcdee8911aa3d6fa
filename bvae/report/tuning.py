"""Tuning: the ELBO on held-out training images, by learning rate and arm, as a table and a picture."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from bvae.arms import ARMS
from bvae.evaluation.metrics import run_metrics
from bvae.report.figures._page import DPI, save_figure
from bvae.report.footnotes import on_runs
from bvae.report.made_from import Plan, made_from, note_made_from
from bvae.report.tables import collect_runs, provenance, summarise
from bvae.report.typeset import Table, write_table
from bvae.study.runs import GROUP
from bvae.study.widths import without_width

ELBO = [run_metrics()["elbo"]]
PANEL = (3.4, 2.5)  # inches


def write_tuning(study: dict, folder: Path, root: Path = Path()) -> None:
    """Write tuning.{csv,tex,html,json,svg,png} of a checked study with `tuning: true` into `folder`."""
    plan = Plan(study, root)
    begun = made_from(plan, "tuning")
    rows = collect_runs(study, "tuning", root)
    frame = compare(rows)
    title = study["title"] or study["study"]
    notes = [
        on_runs(rows, images="training images that were held out"),
        "ELBO in nats per image. *: the best of the arm among recipes that differ in the learning rate alone, none of"
        " whose runs diverged.",
    ]
    table = Table("tuning", f"{title}: ELBO by learning rate and arm.", frame, printed(frame), 3, notes)
    write_table(table, folder, provenance(study, rows, root))
    save_figure(partial(draw, frame), folder / "tuning")
    note_made_from(plan, "tuning", begun)


def compare(rows: list[dict]) -> pd.DataFrame:
    """One line for each recipe and arm: n, diverged, mean `elbo` and `elbo_sd` over seeds, and whether it is `best`.

    A `family` is what differs in the learning rate alone, named as its first recipe up to the last hyphen. In each, an
    arm has one best rate: that of the highest mean where no run diverged.
    """
    frame = summarise(with_families(rows), ELBO, ["family", *GROUP, "learning_rate", "arm"])
    frame = frame.reindex(columns=list(dict.fromkeys([*frame, "elbo", "elbo_sd"])))  # absent where every run diverged
    frame["sound"] = frame["elbo"].where(frame["diverged"] == 0)
    highest = frame.groupby(["family", "dataset", "latent_dim", "arm"])["sound"].transform("max")
    return frame.assign(best=frame.pop("sound") == highest)


def with_families(rows: Sequence[dict]) -> list[dict]:
    """Results of runs with three more entries: their `learning_rate`, their `family`, and what they have `alike`.

    `alike` is a text of the data set, the latent dimension and all settings but the learning rate. The `family` is what
    it is called: the first recipe that has it, up to the last hyphen, and the width of a block that lists widths.
    """
    families: dict[str, str] = {}
    found = []
    for row in rows:
        training = {key: value for key, value in row["settings"]["training"].items() if key != "learning_rate"}
        rest = [row[key] for key in ("dataset", "latent_dim")] + [row["settings"] | {"training": training}]
        alike = json.dumps(rest, sort_keys=True)
        recipe, width = without_width(row["recipe"])
        family = families.setdefault(alike, (recipe.rpartition("-")[0] or recipe) + width)
        rate = row["settings"]["training"]["learning_rate"]
        found.append(row | {"family": family, "learning_rate": rate, "alike": alike})
    return found


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """The lines of `compare` as text: one a recipe, a column an arm. Latent dimensions are a column if they differ."""
    lines: dict[tuple, dict[str, str]] = {}
    several = frame["latent_dim"].nunique() > 1
    for row in frame.to_dict("records"):
        key = (row["dataset"], row["recipe"], row["latent_dim"])
        line = lines.setdefault(key, {"Data set": row["dataset"], "Recipe": row["recipe"]})
        line |= {"Latents": str(row["latent_dim"])} if several else {}
        line["Learning rate"] = f"{row['learning_rate']:g}"
        lost = f" ({row['diverged']} diverged)" if row["diverged"] else ""
        spread = "" if pd.isna(row["elbo_sd"]) else f" ± {row['elbo_sd']:.2f}"
        value = "–" if pd.isna(row["elbo"]) else f"{row['elbo']:.2f}{spread}"
        line[ARMS[row["arm"]].label] = f"{value}{'*' if row['best'] else ''}{lost}"
    return pd.DataFrame(lines.values()).fillna("–")


def draw(frame: pd.DataFrame) -> Figure:
    """ELBO against the learning rate, a panel a family, a line an arm.

    The axis spans the rates at which every run of an arm was sound, that none of them is flattened by one that failed;
    what lies below it is a number at the foot, and a rate at which a run diverged has a cross there.
    """
    families = list(frame.groupby(["family", "dataset", "latent_dim"], sort=False))
    columns = min(2, len(families))
    lines = -(-len(families) // columns)
    figure = Figure((max(PANEL[0] * columns, 5), PANEL[1] * lines + 0.4), dpi=DPI, layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False).flat
    floor = _floor(frame)
    for axes, ((family, dataset, latent_dim), found) in zip(grid, families, strict=False):
        _panel(axes, found, floor)
        axes.set_title(f"{family}\n{dataset}, latent dimension = {latent_dim}", fontsize=8, loc="left")
    for axes in list(grid)[len(families) :]:
        axes.set_axis_off()
    if pd.notna(floor):
        highest = frame["elbo"].max()
        figure.axes[0].set_ylim(floor, highest + 0.1 * (highest - floor))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _floor(frame: pd.DataFrame) -> float:
    """The foot of the ELBO's axis, some way below every mean over runs of which none diverged; NaN without any mean."""
    means, highest = frame["elbo"].where(frame["diverged"] == 0), frame["elbo"].max()
    lowest = means.min() if means.notna().any() else highest
    return lowest - 0.35 * max(highest - lowest, 1)


def _panel(axes, found: pd.DataFrame, floor: float) -> None:
    rates = sorted(found["learning_rate"].unique())
    arms = [arm for arm in ARMS if arm in set(found["arm"])]
    for index, arm in enumerate(arms):
        mine = found[found["arm"] == arm].sort_values("learning_rate")
        look = {"color": ARMS[arm].colour, "linestyle": ARMS[arm].dash, "marker": ARMS[arm].marker, "markersize": 4}
        spread = mine["elbo_sd"] if mine["elbo_sd"].notna().any() else None
        axes.errorbar(mine["learning_rate"], mine["elbo"], yerr=spread, label=ARMS[arm].label, capsize=2, **look)
        for row in mine.to_dict("records"):
            aside = ScaledTranslation((index - (len(arms) - 1) / 2) * 7 / 72, 4 / 72, axes.figure.dpi_scale_trans)
            foot = axes.get_xaxis_transform() + aside
            if row["diverged"]:
                axes.plot(row["learning_rate"], 0, marker="x", color=ARMS[arm].colour, markersize=4, transform=foot)
            if row["elbo"] < floor:
                text = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 6, "color": ARMS[arm].colour}
                axes.text(row["learning_rate"], 0.04, f"{row['elbo']:.0f}", transform=foot, **text)
    axes.set_xscale("log")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    axes.set(xlabel="learning rate (peak); ×: a run diverged")
    if axes.get_subplotspec().is_first_col():
        axes.set_ylabel("ELBO on held-out images, nats")
    axes.spines[["top", "right"]].set_visible(False)
