"""Test images above their reconstructions, one row an arm."""

from bvae.report.figures import figure


@figure(
    category="2 Reconstruction",
    caption="The first test images, and what each arm decodes from their posterior means. One seed, n = 1.",
    models=True,
)
def reconstructions(subject):
    """Test images above their reconstructions, one row an arm."""
    from bvae.report.figures._pictures import draw_strips, reconstruction_strips

    caption = "The first images of the test set, and what each arm decodes from their posterior means."
    return draw_strips(subject, "Reconstructions", caption, reconstruction_strips(subject))
