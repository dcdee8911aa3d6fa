"""The figure of a series: quality against parameters, and below it the share of parameters that tying needs."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from bvae.arms import ARMS
from bvae.report.figures._page import DPI
from bvae.report.figures._plots import half_interval
from bvae.report.judgement import MOST_LOST, TIED
from bvae.report.sizes import METRIC, cells_of, needed_share, shares
from bvae.study.widths import Series

PANEL = (4.6, 3.0, 1.7)  # inches: width, height of the curves, height of the shares
HALF = 0.5  # the share that the paper claims


def draw_sizes(series: Sequence[Series], rows: Sequence[dict]) -> Figure:
    """A column for each series: the ELBO of each arm with the 95 % interval of its mean over seeds, then the shares.

    An arm that lost more than one run at a size has no point there, as it has no comparison in the table.
    """
    width, curves, below = PANEL
    figure = Figure((max(width * len(series), 6.4), curves + below + 0.8), dpi=DPI, layout="constrained")
    axes = figure.subplots(2, len(series), squeeze=False, sharex="col", height_ratios=(curves, below))
    for column, found in enumerate(series):
        _curves(axes[0, column], found, rows)
        _shares(axes[1, column], found, rows)
        axes[0, column].set_title(f"{found.dataset}, {found.name}, {found.latent_dim} latents", loc="left", fontsize=9)
    axes[0, 0].set_ylabel("ELBO on test images, nats")
    axes[1, 0].set_ylabel("share of a VAE's\nparameters needed")
    handles = {label: handle for of in axes.flat for handle, label in zip(*of.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _curves(axes: Axes, series: Series, rows: Sequence[dict]) -> None:
    for name, arm in ARMS.items():
        points = []
        for cell in cells_of(series, rows).values():
            if (values := cell.values(name, METRIC)) and cell.failures([name])[0][0] <= MOST_LOST:
                error = half_interval(np.array(values)) or math.nan  # one seed has none
                points.append((cell.parameters(name), float(np.mean(values)), error))
        if points:
            x, y, half = (np.array(column) for column in zip(*sorted(points), strict=True))
            look = {"color": arm.colour, "linestyle": arm.dash, "marker": arm.marker, "markersize": 4}
            axes.plot(x, y, label=arm.label, **look)
            if len(x) > 1:
                axes.fill_between(x, y - half, y + half, color=arm.colour, alpha=0.18, linewidth=0)
            else:
                axes.errorbar(x, y, yerr=half, color=arm.colour, capsize=2, fmt="none")
    axes.set_xscale("log")
    axes.spines[["top", "right"]].set_visible(False)


def _shares(axes: Axes, series: Series, rows: Sequence[dict]) -> None:
    """A bar from end to end of each interval, an arrow where it is open, and a tick at each share that was trained."""
    cells = list(cells_of(series, rows).values())
    trained = [share for cell in cells for arm in TIED if cell.of(arm) for share, _ in shares(cell, arm)]
    least, most = min([HALF, *trained]) - 0.06, max([1.0, *trained]) + 0.06
    for index, arm in enumerate(TIED):
        for cell in cells:
            if not cell.of(arm):
                continue
            found, colour = shares(cell, arm), ARMS[arm].colour
            x = cell.parameters(arm) * 1.05 ** (index - (len(TIED) - 1) / 2)
            axes.plot([x] * len(found), [share for share, _ in found], "_", color="0.6", markersize=5)
            low, high = needed_share(found)
            if low is None and high is None:
                axes.annotate("?", (x, (least + most) / 2), color=colour, ha="center", va="center", fontsize=9)
                continue
            ends = (least if low is None else low, most if high is None else high)
            axes.plot([x, x], ends, color=colour, linewidth=2.5, solid_capstyle="butt")
            for end, place, marker in ((low, least, "v"), (high, most, "^")):
                axes.plot(x, place if end is None else end, marker if end is None else "_", color=colour, markersize=6)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 5 * low else range(1, 10)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 500k, 2M
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axhline(HALF, color="0.4", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_ylim(least - 0.03, most + 0.03)
    axes.set_xlabel("parameters of the arm")
    axes.spines[["top", "right"]].set_visible(False)
