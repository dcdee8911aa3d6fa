"""Histogram of the variances of the latents' posterior means, one line an arm, with the threshold of activity."""

from bvae.report.figures import figure


@figure(
    category="6 Networks and training",
    caption=("How many latents are in use: variances of the posterior means over all test images, mean over seeds."),
)
def latent_variances(subject):
    """Histogram of the variances of the latents' posterior means, one line an arm, with the threshold of activity."""
    import math

    import numpy as np

    from bvae.arms import ARMS
    from bvae.evaluation import protocol
    from bvae.report.figures._page import WIDTH, page
    from bvae.report.figures._plots import (
        BINS,
        LEAST_VARIANCE,
        LEGEND,
        column,
        draw_legend,
        having,
        measured,
        seeds_of,
        trim,
    )

    (every, labels), threshold = measured(subject), protocol.ACTIVE_UNIT_VARIANCE
    rows = {arm: found for arm, of_arm in every.items() if (found := having(of_arm, "variance_per_latent"))}
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
        look = {"linestyle": ARMS[arm].dash, "linewidth": 1.4}
        axes.stairs(counts, 10**edges, color=ARMS[arm].colour, **look)
        labels[arm] += f": {column(rows[arm], 'active_units').mean():.1f} of {subject.latent_dim} active"
    axes.axvline(threshold, color="0.5", linewidth=0.8)
    axes.text(threshold, 1.01, f"active above {threshold:g} →", transform=axes.get_xaxis_transform(), color="0.35")
    axes.set(xscale="log", xlabel="variance of the posterior mean", ylabel="latents in a bin (mean over seeds)")
    axes.set_ylim(0)
    trim(axes, "y")
    draw_legend(place, 3.5, labels, lines=True)
    return figure
