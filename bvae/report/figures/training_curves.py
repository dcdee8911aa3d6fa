"""Training ELBO against epoch, one line an arm: median over seeds, and a band from the least to the greatest."""

from bvae.report.figures import figure


@figure(
    category="6 Networks and training",
    caption="ELBO of the training images by epoch: median over seeds, and their range.",
)
def training_curves(subject):
    """Training ELBO against epoch, one line an arm: median over seeds, and a band from the least to the greatest."""
    import numpy as np

    from bvae.arms import ARMS
    from bvae.report.figures._page import WIDTH, page
    from bvae.report.figures._plots import axis_floor, finished, seeds_of, spread, trim

    caption = (
        f"Epochs' averages. Line: median over seeds ({seeds_of(subject)}); band: their range. First epochs, and those"
        " in which a seed's ELBO broke down for a while, may lie below the axis."
    )
    figure, place = page(subject, "Training ELBO", caption, 3.55)
    axes, medians, tops = place(0.75, 0.0, WIDTH - 0.9, 3.1), [], []
    for arm in subject.seeds:
        paths, label = finished(subject, arm)
        histories = [path.with_name("history.csv") for path in paths]
        elbos = [read_elbos(path) for path in histories]
        median, low, high = spread([np.atleast_1d(elbo) for elbo in elbos]) if elbos else np.empty((3, 0))
        epochs, colour, marker = np.arange(1, len(median) + 1), ARMS[arm].colour, "o" if len(median) == 1 else ""
        look = {"color": colour, "linestyle": ARMS[arm].dash, "marker": marker, "linewidth": 1.4}
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
    trim(axes, "y")
    axes.legend(loc="lower right", framealpha=0.8, edgecolor="none", handlelength=3.5)
    return figure


def read_elbos(path):
    """The ELBO of each epoch, (epochs,), of a run's history. Raises InputError for a damaged one."""
    import numpy as np

    from bvae.errors import InputError

    try:
        elbos = np.genfromtxt(path, delimiter=",", names=True)["elbo"]
    except (ValueError, IndexError):
        elbos = np.array([np.nan])
    if np.isnan(elbos).any():
        raise InputError(f"{path}: damaged, expected a line of numbers for each epoch. Delete it and run `snakemake`.")
    return elbos
