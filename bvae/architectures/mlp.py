"""The multilayer perceptron."""

from bvae.architectures import architecture


@architecture()
def mlp(layout, gain):
    """Linear layers alone, which every network has: no weights before them."""
    return [], (layout.channels, layout.size, layout.size)
