"""Figures of numbers: what the runs of a study measured, arm by arm."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from matplotlib.transforms import ScaledTranslation
from torch import Tensor

from bvae.arms import ARMS
from bvae.evaluation import protocol
from bvae.networks import Linear
from bvae.report.figures.page import WIDTH, Look, Subject, bare, page
from bvae.runs import load_run
from bvae.system.files import read_json

ASIDE = 16  # points that `quality` moves the first and last of three arms with nearly as many parameters
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


def column(rows: Sequence[dict], name: str) -> np.ndarray:
    """One metric of some runs, (runs, ...)."""
    return np.array([row[name] for row in rows], float)


def seeds_of(subject: Subject) -> str:
    """The seeds of a subject, for its caption."""
    return ", ".join(str(seed) for seed in sorted(set().union(*subject.seeds.values())))


def _trim(axes: Axes, grid: Literal["both", "x", "y"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _legend(place: Callable[..., Axes], top: float, labels: Mapping[str, str], *, lines: bool = False) -> None:
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


def training_curves(subject: Subject) -> Figure:
    """Training ELBO against epoch, one line an arm: median over seeds, and a band from the least to the greatest."""
    caption = (
        f"Epochs' averages. Line: median over seeds ({seeds_of(subject)}); band: their range. First epochs, and those"
        " in which a seed's ELBO broke down for a while, may lie below the axis."
    )
    figure, place = page(subject, "Training ELBO", caption, 3.55)
    axes, medians, tops = place(0.75, 0.0, WIDTH - 0.9, 3.1), [], []
    for arm in subject.seeds:
        paths, label = finished(subject, arm)
        histories = [path.with_name("history.csv") for path in paths]
        elbos = [np.genfromtxt(path, delimiter=",", names=True)["elbo"] for path in histories]
        median, low, high = spread([np.atleast_1d(elbo) for elbo in elbos]) if elbos else np.empty((3, 0))
        epochs, colour, marker = np.arange(1, len(median) + 1), ARMS[arm].colour, "o" if len(median) == 1 else ""
        look: Look = {"color": colour, "linestyle": ARMS[arm].dash, "marker": marker, "linewidth": 1.4}
        axes.plot(epochs, median, label=label, **look)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        if elbos:
            medians.append(median)
            tops.append(high.max())
    if medians:
        floor, top = axis_floor(medians), max(tops)
        room = 0.04 * (top - floor) or 1.0
        axes.set_ylim(floor - room, top + room)
    axes.set(xlabel="epoch", ylabel="training ELBO (nats per image)")
    axes.locator_params(axis="x", integer=True, steps=[1, 2, 5, 10])
    _trim(axes, "y")
    axes.legend(loc="lower right", framealpha=0.8, edgecolor="none", handlelength=3.5)
    return figure


class Panel(NamedTuple):
    """One task of `quality`: a metric, what its axis says, and where `empty` of metrics.json says why it is None."""

    title: str
    metric: str
    axis: str
    empty: Sequence[str] = ()
    factor: float = 1.0


def quality_panels(distance: str, name: str, accuracy: str) -> list[Panel]:
    """The four tasks, by a distance of metrics.json with its name, and the name of the probe's accuracy."""
    empty = ("fid_samples", "fd_classifier_samples")
    return [
        Panel("Reconstruction", "reconstruction", "nats per image, lower is better"),
        Panel("Linear probe", "probe_accuracy", f"{accuracy} (%), higher is better", ("probe_accuracy",), 100.0),
        Panel("Interpolation", f"{distance}_interpolations", f"{name}, lower is better", empty),
        Panel("Generation", f"{distance}_samples", f"{name}, lower is better", empty),
    ]


def half_interval(values: np.ndarray) -> float:
    """Half the 95 % t-interval of the mean of values (n,); 0 for one value, which has none."""
    from scipy import stats

    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)) if n > 1 else 0.0


