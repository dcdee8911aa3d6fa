"""What the active latents have learned as gains, against the norm of their weights: a line in a linear network."""

from bvae.report.figures import figure


def gains(subject):
    """The latents of every finished run of the BVAE with gains, a line each."""
    from bvae.report.figures._plots import gain_table

    return gain_table(subject)


@figure(
    category="6 Networks and training",
    caption=(
        "What the BVAE with gains has learned: 1 / gain of each active latent against the squared norm of its "
        "weights. In the optimum of a linear network, probabilistic PCA, the points are on a line; the strict "
        "BVAE has gain 1."
    ),
    arm="bvae_gain",
    models=True,
    numbers=gains,
)
def latent_gains(subject):
    """What the active latents have learned as gains, against the norm of their weights: a line in a linear network."""
    from bvae.arms import ARMS
    from bvae.report.figures._page import WIDTH, bare, page
    from bvae.report.figures._plots import gain_lines, gain_table, trim

    table = gain_table(subject)
    active, lines = table[table["active"]], gain_lines(table)
    seeds = ", ".join(str(seed) for seed in subject.seeds.get("bvae_gain", ["none"]))
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
    look = {"color": ARMS["bvae_gain"].colour, "marker": ARMS["bvae_gain"].marker, "linestyle": ""}
    label = f"{len(active)} latents of {active['seed'].nunique()} seeds"
    axes.plot(x, y, markersize=3.5, alpha=0.7, markeredgewidth=0, label=label, **look)
    if len(lines):
        slope, intercept, correlation = lines.mean(axis=0)
        sign = "-" if intercept < 0 else "+"
        label = f"{slope:.2f} norm² {sign} {abs(intercept):.1f}, correlation {correlation:.3f}"
        axes.axline((0, intercept), slope=slope, color="0.35", linestyle="--", linewidth=1, label=label)
    axes.axhline(1, color=ARMS["bvae"].colour, linewidth=1.2, label="strict BVAE")
    axes.set(xlabel="squared norm of the latent's weights", ylabel="1 / gain of the posterior mean")
    axes.set(xlim=(0, 1.04 * x.max()), ylim=(0, 1.06 * max(1.0, y.max())))
    trim(axes, "both")
    axes.legend(loc="upper left", framealpha=0.8, edgecolor="none")
    return figure
