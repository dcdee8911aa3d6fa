"""Images decoded on the line between two posterior means, for each pair one row an arm."""

from bvae.report.figures import figure


@figure(
    category="4 Interpolation",
    caption="Images decoded on the line between the posterior means of two random test images. One seed, n = 1.",
)
def interpolations(subject):
    """Images decoded on the line between two posterior means, for each pair one row an arm."""
    from bvae.report.figures._pictures import STEPS, draw_strips, interpolation_strips

    caption = f"{STEPS} latents on the line between the posterior means of two random test images, decoded."
    return draw_strips(subject, "Interpolations", caption, interpolation_strips(subject))
