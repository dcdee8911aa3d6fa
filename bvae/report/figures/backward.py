"""Test images above what the encoder's weights, run backward, make of their posterior means, one row an arm."""

from bvae.report.figures import figure


@figure(
    category="2 Reconstruction",
    caption=(
        "The encoder's weights run backward on the posterior means of test images: a BVAE without "
        "corrections decodes so, a VAE is not trained to. One seed, n = 1."
    ),
    models=True,
)
def backward(subject):
    """Test images above what the encoder's weights, run backward, make of their posterior means, one row an arm."""
    from bvae.arms import ARMS
    from bvae.report.figures._pictures import decode_backward, draw_strips, reconstruction_strips
    from bvae.system.files import read_json

    errors = []
    for arm, model in subject.models().items():
        if model is not None:
            row = read_json(subject.paths[arm, subject.seed])
            found = [row[name] for name in ("backward_mse_per_pixel", "mse_per_pixel")]
            backward_error, error = ("none" if value is None else f"{value:.4f}" for value in found)
            errors.append(f"{ARMS[arm].label} {backward_error} ({error})")
    caption = (
        "The first images of the test set, and what comes out when the weights of each arm's encoder are run backward"
        " from their posterior means, with the biases of its decoder. A BVAE without corrections decodes so."
        f" Squared error per pixel on all {len(subject.dataset.test_images):,} test images, in brackets that of the"
        f" ordinary decoding: {', '.join(errors) or 'none, every run diverged'}."
    )
    return draw_strips(subject, "Encoder run backward", caption, reconstruction_strips(subject, decode_backward))
