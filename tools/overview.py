"""The pictures of several published studies: how far each arm is from the matched VAE, and quality against size."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvae.arms import ARMS
from bvae.evaluation.metrics import run_metrics
from bvae.report.claims import paired_difference
from bvae.report.figures._page import DPI
from bvae.report.size_curves import draw_sizes
from bvae.report.verdicts import MINIMUM_SEEDS
from bvae.study.runs import GROUP, protocol_of
from bvae.study.widths import series_of
from tools.published import Published, place_name

# A panel of the picture: the claim whose margin is shown, and the unit; a share is of the matched VAE's mean.
PANELS = {
    "reconstruction-matches": ("Reconstruction", "%", None),
    "elbo-matches": ("ELBO", "nats", 1.0),
    "classification-matches": ("Linear probe", "points", 100.0),
    "interpolation-matches": ("Interpolation, FD", "%", None),
    "generation-matches": ("Generation, FD", "%", None),
}


def overview(published: Published) -> pd.DataFrame:
    """The differences of every published study that protocol 1 has judged and that has seeds enough for its verdicts.

    Protocol 2 measures other things by other margins; its differences are in each study's comparisons.csv.
    """
    enough = [
        study
        for study, folder in published.folders.items()
        if (folder / "claims.csv").exists()
        and protocol_of(published.manifest(study)["provenance"]["config"]) == 1
        and published.read(study, "tables/runs.csv")["seed"].nunique() >= MINIMUM_SEEDS
    ]
    return pd.concat([differences(published, study) for study in enough], ignore_index=True)


def differences(published: Published, study: str) -> pd.DataFrame:
    """Each arm of a study against the matched VAE, empty where it has none.

    In the unit of its panel, positive where the arm is worse, paired over seeds, with 95 % intervals.
    """
    if (study, "differences") not in published.found:
        judged = published.read(study, "claims.csv")
        published.found[study, "differences"] = pd.DataFrame(
            line
            for _, runs in published.runs(study).groupby(GROUP, sort=False)
            for line in _compared(study, runs, judged)
        )
    return published.found[study, "differences"]


def _compared(study: str, runs: pd.DataFrame, judged: pd.DataFrame) -> Iterator[dict]:
    place = runs.iloc[0][GROUP].to_dict()
    judged = judged[(judged[GROUP] == list(place.values())).all(axis=1)].set_index("claim")
    of_arm = {arm: found.set_index("seed") for arm, found in runs.groupby("arm")}
    for claim, (task, unit, factor) in PANELS.items():
        if "vae" not in of_arm or "bvae" not in of_arm or judged.loc[claim, "n"] < 2:
            continue
        metric, margin = judged.loc[claim, "metric"], judged.loc[claim, "margin"]
        scale = factor or 100 / of_arm["vae"][metric].mean()
        for arm in (arm for arm in ARMS if arm in of_arm and arm != "vae"):
            wanted = [metric, "parameters"]
            pair = pd.concat([of_arm[arm][wanted], of_arm["vae"][wanted]], axis=1, keys=["arm", "vae"]).dropna()
            better = run_metrics()[metric].better
            found = paired_difference(
                pair["arm", metric], pair["vae", metric], better=better, margin=margin, bootstrap=False
            )
            low, high = (scale * end for end in found.interval_95)
            yield (
                {"study": study}
                | place
                | {
                    "arm": arm,
                    "share_of_parameters": (pair["arm", "parameters"] / pair["vae", "parameters"]).iloc[0],
                    "task": task,
                    "metric": metric,
                    "unit": unit,
                    "n": found.n,
                    "difference": scale * found.mean,
                    "low": low,
                    "high": high,
                    "margin": scale * margin,
                }
            )


def draw(frame: pd.DataFrame) -> Figure:
    """Quality against parameters, all studies: how much worse each arm is than the matched VAE, task by task."""
    groups = list(frame.groupby(["study", *GROUP], sort=False))
    places, labels, y = {}, [], 0.0
    for key, found in groups:
        for arm in [arm for arm in ARMS if arm in set(found["arm"])]:
            share = found[found["arm"] == arm]["share_of_parameters"].iloc[0]
            places[*key, arm] = y
            labels.append((y, f"{ARMS[arm].label}, {100 * share:.0f} %"))
            y += 1
        y += 1.3
    figure = Figure((10.5, 0.9 + 0.19 * y), dpi=DPI, layout="constrained")
    every = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (task, unit, _) in zip(every, PANELS.values(), strict=True):
        for key, found in frame[frame["task"] == task].groupby(["study", *GROUP], sort=False):
            for row in found.to_dict("records"):
                at = places[*key, row["arm"]]
                axes.fill_betweenx([at - 0.5, at + 0.5], -row["margin"], row["margin"], color="0.9", linewidth=0)
                error = [[row["difference"] - row["low"]], [row["high"] - row["difference"]]]
                look = {"color": ARMS[row["arm"]].colour, "marker": ARMS[row["arm"]].marker, "markersize": 4.5}
                axes.errorbar(row["difference"], at, xerr=error, capsize=2, elinewidth=1.2, **look)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set_title(task, fontsize=8, fontweight="bold", loc="left")
        axes.set_xlabel(f"difference, {unit}")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=5)
    first = every[0]
    first.set_yticks([at for at, _ in labels], [text for _, text in labels])
    first.set_ylim(y - 0.8, -1.8)
    for key, found in groups:
        top = min(at for place, at in places.items() if place[:4] == key)
        least, most = found["n"].min(), found["n"].max()
        text = f"{place_name(found.iloc[0])}, n = {least}{f' to {most}' if most > least else ''}"
        first.text(-0.02, top - 0.95, text, transform=first.get_yaxis_transform(), ha="right", fontweight="bold")
    figure.suptitle(
        "Difference from the matched VAE (0), worse to the right. Points: mean over seeds; bars: 95 % interval;"
        " grey: the margin. Beside each arm: its parameters, of the VAE's.",
        fontsize=8,
    )
    return figure


def draw_series(published: Published, *studies: str) -> Figure:
    """Quality against parameters in studies of sizes, and the shares that tying needs: a column for each series."""
    found = [published.data(study) for study in studies]
    rows = [row for data in found for path, row in data["results"].items() if Path(path).name.startswith("metrics")]
    return draw_sizes([series for data in found for series in series_of(data["study"])], rows)
