"""Images decoded on the line between two posterior means, for each pair one row an arm."""

from bvae.report.figures import figure


@figure(
    category="4 Interpolation",
    caption="Images decoded on the line between the posterior means of two random test images. One seed, n = 1.",
    models=True,
)
def interpolations(subject):
    """Images decoded on the line between two posterior means, for each pair one row an arm."""
    from bvae.report.figures._page import MARGIN, WIDTH, bare, page
    from bvae.report.figures._pictures import STEPS, draw_strips, interpolation_strips

    title = "Interpolations"
    caption = f"{STEPS} latents on the line between the posterior means of two random test images, decoded."
    if strips := interpolation_strips(subject):
        return draw_strips(subject, title, caption, strips)
    figure, place = page(subject, title, caption, 1.0)
    bare(place(MARGIN, 0.0, WIDTH - 2 * MARGIN, 0.9), None, message="1 test image: there is no other")
    return figure
