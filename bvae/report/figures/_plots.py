"""Figures of numbers: what the runs of a study measured, arm by arm."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter
from matplotlib.transforms import ScaledTranslation
from torch import Tensor

from bvae.arms import ARMS
from bvae.evaluation import protocol
from bvae.networks import Linear
from bvae.report.figures._page import WIDTH, Look, Subject, bare
from bvae.report.verdicts import Estimate
from bvae.runs import load_run
from bvae.system.files import read_json

LEGEND = 0.42  # inches, of the legend below the axes
BINS = 5  # of the histogram, each decade
LEAST_VARIANCE = 1e-8  # where smaller ones are counted


def finished(subject: Subject, arm: str) -> tuple[list[Path], str]:
    """The results of an arm's runs, without those that diverged, and the arm's name with the count of both."""
    seeds = subject.seeds[arm]
    paths = [subject.paths[arm, seed] for seed in seeds if not subject.diverged(arm, seed)]
    lost = f", {len(seeds) - len(paths)} diverged" if len(paths) < len(seeds) else ""
    return paths, f"{ARMS[arm].label} (n = {len(paths)}{lost})"


def measured(subject: Subject) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """The metrics of the finished runs, of arms that have any; and of every arm the name with their count."""
    runs = {arm: finished(subject, arm) for arm in subject.seeds}
    rows = {arm: [read_json(path) for path in paths] for arm, (paths, _) in runs.items()}
    return {arm: found for arm, found in rows.items() if found}, {arm: label for arm, (_, label) in runs.items()}


def having(rows: Sequence[dict], *names: str) -> list[dict]:
    """The rows that have a number for each of some metrics: an empty one hides no other."""
    return [row for row in rows if all(row.get(name) is not None for name in names)]


def column(rows: Sequence[dict], name: str) -> np.ndarray:
    """One metric of some runs, (runs, ...)."""
    return np.array([row[name] for row in rows], float)


def seeds_of(subject: Subject) -> str:
    """The seeds of a subject, for its caption."""
    return ", ".join(str(seed) for seed in sorted(set().union(*subject.seeds.values())))


def trim(axes: Axes, grid: Literal["both", "x", "y"]) -> None:
    """Remove the frame of axes at the top and on the right, and draw the grid of one axis or of both."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def draw_legend(place: Callable[..., Axes], top: float, labels: Mapping[str, str], *, lines: bool = False) -> None:
    """The arms' labels in two columns below the axes, each with its marker or its line."""
    axes = place(0.0, top, WIDTH, LEGEND)
    axes.set_axis_off()
    for arm, text in labels.items():
        look = {"linestyle": ARMS[arm].dash} if lines else {"linestyle": "", "marker": ARMS[arm].marker}
        axes.plot([], [], color=ARMS[arm].colour, label=text, **look)
    axes.legend(loc="center", ncols=2, frameon=False, handlelength=3.5 if lines else 1.5, columnspacing=4)