def _draw_panel(axes: Axes, panel: Panel, rows: Mapping[str, Sequence[dict]]) -> None:
    axes.set_title(panel.title, loc="left", fontsize=8, fontweight="bold", pad=4)
    every = [row for found in rows.values() for row in found]
    if all(row.get(panel.metric) is None for row in every):
        empty = dict.fromkeys(row["empty"][name] for row in every for name in panel.empty if name in row["empty"])
        reasons = list(empty) or ["not part of this study" if every else "no finished run"]
        bare(axes, None, message="\n".join(textwrap.fill(reason, 40) for reason in reasons))
        return
    for arm, found in rows.items():
        x, y = column(found, "parameters"), panel.factor * column(found, panel.metric)
        aside, error = {"bvae": -ASIDE, "vae_narrow": ASIDE}.get(arm, 0), half_interval(y)
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
    _trim(axes, "y")


def quality(subject: Subject) -> Figure:
    """Reconstruction, classification, interpolation and generation against the number of trained parameters."""
    rows, labels = measured(subject)
    every = [row for found in rows.values() for row in found]
    distance, name, features = "fd_classifier", "FD classifier", "a small classifier"
    if any(row.get("fid_samples") is not None for row in every):
        distance, name, features = "fid", "FID", "Inception"
    accuracy = "accuracy" if subject.dataset.test_attributes is None else "balanced accuracy"
    panels = quality_panels(distance, name, accuracy)
    caption = (
        f"On {len(subject.dataset.test_images):,} test images. Small points: seeds ({seeds_of(subject)}); large points,"
        " 5 pt to their right: their mean, with its 95 % t-interval where n > 1. To be told apart, BVAE is drawn"
        f" {ASIDE} pt to the left of its number of parameters, VAE narrow as many to the right."
    )
    if images := {row[f"{distance}_images"] for row in every if row.get(f"{distance}_samples") is not None}:
        caption += (
            f" {name}: Fréchet distance, over features of {features}, of {max(images):,} decoded midpoints of two"
            " posterior means, or decoded draws of the prior, from as many test images."
        )
    figure, place = page(subject, "Quality against parameters", caption, 4.9 + LEGEND)
    for index, panel in enumerate(panels):
        _draw_panel(place(0.68 + 3.5 * (index % 2), 0.22 + 2.45 * (index // 2), 2.72, 1.78), panel, rows)
    for arm, found in rows.items():
        labels[arm] += f": {found[0]['parameters']:,} parameters"
    _legend(place, 4.9, labels)
    return figure


def rate_distortion(subject: Subject) -> Figure:
    """Squared error of the reconstruction against the bits of the code, a point a seed and the mean of each arm."""
    rows, labels = measured(subject)
    caption = (
        "Rate: KL divergence of the posterior from the prior, in bits, over the pixels of all channels. Distortion:"
        " squared error of the image decoded from the posterior mean. Averages over"
        f" {len(subject.dataset.test_images):,} test images. Points: seeds ({seeds_of(subject)}); outlines: their mean."
        " The lower left is better."
    )
    figure, place = page(subject, "Rate and distortion", caption, 3.5 + LEGEND)
    axes = place(0.75, 0.05, WIDTH - 0.9, 3.0)
    for arm, found in rows.items():
        x, y = column(found, "kl_bits_per_pixel"), column(found, "mse_per_pixel")
        look: Look = {"color": ARMS[arm].colour, "marker": ARMS[arm].marker, "linestyle": ""}
        axes.plot(x, y, markersize=3.5, alpha=0.7, markeredgewidth=0, **look)
        axes.plot(x.mean(), y.mean(), markersize=9, markeredgewidth=1.2, fillstyle="none", **look)
    axes.set(xlabel="rate (bits per pixel)", ylabel="distortion (squared error per pixel)")
    _trim(axes, "both")
    _legend(place, 3.5, labels)
    return figure


def latent_variances(subject: Subject) -> Figure:
    """Histogram of the variances of the latents' posterior means, one line an arm, with the threshold of activity."""
    (rows, labels), threshold = measured(subject), protocol.ACTIVE_UNIT_VARIANCE
    caption = (
        f"Variance of each latent's posterior mean over {len(subject.dataset.test_images):,} test images (below"
        f" {LEAST_VARIANCE:g}: counted there). Number of latents in each of {BINS} bins a decade, mean over seeds"
        f" ({seeds_of(subject)}). A latent whose variance exceeds {threshold:g} is active."
    )
    figure, place = page(subject, "Variances of the latents", caption, 3.5 + LEGEND)
    axes = place(0.75, 0.25, WIDTH - 0.9, 2.8)
    tables = {arm: np.maximum(column(found, "variance_per_latent"), LEAST_VARIANCE) for arm, found in rows.items()}
    logs = {arm: np.log10(table) for arm, table in tables.items()}  # (seeds, latents)
    low = min([-3, *(math.floor(values.min()) for values in logs.values())])
    high = max([0, *(math.ceil(values.max()) for values in logs.values())])
    edges = np.arange(BINS * low, BINS * high + 1) / BINS  # exact at whole decades, of which the threshold is one
    for arm, values in logs.items():
        counts = np.histogram(values, edges)[0] / len(values)
        look: Look = {"linestyle": ARMS[arm].dash, "linewidth": 1.4}
        axes.stairs(counts, 10**edges, color=ARMS[arm].colour, **look)
        labels[arm] += f": {column(rows[arm], 'active_units').mean():.1f} of {subject.latent_dim} active"
    axes.axvline(threshold, color="0.5", linewidth=0.8)
    axes.text(threshold, 1.01, f"active above {threshold:g} →", transform=axes.get_xaxis_transform(), color="0.35")
    axes.set(xscale="log", xlabel="variance of the posterior mean", ylabel="latents in a bin (mean over seeds)")
    axes.set_ylim(0)
    _trim(axes, "y")
    _legend(place, 3.5, labels, lines=True)
    return figure


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
        variances = np.array(read_json(subject.paths["bvae_gain", seed])["variance_per_latent"])
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


def latent_gains(subject: Subject) -> Figure:
    """What the active latents have learned as gains, against the norm of their weights: a line in a linear network."""
    table = gain_table(subject)
    active, lines = table[table["active"]], gain_lines(table)
    seeds = ", ".join(str(seed) for seed in subject.seeds.get("bvae_gain", ()))
    caption = (
        f"A point: an active latent of a run of the BVAE with gains (seeds {seeds}). Its weights give the posterior"
        " mean on the way forward, times the gain, and start the decoder on the way back. The strict BVAE has gain 1."
        " In the optimum of a linear network, probabilistic PCA, the points are on a line: 1 / gain = norm² + noise"
        " variance. Line: least squares, mean over seeds."
    )
    figure, place = page(subject, "Gains of the latents", caption, 3.5)
    axes = place(0.75, 0.05, WIDTH - 0.9, 3.0)
    if active.empty:
        bare(axes, None, message="no active latent of a BVAE with gains")
        return figure
    x, y = active["norm"].to_numpy(float) ** 2, 1 / active["gain"].to_numpy(float)
    look: Look = {"color": ARMS["bvae_gain"].colour, "marker": ARMS["bvae_gain"].marker, "linestyle": ""}
    label = f"{len(active)} latents of {active['seed'].nunique()} seeds"
    axes.plot(x, y, markersize=3.5, alpha=0.7, markeredgewidth=0, label=label, **look)
    if len(lines):
        slope, intercept, correlation = lines.mean(axis=0)
        label = f"{slope:.2f} norm² + {intercept:.1f}, correlation {correlation:.3f}"
        axes.axline((0, intercept), slope=slope, color="0.35", linestyle="--", linewidth=1, label=label)
    axes.axhline(1, color=ARMS["bvae"].colour, linewidth=1.2, label="strict BVAE")
    axes.set(xlabel="squared norm of the latent's weights", ylabel="1 / gain of the posterior mean")
    axes.set(xlim=(0, 1.04 * x.max()), ylim=(0, 1.06 * max(1.0, y.max())))
    _trim(axes, "both")
    axes.legend(loc="upper left", framealpha=0.8, edgecolor="none")
    return figure
