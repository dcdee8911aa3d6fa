"""Squared error of the reconstruction against the bits of the code, a point a seed and the mean of each arm."""

from bvae.report.figures import figure


@figure(
    category="2 Reconstruction",
    caption=(
        "Squared error of the reconstruction against the bits of the code, on all test images: a point a "
        "seed, and the mean of each arm."
    ),
)
def rate_distortion(subject):
    """Squared error of the reconstruction against the bits of the code, a point a seed and the mean of each arm."""
    from bvae.arms import ARMS
    from bvae.report.figures._page import WIDTH, page
    from bvae.report.figures._plots import LEGEND, column, draw_legend, having, measured, seeds_of, trim

    rows, labels = measured(subject)
    caption = (
        "Rate: KL divergence of the posterior from the prior, in bits, over the pixels of all channels. Distortion:"
        " squared error of the image decoded from the posterior mean. Averages over"
        f" {len(subject.dataset.test_images):,} test images. Points: seeds ({seeds_of(subject)}); outlines: their mean."
        " The lower left is better."
    )
    figure, place = page(subject, "Rate and distortion", caption, 3.5 + LEGEND)
    axes = place(0.75, 0.05, WIDTH - 0.9, 3.0)
    for arm, of_arm in rows.items():
        if not (found := having(of_arm, "kl_bits_per_pixel", "mse_per_pixel")):
            continue
        x, y = column(found, "kl_bits_per_pixel"), column(found, "mse_per_pixel")
        look = {"color": ARMS[arm].colour, "marker": ARMS[arm].marker, "linestyle": ""}
        axes.plot(x, y, markersize=3.5, alpha=0.7, markeredgewidth=0, **look)
        axes.plot(x.mean(), y.mean(), markersize=9, markeredgewidth=1.2, fillstyle="none", **look)
    axes.set(xlabel="rate (bits per pixel)", ylabel="distortion (squared error per pixel)")
    trim(axes, "both")
    draw_legend(place, 3.5, labels)
    return figure