def spread(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median, least and greatest value at each epoch, (epochs,) each, of one curve a seed."""
    stacked = np.stack(curves)  # (seeds, epochs)
    return np.median(stacked, axis=0), stacked.min(axis=0), stacked.max(axis=0)


def axis_floor(curves: Sequence[np.ndarray]) -> float:
    """Where the axis of rising curves (epochs,) starts, so that their steep first epochs do not flatten the rest.

    Each curve of at least five epochs loses its first tenth, at least one, and then the worst tenth of what is left.
    """
    kept = [curve[max(1, len(curve) // 10) :] if len(curve) >= 5 else curve for curve in curves]
    return float(min(np.quantile(curve, 0.1 if len(curve) >= 10 else 0.0) for curve in kept))


class Panel(NamedTuple):
    """One task of `quality`: a metric, what its axis says, and where `empty` of a run's results says why it is None."""

    title: str
    metric: str
    axis: str
    empty: Sequence[str] = ()
    factor: float = 1.0


def quality_panels(distance: str, name: str, accuracy: str) -> list[Panel]:
    """The four tasks, by a distance of the results with its name, and the name of the probe's accuracy."""
    empty = ("fid_samples", "fd_classifier_samples", "reconstruction")  # the last: why a model has no metrics at all
    return [
        Panel("Reconstruction", "reconstruction", "nats per image, lower is better", ("reconstruction",)),
        Panel("Linear probe", "probe_accuracy", f"{accuracy} (%), higher is better", ("probe_accuracy",), 100.0),
        Panel("Interpolation", f"{distance}_interpolations", f"{name}, lower is better", empty),
        Panel("Generation", f"{distance}_samples", f"{name}, lower is better", empty),
    ]


def half_interval(values: np.ndarray) -> float:
    """Half the 95 % t-interval of the mean of values (n,); 0 for one value, which has none."""
    n = len(values)
    return Estimate(0.0, float(values.std(ddof=1)) / math.sqrt(n), n - 1).interval(0.95)[1] if n > 1 else 0.0


def draw_panel(axes: Axes, panel: Panel, rows: Mapping[str, Sequence[dict]]) -> None:
    """One task of `quality`: points for the seeds of each arm, their mean with its interval, or why there are none."""
    axes.set_title(panel.title, loc="left", fontsize=8, fontweight="bold", pad=4)
    every = [row for found in rows.values() for row in found]
    if all(row.get(panel.metric) is None for row in every):
        empty = dict.fromkeys(row["empty"][name] for row in every for name in panel.empty if name in row["empty"])
        reasons = list(empty) or ["not part of this study" if every else "no finished run"]
        bare(axes, None, message="\n".join(textwrap.fill(reason, 40) for reason in reasons))
        return
    for arm, of_arm in rows.items():
        if not (found := having(of_arm, panel.metric)):
            continue
        x, y = column(found, "parameters"), panel.factor * column(found, panel.metric)
        aside, error = ARMS[arm].aside, half_interval(y)
        to_seeds, to_mean = (
            axes.transData + ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)
            for points in (aside - 2.5, aside + 2.5)
        )
        look: Look = {
            "color": ARMS[arm].colour,
            "marker": ARMS[arm].marker,
            "linestyle": "",
            "markeredgecolor": "white",
        }
        axes.plot(x, y, markersize=3.5, alpha=0.7, markeredgewidth=0.3, transform=to_seeds, **look)
        look |= {"markersize": 6, "markeredgewidth": 0.6, "elinewidth": 1.2, "capsize": 2.5, "transform": to_mean}
        axes.errorbar(x[0], y.mean(), yerr=error or None, **look)
        axes.update_datalim([(x[0], end) for end in (*y, y.mean() - error, y.mean() + error)])  # not seen when aside
    counts = sorted(row["parameters"] for row in every)
    ticks = [counts[0], counts[-1]] if counts[-1] > 1.15 * counts[0] else counts[:1]  # labels must not touch
    axes.set_xticks(ticks, [EngFormatter()(float(f"{tick:.3g}")) for tick in ticks])
    room = 0.4 * max(counts[-1] - counts[0], 0.1 * counts[0])
    axes.set(xlim=(counts[0] - room, counts[-1] + room), xlabel="parameters", ylabel=panel.axis)
    axes.locator_params(axis="y", nbins=5)
    trim(axes, "y")


def gain_table(subject: Subject) -> pd.DataFrame:
    """The latents of every finished run of the BVAE with gains, a line each.

    `norm`: of the latent's row of the last shared layer, which reads its posterior mean on the way forward and starts
    the decoder on the way back; `gain`: what its mean is multiplied by on the way forward alone; `variance`: of that
    mean over the test images; `active`: whether the variance exceeds the threshold of activity.
    """
    lines = []
    for seed in subject.seeds.get("bvae_gain", ()):
        if subject.diverged("bvae_gain", seed):
            continue
        folder = subject.folder("bvae_gain", seed)
        model, _ = load_run(folder)
        head, gain = cast(Linear, model.encoder_weights[-1]), cast(Tensor, model.encoder.latent_gain)
        found = read_json(subject.paths["bvae_gain", seed]).get("variance_per_latent")
        if found is None:
            continue
        variances = np.array(found)
        columns = {
            "seed": seed,
            "latent": np.arange(len(variances)),
            "norm": head.weight.detach().norm(dim=1).numpy(),
            "gain": gain.detach().abs().numpy(),
            "variance": variances,
            "active": variances > protocol.ACTIVE_UNIT_VARIANCE,
        }
        lines.append(pd.DataFrame(columns))
    names = ["seed", "latent", "norm", "gain", "variance", "active"]
    return (pd.concat(lines) if lines else pd.DataFrame(columns=names)).astype({"active": bool})


def gain_lines(table: pd.DataFrame) -> np.ndarray:
    """Slope, intercept and correlation of 1 / gain against norm² over the active latents of each seed, (seeds, 3).

    Of a table as `gain_table` makes it, by least squares; without seeds of fewer than three active latents. In the
    optimum of a linear network, probabilistic PCA, the posterior mean is (WᵀW + s²I)⁻¹ Wᵀ (x - mean) with orthogonal
    columns of W (Tipping and Bishop 1999), so that 1 / gain = norm² + s²: a slope of 1, an intercept of the noise
    variance s², and a correlation of 1.
    """
    lines = []
    for _, found in table[table["active"]].groupby("seed"):
        if len(found) >= 3:
            x, y = found["norm"].to_numpy(float) ** 2, 1 / found["gain"].to_numpy(float)
            lines.append([*np.polyfit(x, y, 1), np.corrcoef(x, y)[0, 1]])
    return np.array(lines).reshape(-1, 3)
