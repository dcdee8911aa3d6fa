"""Images decoded from the prior, one block an arm."""

from bvae.report.figures import figure


@figure(
    category="5 Generation",
    caption=(
        "Mean images of draws from the prior N(0, I), not selected, the same draws for every arm. One seed, n = 1."
    ),
    models=True,
)
def samples(subject):
    """Images decoded from the prior, one block an arm."""
    from bvae.report.figures._pictures import SAMPLES, draw_strips, sample_strips

    caption = f"Mean images of {SAMPLES} draws from the prior N(0, I), not selected, the same for every arm."
    return draw_strips(subject, "Samples from the prior", caption, sample_strips(subject))
